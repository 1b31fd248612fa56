//! In: noisy latents, a timestep, the text's hidden states and a control image. Out: what is added to a UNet's maps.
//! Follows `ControlNetModel` of diffusers (arXiv 2302.05543) for Stable Diffusion 1, 2 and XL, without guess mode;
//! dimensions come from `config.json`.

mod config;
mod image_embedding;

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Module, Result, Tensor};

use self::config::ControlNetConfig;
use self::image_embedding::ImageEmbedding;
use super::resnet::ResnetBlock;
use super::timestep_cache::TimestepCache;
use super::unet::added::{AddedCondition, TextTimeEmbedding};
use super::unet::blocks::{DownBlock, MidBlock};
use super::unet::control::{ControlResiduals, Levels};
use super::unet::text_context::{
    CrossAttentionTexts, KeysAndValues, TextContext, next_network, pairs,
};
use super::unet::time_shifts::TimeShifts;
use super::unet::timestep::{Sinusoid, TimestepEmbedding};
use super::unet::transformer::Transformer2DModel;
use super::unused_parts::UnusedParts;
use crate::checkpoint::config::Config;
use crate::checkpoint::controlnet_file;
use crate::checkpoint::weights::Weights;
use crate::compute::layers::{Conv2d, FusedLinears, LoadResult, silu, sum_of_maps};

/// A network beside a UNet that sees an image.
#[derive(Debug)]
pub struct ControlNet {
    conv_in: Conv2d,
    image_embedding: ImageEmbedding,
    sinusoid: Sinusoid,
    time_embedding: TimestepEmbedding,
    add_embedding: Option<TextTimeEmbedding>,
    down_blocks: Vec<DownBlock>,
    middle: Middle,
    /// On a GPU, where all that is made of a text is one product.
    text_layers: Option<FusedLinears>,
    /// A convolution for each map that the way down leaves.
    controlnet_down_blocks: Vec<Conv2d>,
    controlnet_mid_block: Conv2d,
    in_channels: usize,
    context_width: usize,
    levels: Levels,
    blue_first: bool,
    dtype: DType,
    sha256: String,
    unused_parts: UnusedParts,
    /// The residual blocks' shifts, where they depend on the timestep alone.
    cached_shifts: TimestepCache<Arc<[Tensor]>>,
    /// Tells this network from every other of the process.
    number: u64,
}

/// The bottom.
#[derive(Debug)]
enum Middle {
    /// `UNetMidBlock2DCrossAttn`.
    Attends(Box<MidBlock>),
    /// `UNetMidBlock2D` without layers of its own: one residual block.
    Plain(Box<ResnetBlock>),
}

impl Middle {
    fn attentions(&self) -> &[Transformer2DModel] {
        match self {
            Self::Attends(block) => block.attentions(),
            Self::Plain(_) => &[],
        }
    }

    fn attentions_mut(&mut self) -> &mut [Transformer2DModel] {
        match self {
            Self::Attends(block) => block.attentions_mut(),
            Self::Plain(_) => &mut [],
        }
    }

    fn resnets(&self) -> Vec<&ResnetBlock> {
        match self {
            Self::Attends(block) => block.resnets(),
            Self::Plain(block) => vec![block.as_ref()],
        }
    }
}

impl ControlNet {
    /// Loads `folder`: `config.json` and `diffusion_pytorch_model.safetensors` or a variant of it.
    ///
    /// # Errors
    /// A file is missing or broken, a tensor is missing or has another shape than the configuration
    /// implies, or the configuration asks for arithmetic that is not here.
    pub fn load(folder: &Path, dtype: DType, device: &Device) -> LoadResult<Self> {
        let config = Config::read_component(folder)?;
        let weights = Weights::open(folder, "diffusion_pytorch_model", dtype, device)?;
        Self::build(&config, &weights)
    }

    /// Loads the ControlNet in the safetensors file `file`, with the configuration of the UNet in the folder `unet`.
    ///
    /// # Errors
    /// As [`ControlNet::load`]; or the file holds something else.
    pub fn load_file(file: &Path, unet: &Path, dtype: DType, device: &Device) -> LoadResult<Self> {
        let (config, weights) = controlnet_file::open(file, unet, dtype, device)?;
        Self::build(&config, &weights)
    }

