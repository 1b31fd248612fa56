//! In: the text of an answer. Out: what it counts as under a protocol. Parents are left to
//! `dependency_rule`.

use serde::{Deserialize, Serialize};

/// A set of scoring rules; `docs/protocols.md` states both in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// The reference script (ELLA, `compute_dpg_bench.py`) run in one process, quirks included.
    Reference,
    /// All questions, all images, dependencies in topological order.
    Corrected,
}

impl Protocol {
    /// Both protocols, in the order in which they are printed.
    pub const ALL: [Self; 2] = [Self::Reference, Self::Corrected];

    /// The name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Corrected => "corrected",
        }
    }
}

/// What is known of one question about one image before any protocol is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerState<'a> {
    /// The judge said this.
    Answered(&'a str),
    /// The judge was asked and failed.
    Failed,
    /// Nobody asked, or there was no image to ask about.
    Missing,
}

/// What one question about one image counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Counts as 1.
    Yes,
    /// Counts as 0.
    No,
    /// Counts as 0, whatever the answer was, because a parent does.
    ParentNo,
    /// Neither yes nor no was said. Counts as 0, and is counted apart.
    Unparsable,
    /// No answer, or (after the dependency rule) a parent has none. Left out and counted apart.
    Missing,
    /// Not part of the protocol: the reference script never reads data row 1 of its file.
    Skipped,
}

impl Verdict {
    /// Reads an answer. `reference`: the exact text `yes`; `corrected`: `yes` or `no`, blanks around
    /// it and letter case ignored.
    pub fn of(answer: AnswerState<'_>, protocol: Protocol) -> Self {
        let AnswerState::Answered(text) = answer else { return Self::Missing };
        let (is_yes, is_no) = match protocol {
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

    /// Whether it enters a figure, as yes (`Some(true)`) or not-yes (`Some(false)`).
    pub fn counted(self) -> Option<bool> {
        match self {
            Self::Yes => Some(true),
            Self::No | Self::ParentNo | Self::Unparsable => Some(false),
            Self::Missing | Self::Skipped => None,
        }
    }

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::ParentNo => "parent_no",
            Self::Unparsable => "unparsable",
            Self::Missing => "missing",
            Self::Skipped => "skipped",
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
            let answer = AnswerState::Answered(text);
            assert_eq!(Verdict::of(answer, Protocol::Reference), reference, "{text:?}");
            assert_eq!(Verdict::of(answer, Protocol::Corrected), corrected, "{text:?}");
        }
        for answer in [AnswerState::Failed, AnswerState::Missing] {
            assert_eq!(Verdict::of(answer, Protocol::Corrected), Missing);
        }
    }
}
