//! In: a figure's share of every item. Out: the figure and its clustered standard error.

use super::pairwise_sum::pairwise_sum;

/// A figure that is a ratio of two sums over items: the share of yes in a category is
/// `sum of yes / sum of counted questions`, and a mean of item scores has denominators of one. Items
/// that the figure says nothing of have 0 / 0.
///
/// Items are the clusters: the answers about one prompt's images resemble one another, so that an
/// error bar over single answers would be too short.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ItemRatio {
    /// One per item.
    pub numerators: Vec<f64>,
    /// One per item, none negative.
    pub denominators: Vec<f64>,
}

impl ItemRatio {
    /// The mean of `values`, one per item; `None` stands for an item without one.
    pub fn mean_of(values: impl IntoIterator<Item = Option<f64>>) -> Self {
        let share = |value: Option<f64>| value.map_or((0.0, 0.0), |value| (value, 1.0));
        let (numerators, denominators) = values.into_iter().map(share).unzip();
        Self { numerators, denominators }
    }

    /// Number of items, those without a share included.
    pub fn items(&self) -> usize {
        self.denominators.len()
    }

    /// Items with a share.
    pub fn clusters(&self) -> usize {
        self.denominators.iter().filter(|&&denominator| denominator > 0.0).count()
    }

    /// The figure, rounded as `numpy.mean` of the items that have a share rounds it; `None` where nothing was
    /// counted.
    pub fn value(&self) -> Option<f64> {
        let shares = self.numerators.iter().zip(&self.denominators);
        let (numerators, denominators): (Vec<f64>, Vec<f64>) =
            shares.filter(|(_, denominator)| **denominator > 0.0).unzip();
        ratio(pairwise_sum(&numerators), pairwise_sum(&denominators))
    }

    /// The clustered standard error of the figure, by linearisation of the ratio (Cochran, Sampling
    /// Techniques, 6.4): the root of `m / (m - 1) * sum (y_i - r x_i)^2`, over the sum of `x_i`, for the
    /// `m` items with a share. For a mean it is the standard deviation (of m - 1) over the root of m.
    /// `None` below two items.
    pub fn standard_error(&self) -> Option<f64> {
        self.standard_error_leaning(&[])
    }

    /// As [`Self::standard_error`] where some of what the numerators count are means of others: `leans` (of none: nothing) is what
    /// each item moves the sum of the numerators by that way beside its own part.
    pub fn standard_error_leaning(&self, leans: &[f64]) -> Option<f64> {
        let clusters = self.clusters() as f64;
        if clusters < 2.0 {
            return None;
        }
        let squares: f64 = self.residuals(leans)?.map(|residual| residual.powi(2)).sum();
        let total: f64 = self.denominators.iter().sum();
        Some((clusters / (clusters - 1.0) * squares).sqrt() / total)
    }

    /// Per item `y_i - r x_i`, with what it moves beside.
    pub(super) fn residuals<'r>(
        &'r self,
        leans: &'r [f64],
    ) -> Option<impl Iterator<Item = f64> + 'r> {
        let value = self.value()?;
        let leans = leans.iter().copied().chain(std::iter::repeat(0.0));
        let pairs = self.numerators.iter().zip(&self.denominators).zip(leans);
        Some(pairs.map(move |((y, x), lean)| y - value * x + lean))
    }
}

/// `numerator / denominator`, where that is anything.
pub(super) fn ratio(numerator: f64, denominator: f64) -> Option<f64> {
    (denominator > 0.0).then(|| numerator / denominator)
}
