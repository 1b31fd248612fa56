//! In: a scored run. Out: whether so many of its answers are neither yes nor no (or state no P(yes)) that a score would say
//! more about how the judge writes than about the images.

use crate::score::{Protocol, RunScore, Verdict};

use super::category_figures::count_raw;

/// Share of unparsable answers beyond which a benchmark score is withheld.
pub(crate) const MAX_UNPARSABLE: f64 = 0.2;

/// Why the answers of a run must not be made one figure; `None` where they may.
pub(crate) fn unparsable_gap(score: &RunScore<'_>) -> Option<String> {
    let unparsable = count_raw(score, Verdict::Unparsable);
    let images = score.items.iter().flat_map(|item| &item.outcome.images);
    let answers = images.flat_map(|image| &image.raw).filter(|raw| raw.weight().is_some()).count();
    (unparsable as f64 > MAX_UNPARSABLE * answers as f64).then(|| {
        format!(
            "{unparsable} of {answers} answers {}, more than {} %",
            unreadable_words(score.protocol),
            MAX_UNPARSABLE * 100.0
        )
    })
}

/// A run of whose answers so many cannot be read that its score is withheld.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{run}: {gap}, so its score is withheld, and there is nothing to compare; take the answers of another judge (`dpg-bench judge \
     {run} --judge NAME`)"
)]
pub(crate) struct Withheld {
    /// The run.
    pub(crate) run: String,
    /// How many of its answers.
    pub(crate) gap: String,
}

/// What is wrong with answers that a protocol cannot read.
pub(crate) fn unreadable_words(protocol: Protocol) -> &'static str {
    if protocol.is_soft() { "state no P(yes)" } else { "are neither yes nor no" }
}
