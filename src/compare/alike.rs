//! In: two runs. Out: what makes their numbers hard to compare, or why they are not compared.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::aggregate::baseline::Baseline;
use crate::aggregate::{DroppedQuestions, JudgeIdentity};
use crate::results::{BenchmarkIdentity, Settings};
use crate::wording::counted;

/// In what two runs may differ although they are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// The benchmark's digest.
    Benchmark,
    /// The judge or its settings.
    Judge,
    /// The number of images an item.
    Images,
}

impl Allowed {
    /// What the flag calls it.
    fn flag(self) -> &'static str {
        match self {
            Self::Benchmark => "benchmark",
            Self::Judge => "judge",
            Self::Images => "images",
        }
    }

    /// How numbers come about that can be compared.
    fn way_out(self) -> &'static str {
        match self {
            Self::Benchmark => "compare runs over one benchmark",
            Self::Judge => {
                "let one judge, set alike, answer about both (`dpg-bench judge RUN --judge NAME`)"
            }
            Self::Images => "make as many images of each item in both",
        }
    }
}

/// Why two runs are not compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompareError {
    /// They differ in what must be the same.
    #[error("{sentence}; {}, or give --allow {} to compare them all the same", allow.way_out(), allow.flag())]
    Differ {
        /// In what.
        sentence: String,
        /// What would have to be allowed.
        allow: Allowed,
    },
    /// The rules differ.
    #[error(
        "{base} was scored under `{base_protocol}` and {other} under `{other_protocol}`; make the \
         baseline anew, or choose its protocol with --protocol"
    )]
    Protocols {
        /// Label of the base.
        base: String,
        /// Its protocol.
        base_protocol: &'static str,
        /// Label of the other.
        other: String,
        /// Its protocol.
        other_protocol: &'static str,
    },
    /// Other questions were left out of one than of the other.
    #[error(
        "{base} leaves out {base_dropped}, and {other} leaves out {other_dropped}; leave the same questions out of both, with the same \
         file of --drop-questions, or none"
    )]
    Dropped {
        /// Label of the base.
        base: String,
        /// How many questions it leaves out.
        base_dropped: String,
        /// Label of the other.
        other: String,
        /// How many that one leaves out.
        other_dropped: String,
    },
    /// No item in common.
    #[error("{base} and {other} have no item with a score in common")]
    NothingShared {
        /// Label of the base.
        base: String,
        /// Label of the other.
        other: String,
    },
}

/// A run with what the user calls it.
#[derive(Debug, Clone, PartialEq)]
pub struct Labelled {
    /// A path, mostly.
    pub label: String,
    /// The run.
    pub run: Baseline,
}

/// What the runs differ in, where that is allowed.
pub(super) fn check_alike(
    base: &Labelled,
    other: &Labelled,
    allowed: &[Allowed],
) -> Result<Vec<String>, CompareError> {
    let (a, b) = (&base.run, &other.run);
    if a.protocol != b.protocol {
        return Err(CompareError::Protocols {
            base: base.label.clone(),
            base_protocol: a.protocol.name(),
            other: other.label.clone(),
            other_protocol: b.protocol.name(),
        });
    }
    let digest = |run: &Baseline| run.dropped_questions.as_ref().map(|one| one.sha256.clone());
    if digest(a) != digest(b) {
        let [base_dropped, other_dropped] = [a, b].map(|run| match &run.dropped_questions {
            Some(dropped) => dropped.counted(),
            None => "no questions".to_owned(),
        });
        let (base, other) = (base.label.clone(), other.label.clone());
        return Err(CompareError::Dropped { base, base_dropped, other, other_dropped });
    }
    let mut warnings = tolerated(differing_facts([facts(base), facts(other)]), allowed)?;
    warnings.extend(b.dropped_questions.as_ref().map(DroppedQuestions::described));
    for (label, run) in [(&base.label, a), (&other.label, b)] {
        warnings.extend(run.gap().map(|gap| format!("{label} is incomplete: {gap}")));
        if run.run.seeds().is_some_and(|word| word != "repeats") {
            warnings.extend(run.run.server_note().map(|note| format!("{label}: {note}")));
        }
    }
    Ok(warnings)
}

