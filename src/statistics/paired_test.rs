//! In: the same figures of two runs over the items that both have. Out: how likely a difference this
//! large is where neither run is better: the labels of each item's pair are swapped at random. For a
//! mean of item scores that is the sign-flip permutation test of the items' differences (Good, Permutation,
//! Parametric and Bootstrap Tests of Hypotheses, 2005, 3.2).

use super::item_ratio::{ItemRatio, ratio};
use super::resample::{Weights, sums};

/// Up to this many items every pattern of swaps is tried.
pub const EXACT_ITEMS: usize = 13;

/// How the test is done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SwapTest {
    /// Random patterns of swaps, where there are more items than [`EXACT_ITEMS`].
    pub rounds: usize,
    /// Where the random numbers begin.
    pub seed: u64,
}

impl Default for SwapTest {
    fn default() -> Self {
        Self { rounds: 10_000, seed: 0 }
    }
}

impl SwapTest {
    /// Two-sided p-values of the differences `a - b`, pair by pair, in the order given; `None` where a
    /// figure counts nothing. Random rounds count the observed pattern as one of them, so that no
    /// p-value is 0 (Phipson and Smyth, 2010).
    ///
    /// Both slices are as long, over the same items.
    pub fn p_values(&self, a: &[&ItemRatio], b: &[&ItemRatio]) -> Vec<Option<f64>> {
        let items = a.first().map_or(0, |figure| figure.items());
        let exact = items <= EXACT_ITEMS;
        let (rounds, weights) = match exact {
            true => (1 << items, Weights::EveryToss),
            false => (self.rounds, Weights::Tossed),
        };
        // What a swap of an item adds to the sums of `a` and takes from those of `b`.
        let less =
            |b: &[f64], a: &[f64]| -> Vec<f64> { b.iter().zip(a).map(|(b, a)| b - a).collect() };
        let moved: Vec<Vec<f64>> = a
            .iter()
            .zip(b)
            .flat_map(|(a, b)| {
                [less(&b.numerators, &a.numerators), less(&b.denominators, &a.denominators)]
            })
            .collect();
        let columns: Vec<&[f64]> = moved.iter().map(Vec::as_slice).collect();
        let swapped = sums(&columns, items, rounds, self.seed, weights);
        let pairs = a.iter().zip(b).enumerate();
        pairs
            .map(|(number, (a, b))| {
                let totals = [&a.numerators, &a.denominators, &b.numerators, &b.denominators]
                    .map(|column| column.iter().sum::<f64>());
                let difference = |[numerator, denominator]: [f64; 2]| {
                    let a = ratio(totals[0] + numerator, totals[1] + denominator)?;
                    Some(a - ratio(totals[2] - numerator, totals[3] - denominator)?)
                };
                let observed = difference([0.0, 0.0])?.abs();
                // Patterns that give the same difference must not fall apart by rounding.
                let bound = observed - 1e-12 * observed.max(1.0);
                let rows = swapped.chunks_exact(columns.len());
                let (mut as_large, mut all) = (0_usize, 0_usize);
                for row in rows {
                    if let Some(found) = difference([row[2 * number], row[2 * number + 1]]) {
                        as_large += usize::from(found.abs() >= bound);
                        all += 1;
                    }
                }
                let own = usize::from(!exact);
                (all > 0).then(|| (as_large + own) as f64 / (all + own) as f64)
            })
            .collect()
    }
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
