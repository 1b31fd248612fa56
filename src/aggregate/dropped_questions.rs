//! In: the file of `--drop-questions` as it was read. Out: what is recorded of it beside a score.

use serde::{Deserialize, Serialize};

use crate::wording::counted;

/// What was left out of a score by the user's wish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedQuestions {
    /// SHA-256 of the file that names them.
    pub sha256: String,
    /// How many it names.
    pub questions: u64,
    /// How many of them belong to the items that were scored.
    pub of_these_items: u64,
}

impl DroppedQuestions {
    /// `12 questions (SHA-256 0123456789ab...)`.
    pub fn counted(&self) -> String {
        let short: String = self.sha256.chars().take(SHOWN_DIGITS).collect();
        format!("{} (SHA-256 {short}...)", counted(self.questions, "question"))
    }

    /// `left out of every number: 12 questions (SHA-256 0123456789ab...), 3 of them in other items than the run's`.
    pub fn described(&self) -> String {
        let elsewhere = match self.questions.saturating_sub(self.of_these_items) {
            0 => String::new(),
            other => format!(", {other} of them in other items than the run's"),
        };
        format!("left out of every number: {}{elsewhere}", self.counted())
    }
}

/// Digits of a digest that are printed.
const SHOWN_DIGITS: usize = 12;
