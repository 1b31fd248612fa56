//! In: noisy latents, a timestep and the text's hidden states. Out: the predicted noise. Follows
//! `UNet2DConditionModel` of diffusers as Stable Diffusion 1, 2 and XL configure it; dimensions come
//! from `config.json`. Guidance and schedules are left to the caller.

pub(crate) mod added;
pub(crate) mod blocks;
mod config;
pub(crate) mod control;
mod guidance;
pub(crate) mod text_context;
pub(crate) mod time_shifts;
pub(crate) mod timestep;
pub(crate) mod transformer;

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Module, Result, Tensor};

pub use self::added::AddedCondition;
use self::added::TextTimeEmbedding;
use self::blocks::{DownBlock, MidBlock, UpBlock, UpChannels};
use self::config::UNetConfig;
pub use self::control::{ControlResiduals, Levels};
use self::guidance::GuidanceEmbedding;
pub use self::text_context::TextContext;
use self::text_context::{CrossAttentionTexts, KeysAndValues, next_network, pairs};
use self::time_shifts::TimeShifts;
use self::timestep::{Sinusoid, TimestepEmbedding};
use self::transformer::Transformer2DModel;
use super::timestep_cache::TimestepCache;
use super::unused_parts::UnusedParts;
use crate::checkpoint::config::Config;
use crate::checkpoint::weights::Weights;
use crate::compute::layers::{Conv2d, FusedLinears, GroupNorm, LoadResult, silu};

/// The denoising network.
#[derive(Debug)]
pub struct UNet {
    conv_in: Conv2d,
    sinusoid: Sinusoid,
    time_embedding: TimestepEmbedding,
    add_embedding: Option<TextTimeEmbedding>,
    /// `None` where guidance takes two calls.
    guidance: Option<GuidanceEmbedding>,
    down_blocks: Vec<DownBlock>,
    /// `None` where the configuration has `mid_block_type` null.
    mid_block: Option<MidBlock>,
    /// On a GPU, where all that is made of a text is one product.
    text_layers: Option<FusedLinears>,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    in_channels: usize,
    out_channels: usize,
    sample_size: Option<(usize, usize)>,
    context_width: usize,
    levels: Levels,
    dtype: DType,
    sha256: String,
    unused_parts: UnusedParts,
    /// The residual blocks' shifts, where they depend on the timestep alone: of a Stable Diffusion 1.x network in
    /// f32 9 MiB at most.
    cached_shifts: TimestepCache<Arc<[Tensor]>>,
    /// Tells this network from every other of the process.
    number: u64,
}

impl UNet {
    /// Loads `unet/`: `config.json` and `diffusion_pytorch_model.safetensors` or a variant of it.
    ///
    /// # Errors
    /// A file is missing or broken, a tensor is missing or has another shape than the configuration
    /// implies, or the configuration asks for arithmetic that is not here.
    pub fn load(folder: &Path, dtype: DType, device: &Device) -> LoadResult<Self> {
        let config = Config::read_component(folder)?;
        let weights = Weights::open(folder, "diffusion_pytorch_model", dtype, device)?;
        Self::build(&config, &weights)
    }

