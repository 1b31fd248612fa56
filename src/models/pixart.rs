//! In: noisy latents, a timestep and a text's hidden states. Out: the predicted noise. Follows `PixArtTransformer2DModel` of
//! diffusers; dimensions come from `config.json`. candle-transformers has no such network. A text comes without its padding,
//! which the original masks: what is masked has no part in any sum.

mod block;
mod config;

use std::path::Path;

use candle_core::{DType, Device, Module, Result, Tensor};

use self::block::{Block, MODULATIONS};
use self::config::PixArtConfig;
use super::patches::{PatchEmbedding, joined_patches, sincos_positions};
use super::timestep_cache::TimestepCache;
use super::unet::TextContext;
use super::unet::text_context::{CrossAttentionTexts, KeysAndValues, next_network};
use super::unet::timestep::{Sinusoid, TimestepEmbedding, rounded_to};
use super::unused_parts::UnusedParts;
use crate::checkpoint::config::Config;
use crate::checkpoint::weights::{Scope, Weights};
use crate::compute::layers::{Activation, LayerNorm, Linear, LoadResult, silu};

/// Sinusoids of timesteps, sides and ratios.
const SINUSOID: Sinusoid = Sinusoid { width: 256, flip_sin_to_cos: true, shift: 0.0 };
/// Epsilon of the last norm, which is not configurable.
const LAST_EPS: f64 = 1e-6;

/// PixArt's diffusion transformer.
#[derive(Debug)]
pub struct PixArtTransformer {
    config: PixArtConfig,
    pos_embed: PatchEmbedding,
    timestep_embedder: TimestepEmbedding,
    conditions: Option<SizeConditions>,
    adaln_linear: Linear,
    caption_projection: Option<CaptionProjection>,
    blocks: Vec<Block>,
    /// [blocks, 6, width], f32, with one added to the scales.
    tables: Tensor,
    /// [2, width]: shift, and scale with one added.
    last_table: Tensor,
    proj_out: Linear,
    prepared: Option<Prepared>,
    /// What a timestep makes of every block, and of the last norm: 0.8 MB each in the published network.
    modulations: TimestepCache<(Tensor, Tensor)>,
    dtype: DType,
    number: u64,
    sha256: String,
    unused_parts: UnusedParts,
}

/// What depends on the picture's size alone.
#[derive(Debug)]
struct Prepared {
    /// Rows and columns of squares.
    grid: (usize, usize),
    /// [1, rows * columns, width].
    positions: Tensor,
    /// [1, width], where the network is told the size.
    told: Option<Tensor>,
}

