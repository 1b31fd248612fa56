//! In: the hidden states of a language model and a timestep. Out: the few tokens that the UNet attends
//! to there. This is ELLA's Timestep-Aware Semantic Connector (arXiv 2403.05135): a resampler whose
//! norms feel the time. Every dimension comes from the file's shapes, so that connectors of any width
//! load. Text encoding and the walk over the timesteps are left to the caller.

use std::path::Path;
use std::sync::Arc;

use candle_core::{D, DType, Device, Module, Result, Tensor};

use super::timestep_cache::TimestepCache;
use super::unet::timestep::{Sinusoid, TimestepEmbedding};
use crate::checkpoint::file_fault::FileFault;
use crate::checkpoint::model_error::ModelError;
use crate::checkpoint::weights::{Scope, Weights};
use crate::compute::attention::{AttentionMask, attend};
use crate::compute::cuda;
use crate::compute::layers::{LayerNorm, Linear, LoadResult, silu, squared_relu, standardised};

/// Heads of every connector, whatever its width.
const HEADS: usize = 8;
const NORM_EPS: f64 = 1e-6;
/// That of the optional norm behind the output projection.
const OUTPUT_NORM_EPS: f64 = 1e-5;

/// Linear layers and norms outside the blocks.
const MODULES: &[&str] = &[
    "time_embedding.linear_1",
    "time_embedding.linear_2",
    "connector.time_aware_linear",
    "connector.proj_in",
    "connector.proj_out.0",
    "connector.proj_out.1",
];
/// Linear layers of a block, but for its packed projections.
const BLOCK_MODULES: &[&str] =
    &["attn.out_proj", "mlp.c_fc", "mlp.c_proj", "ln_1.linear", "ln_2.linear", "ln_ff.linear"];

/// The connector between a language model and a UNet.
#[derive(Debug)]
pub struct EllaConnector {
    sinusoid: Sinusoid,
    time_embedding: TimestepEmbedding,
    /// [1, tokens, width]
    latents: Tensor,
    time_aware_linear: Linear,
    proj_in: Option<Linear>,
    blocks: Vec<Block>,
    proj_out: Option<(Linear, LayerNorm)>,
    size: Size,
    dtype: DType,
    sha256: String,
    /// Of the published size in f32 39 MiB at most.
    kept: TimestepCache<Arc<TimestepTerms>>,
}

/// What depends on the timestep alone, so that the texts of a run share it.
#[derive(Debug)]
struct TimestepTerms {
    /// The latents that the blocks begin with, [1, tokens, width].
    start: Tensor,
    /// Three for each block.
    norms: Vec<TimestepNorm>,
}

/// Dimensions, read off the file.
#[derive(Debug, Clone, Copy)]
struct Size {
    input: usize,
    width: usize,
    time: usize,
    output: usize,
}

/// Text that is ready for the connector: [b, n, width].
#[derive(Debug, Clone)]
pub struct ProjectedText(Tensor);

impl EllaConnector {
    /// Loads the `.safetensors` file of a connector, as `dtype`.
    ///
    /// # Errors
    /// The file is missing or broken, or is no connector: a tensor is missing, has a shape that does
    /// not go with the others, or has no place in a connector.
    pub fn load(file: &Path, dtype: DType, device: &Device) -> LoadResult<Self> {
        let weights = Weights::open_file(file, dtype, device)?;
        let connector = Self::build(file, &weights)?;
        // As the original, which loads strictly: what is left over would be missing in the pictures.
        let mut unknown = weights.names().filter(|name| !connector.has_place_for(name));
        match unknown.next() {
            None => Ok(connector),
            Some(name) => {
                let reason = format!(
                    "tensor `{name}` has no place in an ELLA connector, so this is one of another make"
                );
                Err(ModelError::broken(file, FileFault::Network(reason)))
            }
        }
    }

