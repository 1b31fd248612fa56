//! In: how many numbers there are, and how many are wanted. Out: simple random samples of them, in random order. A seed gives the
//! same samples everywhere.

use rand_pcg::Pcg64;
use sha2::{Digest, Sha256};

use super::resample::below;

/// Draws samples one after the other.
#[derive(Debug)]
pub struct Sampler {
    random: Pcg64,
}

impl Sampler {
    /// That of a seed. Its digest begins the random numbers: those of seeds that follow each other have nothing in common.
    pub fn of_seed(seed: u64) -> Self {
        let digest = Sha256::digest(format!("dpg-bench sampler 1:{seed}"));
        let number = |bytes: &[u8]| bytes.iter().fold(0_u128, |all, &b| all << 8 | u128::from(b));
        Self { random: Pcg64::new(number(&digest[..16]), number(&digest[16..])) }
    }

    /// `count` of the numbers below `of` without replacement: every such set, in every order, is equally likely. All of them where
    /// there are no more than `count`.
    pub fn sample(&mut self, of: usize, count: usize) -> Vec<usize> {
        let mut numbers: Vec<usize> = (0..of).collect();
        let count = count.min(of);
        // The first steps of a shuffle by Fisher and Yates.
        for place in 0..count {
            let other = place + below(&mut self.random, of - place);
            numbers.swap(place, other);
        }
        numbers.truncate(count);
        numbers
    }
}

/// How many are to be drawn of each of several groups: `wanted` in all, in proportion to `weights`, of each at least `low` and
/// at most `high`. What is not whole goes to the largest remainders; of equal ones, to the first. Where the bounds leave no
/// choice, the sum is another than `wanted`.
pub fn allocation(wanted: u64, weights: &[f64], low: &[u64], high: &[u64]) -> Vec<u64> {
    let shares = |factor: f64| -> Vec<f64> {
        let bounds = low.iter().zip(high);
        let shares = weights.iter().zip(bounds);
        shares.map(|(w, (&low, &high))| (factor * w).max(low as f64).min(high as f64)).collect()
    };
    let wanted = wanted.clamp(low.iter().sum(), high.iter().sum());
    // The sum grows with the factor: halving finds it.
    let (mut below, mut above) = (0.0, 1.0);
    while shares(above).iter().sum::<f64>() < wanted as f64 && above < 1e18 {
        above *= 2.0;
    }
    for _ in 0..200 {
        let middle = (below + above) / 2.0;
        match shares(middle).iter().sum::<f64>() < wanted as f64 {
            true => below = middle,
            false => above = middle,
        }
    }
    let shares = shares(above);
    // A share that only rounding keeps from a whole number is that number.
    let mut counts: Vec<u64> = shares.iter().map(|share| (share + 1e-9).floor() as u64).collect();
    let mut order: Vec<usize> = (0..counts.len()).collect();
    let rest = |place: usize| shares[place] - counts[place] as f64;
    order.sort_by(|&a, &b| rest(b).total_cmp(&rest(a)));
    let mut left = wanted.saturating_sub(counts.iter().sum());
    for place in order {
        if left > 0 && counts[place] < high[place] {
            counts[place] += 1;
            left -= 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allocation_keeps_its_bounds_and_its_sum() {
        let of = |wanted, sizes: &[u64]| {
            let weights: Vec<f64> = sizes.iter().map(|&size| (size as f64).sqrt()).collect();
            let low: Vec<u64> = sizes.iter().map(|&size| size.min(2)).collect();
            allocation(wanted, &weights, &low, sizes)
        };
        // Roots 10, 20 and 30: a sixth, a third and a half.
        assert_eq!(of(60, &[100, 400, 900]), [10, 20, 30]);
        // Thirds of 100: the first gets the one that is left.
        assert_eq!(of(100, &[900, 900, 900]), [34, 33, 33]);
        // Two of the smallest at least; of the second no more than it has.
        assert_eq!(of(20, &[4, 3, 1_000_000]), [2, 2, 16]);
        assert_eq!(of(1000, &[4, 3, 600]), [4, 3, 600]);
        assert_eq!(of(30, &[9, 9, 2500]), [2, 2, 26]);
        assert_eq!(of(3, &[9, 9]), [2, 2]);
        assert_eq!(of(3, &[1, 1, 50]), [1, 1, 2]);
        assert_eq!(of(5, &[]), [0_u64; 0]);
    }

    #[test]
    fn a_sample_has_each_number_once_and_of_all_is_an_order() {
        let mut sampler = Sampler::of_seed(1);
        let sample = sampler.sample(10, 4);
        let mut sorted = sample.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), 4);
        assert_eq!(Sampler::of_seed(1).sample(10, 4), sample);
        assert_ne!(Sampler::of_seed(2).sample(10, 10), Sampler::of_seed(1).sample(10, 10));
        let mut all = sampler.sample(10, 99);
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
    }
}
