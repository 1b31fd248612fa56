//! In: the answers of a judge as they come. Out: an error once so many of them are neither yes nor no that asking on is
//! in vain, with examples.

use anyhow::bail;

use super::judge_counts::{JudgeCounts, unparsable};
use crate::results::QuestionAnswer;

/// Answers from which on the share of unparsable ones is looked at.
const ENOUGH_ANSWERS: u64 = 100;
/// Unparsable answers that are shown.
const EXAMPLES: usize = 3;
/// Characters of each of them.
const SHOWN: usize = 80;

/// Watches over the share of unparsable answers.
pub(super) struct UnparsableGuard {
    max_unparsable: f64,
    /// What some unparsable answers of this sitting say.
    examples: Vec<String>,
}

impl UnparsableGuard {
    /// Tolerates this share, in 0..=1.
    pub(super) fn up_to(max_unparsable: f64) -> Self {
        Self { max_unparsable, examples: Vec::new() }
    }

    /// Keeps examples of what is unparsable.
    pub(super) fn look_at(&mut self, answers: &[QuestionAnswer]) {
        let wanting = EXAMPLES.saturating_sub(self.examples.len());
        self.examples.extend(answers.iter().filter_map(unparsable).take(wanting).map(quoted));
    }

    /// Whether asking on makes sense, by all answers that there are, those of earlier sittings included.
    ///
    /// # Errors
    /// It does not, as long as this sitting's answers are no better.
    pub(super) fn ensure(&self, counts: &JudgeCounts) -> anyhow::Result<()> {
        let JudgeCounts { answers, unparsable, replies_cut, .. } = *counts;
        let too_many = unparsable as f64 > self.max_unparsable * answers as f64;
        if answers < ENOUGH_ANSWERS || !too_many || self.examples.is_empty() {
            return Ok(());
        }
        let cut = match replies_cut {
            0 => String::new(),
            cut => format!(
                "; {cut} replies were cut by the limit on tokens, so raise --judge-max-tokens"
            ),
        };
        bail!(
            "{unparsable} of {answers} answers are neither yes nor no, more than {} %, for example {}{cut}. What is \
             answered is kept; ask otherwise (--judge-prompt, --judge-body) under another --judge-name, or go on with \
             --judge-max-unparsable 1",
            self.max_unparsable * 100.0,
            self.examples.join(", ")
        )
    }
}

/// The beginning of a text between quotes, on one line.
fn quoted(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    match line.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("`{}...`", &line[..at]),
        None => format!("`{line}`"),
    }
}