    /// Whether the network has a tensor of that name.
    fn has_place_for(&self, name: &str) -> bool {
        let linear = |name: &str, known: &[&str]| {
            let module = name.strip_suffix(".weight").or_else(|| name.strip_suffix(".bias"));
            module.is_some_and(|module| known.contains(&module))
        };
        if let Some(name) = name.strip_prefix("connector.perceiver_blocks.") {
            let Some((number, name)) = name.split_once('.') else { return false };
            return number.parse::<usize>().is_ok_and(|number| number < self.blocks.len())
                && (["attn.in_proj_weight", "attn.in_proj_bias"].contains(&name)
                    || linear(name, BLOCK_MODULES));
        }
        name == "connector.latents" || linear(name, MODULES)
    }

    /// The connector of `weights`, which messages call `file`.
    pub(crate) fn build(file: &Path, weights: &Weights) -> LoadResult<Self> {
        let root = weights.root();
        let shape = |name: &str, rank: usize| match root.shape(name) {
            Some(shape) if shape.len() == rank => Ok(shape),
            Some(shape) => {
                let reason =
                    format!("tensor `{name}` has shape {shape:?}; {rank} dimensions are due");
                Err(ModelError::broken(file, FileFault::Network(reason)))
            }
            None => {
                let reason = format!("tensor `{name}` is missing, so this is no ELLA connector");
                Err(ModelError::broken(file, FileFault::Network(reason)))
            }
        };
        let latents = shape("connector.latents", 2)?;
        let (count, width) = (latents[0], latents[1]);
        if count == 0 || width == 0 || !width.is_multiple_of(HEADS) {
            let reason = format!(
                "`connector.latents` is {latents:?}; the width must be a multiple of {HEADS}"
            );
            return Err(ModelError::broken(file, FileFault::Network(reason)));
        }
        let time_in = shape("time_embedding.linear_1.weight", 2)?;
        let connector = root.at("connector");
        let projects = |name: &str| connector.has(&format!("{name}.weight"));
        let size = Size {
            input: if projects("proj_in") {
                shape("connector.proj_in.weight", 2)?[1]
            } else {
                width
            },
            width,
            time: time_in[0],
            output: if projects("proj_out.0") {
                shape("connector.proj_out.0.weight", 2)?[0]
            } else {
                width
            },
        };
        let blocks = connector.at("perceiver_blocks");
        let depth = (0..).take_while(|n| blocks.has(&format!("{n}.attn.in_proj_weight"))).count();
        if depth == 0 {
            let reason =
                "tensor `connector.perceiver_blocks.0.attn.in_proj_weight` is missing".to_owned();
            return Err(ModelError::broken(file, FileFault::Network(reason)));
        }
        let proj_out = || -> LoadResult<_> {
            let scope = connector.at("proj_out");
            Ok((
                Linear::load(&scope.at(0), width, size.output)?,
                LayerNorm::load(&scope.at(1), size.output, OUTPUT_NORM_EPS)?,
            ))
        };
        Ok(Self {
            sinusoid: Sinusoid { width: time_in[1], flip_sin_to_cos: true, shift: 0.0 },
            time_embedding: TimestepEmbedding::load(
                &root.at("time_embedding"),
                time_in[1],
                size.time,
            )?,
            latents: connector
                .tensor("latents", latents)?
                .unsqueeze(0)
                .map_err(|source| connector.refused("latents", source))?,
            time_aware_linear: Linear::load(&connector.at("time_aware_linear"), size.time, width)?,
            proj_in: projects("proj_in")
                .then(|| Linear::load(&connector.at("proj_in"), size.input, width))
                .transpose()?,
            blocks: (0..depth)
                .map(|number| Block::load(&blocks.at(number), size))
                .collect::<LoadResult<_>>()?,
            proj_out: projects("proj_out.0").then(proj_out).transpose()?,
            size,
            dtype: weights.dtype(),
            sha256: weights.sha256().to_owned(),
            kept: TimestepCache::default(),
        })
    }

