//! In: latents. Out: tokens, one for each square of them, and back. Follows `PatchEmbed` of diffusers and the last lines of
//! its diffusion transformers. Positions are left to the networks.

use candle_core::{Module, Result, Tensor};

use crate::checkpoint::weights::Scope;
use crate::compute::layers::{Linear, LoadResult};

/// A convolution without overlap, which is a product of squares.
#[derive(Debug)]
pub(crate) struct PatchEmbedding {
    proj: Linear,
    patch: usize,
}

impl PatchEmbedding {
    /// `proj` of `scope`, for squares of `patch` x `patch`.
    pub(crate) fn load(
        scope: &Scope,
        channels: usize,
        width: usize,
        patch: usize,
    ) -> LoadResult<Self> {
        let scope = scope.at("proj");
        let weight = scope.tensor("weight", &[width, channels, patch, patch])?;
        let weight = weight
            .reshape((width, channels * patch * patch))
            .map_err(|source| scope.refused("weight", source))?;
        Ok(Self { proj: Linear::new(weight, scope.tensor("bias", &[width])?), patch })
    }

    /// [b, channels, h, w] to [b, h / patch * w / patch, width], row by row.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.proj.forward(&packed(x, self.patch)?)
    }
}

/// [b, channels, h, w] to [b, h / side * w / side, channels * side * side], row by row.
pub(crate) fn packed(x: &Tensor, side: usize) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let (rows, columns) = (height / side, width / side);
    if (rows * side, columns * side) != (height, width) {
        candle_core::bail!("latents of {height} x {width} are no squares of {side} x {side}")
    }
    x.reshape((batch, channels, rows, side, columns, side))?
        .permute([0, 2, 4, 1, 3, 5])?
        .contiguous()?
        .reshape((batch, rows * columns, channels * side * side))
}

/// The way back from [`packed`], of `rows` x `columns` squares.
pub(crate) fn unpacked(x: &Tensor, (rows, columns): (usize, usize), side: usize) -> Result<Tensor> {
    let (batch, _, width) = x.dims3()?;
    let channels = width / (side * side);
    x.reshape((batch, rows, columns, channels, side, side))?
        .permute([0, 3, 1, 4, 2, 5])?
        .contiguous()?
        .reshape((batch, channels, rows * side, columns * side))
}

/// [b, rows * columns, patch * patch * channels] to [b, channels, rows * patch, columns * patch].
pub(crate) fn joined_patches(
    x: &Tensor,
    (rows, columns): (usize, usize),
    patch: usize,
    channels: usize,
) -> Result<Tensor> {
    let batch = x.dim(0)?;
    x.reshape((batch, rows, columns, patch, patch, channels))?
        .permute([0, 5, 1, 3, 2, 4])?
        .contiguous()?
        .reshape((batch, channels, rows * patch, columns * patch))
}

/// Sines and cosines of the places of `rows` x `columns` squares: [1, rows * columns, width], f32. The first half is the
/// column's, the second the row's. Places are scaled to a picture of `base` squares a side, over `scale`.
pub(crate) fn sincos_positions(
    width: usize,
    (rows, columns): (usize, usize),
    (base, scale): (usize, f64),
    device: &candle_core::Device,
) -> Result<Tensor> {
    // As PyTorch has it: places in f32, angles in f64.
    let places = |count: usize| -> Vec<f64> {
        let stretch = (count as f64 / base as f64) as f32;
        (0..count).map(|place| f64::from(place as f32 / stretch / scale as f32)).collect()
    };
    let (down, across) = (places(rows), places(columns));
    let quarter = width / 4;
    let frequencies: Vec<f64> =
        (0..quarter).map(|index| 10_000f64.powf(-(index as f64 / quarter as f64))).collect();
    let mut values = Vec::with_capacity(rows * columns * width);
    for row in &down {
        for column in &across {
            for place in [column, row] {
                let angles = || frequencies.iter().map(|frequency| place * frequency);
                values.extend(angles().map(|angle| angle.sin() as f32));
                values.extend(angles().map(|angle| angle.cos() as f32));
            }
        }
    }
    Tensor::from_vec(values, (1, rows * columns, width), device)
}
