//! In: an answer. Out: what it counts as under a protocol. Parents are left to `dependency_rule`.

use serde::{Deserialize, Serialize};

use crate::results::AnswerOutcome;

/// A set of scoring rules; `docs/protocols.md` states all in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// The reference script (ELLA, `compute_dpg_bench.py`) run in one process, quirks included.
    Reference,
    /// All questions, all images, dependencies in topological order.
    Corrected,
    /// As `corrected`, but a question counts with the judge's P(yes), and after the dependency rule with the product of its
    /// own and all its ancestors'.
    Soft,
    /// Soft-TIFA's geometric mean (GenEval 2, arXiv 2512.16853): an image's score is the geometric mean of P(yes) of its
    /// questions. It has no dependency rule and no categories.
    SoftTifaGm,
}

impl Protocol {
    /// Both protocols of yes and no, which the answers of every judge are scored under, in the order in which they are
    /// printed.
    pub const ALL: [Self; 2] = [Self::Reference, Self::Corrected];
    /// Both protocols of P(yes), for the answers of judges that state it.
    pub const SOFT: [Self; 2] = [Self::Soft, Self::SoftTifaGm];

    /// The name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Corrected => "corrected",
            Self::Soft => "soft",
            Self::SoftTifaGm => "soft_tifa_gm",
        }
    }

    /// Whether it reads P(yes) and not the words of an answer.
    pub fn is_soft(self) -> bool {
        Self::SOFT.contains(&self)
    }
}

/// How far a softmax in single precision may end above 1.
const ROUNDING: f64 = 1e-5;

/// What is known of one question about one image before any protocol is applied.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AnswerState<'a> {
    /// The judge answered.
    Answered {
        /// What it said.
        text: &'a str,
        /// P(yes), in 0..=1, where it states it.
        yes_probability: Option<f64>,
    },
    /// The judge was asked and failed.
    Failed,
    /// Nobody asked, or there was no image to ask about.
    Missing,
}

impl<'a> AnswerState<'a> {
    /// What came of asking. A number that is no probability states nothing.
    pub(crate) fn of(outcome: &'a AnswerOutcome) -> Self {
        match outcome {
            AnswerOutcome::Answered { text, yes_probability, .. } => Self::Answered {
                text,
                yes_probability: yes_probability
                    .filter(|p| (0.0..=1.0 + ROUNDING).contains(p))
                    .map(|p| p.min(1.0)),
            },
            AnswerOutcome::Failed { .. } => Self::Failed,
        }
    }

    /// An answer in words alone.
    pub fn said(text: &'a str) -> Self {
        Self::Answered { text, yes_probability: None }
    }
}

/// What one question about one image counts as.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub enum Verdict {
    /// Counts as 1.
    Yes,
    /// Counts as 0.
    No,
    /// Counts as 0, whatever the answer was, because a parent does.
    ParentNo,
    /// Counts as this share of a yes, in 0..=1: P(yes), and after the dependency rule its product with those of all ancestors.
    Share(f64),
    /// Neither yes nor no was said, or under the protocols of P(yes) it is not stated. Counts as 0, and is counted apart.
    Unparsable,
    /// No answer, or (after the dependency rule) a parent has none. Left out and counted apart.
    Missing,
    /// Not part of the protocol: the reference script never reads data row 1 of its file.
    Skipped,
}

impl Verdict {
    /// Reads an answer. `reference`: the exact text `yes`; `corrected`: `yes` or `no`, blanks around
    /// it and letter case ignored; the protocols of P(yes): that alone, whatever was said.
    pub fn of(answer: AnswerState<'_>, protocol: Protocol) -> Self {
        let AnswerState::Answered { text, yes_probability } = answer else { return Self::Missing };
        let (is_yes, is_no) = match protocol {
            Protocol::Soft | Protocol::SoftTifaGm => {
                return yes_probability.map_or(Self::Unparsable, Self::Share);
            }
            Protocol::Reference => (text == "yes", text == "no"),
            Protocol::Corrected => {
                let text = text.trim();
                (text.eq_ignore_ascii_case("yes"), text.eq_ignore_ascii_case("no"))
            }
        };
        match (is_yes, is_no) {
            (true, _) => Self::Yes,
            (_, true) => Self::No,
            _ => Self::Unparsable,
        }
    }

    /// What it adds to a figure, in 0..=1: 1 for yes, 0 for not-yes; `None` where it does not enter it.
    pub fn weight(self) -> Option<f64> {
        match self {
            Self::Yes => Some(1.0),
            Self::Share(share) => Some(share),
            Self::No | Self::ParentNo | Self::Unparsable => Some(0.0),
            Self::Missing | Self::Skipped => None,
        }
    }

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::ParentNo => "parent_no",
            Self::Share(_) => "share",
            Self::Unparsable => "unparsable",
            Self::Missing => "missing",
            Self::Skipped => "skipped",
        }
    }
}

impl std::fmt::Display for Verdict {
    /// The name; of a share its number.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Share(share) => write!(f, "{share}"),
            other => f.write_str(other.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_takes_only_the_exact_word() {
        use Verdict::{Missing, No, Unparsable, Yes};
        for (text, reference, corrected) in [
            ("yes", Yes, Yes),
            ("Yes", Unparsable, Yes),
            (" yes", Unparsable, Yes),
            ("no", No, No),
            ("NO\n", Unparsable, No),
            ("yes.", Unparsable, Unparsable),
            ("two", Unparsable, Unparsable),
            ("", Unparsable, Unparsable),
        ] {
            let answer = AnswerState::said(text);
            assert_eq!(Verdict::of(answer, Protocol::Reference), reference, "{text:?}");
            assert_eq!(Verdict::of(answer, Protocol::Corrected), corrected, "{text:?}");
        }
        for answer in [AnswerState::Failed, AnswerState::Missing] {
            assert_eq!(Verdict::of(answer, Protocol::Corrected), Missing);
        }
    }

    #[test]
    fn probabilities_count_whatever_was_said() {
        for protocol in Protocol::SOFT {
            for text in ["yes", "no", "two"] {
                let answer = AnswerState::Answered { text, yes_probability: Some(0.25) };
                assert_eq!(Verdict::of(answer, protocol), Verdict::Share(0.25));
                assert_eq!(Verdict::of(AnswerState::said(text), protocol), Verdict::Unparsable);
            }
            assert_eq!(Verdict::of(AnswerState::Failed, protocol), Verdict::Missing);
        }
    }
}