    /// The network that `config` describes, of `weights`, whose number format becomes its own.
    pub(crate) fn build(config: &Config, weights: &Weights) -> LoadResult<Self> {
        let plan = ControlNetConfig::from_config(config)?;
        let root = weights.root();
        let Levels { channels, layers } = &plan.levels;
        let (first, last, common) = (channels[0], channels.len() - 1, plan.common);

        let (down, zero) = (root.at("down_blocks"), root.at("controlnet_down_blocks"));
        let mut down_blocks = Vec::with_capacity(channels.len());
        let mut maps = vec![first];
        for level in 0..channels.len() {
            let sizes = (channels[level.saturating_sub(1)], channels[level]);
            let attention = plan.down_attention[level].then_some(plan.transformer(level));
            let halves = level < last;
            down_blocks.push(DownBlock::load(
                &down.at(level),
                sizes,
                layers[level],
                attention,
                halves,
                common,
            )?);
            maps.extend(vec![channels[level]; layers[level] + usize::from(halves)]);
        }
        let middle = root.at("mid_block");
        let mut middle = match plan.middle_attention {
            true => {
                let block = MidBlock::load(&middle, plan.transformer(last), common)?;
                Middle::Attends(Box::new(block))
            }
            false => {
                let (scope, width) = (middle.at("resnets.0"), channels[last]);
                let time = Some(common.time_width);
                let block = ResnetBlock::load(&scope, width, width, time, common.norm)?;
                Middle::Plain(Box::new(block))
            }
        };
        let attentions = down_blocks.iter_mut().flat_map(DownBlock::attentions_mut);
        let attentions = attentions.chain(middle.attentions_mut());
        let mut text_layers: Vec<_> =
            attentions.flat_map(Transformer2DModel::text_layers).collect();
        let text_layers = FusedLinears::on_gpu(&mut text_layers);
        let pointwise =
            |(number, &width): (usize, &usize)| Conv2d::load(&zero.at(number), width, width, 1, 1);
        Ok(Self {
            conv_in: Conv2d::load(&root.at("conv_in"), plan.in_channels, first, 3, 1)?,
            image_embedding: ImageEmbedding::load(
                &root.at("controlnet_cond_embedding"),
                &plan.embedding,
                first,
            )?,
            sinusoid: plan.sinusoid,
            time_embedding: TimestepEmbedding::load(
                &root.at("time_embedding"),
                first,
                common.time_width,
            )?,
            add_embedding: plan
                .added
                .map(|size| {
                    TextTimeEmbedding::load(&root.at("add_embedding"), size, common.time_width)
                })
                .transpose()?,
            down_blocks,
            middle,
            text_layers,
            controlnet_down_blocks: maps
                .iter()
                .enumerate()
                .map(pointwise)
                .collect::<LoadResult<_>>()?,
            controlnet_mid_block: Conv2d::load(
                &root.at("controlnet_mid_block"),
                channels[last],
                channels[last],
                1,
                1,
            )?,
            in_channels: plan.in_channels,
            context_width: plan.context,
            blue_first: plan.blue_first,
            dtype: weights.dtype(),
            sha256: weights.sha256().to_owned(),
            unused_parts: UnusedParts { keys: plan.unknown_keys, tensors: weights.not_taken(&[]) },
            cached_shifts: TimestepCache::default(),
            number: next_network(),
            levels: plan.levels,
        })
    }

    /// What it makes of the image `image` [b, 3, h, w], RGB in 0..=1, at every timestep: [b, channels, h / f, w / f], where
    /// f is [`ControlNet::image_factor`].
    ///
    /// # Errors
    /// A shape that does not fit.
    pub fn embed(&self, image: &Tensor) -> Result<Tensor> {
        let image = image.to_dtype(self.dtype)?;
        if self.blue_first {
            let channel = |number| image.narrow(1, number, 1);
            let turned = Tensor::cat(&[channel(2)?, channel(1)?, channel(0)?], 1)?;
            return self.image_embedding.forward(&turned);
        }
        self.image_embedding.forward(&image)
    }

