//! In: a scored run. Out: its benchmark score, without an error bar.

use super::category_figures::counts_after_rule;
use super::estimate::Estimate;
use crate::score::RunScore;
use crate::statistics::numpy_mean;

/// The benchmark score: `numpy.mean(item scores) * 100`, to the last bit; without an error bar.
pub fn benchmark_score(score: &RunScore<'_>) -> Option<Estimate> {
    let scores = score.item_scores();
    let (k, n) = counts_after_rule(score);
    let mean = numpy_mean(&scores)? * 100.0;
    Some(Estimate { mean, ..Estimate::of_counts(k, n, scores.len() as u64)? })
}