    /// The part that does not depend on the timestep, so that it is computed once per text: from
    /// hidden states [b, n, input width], n being any length. Padding is not masked.
    ///
    /// # Errors
    /// Another width.
    pub fn project(&self, text: &Tensor) -> Result<ProjectedText> {
        let text = text.to_dtype(self.dtype)?;
        Ok(ProjectedText(match &self.proj_in {
            Some(proj_in) => proj_in.forward(&text)?,
            None => text,
        }))
    }

    /// What the UNet attends to at `timestep`: [b, tokens, output width].
    ///
    /// # Errors
    /// The tensor operation failed.
    pub fn forward(&self, text: &ProjectedText, timestep: f64) -> Result<Tensor> {
        let x = &text.0;
        let at = self.kept.at(timestep, || self.at(timestep, x.device()))?;
        let (_, tokens, width) = self.latents.dims3()?;
        let mut latents = at.start.broadcast_as((x.dim(0)?, tokens, width))?.contiguous()?;
        for (block, norms) in self.blocks.iter().zip(at.norms.chunks(Block::NORMS)) {
            latents = block.forward(&latents, x, norms)?;
        }
        match &self.proj_out {
            Some((linear, norm)) => norm.forward(&linear.forward(&latents)?),
            None => Ok(latents),
        }
    }

    /// The timestep's part.
    fn at(&self, timestep: f64, device: &Device) -> Result<Arc<TimestepTerms>> {
        let sinusoid = self.sinusoid.of(timestep, device)?.to_dtype(self.dtype)?;
        // [1, time]; every use of it is behind a SiLU.
        let time = silu(&self.time_embedding.forward(&sinusoid)?)?;
        let shift = self.time_aware_linear.forward(&time)?.unsqueeze(1)?;
        let norms = self.blocks.iter().flat_map(Block::norms).map(|norm| norm.at(&time));
        Ok(Arc::new(TimestepTerms {
            start: self.latents.broadcast_add(&shift)?,
            norms: norms.collect::<Result<_>>()?,
        }))
    }

    /// Width of the hidden states that go in.
    pub fn input_width(&self) -> usize {
        self.size.input
    }

    /// Width of the tokens that come out.
    pub fn output_width(&self) -> usize {
        self.size.output
    }

    /// Number of the tokens that come out.
    pub fn tokens(&self) -> usize {
        self.latents.dims()[1]
    }

    /// Digest of the file, see [`Weights::sha256`].
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

/// Attention from the latents to themselves and the text, then a feed-forward, each beside its
/// shortcut.
#[derive(Debug)]
struct Block {
    latents_norm: TimeAwareNorm,
    text_norm: TimeAwareNorm,
    /// The three below in one, for a GPU, where a launch costs more than queries of the text that nobody
    /// asks.
    packed: Linear,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    feed_forward_norm: TimeAwareNorm,
    inner: Linear,
    outer: Linear,
}

impl Block {
    const NORMS: usize = 3;

    /// Those of the latents, of the text and of the feed-forward.
    fn norms(&self) -> [&TimeAwareNorm; Self::NORMS] {
        [&self.latents_norm, &self.text_norm, &self.feed_forward_norm]
    }

