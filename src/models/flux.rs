//! In: noisy latents, a timestep, a text's hidden states and its pooled vector. Out: the predicted velocity. Follows
//! `FluxTransformer2DModel` of diffusers, of FLUX.1 dev and schnell, with the squares of the latents that its pipeline makes
//! tokens of; dimensions come from `config.json`.
//!
//! candle-transformers 0.11.1 has a FLUX of its own. With tensors renamed and joined it equals diffusers in f32 on the tiny
//! checkpoints of the tests (relative 4e-7 to 2e-6, one and two pictures at a time). It is not used: it reads the names of the
//! publisher's single files alone; in half formats its angles are half numbers (a column 63 turns by 63 radians); it holds all
//! scores of a block at once, 2 GB for a picture of 1024 x 1024; and it goes past the layers here and their kernels.

mod block;
mod config;
mod rotary;

use std::path::Path;

use candle_core::{DType, Device, Module, Result, Tensor};

use self::block::{DoubleBlock, SingleBlock};
use self::config::{FluxConfig, SIDE};
use self::rotary::Rotary;
use super::joint::Modulation;
use super::patches::{packed, unpacked};
use super::unet::timestep::{Sinusoid, TimestepEmbedding, rounded_to};
use super::unused_parts::UnusedParts;
use crate::checkpoint::config::Config;
use crate::checkpoint::weights::Weights;
use crate::compute::layers::{Linear, LoadResult, silu};

/// Sinusoids of timesteps, and of the guidance.
const SINUSOID: Sinusoid = Sinusoid { width: 256, flip_sin_to_cos: true, shift: 0.0 };

/// The flow transformer of FLUX.1.
#[derive(Debug)]
pub struct FluxTransformer {
    config: FluxConfig,
    x_embedder: Linear,
    context_embedder: Linear,
    timestep_embedder: TimestepEmbedding,
    /// `None` where it is not told the guidance.
    guidance_embedder: Option<TimestepEmbedding>,
    /// Over the pooled text; the same two layers.
    text_embedder: TimestepEmbedding,
    blocks: Vec<DoubleBlock>,
    single_blocks: Vec<SingleBlock>,
    norm_out: Linear,
    proj_out: Linear,
    /// What the guidance adds to time and text, [1, width], once it was told.
    guidance: Option<Tensor>,
    dtype: DType,
    sha256: String,
    unused_parts: UnusedParts,
}

impl FluxTransformer {
    /// Loads `transformer/`: `config.json` and `diffusion_pytorch_model.safetensors` or a variant of it.
    ///
    /// # Errors
    /// A file is missing or broken, a tensor is missing or has another shape than the configuration implies, or the
    /// configuration asks for arithmetic that is not here.
    pub fn load(folder: &Path, dtype: DType, device: &Device) -> LoadResult<Self> {
        let config = Config::read_component(folder)?;
        let weights = Weights::open(folder, "diffusion_pytorch_model", dtype, device)?;
        Self::build(&config, &weights)
    }

    /// The network that `config` describes, of `weights`, whose number format becomes its own.
    pub(crate) fn build(config: &Config, weights: &Weights) -> LoadResult<Self> {
        let plan = FluxConfig::from_config(config)?;
        let root = weights.root();
        let width = plan.block.width;
        let embed = root.at("time_text_embed");
        let (blocks, single) =
            (root.at("transformer_blocks"), root.at("single_transformer_blocks"));
        let embedder =
            |name: &str, input: usize| TimestepEmbedding::load(&embed.at(name), input, width);
        Ok(Self {
            x_embedder: Linear::load(&root.at("x_embedder"), plan.channels, width)?,
            context_embedder: Linear::load(&root.at("context_embedder"), plan.context, width)?,
            timestep_embedder: embedder("timestep_embedder", SINUSOID.width)?,
            guidance_embedder: plan
                .guidance
                .then(|| embedder("guidance_embedder", SINUSOID.width))
                .transpose()?,
            text_embedder: embedder("text_embedder", plan.pooled)?,
            blocks: (0..plan.layers)
                .map(|number| DoubleBlock::load(&blocks.at(number), plan.block))
                .collect::<LoadResult<_>>()?,
            single_blocks: (0..plan.single_layers)
                .map(|number| SingleBlock::load(&single.at(number), plan.block))
                .collect::<LoadResult<_>>()?,
            norm_out: Linear::load(&root.at("norm_out.linear"), width, 2 * width)?,
            proj_out: Linear::load(&root.at("proj_out"), width, plan.gives)?,
            guidance: None,
            dtype: weights.dtype(),
            sha256: weights.sha256().to_owned(),
            unused_parts: UnusedParts {
                keys: FluxConfig::unknown_keys(config),
                tensors: weights.not_taken(&[]),
            },
            config: plan,
        })
    }

