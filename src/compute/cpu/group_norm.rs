//! In: a feature map. Out: the map with every group of channels normalised, and SiLU applied where
//! the caller wants it, while the group is still in the cache.

use candle_core::{Device, Result, Tensor};

use super::Values;
use super::sharing::new_pieces;
use super::vector::{for_processor, mean_and_scale, multiply_add, sigmoid};

/// What follows the normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FusedActivation {
    /// Nothing.
    Plain,
    /// `x * sigmoid(x)`.
    Silu,
}

/// Normalises `x` [b, c, ...] over `groups` of channels; `weight` and `bias` are [c].
pub(crate) fn group_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    groups: usize,
    eps: f64,
    then: FusedActivation,
) -> Result<Tensor> {
    let x = x.contiguous()?;
    let (batch, channels) = (x.dim(0)?, x.dim(1)?);
    if weight.elem_count() != channels || !channels.is_multiple_of(groups) {
        candle_core::bail!("{channels} channels do not fit a norm of {groups} groups")
    }
    let size = (x.elem_count() / (batch * groups).max(1)).max(1);
    let wide = channels / groups;
    let (values, weight, bias) = (Values::of(&x)?, Values::of(weight)?, Values::of(bias)?);
    let (weight, bias) = (weight.slice()?, bias.slice()?);
    let (values, count) = (values.slice()?, x.elem_count());
    let output = new_pieces(count, size, 2 * count, |number, output| {
        let first = number % groups * wide;
        let affine = (&weight[first..first + wide], &bias[first..first + wide]);
        normalise(output, &values[number * size..][..output.len()], affine, eps, then);
    });
    Tensor::from_vec(output, x.shape(), &Device::Cpu)
}

for_processor!(
    fn normalise(
        output: &mut [f32],
        values: &[f32],
        affine: (&[f32], &[f32]),
        eps: f64,
        then: FusedActivation,
    ) = body
);

#[inline(always)]
fn body<const FUSED: bool>(
    output: &mut [f32],
    values: &[f32],
    affine: (&[f32], &[f32]),
    eps: f64,
    then: FusedActivation,
) {
    let (mean, scale) = mean_and_scale::<FUSED>(values, eps);
    let channel = values.len() / affine.0.len();
    let channels = output.chunks_exact_mut(channel).zip(values.chunks_exact(channel));
    for ((output, values), (weight, bias)) in channels.zip(affine.0.iter().zip(affine.1)) {
        for (output, value) in output.iter_mut().zip(values) {
            let value = multiply_add::<FUSED>((value - mean) * scale, *weight, *bias);
            *output =
                if then == FusedActivation::Silu { value * sigmoid::<FUSED>(value) } else { value };
        }
    }
}
