//! In: counts. Out: a percentage that carries them.

use serde::{Deserialize, Serialize};

/// A figure in percent with what it rests on. There is none of nothing: where no question was
/// counted, the figure is absent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The figure, in percent.
    pub mean: f64,
    /// Questions (one per image) that count as yes.
    pub k: u64,
    /// Questions (one per image) that were counted.
    pub n: u64,
    /// Items that they belong to.
    pub items: u64,
}

impl Estimate {
    /// `k` of `n` in percent, as `numpy.mean(..) * 100` rounds it; `None` where `n` is 0.
    pub fn of_counts(k: u64, n: u64, items: u64) -> Option<Self> {
        (n > 0).then(|| Self { mean: k as f64 / n as f64 * 100.0, k, n, items })
    }
}
