//! In: counts and shares. Out: a percentage that carries them, with its error bar.

use serde::{Deserialize, Serialize};

use crate::statistics::ItemRatio;

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
    /// Questions (one per image) that count as yes; under the protocols of P(yes) the sum of what they count as, rounded.
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

    /// The share of yes that `ratio` counts, with its interval at `level`; `None` where it counts nothing.
    pub(super) fn of_ratio(ratio: &ItemRatio, level: f64) -> Option<Self> {
        let sum = |counts: &[f64]| counts.iter().sum::<f64>().round() as u64;
        let (k, n) = (sum(&ratio.numerators), sum(&ratio.denominators));
        let counted = Self::of_counts(k, n, ratio.clusters() as u64)?.with_error(ratio, level);
        Some(Self { mean: ratio.value()? * 100.0, ..counted })
    }

    /// The same figure with the error bar of `ratio`, which is in 0..=1.
    pub fn with_error(self, ratio: &ItemRatio, level: f64) -> Self {
        let interval = ratio.interval(level);
        Self {
            low: interval.map(|interval| 100.0 * interval.low),
            high: interval.map(|interval| 100.0 * interval.high),
            standard_error: ratio.standard_error().map(|error| 100.0 * error),
            ..self
        }
    }

    /// Half the length of the interval, in points, where the figure stands in its middle but for a tenth of
    /// that; elsewhere the half would name ends that the interval does not have, even such outside 0..100.
    pub fn margin(&self) -> Option<f64> {
        let (low, high) = (self.low?, self.high?);
        let half = (high - low) / 2.0;
        let is_even = (high + low - 2.0 * self.mean).abs() <= 0.2 * half;
        let is_possible = self.mean - half >= 0.0 && self.mean + half <= 100.0;
        (is_even && is_possible).then_some(half)
    }
}
