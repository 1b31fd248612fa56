//! In: a scope of tensors. Out: the layers that every network here is made of, each safe for any
//! batch and any memory layout.
//!
//! Two traps of candle 0.11 shape these layers. A permuted tensor in a matrix product can give wrong
//! numbers on the processor once the batch exceeds one (candle issue 3744), so every product here
//! makes its input contiguous. And candle's own LayerNorm subtracts two large numbers
//! (E[x^2] - mean^2), which loses half the digits where the mean is large, so ours takes two passes.

mod activations;
mod channels_last;
mod convolution;
mod fused;
mod linear;
mod norms;

use candle_core::{Result, Tensor};

pub(crate) use self::activations::{Activation, gated_by_gelu, gated_sum, silu, squared_relu};
pub(crate) use self::channels_last::{enlarged, join_channels, positions, rows, sum_of_maps};
pub(crate) use self::convolution::Conv2d;
pub(crate) use self::fused::FusedLinears;
pub(crate) use self::linear::{Linear, LoadResult};
pub(crate) use self::norms::{GroupNorm, LayerNorm, RmsNorm, standardised};

/// Rows of `table` [vocabulary, width] for `rows` of ids, all of one length of at most `most`: [rows,
/// length, width].
pub(crate) fn embed(table: &Tensor, rows: &[Vec<u32>], most: Option<usize>) -> Result<Tensor> {
    let (vocabulary, width) = table.dims2()?;
    let length = rows.first().map_or(0, Vec::len);
    let fits = (1..=most.unwrap_or(usize::MAX)).contains(&length);
    if !fits || rows.iter().any(|row| row.len() != length) {
        let lengths: Vec<usize> = rows.iter().map(Vec::len).collect();
        let range = most.map_or("of at least 1".to_owned(), |most| format!("from 1 to {most}"));
        candle_core::bail!("token rows of {lengths:?} ids: one length {range} is due")
    }
    let flat = rows.concat();
    if let Some(id) = flat.iter().find(|id| **id as usize >= vocabulary) {
        candle_core::bail!(
            "token id {id} is outside this text encoder's vocabulary of {vocabulary}: the \
             tokenizer belongs to another model"
        )
    }
    let flat = Tensor::from_vec(flat, rows.len() * length, table.device())?;
    table.index_select(&flat, 0)?.reshape((rows.len(), length, width))
}

/// `pixels` [b, 3, side, side] cut into squares of `patch` x `patch`, row by row: [b, squares, 3 * patch *
/// patch], so that a convolution without overlap is a product. What does not fill a square at the right
/// and at the bottom is not seen.
pub(crate) fn square_patches(pixels: &Tensor, side: usize, patch: usize) -> Result<Tensor> {
    let (batch, channels, height, width) = pixels.dims4()?;
    if (channels, height, width) != (3, side, side) {
        let found = pixels.dims();
        candle_core::bail!("images [b, 3, {side}, {side}] are needed, not {found:?}")
    }
    let grid = side / patch;
    pixels
        .narrow(2, 0, grid * patch)?
        .narrow(3, 0, grid * patch)?
        .reshape((batch, 3, grid, patch, grid, patch))?
        .permute([0, 2, 4, 1, 3, 5])?
        .contiguous()?
        .reshape((batch, grid * grid, 3 * patch * patch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::golden::{Golden, errors};
    use candle_core::Module;

    /// candle issue 3744: the product must not see the transposed layout.
    #[test]
    fn a_transposed_batch_of_two_goes_through_linear_unharmed() {
        let golden = Golden::open("layers");
        let transposed = golden.get("linear.input").transpose(1, 2).unwrap();
        let inner =
            candle_nn::Linear::new(golden.get("linear.weight"), Some(golden.get("linear.bias")));
        let output = golden.get("linear.output");
        let ours = Linear::of(inner.weight().clone(), inner.bias().cloned());
        let ours = ours.forward(&transposed).unwrap();
        assert!(errors("linear", &ours, &output).within(5e-6, 5e-6));
        // What the rule guards against. Once candle is mended this line fails, and the rule in the
        // head of this file can go.
        let unguarded = inner.forward(&transposed).unwrap();
        assert!(!errors("strided sabotage", &unguarded, &output).within(5e-6, 5e-6));
    }
}
