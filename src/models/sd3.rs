//! In: noisy latents, a timestep, a text's hidden states and its pooled vector. Out: the predicted velocity. Follows
//! `SD3Transformer2DModel` of diffusers, of Stable Diffusion 3 and 3.5; dimensions come from `config.json`.
//!
//! candle-transformers 0.11.1 has an MMDiT of its own in Stability's names of tensors. It cannot be held to diffusers in f32: its
//! sinusoid of the timestep is always f16, and the product with f32 weights is refused. It takes as many heads as blocks.

mod block;
mod config;

use std::path::Path;

use candle_core::{DType, Device, Module, Result, Tensor};

use self::block::Block;
use self::config::Sd3Config;
use super::joint::Modulation;
use super::patches::{PatchEmbedding, joined_patches, sincos_positions};
use super::unet::timestep::{Sinusoid, TimestepEmbedding};
use super::unused_parts::UnusedParts;
use crate::checkpoint::config::Config;
use crate::checkpoint::weights::{Scope, Weights};
use crate::compute::layers::{Linear, LoadResult, silu};

/// Sinusoids of timesteps.
const SINUSOID: Sinusoid = Sinusoid { width: 256, flip_sin_to_cos: true, shift: 0.0 };

/// The multimodal diffusion transformer of Stable Diffusion 3.
#[derive(Debug)]
pub struct Sd3Transformer {
    config: Sd3Config,
    pos_embed: PatchEmbedding,
    /// [most, most, width].
    positions: Tensor,
    timestep_embedder: TimestepEmbedding,
    /// Over the pooled text; the same two layers.
    text_embedder: TimestepEmbedding,
    context_embedder: Linear,
    blocks: Vec<Block>,
    norm_out: Linear,
    proj_out: Linear,
    dtype: DType,
    sha256: String,
    unused_parts: UnusedParts,
}

impl Sd3Transformer {
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
        let plan = Sd3Config::from_config(config)?;
        let root = weights.root();
        let width = plan.block.width;
        let embed = root.at("time_text_embed");
        let blocks = root.at("transformer_blocks");
        Ok(Self {
            pos_embed: PatchEmbedding::load(
                &root.at("pos_embed"),
                plan.channels,
                width,
                plan.patch,
            )?,
            positions: positions(&root.at("pos_embed"), &plan, weights)?,
            timestep_embedder: TimestepEmbedding::load(
                &embed.at("timestep_embedder"),
                SINUSOID.width,
                width,
            )?,
            text_embedder: TimestepEmbedding::load(&embed.at("text_embedder"), plan.pooled, width)?,
            context_embedder: Linear::load(&root.at("context_embedder"), plan.context, width)?,
            blocks: (0..plan.layers)
                .map(|number| {
                    let is_last = number + 1 == plan.layers;
                    let is_dual = plan.dual.contains(&number);
                    Block::load(&blocks.at(number), plan.block, is_dual, is_last)
                })
                .collect::<LoadResult<_>>()?,
            norm_out: Linear::load(&root.at("norm_out.linear"), width, 2 * width)?,
            proj_out: Linear::load(
                &root.at("proj_out"),
                width,
                plan.patch * plan.patch * plan.channels,
            )?,
            dtype: weights.dtype(),
            sha256: weights.sha256().to_owned(),
            unused_parts: UnusedParts {
                keys: Sd3Config::unknown_keys(config),
                tensors: weights.not_taken(&[]),
            },
            config: plan,
        })
    }

    /// The network's output for `latents` [b, channels, h, w] at `timestep`, under one text: `states` [1, n, context] and
    /// `pooled` [1, pooled]. Gives the shape and number format of `latents`.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(
        &self,
        latents: &Tensor,
        timestep: f64,
        states: &Tensor,
        pooled: &Tensor,
    ) -> Result<Tensor> {
        let (batch, channels, height, width) = latents.dims4()?;
        let Sd3Config { patch, most_squares, context, .. } = self.config;
        let grid = (height / patch, width / patch);
        let (rows, length, states_width) = states.dims3()?;
        if channels != self.config.channels
            || (rows, states_width) != (1, context)
            || pooled.dims() != [1, self.config.pooled]
            || grid.0.max(grid.1) > most_squares
        {
            candle_core::bail!(
                "latents {:?} with a text {:?} and pooled {:?}: this transformer takes [b, {}, h, w] of {most_squares} squares a \
                 side with [1, n, {context}] and [1, {}]",
                latents.dims(),
                states.dims(),
                pooled.dims(),
                self.config.channels,
                self.config.pooled
            )
        }
        let sinusoid = SINUSOID.of(timestep, latents.device())?.to_dtype(self.dtype)?;
        let time = self.timestep_embedder.forward(&sinusoid)?;
        let time = (time + self.text_embedder.forward(&pooled.to_dtype(self.dtype)?)?)?;
        let time = silu(&time)?;
        let (top, left) = ((most_squares - grid.0) / 2, (most_squares - grid.1) / 2);
        let positions = self.positions.narrow(0, top, grid.0)?.narrow(1, left, grid.1)?;
        let positions = positions.contiguous()?.reshape((1, grid.0 * grid.1, ()))?;
        let x = self.pos_embed.forward(&latents.to_dtype(self.dtype)?)?;
        let mut x = x.broadcast_add(&positions)?;
        let text = self.context_embedder.forward(&states.to_dtype(self.dtype)?)?;
        let mut text = text.broadcast_as((batch, length, self.config.block.width))?.contiguous()?;
        for block in &self.blocks {
            (x, text) = block.forward(&x, &text, &time)?;
        }
        // Scale, then shift.
        let x = Modulation::of(&self.norm_out, &time, 2)?.norm(&x, 1, 0)?;
        joined_patches(&self.proj_out.forward(&x)?, grid, patch, channels)?
            .to_dtype(latents.dtype())
    }

    /// Channels of the latents.
    pub fn in_channels(&self) -> usize {
        self.config.channels
    }

    /// Side of the latents that it was trained on.
    pub fn sample_size(&self) -> usize {
        self.config.sample_size
    }

    /// Side of a square, and how many stand on a side at most.
    pub fn squares(&self) -> (usize, usize) {
        (self.config.patch, self.config.most_squares)
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

/// Positions [most, most, width], of the file or, where it has none, as diffusers computes them.
fn positions(scope: &Scope, plan: &Sd3Config, weights: &Weights) -> LoadResult<Tensor> {
    let (most, width, name) = (plan.most_squares, plan.block.width, "pos_embed");
    let flat = match scope.has(name) {
        true => scope.tensor(name, &[1, most * most, width])?,
        false => {
            let base = ((plan.sample_size / plan.patch).max(1), 1.0);
            sincos_positions(width, (most, most), base, weights.device())
                .and_then(|positions| positions.to_dtype(weights.dtype()))
                .map_err(|source| scope.refused(name, source))?
        }
    };
    flat.reshape((most, most, width)).map_err(|source| scope.refused(name, source))
}
