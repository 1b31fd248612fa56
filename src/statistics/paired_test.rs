//! In: the same figures of two runs over the items that both have. Out: how likely so large a difference
//! is where the true one has a given size, and the sizes that are not unlikely. The labels of each item's
//! pair are swapped at random: for a mean of item scores that is the sign-flip permutation test of the
//! items' differences (Good, Permutation, Parametric and Bootstrap Tests of Hypotheses, 2005, 3.2).
//!
//! A swap of the items of a set is as extreme as what was seen where the difference over that set alone
//! lies beyond the size asked about. So p-values are shares of random sets of items, and the interval
//! runs between two quantiles of the sets' differences (Hartigan, Journal of the American Statistical
//! Association 64, 1969): the one never contradicts the other.

use rayon::prelude::*;

use super::item_ratio::{ItemRatio, ratio};
use super::power::upper_quantile;
use super::resample::{Weights, sums};
use crate::statistics::interval::Interval;

/// Up to this many items every pattern of swaps is tried.
pub(crate) const EXACT_ITEMS: usize = 13;

/// Differences this small are rounding.
const ROUNDING: f64 = 1e-12;

/// How the test is done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PermutationTest {
    /// Random patterns of swaps, where there are more items than `EXACT_ITEMS`.
    pub rounds: usize,
    /// Where the random numbers begin.
    pub seed: u64,
}

impl Default for PermutationTest {
    fn default() -> Self {
        Self { rounds: 10_000, seed: 0 }
    }
}

/// A figure of two runs, over the same items in the same order.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// The run that the other is taken from.
    pub a: &'a ItemRatio,
    /// The other.
    pub b: &'a ItemRatio,
    /// How far one answer moves the figure of an item, in 0..=1: what may be hidden where no item differs.
    pub step: f64,
}

/// The difference `a - b` of a figure, and those over random sets of items.
#[derive(Debug, Clone, PartialEq)]
pub struct PermutationResult {
    observed: f64,
    /// Of sets for which it is defined, sorted.
    differences: Vec<f64>,
    /// Sets without a share in either run.
    undefined: usize,
    /// Middle and standard error with an item at either extreme added by halves.
    adjusted: (f64, f64),
}

impl PermutationTest {
    /// The differences of the pairs, in the order given, all over the same sets of items; `None` where a
    /// figure counts nothing.
    ///
    /// All figures have as many items.
    pub fn swaps(&self, pairs: &[Pair<'_>]) -> Vec<Option<PermutationResult>> {
        let items = pairs.first().map_or(0, |pair| pair.a.items());
        let (rounds, weights) = match items {
            // Of a set and all that is not in it, one is enough.
            1..=EXACT_ITEMS => (1 << (items - 1), Weights::AllSwaps),
            _ => (self.rounds, Weights::RandomSwaps),
        };
        // Two runs mostly count the same questions, and a category may be all of a broader one.
        let mut table: Vec<&[f64]> = Vec::new();
        let places: Vec<[usize; 4]> = pairs
            .iter()
            .map(|pair| {
                columns(*pair).map(|column| {
                    let known = table.iter().position(|other| *other == column);
                    known.unwrap_or_else(|| {
                        table.push(column);
                        table.len() - 1
                    })
                })
            })
            .collect();
        let sums = sums(&table, items, rounds, self.seed, weights);
        pairs
            .par_iter()
            .enumerate()
            .map(|(number, pair)| {
                let observed = pair.a.value()? - pair.b.value()?;
                let totals = columns(*pair).map(|column| column.iter().sum::<f64>());
                let difference =
                    |[a, of_a, b, of_b]: [f64; 4]| Some(ratio(a, of_a)? - ratio(b, of_b)?);
                let mut differences = Vec::with_capacity(2 * rounds);
                // Pattern 0 of all is the empty set, which is counted with the observed one.
                let first = usize::from(weights == Weights::AllSwaps);
                for row in sums.chunks_exact(table.len()).skip(first) {
                    let sums = places[number].map(|place| row[place]);
                    let rest = [0, 1, 2, 3].map(|column| totals[column] - sums[column]);
                    differences.extend([sums, rest].into_iter().filter_map(difference));
                }
                for difference in &mut differences {
                    if difference.abs() <= ROUNDING {
                        *difference = 0.0;
                    }
                }
                let undefined = 2 * (rounds - first) - differences.len();
                differences.sort_unstable_by(f64::total_cmp);
                Some(PermutationResult {
                    observed,
                    differences,
                    undefined,
                    adjusted: adjusted(*pair, observed),
                })
            })
            .collect()
    }
}

impl PermutationResult {
    /// The difference over all items.
    pub fn observed(&self) -> f64 {
        self.observed
    }

    /// Probability of so large a difference, in either direction, where there is none.
    ///
    /// The observed pattern counts as one of the patterns, so that none is 0 (Phipson and Smyth, 2010).
    pub fn p(&self) -> f64 {
        if self.observed.abs() <= ROUNDING {
            return 1.0;
        }
        let side = if self.observed > 0.0 { self.p_above(0.0) } else { self.p_below(0.0) };
        (2.0 * side).min(1.0)
    }