/// What two runs must have in common before their numbers are compared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    /// What the user calls the run.
    pub label: &'a str,
    /// Its benchmark.
    pub benchmark: &'a BenchmarkIdentity,
    /// Who answered.
    pub judge: &'a JudgeIdentity,
    /// Images per item.
    pub images_per_item: u32,
}

fn facts(labelled: &Labelled) -> Facts<'_> {
    let Labelled { label, run } = labelled;
    Facts {
        label,
        benchmark: &run.run.benchmark,
        judge: &run.judge,
        images_per_item: run.run.images_per_item,
    }
}

/// In what two runs differ, one sentence each.
pub(crate) fn differing_facts([a, b]: [Facts<'_>; 2]) -> Vec<(Allowed, String)> {
    let (of_base, of_other) = (a.label, b.label);
    let mut found = Vec::new();
    if a.benchmark.digest != b.benchmark.digest {
        found.push((
            Allowed::Benchmark,
            format!(
                "{of_base} is about {} and {of_other} about {}, whose questions are not the same",
                a.benchmark.path, b.benchmark.path
            ),
        ));
    }
    if let Some(difference) = judges_differ(a.judge, b.judge) {
        let by = [a.judge, b.judge].map(called);
        found.push((
            Allowed::Judge,
            format!("{of_base} was judged by {} and {of_other} by {}{difference}", by[0], by[1]),
        ));
    }
    if a.images_per_item != b.images_per_item {
        found.push((
            Allowed::Images,
            format!(
                "{of_base} has {} an item and {of_other} {}",
                counted(a.images_per_item, "image"),
                b.images_per_item
            ),
        ));
    }
    found
}

/// The sentences on what is allowed.
///
/// # Errors
/// One is not.
pub(crate) fn tolerated(
    found: Vec<(Allowed, String)>,
    allowed: &[Allowed],
) -> Result<Vec<String>, CompareError> {
    let mut warnings = Vec::new();
    for (allow, sentence) in found {
        if !allowed.contains(&allow) {
            return Err(CompareError::Differ { sentence, allow });
        }
        warnings.push(sentence);
    }
    Ok(warnings)
}

/// What sets two judges apart, behind their names: nothing more of two kinds, of one kind the settings. `None` where no
/// setting differs.
fn judges_differ(a: &JudgeIdentity, b: &JudgeIdentity) -> Option<String> {
    let keys: BTreeSet<&String> = a.settings.keys().chain(b.settings.keys()).collect();
    let differs = |key: &&String| a.settings.get(*key) != b.settings.get(*key);
    let keys: Vec<&String> = keys.into_iter().filter(differs).collect();
    if keys.is_empty() {
        return None;
    }
    if kind(a) != kind(b) {
        return Some(String::new());
    }
    let shown = keys.iter().take(SHOWN_SETTINGS);
    let shown: Vec<String> = shown.map(|key| with_values(key, &a.settings, &b.settings)).collect();
    let more = keys.len() - shown.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(format!(", with other {}{more}", shown.join(", ")))
}

/// Which of the program's judges it is.
fn kind(judge: &JudgeIdentity) -> Option<&str> {
    judge.settings.get("judge")?.as_str()
}

/// Its name in the run, and its kind where that is another word.
fn called(judge: &JudgeIdentity) -> String {
    match kind(judge).filter(|kind| *kind != judge.name) {
        Some(kind) => format!("{} ({kind})", judge.name),
        None => judge.name.clone(),
    }
}

/// A setting with both of its values, where these are short: `rule (yes, hash:0.8)`.
fn with_values(key: &str, a: &Settings, b: &Settings) -> String {
    let value = |settings: &Settings| match settings.get(key) {
        None => Some("none".to_owned()),
        Some(Value::Object(_) | Value::Array(_)) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(other) => Some(other.to_string()),
    };
    match (value(a), value(b)) {
        (Some(a), Some(b)) if a.len() + b.len() <= SHOWN_LETTERS => format!("{key} ({a}, {b})"),
        _ => key.to_owned(),
    }
}

/// Values of more letters, such as digests, are left to the reader.
const SHOWN_LETTERS: usize = 60;

/// Further settings are only counted.
const SHOWN_SETTINGS: usize = 3;
