//! In: counts and shares. Out: a percentage that carries them, with its error bar.

use serde::{Deserialize, Serialize};

use crate::statistics::{Interval, ItemRatio};

/// A figure in percent with what it rests on. There is none of nothing: where no question was
/// counted, the figure is absent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The figure, in percent.
    pub mean: f64,
    /// Lower end of its interval, in percent; absent below two items.
    #[serde(default)]
    pub low: Option<f64>,
    /// Upper end of its interval, in percent.
    #[serde(default)]
    pub high: Option<f64>,
    /// Clustered standard error, in points; absent below two items.
    #[serde(default)]
    pub standard_error: Option<f64>,
    /// Questions (one per image) that count as yes.
    pub k: u64,
    /// Questions (one per image) that were counted.
    pub n: u64,
    /// Items that they belong to.
    pub items: u64,
}

impl Estimate {
    /// `k` of `n` in percent, as `numpy.mean(..) * 100` rounds it, without an error bar; `None` where
    /// `n` is 0.
    pub fn of_counts(k: u64, n: u64, items: u64) -> Option<Self> {
        (n > 0).then(|| Self {
            mean: k as f64 / n as f64 * 100.0,
            low: None,
            high: None,
            standard_error: None,
            k,
            n,
            items,
        })
    }

    /// The share of yes that `ratio` counts; `None` where it counts nothing.
    pub(super) fn of_ratio(ratio: &ItemRatio, interval: Option<Interval>) -> Option<Self> {
        let sum = |counts: &[f64]| counts.iter().sum::<f64>() as u64;
        let (k, n) = (sum(&ratio.numerators), sum(&ratio.denominators));
        Some(Self::of_counts(k, n, ratio.clusters() as u64)?.with_error(ratio, interval))
    }

    /// The same figure with the error bar of `ratio`, which is in 0..=1.
    pub(super) fn with_error(self, ratio: &ItemRatio, interval: Option<Interval>) -> Self {
        Self {
            low: interval.map(|interval| 100.0 * interval.low),
            high: interval.map(|interval| 100.0 * interval.high),
            standard_error: ratio.standard_error().map(|error| 100.0 * error),
            ..self
        }
    }

    /// Half the length of the interval, in points.
    pub fn margin(&self) -> Option<f64> {
        Some((self.high? - self.low?) / 2.0)
    }
}