    /// Probability of so large a difference where the true one is `size`, or less.
    pub fn p_above(&self, size: f64) -> f64 {
        self.one_sided(
            self.differences.partition_point(|difference| *difference <= size + ROUNDING),
        )
    }

    /// Probability of so small a difference where the true one is `size`, or more.
    pub fn p_below(&self, size: f64) -> f64 {
        let beyond = self.differences.partition_point(|difference| *difference < size - ROUNDING);
        self.one_sided(self.differences.len() - beyond)
    }

    /// The smallest probability that [`Self::p_above`] and [`Self::p_below`] can come to.
    pub fn least_p(&self) -> f64 {
        self.one_sided(0)
    }

    fn one_sided(&self, beyond: usize) -> f64 {
        (beyond + self.undefined + 1) as f64 / self.patterns()
    }

    fn patterns(&self) -> f64 {
        (self.differences.len() + self.undefined + 2) as f64
    }

    /// The sizes that are not unlikely, at `level` such as 0.95: an end excludes `null` if and only if the
    /// test does. Few items exclude nothing, then an end is that of -1..=1.
    ///
    /// Where few items differ, the sets tell too little of what the others might do. So each end that
    /// does not speak against `null` reaches at least as far as Agresti and Min's adjusted interval
    /// (Statistics in Medicine 24, 2005), which adds an item at either extreme by halves.
    pub fn interval(&self, level: f64, null: f64) -> Interval {
        let tail = (1.0 - level) / 2.0;
        let inverted = self.inverted(tail);
        let unrounded = |end: f64| if (end - null).abs() <= ROUNDING { null } else { end };
        let [low, high] = [inverted.low, inverted.high].map(unrounded);
        let wide = self.adjusted(tail);
        // A zero that is added takes the minus from a zero.
        Interval {
            low: 0.0 + if low > null { low } else { low.min(wide.low) },
            high: 0.0 + if high < null { high } else { high.max(wide.high) },
        }
    }

    /// The smallest true difference that `tail` of the tests would not call too small, both by the sets and
    /// by the adjusted interval: what may be relied on.
    pub fn surely_above(&self, tail: f64) -> f64 {
        self.inverted(tail).low.min(self.adjusted(tail).low)
    }

    fn inverted(&self, tail: f64) -> Interval {
        // The first that so few lie beyond that the test rejects what is further out.
        let rank = (tail * self.patterns() - 1.0 - self.undefined as f64 - 1e-9).ceil();
        match rank >= 1.0 {
            true => {
                let rank = rank as usize;
                let last = self.differences.len() - rank;
                Interval { low: self.differences[rank - 1], high: self.differences[last] }
            }
            false => Interval { low: -1.0, high: 1.0 },
        }
    }

    fn adjusted(&self, tail: f64) -> Interval {
        let (middle, error) = self.adjusted;
        let reach = upper_quantile(tail) * error;
        Interval { low: (middle - reach).max(-1.0), high: (middle + reach).min(1.0) }
    }
}

fn columns(pair: Pair<'_>) -> [&[f64]; 4] {
    let Pair { a, b, .. } = pair;
    [&a.numerators, &a.denominators, &b.numerators, &b.denominators]
}

/// Middle and standard error of a mean of the items' contributions to the difference and of two more, one
/// in the middle and one by halves at either extreme.
fn adjusted(pair: Pair<'_>, observed: f64) -> (f64, f64) {
    let Pair { a, b, step } = pair;
    let sides = [a, b].map(|figure| {
        let (value, items) = (figure.value().unwrap_or_default(), figure.clusters() as f64);
        (figure, value, figure.denominators.iter().sum::<f64>() / items)
    });
    let (mut items, mut sum, mut squares, mut extreme) = (0.0, 0.0, 0.0, 0.0_f64);
    for item in 0..a.items() {
        let [of_a, of_b] = sides.map(|(figure, value, mean)| {
            let (y, x) = (figure.numerators[item], figure.denominators[item]);
            (ratio(y, x), (y - value * x) / mean)
        });
        if of_a.0.is_none() && of_b.0.is_none() {
            continue;
        }
        let contribution = observed + of_a.1 - of_b.1;
        items += 1.0;
        sum += contribution;
        squares += contribution * contribution;
        if let (Some(a), Some(b)) = (of_a.0, of_b.0) {
            extreme = extreme.max((a - b).abs());
        }
    }
    let extreme = if extreme > ROUNDING { extreme } else { step };
    let count = items + 2.0;
    let variance = (squares + extreme * extreme - sum * sum / count) / (count * count);
    (sum / count, variance.max(0.0).sqrt())
}

/// Holm's correction of p-values for their number (Holm, 1979), in the order given: the family-wise
/// error of all that stay below a level is at most that level. `None` stays out of the count.
pub fn holm(p_values: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut order: Vec<(usize, f64)> =
        p_values.iter().enumerate().filter_map(|(number, p)| Some((number, (*p)?))).collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut corrected = vec![None; p_values.len()];
    let (count, mut highest) = (order.len(), 0.0_f64);
    for (rank, (number, p)) in order.into_iter().enumerate() {
        highest = highest.max((p * (count - rank) as f64).min(1.0));
        corrected[number] = Some(highest);
    }
    corrected
}