    /// What is added to a UNet's maps, times `scale`, for `latents` [b, in_channels, h, w] at `timestep`; `image` is
    /// [`ControlNet::embed`]'s, of one image for all latents or one for each. `contexts` and `added` are as for
    /// [`UNet::forward_contexts`](super::UNet::forward_contexts); a network without an `addition_embed_type` passes `added`
    /// over.
    ///
    /// # Errors
    /// Shapes that do not fit, or a network that needs an [`AddedCondition`].
    pub fn forward(
        &self,
        latents: &Tensor,
        timestep: f64,
        contexts: &[&TextContext],
        added: Option<&AddedCondition>,
        image: &Tensor,
        scale: f64,
    ) -> Result<ControlResiduals> {
        let (batch, channels, _, _) = latents.dims4()?;
        let rows = TextContext::rows(contexts, self.context_width);
        if channels != self.in_channels || rows.is_none_or(|rows| !batch.is_multiple_of(rows)) {
            candle_core::bail!(
                "latents {:?} with context {:?}: this ControlNet takes [b, {}, h, w] with [b, n, {}]",
                latents.dims(),
                contexts.iter().map(|context| context.states().dims()).collect::<Vec<_>>(),
                self.in_channels,
                self.context_width
            )
        }
        let mut texts =
            CrossAttentionTexts::new(contexts, self.number, |states| self.project(states))?;
        let time = || -> Result<Tensor> {
            let sinusoid = self.sinusoid.of(timestep, latents.device())?.to_dtype(self.dtype)?;
            self.time_embedding.forward(&sinusoid)
        };
        let mut shifts = TimeShifts::new(match (&self.add_embedding, added) {
            (None, _) => self.cached_shifts.at(timestep, || self.shifts(&time()?))?,
            (Some(embedding), Some(added)) => {
                let embed = || embedding.forward(added, batch, self.dtype);
                let added = added.embedding(self.number, batch, embed)?;
                self.shifts(&added.broadcast_add(&time()?)?)?
            }
            (Some(_), None) => {
                candle_core::bail!("this ControlNet needs pooled text and sizes as well")
            }
        });
        let mut x = self.conv_in.forward(&latents.to_dtype(self.dtype)?)?;
        let (images, _, height, width) = image.dims4()?;
        let (_, channels, rows, columns) = x.dims4()?;
        if (height, width) != (rows, columns) || (images != 1 && images != batch) {
            candle_core::bail!(
                "an image's embedding of {:?} for latents {:?}",
                image.dims(),
                latents.dims()
            )
        }
        x = sum_of_maps(&x, &image.broadcast_as((batch, channels, rows, columns))?)?;
        let mut maps = vec![x.clone()];
        for block in &self.down_blocks {
            x = block.forward(&x, &mut shifts, &mut texts, &mut maps)?;
        }
        x = match &self.middle {
            Middle::Attends(block) => block.forward(&x, &mut shifts, &mut texts)?,
            Middle::Plain(block) => block.forward(&x, Some(&shifts.next_block()?))?,
        };
        let scaled = |conv: &Conv2d, map: &Tensor| match conv.forward(map)? {
            residual if scale == 1.0 => Ok(residual),
            residual => residual * scale,
        };
        let down = self.controlnet_down_blocks.iter().zip(&maps);
        Ok(ControlResiduals {
            down: down.map(|(conv, map)| scaled(conv, map)).collect::<Result<_>>()?,
            middle: scaled(&self.controlnet_mid_block, &x)?,
        })
    }

    /// What the residual blocks make of the timestep's embedding `time` [1 or b, time_width], in the order of
    /// the forward pass.
    fn shifts(&self, time: &Tensor) -> Result<Arc<[Tensor]>> {
        let time = silu(time)?;
        let down = self.down_blocks.iter().flat_map(DownBlock::resnets);
        let blocks = down.chain(self.middle.resnets());
        Ok(blocks.map(|block| block.shift(&time)).collect::<Result<Vec<_>>>()?.into())
    }

    /// What the cross-attention layers make of the text `states`, in the order of the forward pass.
    fn project(&self, states: &Tensor) -> Result<Vec<KeysAndValues>> {
        let states = states.to_dtype(self.dtype)?.contiguous()?;
        if let Some(layers) = &self.text_layers {
            return layers.forward(&states).map(pairs);
        }
        let down = self.down_blocks.iter().flat_map(DownBlock::attentions);
        let attentions = down.chain(self.middle.attentions());
        attentions.flat_map(|attention| attention.project(&states)).collect()
    }

    /// Channels of the latents.
    pub fn in_channels(&self) -> usize {
        self.in_channels
    }

    /// Width of the hidden states that it attends to.
    pub fn context_width(&self) -> usize {
        self.context_width
    }

    /// Width of the pooled text that it needs beside six sizes; `None` where it needs neither.
    pub fn pooled_width(&self) -> Option<usize> {
        self.add_embedding.as_ref().and_then(|embedding| embedding.pooled_width(6))
    }

    /// Whether it needs pooled text and sizes.
    pub fn takes_added(&self) -> bool {
        self.add_embedding.is_some()
    }

    /// The maps that it makes.
    pub fn levels(&self) -> &Levels {
        &self.levels
    }

    /// How many times higher and wider the image is than the latents.
    pub fn image_factor(&self) -> usize {
        self.image_embedding.factor()
    }

    /// What of the files changed nothing.
    pub(crate) fn unused_parts(&self) -> &UnusedParts {
        &self.unused_parts
    }

    /// Digest of the weight files, see [`Weights::sha256`].
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}
