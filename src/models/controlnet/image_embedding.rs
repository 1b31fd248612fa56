//! In: a control image. Out: its map in the size of the latents. Follows `ControlNetConditioningEmbedding` of diffusers.

use candle_core::{Module, Result, Tensor};

use crate::checkpoint::weights::Scope;
use crate::compute::layers::{Conv2d, LoadResult, silu};

/// Channels of the image.
const IMAGE_CHANNELS: usize = 3;

/// Convolutions that halve the image until it is as large as the latents.
#[derive(Debug)]
pub(super) struct ImageEmbedding {
    conv_in: Conv2d,
    blocks: Vec<Conv2d>,
    conv_out: Conv2d,
}

impl ImageEmbedding {
    /// The tensors under `controlnet_cond_embedding`: from an image over `channels` to `output` channels.
    pub(super) fn load(scope: &Scope, channels: &[usize], output: usize) -> LoadResult<Self> {
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let blocks = scope.at("blocks");
        let pairs = channels.windows(2).enumerate().flat_map(|(number, pair)| {
            [(2 * number, pair[0], pair[0], 1), (2 * number + 1, pair[0], pair[1], 2)]
        });
        Ok(Self {
            conv_in: Conv2d::load(&scope.at("conv_in"), IMAGE_CHANNELS, first, 3, 1)?,
            blocks: pairs
                .map(|(number, from, to, stride)| {
                    Conv2d::load(&blocks.at(number), from, to, 3, stride)
                })
                .collect::<LoadResult<_>>()?,
            conv_out: Conv2d::load(&scope.at("conv_out"), last, output, 3, 1)?,
        })
    }

    /// How many times higher and wider the image is than its map.
    pub(super) fn factor(&self) -> usize {
        1 << (self.blocks.len() / 2)
    }

    /// `image` [b, 3, h, w] to [b, output, h / factor, w / factor].
    pub(super) fn forward(&self, image: &Tensor) -> Result<Tensor> {
        let mut x = silu(&self.conv_in.forward(image)?)?;
        for block in &self.blocks {
            x = silu(&block.forward(&x)?)?;
        }
        self.conv_out.forward(&x)
    }
}
