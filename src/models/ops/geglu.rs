//! In: a projection. Out: one half of it, gated by the exact GELU of the other half, in one pass.

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

use super::Values;
use super::vector::{erf, for_processor};

/// `a * gelu(g)` for `x` [..., 2 * inner], whose rows are a and then g: [..., inner].
pub(crate) fn geglu(x: &Tensor) -> Result<Tensor> {
    let x = x.contiguous()?;
    let mut shape = x.dims().to_vec();
    let inner = shape.last().map_or(0, |width| width / 2);
    if let Some(width) = shape.last_mut() {
        *width = inner;
    }
    let mut output = vec![0.0; x.elem_count() / 2];
    let values = Values::of(&x)?;
    output
        .par_chunks_mut(inner.max(1))
        .zip(values.slice()?.par_chunks(2 * inner.max(1)))
        .with_min_len(8)
        .for_each(|(output, row)| gate(output, &row[..inner], &row[inner..]));
    Tensor::from_vec(output, shape, &Device::Cpu)
}

/// The exact GELU of every number.
pub(crate) fn gelu(x: &Tensor) -> Result<Tensor> {
    const AT_ONCE: usize = 4096;
    let x = x.contiguous()?;
    let mut output = vec![0.0; x.elem_count()];
    let values = Values::of(&x)?;
    output
        .par_chunks_mut(AT_ONCE)
        .zip(values.slice()?.par_chunks(AT_ONCE))
        .for_each(|(output, values)| gelu_of(output, values));
    Tensor::from_vec(output, x.shape(), &Device::Cpu)
}

for_processor!(fn gate(output: &mut [f32], plain: &[f32], gate: &[f32]) = gate_body);
for_processor!(fn gelu_of(output: &mut [f32], values: &[f32]) = gelu_body);

#[inline(always)]
fn gate_body<const FUSED: bool>(output: &mut [f32], plain: &[f32], gate: &[f32]) {
    for ((output, plain), gate) in output.iter_mut().zip(plain).zip(gate) {
        *output = plain * exact_gelu::<FUSED>(*gate);
    }
}

#[inline(always)]
fn gelu_body<const FUSED: bool>(output: &mut [f32], values: &[f32]) {
    for (output, value) in output.iter_mut().zip(values) {
        *output = exact_gelu::<FUSED>(*value);
    }
}

#[inline(always)]
fn exact_gelu<const FUSED: bool>(x: f32) -> f32 {
    0.5 * x * (1.0 + erf::<FUSED>(x * std::f32::consts::FRAC_1_SQRT_2))
}
