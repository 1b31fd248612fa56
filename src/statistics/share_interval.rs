//! In: a share over items, and how far it varies. Out: its interval by Korn and Graubard (Survey
//! Methodology 24, 1998): Clopper and Pearson's for as many independent answers as the share is worth. It
//! ends neither below 0 nor above 1, and has a length where every answer was yes.

use statrs::distribution::{Beta, ContinuousCDF, StudentsT};

use super::interval::Interval;
use super::item_ratio::ItemRatio;
use super::power::upper_quantile;

/// A share is never worth more independent answers: its interval is then no wider than 0.1 points to either side. Shares of P(yes)
/// that are nearly the same for all items would be worth billions, for which no quantile of a beta distribution is to be had.
const MOST_ANSWERS: f64 = 1e6;

impl ItemRatio {
    /// Interval of the figure, which must lie in 0..=1, at `level` such as 0.95; `None` below two items.
    ///
    /// It is `svyciprop(method = "beta")` of R's package survey but for two things. The degrees of freedom
    /// are not the items less one but those that the residuals leave their variance, at most as many: where
    /// two items of a hundred hold all that is not yes, two items tell how far the share varies. And it is
    /// never worth less than its items, as if each had given one answer; so much it is also worth where
    /// nothing varies, which says nothing about how far it may. Nor is it worth more than [`MOST_ANSWERS`].
    pub fn interval(&self, level: f64) -> Option<Interval> {
        self.interval_leaning(&[], level)
    }

    /// As [`Self::interval`], with the error of [`ItemRatio::standard_error_leaning`].
    pub fn interval_leaning(&self, leans: &[f64], level: f64) -> Option<Interval> {
        let (value, error) = (self.value()?, self.standard_error_leaning(leans)?);
        let squares = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>();
        let total: f64 = self.denominators.iter().sum();
        // Kish: items of unequal size are worth fewer.
        let items = total * total / squares(&self.denominators);
        let size = match self.freedom(leans) {
            Some(freedom) if value > 0.0 && value < 1.0 => {
                let infinite = f64::INFINITY;
                effective_size(value, error * error, [infinite, freedom], level)
                    .max(items)
                    .min(MOST_ANSWERS)
            }
            _ => items,
        };
        Some(clopper_pearson(value, size, level))
    }

    /// Degrees of freedom of the variance: `2 m / (kurtosis - 1)` of the residuals of the `m` items with a
    /// share, from the variance of a sample variance, at most `m - 1`. `None` where nothing varies.
    fn freedom(&self, leans: &[f64]) -> Option<f64> {
        let clusters = self.clusters() as f64;
        let (second, fourth) =
            self.residuals(leans)?.fold((0.0, 0.0), |(second, fourth), residual| {
                let square = residual.powi(2);
                (second + square, fourth + square * square)
            });
        let kurtosis = clusters * fourth / (second * second);
        let scale: f64 = self.denominators.iter().map(|x| x * x).sum();
        // What rounding leaves of residuals that are none.
        (second > 1e-20 * scale)
            .then(|| (2.0 * clusters / (kurtosis - 1.0).max(f64::MIN_POSITIVE)).min(clusters - 1.0))
    }
}

/// How many independent answers a share is worth: `share (1 - share) / variance`, less what the few degrees
/// of freedom of that variance take. `freedom` holds those of as many independent answers (answers less
/// one), then those of the design (items less one); infinite ones are a normal distribution's.
pub fn effective_size(share: f64, variance: f64, freedom: [f64; 2], level: f64) -> f64 {
    let [answers, design] = freedom.map(|freedom| t_quantile((1.0 - level) / 2.0, freedom));
    share * (1.0 - share) / variance * (answers / design).powi(2)
}

/// The interval of Clopper and Pearson (Biometrika 26, 1934) for a share of `size` independent answers,
/// which need not be whole.
pub fn clopper_pearson(share: f64, size: f64, level: f64) -> Interval {
    let tail = (1.0 - level) / 2.0;
    let (yes, no) = (share * size, (1.0 - share) * size);
    let quantile =
        |a: f64, b: f64, tail: f64| Beta::new(a, b).ok().map(|beta| beta.inverse_cdf(tail));
    // A share of 0 or 1 but for rounding has no quantile there, and ends there.
    Interval {
        low: quantile(yes, no + 1.0, tail).unwrap_or(0.0),
        high: quantile(yes + 1.0, no, 1.0 - tail).unwrap_or(1.0),
    }
}

/// The number that a variable of Student's distribution with `freedom` degrees of freedom exceeds with
/// probability `share`; infinite ones are a normal distribution's.
pub fn t_quantile(share: f64, freedom: f64) -> f64 {
    match StudentsT::new(0.0, 1.0, freedom) {
        Ok(student) if freedom.is_finite() => -student.inverse_cdf(share),
        _ => upper_quantile(share),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P(yes) of images that show nothing: each question's about the same, and nearly none.
    #[test]
    fn shares_that_hardly_vary_have_an_interval() {
        for share in [1e-5, 0.3] {
            for mirrored in [false, true] {
                let shares = (0..20).map(|item| share * (1.0 - 1e-4 * f64::from(item)));
                let shares = shares.map(|share| if mirrored { 1.0 - share } else { share });
                let numerators = shares.map(|share| 10.0 * share).collect();
                let ratio = ItemRatio { numerators, denominators: vec![10.0; 20] };
                let (value, found) = (ratio.value().unwrap(), ratio.interval(0.95).unwrap());
                assert_eq!(found, clopper_pearson(value, MOST_ANSWERS, 0.95));
                assert!(found.low <= value && value <= found.high, "{value}: {found:?}");
                assert!(found.high - found.low < 2e-3, "{value}: {found:?}");
            }
        }
        // Of nearly no yes in a million the upper end is that of none: 1 - 0.025^(1/1,000,000).
        let none = clopper_pearson(1e-9, MOST_ANSWERS, 0.95);
        assert!((none.high - 3.688_872_6e-6).abs() < 1e-8 && none.low < 1e-9, "{none:?}");
    }
}