    /// The network that `config` describes, of `weights`, whose number format becomes its own.
    pub(crate) fn build(config: &Config, weights: &Weights) -> LoadResult<Self> {
        let plan = UNetConfig::from_config(config)?;
        let root = weights.root();
        let (channels, levels) = (&plan.channels, plan.channels.len());
        let (first, common) = (channels[0], plan.common);

        let mut down_blocks = Vec::with_capacity(levels);
        for level in 0..levels {
            let input = channels[level.saturating_sub(1)];
            down_blocks.push(DownBlock::load(
                &root.at("down_blocks").at(level),
                (input, channels[level]),
                plan.layers[level],
                plan.down_attention[level].then_some(plan.transformer(level)),
                level + 1 < levels,
                common,
            )?);
        }
        let mut up_blocks = Vec::with_capacity(levels);
        for (number, level) in (0..levels).rev().enumerate() {
            up_blocks.push(UpBlock::load(
                &root.at("up_blocks").at(number),
                UpChannels {
                    below: channels[(level + 1).min(levels - 1)],
                    output: channels[level],
                    entering: channels[level.saturating_sub(1)],
                },
                plan.layers[level] + 1,
                plan.up_attention[number].then_some(plan.transformer(level)),
                level > 0,
                common,
            )?);
        }
        let norm = common.norm;
        let mut mid_block = plan
            .has_middle
            .then(|| MidBlock::load(&root.at("mid_block"), plan.transformer(levels - 1), common))
            .transpose()?;
        let down = down_blocks.iter_mut().map(DownBlock::attentions_mut);
        let middle = mid_block.iter_mut().map(MidBlock::attentions_mut);
        let up = up_blocks.iter_mut().map(UpBlock::attentions_mut);
        let attentions = down.chain(middle).chain(up).flatten();
        let mut text_layers: Vec<_> =
            attentions.flat_map(Transformer2DModel::text_layers).collect();
        let text_layers = FusedLinears::on_gpu(&mut text_layers);
        Ok(Self {
            conv_in: Conv2d::load(&root.at("conv_in"), plan.in_channels, first, 3, 1)?,
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
            guidance: plan
                .guidance
                .map(|width| GuidanceEmbedding::load(&root.at("time_embedding"), width, first))
                .transpose()?,
            down_blocks,
            mid_block,
            text_layers,
            up_blocks,
            conv_norm_out: GroupNorm::load(
                &root.at("conv_norm_out"),
                first,
                norm.groups,
                norm.eps,
            )?,
            conv_out: Conv2d::load(&root.at("conv_out"), first, plan.out_channels, 3, 1)?,
            in_channels: plan.in_channels,
            out_channels: plan.out_channels,
            sample_size: plan.sample_size,
            context_width: plan.context,
            levels: Levels { channels: plan.channels, layers: plan.layers },
            dtype: weights.dtype(),
            sha256: weights.sha256().to_owned(),
            unused_parts: UnusedParts { keys: plan.unknown_keys, tensors: weights.not_taken(&[]) },
            cached_shifts: TimestepCache::default(),
            number: next_network(),
        })
    }

    /// The network's output for `latents` [b, in_channels, h, w] at `timestep` under `context`
    /// [b, n, context_width], n being any length: [b, out_channels, h, w], in the number format of
    /// `latents`. Height and width may be any, odd ones too.
    ///
    /// The same bits at any number of threads. The size of the batch can change the last bits of
    /// its entries on the processor (the matrix kernels follow the number of rows), so a caller who
    /// owes an image the same bytes in every run keeps the batch the same.
    ///
    /// # Errors
    /// Shapes that do not fit, or a network that needs an [`AddedCondition`].
    pub fn forward(&self, latents: &Tensor, timestep: f64, context: &Tensor) -> Result<Tensor> {
        self.forward_with(latents, timestep, context, None)
    }

