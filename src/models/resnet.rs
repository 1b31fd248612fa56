//! In: feature maps. Out: the residual block and the resampling that the UNet and the VAE share.
//! Follows `ResnetBlock2D`, `Downsample2D` and `Upsample2D` of diffusers.

use candle_core::{Module, Result, Tensor};

use crate::checkpoint::weights::Scope;
use crate::compute::layers::{Conv2d, GroupNorm, Linear, LoadResult, enlarged};

/// Group count and epsilon of the norms of one network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NormSettings {
    /// `norm_num_groups`.
    pub(crate) groups: usize,
    /// `norm_eps`.
    pub(crate) eps: f64,
}

/// Two 3x3 convolutions beside a shortcut, with the timestep added between them.
#[derive(Debug)]
pub(crate) struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
}

impl ResnetBlock {
    /// A block from `input` to `output` channels; `time_width` is the width of the timestep
    /// embedding, for a network that has one.
    pub(crate) fn load(
        scope: &Scope,
        input: usize,
        output: usize,
        time_width: Option<usize>,
        norm: NormSettings,
    ) -> LoadResult<Self> {
        let shortcut = scope.at("conv_shortcut");
        let mut block = Self {
            norm1: GroupNorm::load(&scope.at("norm1"), input, norm.groups, norm.eps)?,
            conv1: Conv2d::load(&scope.at("conv1"), input, output, 3, 1)?,
            time_emb_proj: time_width
                .map(|width| Linear::load(&scope.at("time_emb_proj"), width, output))
                .transpose()?,
            norm2: GroupNorm::load(&scope.at("norm2"), output, norm.groups, norm.eps)?,
            conv2: Conv2d::load(&scope.at("conv2"), output, output, 3, 1)?,
            conv_shortcut: (input != output)
                .then(|| Conv2d::load(&shortcut, input, output, 1, 1))
                .transpose()?,
        };
        if let Some(shortcut) = &mut block.conv_shortcut {
            block.conv2.move_bias_on_gpu(shortcut);
        }
        Ok(block)
    }

    /// What the block adds between its convolutions at `time`, SiLU of the timestep's embedding [1 or b,
    /// time_width]: [1 or b, output].
    pub(crate) fn shift(&self, time: &Tensor) -> Result<Tensor> {
        match &self.time_emb_proj {
            Some(projection) => projection.forward(time),
            None => candle_core::bail!(
                "a residual block without a projection of the timestep has no shift"
            ),
        }
    }

    /// `x` [b, input, h, w] to [b, output, h, w], with `shift` [1 or b, output] in between.
    pub(crate) fn forward(&self, x: &Tensor, shift: Option<&Tensor>) -> Result<Tensor> {
        let hidden = self.norm1.forward_silu(x)?;
        let hidden = self.norm2.forward_silu_after(&self.conv1, &hidden, shift)?;
        let hidden = self.conv2.forward_with_shortcut(
            &hidden,
            None,
            self.conv_shortcut.is_none().then_some(x),
        )?;
        match &self.conv_shortcut {
            Some(shortcut) => shortcut.forward_with_shortcut(x, None, Some(&hidden)),
            None => Ok(hidden),
        }
    }
}

/// Nearest-neighbour enlargement, then a 3x3 convolution.
#[derive(Debug)]
pub(crate) struct Upsampler {
    conv: Conv2d,
}

impl Upsampler {
    /// The tensors under `upsamplers.0`.
    pub(crate) fn load(scope: &Scope, channels: usize) -> LoadResult<Self> {
        let conv = Conv2d::load(&scope.at("upsamplers.0.conv"), channels, channels, 3, 1)?;
        Ok(Self { conv })
    }

    /// `x` [b, c, h, w] to `height` x `width`, which is twice its size or one less (where the map
    /// that it meets had an odd size).
    pub(crate) fn forward(&self, x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
        self.conv.forward(&enlarged(x, height, width)?)
    }
}
