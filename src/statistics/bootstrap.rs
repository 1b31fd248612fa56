//! In: figures over the same items. Out: their intervals by the cluster bootstrap (Efron and Tibshirani,
//! An Introduction to the Bootstrap, 1993): items are drawn with replacement, all images and answers
//! of an item together, and the interval holds the middle share of the figures that come out.

use rayon::prelude::*;

use super::item_ratio::{ItemRatio, ratio};
use super::resample::{Weights, sums};

/// From low to high.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// How a bootstrap is done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// How often the items are drawn.
    pub draws: usize,
    /// Where the random numbers begin.
    pub seed: u64,
    /// Share of the draws that the interval holds, such as 0.95.
    pub level: f64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { draws: 10_000, seed: 0, level: 0.95 }
    }
}

impl Bootstrap {
    /// Percentile intervals of `figures`, all over the same items and the same draws. A draw in which a
    /// figure counts nothing is left out for that figure. `None` for a figure of fewer than two items.
    pub fn intervals(&self, figures: &[&ItemRatio]) -> Vec<Option<Interval>> {
        let columns = figures.iter().copied().flat_map(columns).collect::<Vec<_>>();
        let enough: Vec<bool> = figures.iter().map(|figure| figure.clusters() >= 2).collect();
        self.percentiles(&columns, items_of(figures), 2, &enough, |sums| ratio(sums[0], sums[1]))
    }

    /// Percentile intervals of the differences `a - b`, pair by pair: items are drawn with both figures'
    /// shares together. `None` where either counts fewer than two items.
    ///
    /// Both slices are as long, over the same items.
    pub fn difference_intervals(
        &self,
        a: &[&ItemRatio],
        b: &[&ItemRatio],
    ) -> Vec<Option<Interval>> {
        let pairs = a.iter().copied().zip(b.iter().copied());
        let figures = pairs.clone().flat_map(|(a, b)| columns(a).into_iter().chain(columns(b)));
        let enough: Vec<bool> =
            pairs.map(|(a, b)| a.clusters() >= 2 && b.clusters() >= 2).collect();
        self.percentiles(&figures.collect::<Vec<_>>(), items_of(a), 4, &enough, |sums| {
            Some(ratio(sums[0], sums[1])? - ratio(sums[2], sums[3])?)
        })
    }

    /// For every `width` columns, the interval of what `figure` makes of their sums.
    fn percentiles(
        &self,
        columns: &[&[f64]],
        items: usize,
        width: usize,
        enough: &[bool],
        figure: impl Fn(&[f64]) -> Option<f64> + Sync,
    ) -> Vec<Option<Interval>> {
        let drawn = sums(columns, items, self.draws, self.seed, Weights::Drawn);
        enough
            .par_iter()
            .enumerate()
            .map(|(number, enough)| {
                let rows = drawn.chunks_exact(columns.len());
                let place = number * width..(number + 1) * width;
                let values = rows.filter_map(|row| figure(&row[place.clone()]));
                let mut values: Vec<f64> = if *enough { values.collect() } else { Vec::new() };
                values.sort_by(f64::total_cmp);
                let tail = (1.0 - self.level) / 2.0;
                Some(Interval {
                    low: quantile(&values, tail)?,
                    high: quantile(&values, 1.0 - tail)?,
                })
            })
            .collect()
    }
}

fn columns(figure: &ItemRatio) -> [&[f64]; 2] {
    [&figure.numerators, &figure.denominators]
}

fn items_of(figures: &[&ItemRatio]) -> usize {
    figures.first().map_or(0, |figure| figure.items())
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
