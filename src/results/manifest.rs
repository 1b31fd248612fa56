//! In: what a run is made of. Out: `manifest.json`, against which every resume is checked. Times and
//! machines stand here and nowhere else, so that all other files of a resumed run are the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::shard::Shard;
use super::{FORMAT_VERSION, FormatVersion};

/// Named settings of a stage, as a flat or nested JSON object in key order.
pub type Settings = BTreeMap<String, Value>;

/// Turns a settings struct into [`Settings`].
///
/// # Errors
/// The value is no JSON object (a programming error) or holds a number that JSON has not.
pub fn to_settings(value: &impl Serialize) -> serde_json::Result<Settings> {
    serde_json::from_value(serde_json::to_value(value)?)
}

/// `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of all files of the run directory.
    pub format_version: FormatVersion,
    /// The program that made the directory, e.g. `dpg-bench 0.1.0`.
    pub tool: String,
    /// Commit that the program was built from, where known.
    pub git_commit: Option<String>,
    /// When the directory was made (RFC 3339, UTC).
    pub created: String,
    /// The benchmark that all stages use.
    pub benchmark: BenchmarkIdentity,
    /// Which items were selected and by what.
    pub selection: Settings,
    /// Images per item.
    pub images_per_item: u32,
    /// Which part of the selected items this directory holds; absent for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// What the run was about before it took in more items or images, the oldest first; absent where it did
    /// not. Its journals are put in order after each stage.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grown_from: Vec<Earlier>,
    /// How the images were made or imported; absent before that.
    pub generation: Option<StageEntry>,
    /// How each judge was set, by judge name.
    pub judges: BTreeMap<String, StageEntry>,
}

impl Manifest {
    /// Of a run that begins now, by this program.
    pub fn new(benchmark: BenchmarkIdentity, selection: Settings, images_per_item: u32) -> Self {
        let tool = Tool::current();
        Self {
            format_version: FORMAT_VERSION,
            tool: tool.version,
            git_commit: tool.git_commit,
            created: now(),
            benchmark,
            selection,
            images_per_item,
            shard: None,
            grown_from: Vec::new(),
            generation: None,
            judges: BTreeMap::new(),
        }
    }

    /// What the run is about, as settings that can be compared. How faults of the graphs were taken is not
    /// among them: a file without faults gives one benchmark either way, one with faults loads in one way only.
    pub(super) fn subject(&self) -> Settings {
        let selection = self.selection.clone().into_iter().collect::<serde_json::Map<_, _>>();
        [
            ("benchmark digest".to_owned(), self.benchmark.digest.clone().into()),
            ("images per item".to_owned(), self.images_per_item.into()),
            ("selection".to_owned(), selection.into()),
        ]
        .into()
    }
}

/// Which program writes: its version and, where known, the commit it was built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// E.g. `dpg-bench 0.1.0`.
    pub version: String,
    /// Commit, where known.
    pub git_commit: Option<String>,
}

impl Tool {
    /// This program.
    pub fn current() -> Self {
        Self {
            version: concat!("dpg-bench ", env!("CARGO_PKG_VERSION")).to_owned(),
            git_commit: option_env!("DPG_BENCH_GIT_COMMIT").map(str::to_owned),
        }
    }
}

/// The time as it stands in manifests: RFC 3339, UTC, whole seconds.
pub(super) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// What a run was about before it grew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Earlier {
    /// The selection that it had.
    pub selection: Settings,
    /// Its images per item.
    pub images_per_item: u32,
}

/// Which benchmark a run is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchmarkIdentity {
    /// Where the question file was.
    pub path: String,
    /// Digest of items, prompts and questions ([`crate::benchmark`]); two benchmarks with one digest
    /// ask the same.
    pub digest: String,
    /// Whether it asks the official questions about the published prompts.
    pub official: bool,
    /// Items in the whole file.
    pub items: u64,
    /// Questions in the whole file.
    pub questions: u64,
    /// Whether faults in its graphs were let through with warnings.
    pub lenient: bool,
}

/// One stage of a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StageEntry {
    /// Everything that can change the stage's output.
    pub settings: Settings,
    /// One entry per time that the stage was started.
    pub sittings: Vec<SittingEntry>,
}

/// A judge's entry is a stage like any other.
pub type JudgeEntry = StageEntry;

/// One sitting of a stage: from its start to its end or interruption.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SittingEntry {
    /// When it started (RFC 3339, UTC).
    pub started: String,
    /// Program version.
    pub tool: String,
    /// Commit that the program was built from, where known.
    pub git_commit: Option<String>,
    /// Where the arithmetic ran, e.g. `cpu, 2 threads`.
    pub device: String,
    /// Which products it ran, where those of the stage are of several kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub products: Option<SittingProducts>,
    /// Wall time in seconds; absent when the sitting was killed.
    pub seconds: Option<f64>,
    /// Images finished in this sitting; absent when it was killed.
    pub images_done: Option<u64>,
    /// Images that failed in this sitting; absent when it was killed.
    pub images_failed: Option<u64>,
    /// The shard or run that it was a sitting of, where this run was merged from several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged_from: Option<String>,
}

/// How the factors of products were rounded in a sitting: `products` and `products_run` of its settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SittingProducts {
    /// What was asked for.
    pub asked: String,
    /// What ran.
    pub ran: String,
}

/// A setting that is not what the run was started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Dotted name, e.g. `scheduler.steps`.
    pub setting: String,
    /// Value in the run directory (`-` when absent).
    pub recorded: String,
    /// Value asked for now (`-` when absent).
    pub requested: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} in the run, {} now", self.setting, self.recorded, self.requested)
    }
}

/// The differences between two sets of settings, in name order.
pub fn differences(recorded: &Settings, requested: &Settings) -> Vec<Difference> {
    let mut found = Vec::new();
    compare_objects("", recorded, requested, &mut found);
    found
}

fn compare_objects(
    prefix: &str,
    recorded: &Settings,
    requested: &Settings,
    found: &mut Vec<Difference>,
) {
    let names: BTreeSet<&String> = recorded.keys().chain(requested.keys()).collect();
    for name in names {
        let setting = format!("{prefix}{name}");
        match (recorded.get(name), requested.get(name)) {
            (Some(Value::Object(old)), Some(Value::Object(new))) => {
                let (old, new) =
                    (old.clone().into_iter().collect(), new.clone().into_iter().collect());
                compare_objects(&format!("{setting}."), &old, &new, found);
            }
            (old, new) if old != new => {
                found.push(Difference { setting, recorded: shown(old), requested: shown(new) });
            }
            _ => {}
        }
    }
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "-".to_owned(), Value::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings(value: Value) -> Settings {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn differences_are_named_with_both_values() {
        let recorded =
            settings(json!({"seed": 1, "scheduler": {"steps": 50, "name": "pndm"}, "old": true}));
        let requested =
            settings(json!({"seed": 2, "scheduler": {"steps": 25, "name": "pndm"}, "new": "x"}));
        let shown: Vec<String> =
            differences(&recorded, &requested).iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "new: - in the run, \"x\" now",
                "old: true in the run, - now",
                "scheduler.steps: 50 in the run, 25 now",
                "seed: 1 in the run, 2 now",
            ]
        );
        assert!(differences(&recorded, &recorded).is_empty());
    }
}
