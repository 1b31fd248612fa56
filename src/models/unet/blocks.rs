//! In: a feature map. Out: the map one level down, across the middle, or one level up. Follows
//! `CrossAttnDownBlock2D`, `DownBlock2D`, `UNetMidBlock2DCrossAttn`, `UpBlock2D` and
//! `CrossAttnUpBlock2D` of diffusers.

use candle_core::{Module, Result, Tensor};

use super::text_context::CrossAttentionTexts;
use super::time_shifts::TimeShifts;
use super::transformer::{Transformer2DModel, TransformerSize};
use crate::checkpoint::weights::Scope;
use crate::compute::layers::{Conv2d, LoadResult, join_channels};
use crate::models::resnet::{NormSettings, ResnetBlock, Upsampler};

/// What the blocks of one UNet have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockConfig {
    /// Width of the timestep embedding.
    pub(crate) time_width: usize,
    /// Norms of the residual blocks.
    pub(crate) norm: NormSettings,
}

/// Residual blocks, each followed by attention where the block has it.
#[derive(Debug)]
struct Layers {
    resnets: Vec<ResnetBlock>,
    attentions: Vec<Transformer2DModel>,
}

impl Layers {
    /// One residual block for each entry of `inputs` (its input channels), all giving `output`.
    fn load(
        scope: &Scope,
        inputs: &[usize],
        output: usize,
        attention: Option<TransformerSize>,
        common: BlockConfig,
    ) -> LoadResult<Self> {
        let (resnets, attentions) = (scope.at("resnets"), scope.at("attentions"));
        let time = Some(common.time_width);
        Ok(Self {
            resnets: inputs
                .iter()
                .enumerate()
                .map(|(number, &input)| {
                    ResnetBlock::load(&resnets.at(number), input, output, time, common.norm)
                })
                .collect::<LoadResult<_>>()?,
            attentions: attention
                .iter()
                .flat_map(|size| (0..inputs.len()).map(move |number| (number, *size)))
                .map(|(number, size)| Transformer2DModel::load(&attentions.at(number), size))
                .collect::<LoadResult<_>>()?,
        })
    }

    fn forward(
        &self,
        number: usize,
        x: &Tensor,
        shifts: &mut TimeShifts,
        texts: &mut CrossAttentionTexts,
    ) -> Result<Tensor> {
        let x = self.resnets[number].forward(x, Some(&shifts.next_block()?))?;
        match self.attentions.get(number) {
            Some(attention) => attention.forward(&x, texts),
            None => Ok(x),
        }
    }
}

/// A level on the way down.
#[derive(Debug)]
pub(crate) struct DownBlock {
    layers: Layers,
    downsampler: Option<Conv2d>,
}

impl DownBlock {
    /// The tensors under `down_blocks.N`.
    pub(crate) fn load(
        scope: &Scope,
        (input, output): (usize, usize),
        depth: usize,
        attention: Option<TransformerSize>,
        halves: bool,
        common: BlockConfig,
    ) -> LoadResult<Self> {
        let inputs: Vec<usize> =
            (0..depth).map(|number| if number == 0 { input } else { output }).collect();
        let conv = scope.at("downsamplers.0.conv");
        Ok(Self {
            layers: Layers::load(scope, &inputs, output, attention, common)?,
            downsampler: halves.then(|| Conv2d::load(&conv, output, output, 3, 2)).transpose()?,
        })
    }

    /// The residual blocks of this level, in the order of the forward pass.
    pub(crate) fn resnets(&self) -> Vec<&ResnetBlock> {
        self.layers.resnets.iter().collect()
    }

    /// The attention of this level, in the order of the forward pass.
    pub(crate) fn attentions(&self) -> &[Transformer2DModel] {
        &self.layers.attentions
    }

    /// The same, to be changed.
    pub(crate) fn attentions_mut(&mut self) -> &mut [Transformer2DModel] {
        &mut self.layers.attentions
    }

    /// The map after this level; every map on the way is pushed onto `skips`.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        shifts: &mut TimeShifts,
        texts: &mut CrossAttentionTexts,
        skips: &mut Vec<Tensor>,
    ) -> Result<Tensor> {
        let mut x = x.clone();
        for number in 0..self.layers.resnets.len() {
            x = self.layers.forward(number, &x, shifts, texts)?;
            skips.push(x.clone());
        }
        if let Some(downsampler) = &self.downsampler {
            x = downsampler.forward(&x)?;
            skips.push(x.clone());
        }
        Ok(x)
    }
}

