//! In: a scored run. Out: whether so many of its answers are neither yes nor no that a score would say more about how
//! the judge writes than about the pictures; and the answers with those taken for questions without one.

use crate::results::{AnswerOutcome, AnswerRecord};
use crate::score::{AnswerState, Protocol, RunScore, Verdict};

use super::category_figures::count_raw;

/// Share of unparsable answers beyond which a benchmark score is withheld.
pub(crate) const MAX_UNPARSABLE: f64 = 0.2;

/// Why the answers of a run must not be made one figure; `None` where they may.
pub(crate) fn unparsable_gap(score: &RunScore<'_>) -> Option<String> {
    let unparsable = count_raw(score, Verdict::Unparsable);
    let answers = unparsable + count_raw(score, Verdict::Yes) + count_raw(score, Verdict::No);
    (unparsable as f64 > MAX_UNPARSABLE * answers as f64).then(|| {
        format!(
            "{unparsable} of {answers} answers are neither yes nor no, more than {} %",
            MAX_UNPARSABLE * 100.0
        )
    })
}

/// The same lines, in which answers that are neither yes nor no under `protocol` are questions at which the judge
/// failed.
pub(crate) fn without_unparsable(
    records: Vec<AnswerRecord>,
    protocol: Protocol,
) -> Vec<AnswerRecord> {
    let told = |mut record: AnswerRecord| {
        for answer in &mut record.answers {
            let AnswerOutcome::Answered { text, .. } = &answer.outcome else { continue };
            if Verdict::of(AnswerState::Answered(text), protocol) == Verdict::Unparsable {
                let reason = "the answer is neither yes nor no".to_owned();
                answer.outcome = AnswerOutcome::Failed { reason };
            }
        }
        record
    };
    records.into_iter().map(told).collect()
}