impl PixArtTransformer {
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
        let plan = PixArtConfig::from_config(config)?;
        let root = weights.root();
        let width = plan.block.width;
        let adaln = root.at("adaln_single");
        let blocks = root.at("transformer_blocks");
        let scopes: Vec<Scope> = (0..plan.layers).map(|number| blocks.at(number)).collect();
        let tables = scopes
            .iter()
            .map(|scope| table(scope, MODULATIONS, width))
            .collect::<LoadResult<Vec<_>>>()?;
        let tables = Tensor::stack(&tables, 0)
            .map_err(|source| root.refused("transformer_blocks", source))?;
        Ok(Self {
            config: plan,
            pos_embed: PatchEmbedding::load(
                &root.at("pos_embed"),
                plan.in_channels,
                width,
                plan.patch,
            )?,
            timestep_embedder: TimestepEmbedding::load(
                &adaln.at("emb.timestep_embedder"),
                SINUSOID.width,
                width,
            )?,
            conditions: plan
                .has_conditions
                .then(|| SizeConditions::load(&adaln.at("emb"), width))
                .transpose()?,
            adaln_linear: Linear::load(&adaln.at("linear"), width, MODULATIONS * width)?,
            caption_projection: plan
                .caption
                .map(|caption| {
                    CaptionProjection::load(&root.at("caption_projection"), caption, width)
                })
                .transpose()?,
            blocks: scopes
                .iter()
                .map(|scope| Block::load(scope, plan.block))
                .collect::<LoadResult<_>>()?,
            tables,
            last_table: table(&root, 2, width)?,
            proj_out: Linear::load(
                &root.at("proj_out"),
                width,
                plan.patch * plan.patch * plan.out_channels,
            )?,
            prepared: None,
            modulations: TimestepCache::default(),
            dtype: weights.dtype(),
            number: next_network(),
            sha256: weights.sha256().to_owned(),
            unused_parts: UnusedParts {
                keys: PixArtConfig::unknown_keys(config),
                // Files of 2023 hold the positions, which are computed.
                tensors: weights.not_taken(&["pos_embed.pos_embed"]),
            },
        })
    }

    /// Readies it for latents of `height` x `width`, of a picture of `pixels` (height, width), which a network with
    /// micro-conditions is told.
    ///
    /// # Errors
    /// The latents are no whole squares, or the device refused.
    pub fn prepare(
        &mut self,
        (height, width): (usize, usize),
        pixels: (usize, usize),
        device: &Device,
    ) -> Result<()> {
        let PixArtConfig { patch, sample_size, interpolation_scale, block, .. } = self.config;
        let grid = (height / patch, width / patch);
        if (grid.0 * patch, grid.1 * patch) != (height, width) {
            candle_core::bail!("latents of {height} x {width} are no squares of {patch} x {patch}")
        }
        let base = (sample_size / patch, interpolation_scale);
        let positions = sincos_positions(block.width, grid, base, device)?.to_dtype(self.dtype)?;
        let told = self.conditions.as_ref();
        let told = told.map(|told| told.forward(pixels, self.dtype, device)).transpose()?;
        self.prepared = Some(Prepared { grid, positions, told });
        self.modulations = TimestepCache::default();
        Ok(())
    }

    /// The network's output for `latents` [b, in_channels, h, w], of the size that it was prepared for, at `timestep`. The
    /// rows of `contexts` follow one another, all of one length, and each serves the same number of latents. Gives
    /// [b, in_channels, h, w], without a variance, in the number format of `latents`.
    ///
    /// # Errors
    /// Shapes that do not fit, or a network that was not prepared.
    pub fn forward_contexts(
        &self,
        latents: &Tensor,
        timestep: f64,
        contexts: &[&TextContext],
    ) -> Result<Tensor> {
        let (batch, channels, height, width) = latents.dims4()?;
        let PixArtConfig { in_channels, out_channels, patch, .. } = self.config;
        let Some(Prepared { grid, positions, told }) = &self.prepared else {
            candle_core::bail!("this transformer was prepared for no size")
        };
        let shapes: Vec<&[usize]> = contexts.iter().map(|text| text.states().dims()).collect();
        let rows: usize = shapes.iter().map(|shape| shape[0]).sum();
        let fits = |shape: &&[usize]| matches!(*shape, &[_, n, width] if n == shapes[0][1] && width == self.context_width());
        if (channels, height, width) != (in_channels, grid.0 * patch, grid.1 * patch)
            || !shapes.iter().all(fits)
            || rows == 0
            || !batch.is_multiple_of(rows)
        {
            candle_core::bail!(
                "latents {:?} with context {shapes:?}: this transformer takes [b, {in_channels}, {}, {}] with [b, n, {}]",
                latents.dims(),
                grid.0 * patch,
                grid.1 * patch,
                self.context_width()
            )
        }
        let mut texts =
            CrossAttentionTexts::new(contexts, self.number, |states| self.project(states))?;
        let (modulations, last) = self
            .modulations
            .at(timestep, || self.modulation(timestep, told.as_ref(), latents.device()))?;
        let x = self.pos_embed.forward(&latents.to_dtype(self.dtype)?)?;
        let mut x = x.broadcast_add(positions)?;
        for (number, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, &texts.next_layer()?, &modulations.get(number)?)?;
        }
        let norm = LayerNorm { weight: last.get(1)?, bias: last.get(0)?, eps: LAST_EPS };
        let x = self.proj_out.forward(&norm.forward(&x)?)?;
        // What lies behind the noise in each place is a variance.
        joined_patches(&x, *grid, patch, out_channels)?
            .narrow(1, 0, in_channels)?
            .to_dtype(latents.dtype())
    }

    /// What the timestep makes of the blocks, [blocks, 6, width], and of the last norm, [2, width].
    fn modulation(
        &self,
        timestep: f64,
        told: Option<&Tensor>,
        device: &Device,
    ) -> Result<(Tensor, Tensor)> {
        let sinusoid = SINUSOID.of(timestep, device)?.to_dtype(self.dtype)?;
        let mut time = self.timestep_embedder.forward(&sinusoid)?;
        if let Some(told) = told {
            time = (time + told)?;
        }
        let all = self.adaln_linear.forward(&silu(&time)?)?.to_dtype(DType::F32)?;
        let all = all.reshape((1, MODULATIONS, ()))?;
        let last = self.last_table.broadcast_add(&time.to_dtype(DType::F32)?)?;
        Ok((self.tables.broadcast_add(&all)?, last))
    }

    /// What the blocks make of the text `states`, in their order.
    fn project(&self, states: &Tensor) -> Result<Vec<KeysAndValues>> {
        let states = states.to_dtype(self.dtype)?.contiguous()?;
        let states = match &self.caption_projection {
            Some(projection) => projection.forward(&states)?,
            None => states,
        };
        self.blocks.iter().map(|block| block.project(&states)).collect()
    }

    /// Channels of the latents.
    pub fn in_channels(&self) -> usize {
        self.config.in_channels
    }

    /// Side of the latents that it was trained on.
    pub fn sample_size(&self) -> usize {
        self.config.sample_size
    }

    /// Whether it is told the picture's sides and their ratio.
    pub fn takes_size(&self) -> bool {
        self.conditions.is_some()
    }

    /// Width of the hidden states that it attends to.
    pub fn context_width(&self) -> usize {
        self.config.caption.unwrap_or(self.config.block.context)
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

/// `scale_shift_table` [rows, width] in f32, with one added to the scales, which follow each shift.
fn table(scope: &Scope, rows: usize, width: usize) -> LoadResult<Tensor> {
    let name = "scale_shift_table";
    let stored = scope.tensor(name, &[rows, width])?;
    let ones: Vec<f32> = (0..rows).map(|row| if row % 3 == 1 { 1.0 } else { 0.0 }).collect();
    stored
        .to_dtype(DType::F32)
        .and_then(|stored| {
            stored.broadcast_add(&Tensor::from_vec(ones, (rows, 1), stored.device())?)
        })
        .map_err(|source| scope.refused(name, source))
}

/// The micro-conditions of the network for 1024 pixels: sides and their ratio.
#[derive(Debug)]
struct SizeConditions {
    resolution_embedder: TimestepEmbedding,
    aspect_ratio_embedder: TimestepEmbedding,
}

impl SizeConditions {
    /// Each of three numbers becomes a third of `width`.
    fn load(scope: &Scope, width: usize) -> LoadResult<Self> {
        let embedder =
            |name: &str| TimestepEmbedding::load(&scope.at(name), SINUSOID.width, width / 3);
        Ok(Self {
            resolution_embedder: embedder("resolution_embedder")?,
            aspect_ratio_embedder: embedder("aspect_ratio_embedder")?,
        })
    }

    /// [1, width] of a picture's `height` and `width` in pixels.
    fn forward(
        &self,
        (height, width): (usize, usize),
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        // The pipeline holds these numbers in the network's format.
        let sinusoid = |number: f64| {
            SINUSOID.of(f64::from(rounded_to(number as f32, dtype)?), device)?.to_dtype(dtype)
        };
        let sides = Tensor::cat(&[sinusoid(height as f64)?, sinusoid(width as f64)?], 0)?;
        let sides = self.resolution_embedder.forward(&sides)?.reshape((1, ()))?;
        let ratio = self.aspect_ratio_embedder.forward(&sinusoid(height as f64 / width as f64)?)?;
        Tensor::cat(&[sides, ratio], 1)
    }
}

/// Two linear layers with the tanh GELU between, over a text's hidden states.
#[derive(Debug)]
struct CaptionProjection {
    linear_1: Linear,
    linear_2: Linear,
}

impl CaptionProjection {
    fn load(scope: &Scope, input: usize, width: usize) -> LoadResult<Self> {
        Ok(Self {
            linear_1: Linear::load(&scope.at("linear_1"), input, width)?,
            linear_2: Linear::load(&scope.at("linear_2"), width, width)?,
        })
    }

    fn forward(&self, states: &Tensor) -> Result<Tensor> {
        self.linear_2.forward(&Activation::GeluTanh.apply(&self.linear_1.forward(states)?)?)
    }
}