/// The bottom: a residual block, attention, a residual block.
#[derive(Debug)]
pub(crate) struct MidBlock {
    before: ResnetBlock,
    attention: Transformer2DModel,
    after: ResnetBlock,
}

impl MidBlock {
    /// The tensors under `mid_block`.
    pub(crate) fn load(
        scope: &Scope,
        size: TransformerSize,
        common: BlockConfig,
    ) -> LoadResult<Self> {
        let resnet = |name: &str| {
            let (channels, time) = (size.channels, Some(common.time_width));
            ResnetBlock::load(&scope.at(name), channels, channels, time, common.norm)
        };
        Ok(Self {
            before: resnet("resnets.0")?,
            attention: Transformer2DModel::load(&scope.at("attentions.0"), size)?,
            after: resnet("resnets.1")?,
        })
    }

    /// The residual blocks, in the order of the forward pass.
    pub(crate) fn resnets(&self) -> Vec<&ResnetBlock> {
        vec![&self.before, &self.after]
    }

    /// The attention between the residual blocks.
    pub(crate) fn attentions(&self) -> &[Transformer2DModel] {
        std::slice::from_ref(&self.attention)
    }

    /// The same, to be changed.
    pub(crate) fn attentions_mut(&mut self) -> &mut [Transformer2DModel] {
        std::slice::from_mut(&mut self.attention)
    }

    /// [b, c, h, w] to the same shape.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        shifts: &mut TimeShifts,
        texts: &mut CrossAttentionTexts,
    ) -> Result<Tensor> {
        let x = self.before.forward(x, Some(&shifts.next_block()?))?;
        let x = self.attention.forward(&x, texts)?;
        self.after.forward(&x, Some(&shifts.next_block()?))
    }
}

/// A level on the way up; takes back the maps that the way down left.
#[derive(Debug)]
pub(crate) struct UpBlock {
    layers: Layers,
    upsampler: Option<Upsampler>,
}

/// Channels that meet at a level on the way up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UpChannels {
    /// Of the map from below.
    pub(crate) below: usize,
    /// Of this level.
    pub(crate) output: usize,
    /// Of the last map that this level takes back: the one that entered it on the way down.
    pub(crate) entering: usize,
}

impl UpBlock {
    /// The tensors under `up_blocks.N`.
    pub(crate) fn load(
        scope: &Scope,
        channels: UpChannels,
        depth: usize,
        attention: Option<TransformerSize>,
        doubles: bool,
        common: BlockConfig,
    ) -> LoadResult<Self> {
        let UpChannels { below, output, entering } = channels;
        let inputs: Vec<usize> = (0..depth)
            .map(|number| {
                let skip = if number + 1 == depth { entering } else { output };
                skip + if number == 0 { below } else { output }
            })
            .collect();
        Ok(Self {
            layers: Layers::load(scope, &inputs, output, attention, common)?,
            upsampler: doubles.then(|| Upsampler::load(scope, output)).transpose()?,
        })
    }

    /// The residual blocks of this level, in the order of the forward pass.
    pub(crate) fn resnets(&self) -> Vec<&ResnetBlock> {
        self.layers.resnets.iter().collect()
    }

    /// The attention of this level, in the order of the forward pass.
    pub(crate) fn attentions(&self) -> &[Transformer2DModel] {
        &self.layers.attentions
    }

    /// The same, to be changed.
    pub(crate) fn attentions_mut(&mut self) -> &mut [Transformer2DModel] {
        &mut self.layers.attentions
    }

    /// The map after this level, as large as the next map on `skips`.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        shifts: &mut TimeShifts,
        texts: &mut CrossAttentionTexts,
        skips: &mut Vec<Tensor>,
    ) -> Result<Tensor> {
        let mut x = x.clone();
        for number in 0..self.layers.resnets.len() {
            let Some(skip) = skips.pop() else {
                candle_core::bail!("the way up takes back more maps than the way down left")
            };
            x = self.layers.forward(number, &join_channels(&x, &skip)?, shifts, texts)?;
        }
        match (&self.upsampler, skips.last()) {
            (Some(upsampler), Some(next)) => {
                let (_, _, height, width) = next.dims4()?;
                upsampler.forward(&x, height, width)
            }
            _ => Ok(x),
        }
    }
}