    fn load(scope: &Scope, size: Size) -> LoadResult<Self> {
        let width = size.width;
        let attention = scope.at("attn");
        // Query, key and value are packed in this order.
        let weight = attention.tensor("in_proj_weight", &[3 * width, width])?;
        let bias = attention.tensor("in_proj_bias", &[3 * width])?;
        let projection = |number: usize| -> LoadResult<Linear> {
            let rows = |tensor: &Tensor| tensor.narrow(0, number * width, width);
            let parts = rows(&weight).and_then(|weight| Ok((weight, rows(&bias)?)));
            let (weight, bias) =
                parts.map_err(|source| attention.refused("in_proj_weight", source))?;
            Ok(Linear::new(weight, bias))
        };
        let norm = |name: &str| TimeAwareNorm::load(&scope.at(name), size);
        let mlp = scope.at("mlp");
        let inner = scope.shape("mlp.c_fc.weight").map_or(4 * width, |shape| shape[0]);
        Ok(Self {
            latents_norm: norm("ln_1")?,
            text_norm: norm("ln_2")?,
            query: projection(0)?,
            key: projection(1)?,
            value: projection(2)?,
            packed: Linear::new(weight, bias),
            out: Linear::load(&attention.at("out_proj"), width, width)?,
            feed_forward_norm: norm("ln_ff")?,
            inner: Linear::load(&mlp.at("c_fc"), width, inner)?,
            outer: Linear::load(&mlp.at("c_proj"), inner, width)?,
        })
    }

    /// `norms` are those of [`Block::norms`] at the time.
    fn forward(&self, latents: &Tensor, text: &Tensor, norms: &[TimestepNorm]) -> Result<Tensor> {
        let [latents_norm, text_norm, feed_forward_norm] = norms else {
            candle_core::bail!("a block has {} norms, not {}", Self::NORMS, norms.len())
        };
        let normed = latents_norm.forward(latents)?;
        let seen = Tensor::cat(&[&normed, &text_norm.forward(text)?], 1)?;
        let (query, key, value) = if cuda::apply(&[&seen]) {
            let all = self.packed.forward(&seen)?;
            let width = all.dim(2)? / 3;
            let part = |number: usize| all.narrow(2, number * width, width);
            (part(0)?.narrow(1, 0, normed.dim(1)?)?, part(1)?, part(2)?)
        } else {
            (self.query.forward(&normed)?, self.key.forward(&seen)?, self.value.forward(&seen)?)
        };
        let mixed = attend(&query, &key, &value, HEADS, AttentionMask::All, self.out.packing())?;
        let latents = self.out.forward_then_add(&mixed, latents)?;
        let inner = self.inner.forward(&feed_forward_norm.forward(&latents)?)?;
        self.outer.forward_then_add(&squared_relu(&inner)?, &latents)
    }
}

/// Normalisation over the last dimension whose shift and scale follow from the time.
#[derive(Debug)]
struct TimeAwareNorm {
    linear: Linear,
    width: usize,
}

impl TimeAwareNorm {
    fn load(scope: &Scope, size: Size) -> LoadResult<Self> {
        let linear = Linear::load(&scope.at("linear"), size.time, 2 * size.width)?;
        Ok(Self { linear, width: size.width })
    }

    /// The norm at `time` [1, time], behind its SiLU already.
    fn at(&self, time: &Tensor) -> Result<TimestepNorm> {
        let both = self.linear.forward(time)?.unsqueeze(1)?;
        let shift = both.narrow(D::Minus1, 0, self.width)?.contiguous()?;
        let factor = (both.narrow(D::Minus1, self.width, self.width)? + 1.0)?.contiguous()?;
        // The GPU's kernel takes them in f32.
        let kept = if cuda::apply(&[&factor]) { DType::F32 } else { factor.dtype() };
        Ok(TimestepNorm { factor: factor.to_dtype(kept)?, shift: shift.to_dtype(kept)? })
    }
}

/// A [`TimeAwareNorm`] whose time is known: factor and shift, each [1, 1, width].
#[derive(Debug)]
struct TimestepNorm {
    factor: Tensor,
    shift: Tensor,
}

impl TimestepNorm {
    /// `x` [b, n, width] to the same shape.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if cuda::apply(&[x])
            && let Some(done) = cuda::layer_norm(x, &self.factor, &self.shift, NORM_EPS)?
        {
            return Ok(done);
        }
        standardised(x, NORM_EPS)?
            .to_dtype(x.dtype())?
            .broadcast_mul(&self.factor.to_dtype(x.dtype())?)?
            .broadcast_add(&self.shift.to_dtype(x.dtype())?)
    }
}
