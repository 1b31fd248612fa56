//! In: columns with one number per item, and what a figure makes of their sums. Out: its interval by the
//! cluster bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993): items are drawn with
//! replacement, all images and answers of an item together, and the interval holds the middle share of
//! the figures that come out, wider for few items (Hesterberg, arXiv 1411.5279, 5.3).

use crate::statistics::interval::Interval;
use rayon::prelude::*;

use super::power::lower_tail;
use super::resample::{Weights, sums};
use super::share_interval::t_quantile;

/// How a bootstrap is done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// How often the items are drawn.
    pub draws: usize,
    /// Where the random numbers begin.
    pub seed: u64,
    /// How often the interval is to hold the truth, such as 0.95.
    pub level: f64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { draws: 10_000, seed: 0, level: 0.95 }
    }
}

impl Bootstrap {
    /// Expanded percentile intervals of figures over the same draws. Each figure is what `figure` makes of
    /// the sums of its columns, which have one number per item, and of it goes the number of items that
    /// take part. A draw in which a figure is undefined is left out for it. `None` below two items.
    pub fn intervals<const COLUMNS: usize>(
        &self,
        figures: &[([&[f64]; COLUMNS], usize)],
        figure: impl Fn(&[f64]) -> Option<f64> + Sync,
    ) -> Vec<Option<Interval>> {
        let columns: Vec<&[f64]> = figures.iter().flat_map(|(columns, _)| *columns).collect();
        let items = columns.first().map_or(0, |column| column.len());
        let drawn = sums(&columns, items, self.draws, self.seed, Weights::Resampled);
        figures
            .par_iter()
            .enumerate()
            .map(|(number, (_, clusters))| {
                let tail = expanded_tail(self.level, *clusters)?;
                let rows = drawn.chunks_exact(columns.len());
                let place = number * COLUMNS..(number + 1) * COLUMNS;
                let mut values: Vec<f64> =
                    rows.filter_map(|row| figure(&row[place.clone()])).collect();
                values.sort_by(f64::total_cmp);
                Some(Interval {
                    low: quantile(&values, tail)?,
                    high: quantile(&values, 1.0 - tail)?,
                })
            })
            .collect()
    }
}

/// The share of draws to leave out at either end so that an interval of a mean over `items` items is as
/// long as Student's, and not as if the variance were known and divided by `items`. `None` below two.
pub fn expanded_tail(level: f64, items: usize) -> Option<f64> {
    let freedom = items.checked_sub(1).filter(|&freedom| freedom > 0)? as f64;
    let tail = (1.0 - level) / 2.0;
    Some(lower_tail(-(items as f64 / freedom).sqrt() * t_quantile(tail, freedom)))
}

/// The quantile of sorted `values` at `share` in 0..=1, between neighbours as NumPy's default (`linear`)
/// puts it; `None` of no values.
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let place = share * (values.len().checked_sub(1)? as f64);
    let (below, part) = (place.floor() as usize, place.fract());
    let (low, high) = (values[below], *values.get(below + 1).unwrap_or(&values[below]));
    // NumPy computes from the nearer end.
    Some(if part < 0.5 { low + (high - low) * part } else { high - (high - low) * (1.0 - part) })
}