    /// Tells a network with an embedding of it how strong guidance is; the others take no notice. In a half format it is rounded
    /// before it is taken times 1000 and after, as diffusers does: 3.5 is 3504 in bf16.
    ///
    /// # Errors
    /// The device refused.
    pub fn tell_guidance(&mut self, guidance: f64, device: &Device) -> Result<()> {
        let Some(embedder) = &self.guidance_embedder else { return Ok(()) };
        let guidance = rounded_to(rounded_to(guidance as f32, self.dtype)? * 1000.0, self.dtype)?;
        let sinusoid = SINUSOID.of(f64::from(guidance), device)?;
        self.guidance = Some(embedder.forward(&sinusoid.to_dtype(self.dtype)?)?);
        Ok(())
    }

    /// The network's output for `latents` [b, channels, h, w] at `timestep`, under one text: `states` [1, n, context] and
    /// `pooled` [1, pooled]. Gives the shape and number format of `latents`.
    ///
    /// # Errors
    /// Shapes that do not fit, or a guidance that was not told.
    pub fn forward(
        &self,
        latents: &Tensor,
        timestep: f64,
        states: &Tensor,
        pooled: &Tensor,
    ) -> Result<Tensor> {
        let (batch, channels, height, width) = latents.dims4()?;
        let context = self.config.context;
        let (rows, words, states_width) = states.dims3()?;
        if channels != self.in_channels()
            || (rows, states_width) != (1, context)
            || pooled.dims() != [1, self.config.pooled]
        {
            candle_core::bail!(
                "latents {:?} with a text {:?} and pooled {:?}: this transformer takes [b, {}, h, w] with [1, n, {context}] and \
                 [1, {}]",
                latents.dims(),
                states.dims(),
                pooled.dims(),
                self.in_channels(),
                self.config.pooled
            )
        }
        let time = silu(&self.time(timestep, pooled)?)?;
        let grid = (height / SIDE, width / SIDE);
        let heads = self.config.block.heads;
        let places = Rotary::of(words, grid, self.config.axes, heads, latents.device())?;
        let mut x = self.x_embedder.forward(&packed(&latents.to_dtype(self.dtype)?, SIDE)?)?;
        let text = self.context_embedder.forward(&states.to_dtype(self.dtype)?)?;
        let mut text = text.broadcast_as((batch, words, self.config.block.width))?.contiguous()?;
        for block in &self.blocks {
            (x, text) = block.forward(&x, &text, &time, &places)?;
        }
        let mut all = Tensor::cat(&[&text, &x], 1)?;
        for block in &self.single_blocks {
            all = block.forward(&all, &time, &places)?;
        }
        let x = all.narrow(1, words, x.dim(1)?)?.contiguous()?;
        // Scale, then shift.
        let x = Modulation::of(&self.norm_out, &time, 2)?.norm(&x, 1, 0)?;
        unpacked(&self.proj_out.forward(&x)?, grid, SIDE)?.to_dtype(latents.dtype())
    }

    /// What time, guidance and pooled text make together, [1, width].
    fn time(&self, timestep: f64, pooled: &Tensor) -> Result<Tensor> {
        // The pipeline divides, the network multiplies, both in the network's number format.
        let rounded = |number: f32| rounded_to(number, self.dtype);
        let timestep = rounded(rounded(rounded(timestep as f32)? / 1000.0)? * 1000.0)?;
        let sinusoid = SINUSOID.of(f64::from(timestep), pooled.device())?.to_dtype(self.dtype)?;
        let mut time = self.timestep_embedder.forward(&sinusoid)?;
        if self.guidance_embedder.is_some() {
            let missing = || candle_core::Error::msg("this transformer was not told the guidance");
            time = (time + self.guidance.as_ref().ok_or_else(missing)?)?;
        }
        time + self.text_embedder.forward(&pooled.to_dtype(self.dtype)?)?
    }

    /// Whether it is told the guidance.
    pub fn takes_guidance(&self) -> bool {
        self.guidance_embedder.is_some()
    }

    /// Channels of the latents.
    pub fn in_channels(&self) -> usize {
        self.config.channels / (SIDE * SIDE)
    }

    /// Channels of a token, a square of latents, and of what is made of one.
    pub fn token_channels(&self) -> (usize, usize) {
        (self.config.channels, self.config.gives)
    }

    /// Side of a square of latents.
    pub fn square(&self) -> usize {
        SIDE
    }

    /// Width of the hidden states that it attends to.
    pub fn context_width(&self) -> usize {
        self.config.context
    }

    /// Width of the pooled text.
    pub fn pooled_width(&self) -> usize {
        self.config.pooled
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