    /// As [`UNet::forward`], for any network: `added` must be there where the configuration has an
    /// `addition_embed_type` (SDXL), and nowhere else.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward_with(
        &self,
        latents: &Tensor,
        timestep: f64,
        context: &Tensor,
        added: Option<&AddedCondition>,
    ) -> Result<Tensor> {
        self.forward_contexts(latents, timestep, &[&TextContext::new(context.clone())], added)
    }

    /// As [`UNet::forward_with`], for texts that serve several calls or several images: the rows of
    /// `contexts` follow one another, all of one length, and each serves the same number of latents
    /// that follow one another (two texts and b = 6: the first text serves the first three). What
    /// this network makes of a context is kept with it.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward_contexts(
        &self,
        latents: &Tensor,
        timestep: f64,
        contexts: &[&TextContext],
        added: Option<&AddedCondition>,
    ) -> Result<Tensor> {
        self.forward_controlled(latents, timestep, contexts, added, None)
    }

    /// As [`UNet::forward_contexts`], with what a ControlNet adds to its maps, where one does.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward_controlled(
        &self,
        latents: &Tensor,
        timestep: f64,
        contexts: &[&TextContext],
        added: Option<&AddedCondition>,
        control: Option<&ControlResiduals>,
    ) -> Result<Tensor> {
        let (batch, channels, _, _) = latents.dims4()?;
        let rows = TextContext::rows(contexts, self.context_width);
        if channels != self.in_channels || rows.is_none_or(|rows| !batch.is_multiple_of(rows)) {
            candle_core::bail!(
                "latents {:?} with context {:?}: this UNet takes [b, {}, h, w] with [b, n, {}]",
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
            self.time_embedding.forward(&match &self.guidance {
                None => sinusoid,
                Some(guidance) => (sinusoid + guidance.told()?)?,
            })
        };
        let mut shifts = TimeShifts::new(match (&self.add_embedding, added) {
            (None, None) => self.cached_shifts.at(timestep, || self.shifts(&time()?))?,
            (Some(embedding), Some(added)) => {
                let embed = || embedding.forward(added, batch, self.dtype);
                let added = added.embedding(self.number, batch, embed)?;
                self.shifts(&added.broadcast_add(&time()?)?)?
            }
            (Some(_), None) => candle_core::bail!("this UNet needs pooled text and sizes as well"),
            (None, Some(_)) => candle_core::bail!("this UNet takes no pooled text and no sizes"),
        });
        let mut x = self.conv_in.forward(&latents.to_dtype(self.dtype)?)?;
        let mut skips = vec![x.clone()];
        for block in &self.down_blocks {
            x = block.forward(&x, &mut shifts, &mut texts, &mut skips)?;
        }
        if let Some(block) = &self.mid_block {
            x = block.forward(&x, &mut shifts, &mut texts)?;
        }
        if let Some(control) = control {
            x = control.add_to(&mut skips, &x)?;
        }
        for block in &self.up_blocks {
            x = block.forward(&x, &mut shifts, &mut texts, &mut skips)?;
        }
        let x = self.conv_norm_out.forward_silu(&x)?;
        self.conv_out.forward(&x)?.to_dtype(latents.dtype())
    }

    /// What the residual blocks make of the timestep's embedding `time` [1 or b, time_width], in the order of
    /// the forward pass.
    fn shifts(&self, time: &Tensor) -> Result<Arc<[Tensor]>> {
        // Every block takes it so: one pass for all of them.
        let time = silu(time)?;
        let down = self.down_blocks.iter().map(DownBlock::resnets);
        let up = self.up_blocks.iter().map(UpBlock::resnets);
        let middle = self.mid_block.iter().map(MidBlock::resnets);
        let blocks = down.chain(middle).chain(up).flatten();
        Ok(blocks.map(|block| block.shift(&time)).collect::<Result<Vec<_>>>()?.into())
    }

    /// What the cross-attention layers make of the text `states`, in the order of the forward pass.
    fn project(&self, states: &Tensor) -> Result<Vec<KeysAndValues>> {
        let states = states.to_dtype(self.dtype)?.contiguous()?;
        if let Some(layers) = &self.text_layers {
            return layers.forward(&states).map(pairs);
        }
        let down = self.down_blocks.iter().map(DownBlock::attentions);
        let up = self.up_blocks.iter().map(UpBlock::attentions);
        down.chain(self.mid_block.iter().map(MidBlock::attentions))
            .chain(up)
            .flatten()
            .flat_map(|attention| attention.project(&states))
            .collect()
    }

    /// Tells a network that was distilled with guidance how strong it is; the others take no notice.
    ///
    /// # Errors
    /// The device refused.
    pub fn tell_guidance(&mut self, guidance: f64, device: &Device) -> Result<()> {
        let Some(embedding) = &mut self.guidance else { return Ok(()) };
        embedding.tell(guidance, self.dtype, device)?;
        // They hang on the guidance as well.
        self.cached_shifts = TimestepCache::default();
        Ok(())
    }

    /// Whether it is told the guidance, and needs no second call for it.
    pub fn takes_guidance(&self) -> bool {
        self.guidance.is_some()
    }

    /// Channels of the latents.
    pub fn in_channels(&self) -> usize {
        self.in_channels
    }

    /// Channels of what it predicts.
    pub fn out_channels(&self) -> usize {
        self.out_channels
    }

    /// Height and width of the latents that the network was trained on, where its configuration says.
    pub fn sample_size(&self) -> Option<(usize, usize)> {
        self.sample_size
    }

    /// What of the files changed nothing.
    pub(crate) fn unused_parts(&self) -> &UnusedParts {
        &self.unused_parts
    }

    /// Width of the hidden states that it attends to.
    pub fn context_width(&self) -> usize {
        self.context_width
    }

    /// The maps that its way down leaves.
    pub fn levels(&self) -> &Levels {
        &self.levels
    }

    /// Width of the pooled text that it needs beside six sizes; `None` where it needs neither.
    pub fn pooled_width(&self) -> Option<usize> {
        self.add_embedding.as_ref().and_then(|embedding| embedding.pooled_width(6))
    }

    /// Digest of the weight files, see [`Weights::sha256`].
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}
