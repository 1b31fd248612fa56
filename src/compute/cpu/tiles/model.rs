//! In: factors in tiles. Out: the sums that `tdpbf16ps` gives, bit by bit, in plain Rust, so that any machine can
//! test what is built on it.
//!
//! The instruction adds to each sum the products of 16 pairs: the pairs' first numbers in a chain of 16 fused
//! steps that begins at zero, their second numbers in another, then the two chains added, and that added to the sum.
//! All of it rounds to nearest even; subnormal numbers count as zero, as factors, as sums and as results.

use super::{Block, STEP, Sums, TILE_ROWS};

/// As [`super::Session::add`]. Of factors of two parts the product `lacking` is left out.
pub(crate) fn add(block: Block, sums: &mut Sums, lacking: Option<usize>) {
    block.check();
    let parts = block.parts();
    let row_tiles = if block.two_row_tiles { 2 } else { 1 };
    for (step, first) in block.steps.iter().enumerate() {
        let weights = |part: usize| &block.weights[(step * parts + part) * STEP..][..STEP];
        let high = &block.high[*first..];
        let mut products = match parts {
            1 => vec![(high, weights(0))],
            _ => {
                let low = &block.low[*first..];
                vec![(low, weights(0)), (high, weights(0)), (high, weights(1))]
            }
        };
        if let Some(product) = lacking.filter(|product| *product < products.len() && parts == 2) {
            products.remove(product);
        }
        for (rows, weights) in products {
            for (tile, sums) in sums.chunks_exact_mut(TILE_ROWS).take(2 * row_tiles).enumerate() {
                let rows = &rows[tile / 2 * TILE_ROWS..][..TILE_ROWS];
                let weights = &weights[tile % 2 * TILE_ROWS..][..TILE_ROWS];
                for (sums, row) in sums.iter_mut().zip(rows) {
                    let mut chains = [[0.0; 16]; 2];
                    for (pair, weights) in weights.iter().enumerate() {
                        for (second, chain) in chains.iter_mut().enumerate() {
                            let factor = widen(row.0[2 * pair + second]);
                            for (output, chain) in chain.iter_mut().enumerate() {
                                let weight = widen(weights.0[2 * output + second]);
                                *chain = fused(factor, weight, *chain);
                            }
                        }
                    }
                    for (output, sum) in sums.0.iter_mut().enumerate() {
                        let both = flushed(chains[0][output] + chains[1][output]);
                        *sum = flushed(flushed(*sum) + both);
                    }
                }
            }
        }
    }
}

/// A number in bf16, zero where it is subnormal.
fn widen(bits: u16) -> f32 {
    flushed(f32::from_bits(u32::from(bits) << 16))
}

/// `value`, zero with its sign where it is subnormal.
fn flushed(value: f32) -> f32 {
    if value.is_subnormal() { 0.0_f32.copysign(value) } else { value }
}

/// `a * b + c` rounded once, for factors in bf16.
fn fused(a: f32, b: f32, c: f32) -> f32 {
    // Such a product has 16 bits, so f32 holds it exactly unless it is too small or too large.
    let product = a * b;
    let exact = product.is_normal() || a == 0.0 || b == 0.0;
    flushed(if exact { product + c } else { a.mul_add(b, c) })
}

#[cfg(test)]
mod tests {
    use super::super::{Line, NO_SUMS};
    use super::*;

    /// One row and one output of a block whose other factors are zeros.
    fn sum_of(start: f32, row: [f32; 32], weights: [f32; 32]) -> f32 {
        let bits = |value: f32| (value.to_bits() >> 16) as u16;
        let (mut rows, mut outputs) = ([Line::ZERO; STEP], [Line::ZERO; STEP]);
        rows[0].0 = row.map(bits);
        for (pair, numbers) in weights.chunks(2).enumerate() {
            outputs[pair].0[..2].copy_from_slice(&[bits(numbers[0]), bits(numbers[1])]);
        }
        let mut sums = NO_SUMS;
        sums[0].0[0] = start;
        let block =
            Block { high: &rows, low: &[], steps: &[0], weights: &outputs, two_row_tiles: false };
        add(block, &mut sums, None);
        sums[0].0[0]
    }

    /// Numbers that give another sum in every other order.
    #[test]
    fn sums_stand_in_two_chains() {
        let large = 2_f32.powi(30);
        let mut weights = [0.0; 32];
        (weights[0], weights[1], weights[2], weights[3]) = (large, 1.0, -large, 1.0);
        // Even: large - large = 0. Odd: 1 + 1 = 2. One chain would lose the first 1.
        assert_eq!(sum_of(0.0, [1.0; 32], weights), 2.0);
        // Within a chain the order counts: large + 1 - large = 0.
        (weights[1], weights[2], weights[3], weights[4]) = (0.0, 1.0, 0.0, -large);
        assert_eq!(sum_of(0.0, [1.0; 32], weights), 0.0);
        // The chains are added to each other first: (large + 1) - large = 0, and not (large - large) + 1.
        let mut weights = [0.0; 32];
        (weights[0], weights[1]) = (large, 1.0);
        assert_eq!(sum_of(-large, [1.0; 32], weights), 0.0);
    }

    #[test]
    #[should_panic(expected = "do not fit")]
    fn a_step_beyond_its_rows_is_refused() {
        let lines = [Line::ZERO; STEP];
        let block =
            Block { high: &lines, low: &[], steps: &[1], weights: &lines, two_row_tiles: true };
        add(block, &mut NO_SUMS.clone(), None);
    }

    #[test]
    fn subnormal_numbers_count_as_zero() {
        let one = |value: f32| {
            let mut numbers = [0.0; 32];
            numbers[0] = value;
            numbers
        };
        let smallest = f32::MIN_POSITIVE;
        assert_eq!(sum_of(1e-40, one(0.0), one(0.0)), 0.0);
        assert_eq!(sum_of(0.0, one(smallest / 2.0), one(4.0)), 0.0);
        assert_eq!(sum_of(0.0, one(smallest), one(0.5)), 0.0);
        assert_eq!(sum_of(0.0, one(smallest), one(1.0)), smallest);
        assert_eq!(sum_of(-1.5 * smallest, one(smallest), one(1.0)), 0.0);
    }
}
