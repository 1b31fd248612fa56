//! In: the spread of the items' differences between two runs. Out: which true difference a comparison
//! finds, and how many items it needs for one. Normal approximation, as is usual for means of hundreds
//! of items.

use statrs::function::erf::{erfc, erfc_inv};

/// What is asked of a comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PowerAnalysis {
    /// Probability of finding a difference where there is none.
    pub alpha: f64,
    /// Probability of finding one that is there.
    pub power: f64,
    /// Whether a difference in either direction counts.
    pub two_sided: bool,
}

impl Default for PowerAnalysis {
    fn default() -> Self {
        Self { alpha: 0.05, power: 0.8, two_sided: true }
    }
}

impl PowerAnalysis {
    /// The smallest true difference that is found, in standard errors of the difference.
    fn standard_errors(&self) -> f64 {
        let alpha = if self.two_sided { self.alpha / 2.0 } else { self.alpha };
        upper_quantile(alpha) + upper_quantile(1.0 - self.power)
    }

    /// The smallest true difference that a comparison over `items` items finds, where the items'
    /// differences have the standard deviation `deviation`.
    pub fn smallest_difference(&self, deviation: f64, items: f64) -> f64 {
        self.standard_errors() * deviation / items.sqrt()
    }

    /// Items that a comparison needs to find a true difference of `difference`; `None` where that is 0.
    pub fn items_for(&self, deviation: f64, difference: f64) -> Option<u64> {
        let root = self.standard_errors() * deviation / difference.abs();
        root.is_finite().then(|| (root * root).ceil().max(2.0) as u64)
    }
}

/// The number that a standard normal variable exceeds with probability `share`.
pub fn upper_quantile(share: f64) -> f64 {
    std::f64::consts::SQRT_2 * erfc_inv(2.0 * share)
}

/// The probability that a standard normal variable lies below `value`.
pub(crate) fn lower_tail(value: f64) -> f64 {
    0.5 * erfc(-value / std::f64::consts::SQRT_2)
}
