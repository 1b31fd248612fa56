//! In: columns with one number per item. Out: their sums over resampled items, many times. The streams
//! of random numbers follow from seed and place, so the sums are the same at any number of threads.

use rand_core::Rng;
use rand_pcg::Pcg64;
use rayon::prelude::*;

/// Draws that share a stream.
const DRAWS_AT_ONCE: usize = 64;

/// How the weight of an item comes about in a draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weights {
    /// How often each of as many items drawn with replacement is this one: the bootstrap.
    Resampled,
    /// One or none, by the toss of a coin: the labels of a pair are swapped or not.
    RandomSwaps,
    /// As tossed, but every pattern of the coins once, of which draw `n` is the binary number `n`.
    AllSwaps,
}

/// Per draw, the sum of each column with the items' weights: `draws` rows of one sum per column, in
/// order. Every column has `items` numbers; items are summed in order.
pub(super) fn sums(
    columns: &[&[f64]],
    items: usize,
    draws: usize,
    seed: u64,
    weights: Weights,
) -> Vec<f64> {
    let width = columns.len();
    // Item by item, so that a draw reads memory in order.
    let rows: Vec<f64> =
        (0..items).flat_map(|item| columns.iter().map(move |column| column[item])).collect();
    let mut sums = vec![0.0; draws * width];
    if width == 0 {
        return sums;
    }
    sums.par_chunks_mut(DRAWS_AT_ONCE * width).enumerate().for_each(|(chunk, sums)| {
        let mut random = Pcg64::new(u128::from(seed), chunk as u128);
        let mut counts = vec![0_u32; items];
        for (number, sums) in sums.chunks_exact_mut(width).enumerate() {
            let draw = chunk * DRAWS_AT_ONCE + number;
            counts.fill(0);
            match weights {
                Weights::Resampled => {
                    for _ in 0..items {
                        counts[below(&mut random, items)] += 1;
                    }
                }
                Weights::RandomSwaps => {
                    for counts in counts.chunks_mut(64) {
                        let coins = random.next_u64();
                        for (bit, count) in counts.iter_mut().enumerate() {
                            *count = u32::from(coins >> bit & 1 == 1);
                        }
                    }
                }
                Weights::AllSwaps => {
                    for (bit, count) in counts.iter_mut().enumerate() {
                        *count = u32::from(draw >> bit & 1 == 1);
                    }
                }
            }
            for (count, row) in counts.iter().zip(rows.chunks_exact(width)) {
                if *count > 0 {
                    let count = f64::from(*count);
                    for (sum, value) in sums.iter_mut().zip(row) {
                        *sum += count * value;
                    }
                }
            }
        }
    });
    sums
}

/// A whole number below `count`, each equally likely to within 2^-32 of its share: the upper half of a
/// product (Lemire, arXiv 1805.10941, without the rejection that takes away the last trace of bias).
pub(super) fn below(random: &mut Pcg64, count: usize) -> usize {
    ((u128::from(random.next_u64()) * count as u128) >> 64) as usize
}
