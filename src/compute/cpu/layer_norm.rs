//! In: rows. Out: each with mean zero and variance one, scaled and shifted, or each divided by the root
//! of its mean square and scaled, in two passes over a row that the cache still holds.

use candle_core::{Device, Result, Tensor};

use super::Values;
use super::sharing::new_pieces;
use super::vector::{for_processor, mean_and_scale, multiply_add, sum};

/// Rows that one thread takes at a time.
const ROWS_AT_ONCE: usize = 16;

/// Normalises the last dimension of `x` [..., width]; `weight` and `bias` are [width].
pub(crate) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let x = x.contiguous()?;
    let width = weight.elem_count().max(1);
    let (values, weight, bias) = (Values::of(&x)?, Values::of(weight)?, Values::of(bias)?);
    let (weight, bias) = (weight.slice()?, bias.slice()?);
    let output = each_row(values.slice()?, width, |output, row| {
        normalise(output, row, weight, bias, eps);
    });
    Tensor::from_vec(output, x.shape(), &Device::Cpu)
}

/// What `norm` writes for every row of `values`.
fn each_row(
    values: &[f32],
    width: usize,
    norm: impl Fn(&mut [f32], &[f32]) + Send + Sync,
) -> Vec<f32> {
    let (some, count) = (ROWS_AT_ONCE * width, values.len());
    new_pieces(count, some, count, |number, output| {
        let values = values[number * some..].chunks(width);
        output.chunks_mut(width).zip(values).for_each(|(output, row)| norm(output, row));
    })
}

for_processor!(
    fn normalise(output: &mut [f32], row: &[f32], weight: &[f32], bias: &[f32], eps: f64) = body
);

#[inline(always)]
fn body<const FUSED: bool>(
    output: &mut [f32],
    row: &[f32],
    weight: &[f32],
    bias: &[f32],
    eps: f64,
) {
    let (mean, scale) = mean_and_scale::<FUSED>(row, eps);
    for (((output, value), weight), bias) in output.iter_mut().zip(row).zip(weight).zip(bias) {
        *output = multiply_add::<FUSED>((value - mean) * scale, *weight, *bias);
    }
}

/// Divides the last dimension of `x` [..., width] by the root of its mean square plus `eps`, and
/// multiplies it by `weight` [width].
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let x = x.contiguous()?;
    let width = weight.elem_count().max(1);
    let (values, weight) = (Values::of(&x)?, Values::of(weight)?);
    let weight = weight.slice()?;
    let output = each_row(values.slice()?, width, |output, row| divide(output, row, weight, eps));
    Tensor::from_vec(output, x.shape(), &Device::Cpu)
}

for_processor!(fn divide(output: &mut [f32], row: &[f32], weight: &[f32], eps: f64) = divide_body);

#[inline(always)]
fn divide_body<const FUSED: bool>(output: &mut [f32], row: &[f32], weight: &[f32], eps: f64) {
    let mean_square = sum::<FUSED>(row, 0.0, true) / row.len() as f64;
    let scale = (1.0 / (mean_square + eps).sqrt()) as f32;
    for ((output, value), weight) in output.iter_mut().zip(row).zip(weight) {
        *output = value * scale * weight;
    }
}
