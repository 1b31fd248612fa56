//! In: the hidden states of a language model and a timestep. Out: the few tokens that the UNet attends
//! to there. This is ELLA's Timestep-Aware Semantic Connector (arXiv 2403.05135): a resampler whose
//! norms feel the time; and its relatives of the paper's ablation, as the authors' first release of the
//! code has them (TencentQQGYLab/ELLA at b7c2202, model.py): norms that do not feel it, norms and gates
//! that do (AdaLN-Zero), latents that do or do not. Which it is, and every dimension, comes from the
//! file's tensors. Text encoding and the walk over the timesteps are left to the caller.

mod block;

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Module, Result, Tensor};

use self::block::{Block, BlockKind, BlockTerms, NORMS};
use super::packed_attention;
use super::timestep_cache::TimestepCache;
use super::unet::timestep::{Sinusoid, TimestepEmbedding};
use crate::checkpoint::file_fault::FileFault;
use crate::checkpoint::model_error::ModelError;
use crate::checkpoint::weights::Weights;
use crate::compute::layers::{LayerNorm, Linear, LoadResult, silu};

/// Heads of every connector, whatever its width.
const HEADS: usize = 8;
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
/// Linear layers of a block, but for its attention's and those of its norms and gates.
const BLOCK_MODULES: &[&str] = &["mlp.c_fc", "mlp.c_proj"];

/// The connector between a language model and a UNet.
#[derive(Debug)]
pub struct EllaConnector {
    /// A file may hold it though nothing feels the time.
    time_embedding: Option<(Sinusoid, TimestepEmbedding)>,
    /// [1, tokens, width]
    latents: Tensor,
    /// What the time adds to the latents.
    time_aware_linear: Option<Linear>,
    proj_in: Option<Linear>,
    kind: BlockKind,
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
    blocks: Vec<BlockTerms>,
}

/// Dimensions, read off the file.
#[derive(Debug, Clone, Copy)]
struct Size {
    input: usize,
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
        Self::of(file, &Weights::open_file(file, dtype, device)?)
    }

    /// The connector of `weights`, all of them, which are those of `file`.
    pub(super) fn of(file: &Path, weights: &Weights) -> LoadResult<Self> {
        let connector = Self::build(file, weights)?;
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
        let Some(name) = name.strip_prefix("connector.perceiver_blocks.") else {
            return name == "connector.latents" || linear(name, MODULES);
        };
        let Some((number, name)) = name.split_once('.') else { return false };
        let of_attention = |name: &str| {
            packed_attention::PACKED.contains(&name) || linear(name, &[packed_attention::LINEAR])
        };
        let suffix = self.kind.norm_suffix();
        number.parse::<usize>().is_ok_and(|number| number < self.blocks.len())
            && (name.strip_prefix("attn.").is_some_and(of_attention)
                || linear(name, BLOCK_MODULES)
                || (self.kind == BlockKind::Gated && linear(name, &["gate_linear"]))
                || NORMS.iter().any(|norm| linear(name, &[&format!("{norm}{suffix}")])))
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
        let connector = root.at("connector");
        let projects = |name: &str| connector.has(&format!("{name}.weight"));
        let blocks = connector.at("perceiver_blocks");
        let kind = BlockKind::of(&blocks.at(0));
        let feels_time = kind != BlockKind::Plain || projects("time_aware_linear");
        let time_name = "time_embedding.linear_1.weight";
        let time_in = match feels_time || root.has(time_name) {
            true => Some(shape(time_name, 2)?),
            false => None,
        };
        let size = Size {
            input: if projects("proj_in") {
                shape("connector.proj_in.weight", 2)?[1]
            } else {
                width
            },
            time: time_in.as_ref().map_or(0, |time_in| time_in[0]),
            output: if projects("proj_out.0") {
                shape("connector.proj_out.0.weight", 2)?[0]
            } else {
                width
            },
        };
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
            time_embedding: time_in
                .map(|time_in| -> LoadResult<_> {
                    let sinusoid =
                        Sinusoid { width: time_in[1], flip_sin_to_cos: true, shift: 0.0 };
                    let scope = root.at("time_embedding");
                    Ok((sinusoid, TimestepEmbedding::load(&scope, time_in[1], size.time)?))
                })
                .transpose()?,
            latents: connector
                .tensor("latents", latents)?
                .unsqueeze(0)
                .map_err(|source| connector.refused("latents", source))?,
            time_aware_linear: projects("time_aware_linear")
                .then(|| Linear::load(&connector.at("time_aware_linear"), size.time, width))
                .transpose()?,
            proj_in: projects("proj_in")
                .then(|| Linear::load(&connector.at("proj_in"), size.input, width))
                .transpose()?,
            kind,
            blocks: (0..depth)
                .map(|number| Block::load(&blocks.at(number), kind, (width, size.time), HEADS))
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
        for (block, terms) in self.blocks.iter().zip(&at.blocks) {
            latents = block.forward(&latents, x, terms)?;
        }
        match &self.proj_out {
            Some((linear, norm)) => norm.forward(&linear.forward(&latents)?),
            None => Ok(latents),
        }
    }

    /// The timestep's part.
    fn at(&self, timestep: f64, device: &Device) -> Result<Arc<TimestepTerms>> {
        // [1, time]; every use of it is behind a SiLU.
        let time = match &self.time_embedding {
            Some((sinusoid, embedding)) if self.feels_time() => {
                let sinusoid = sinusoid.of(timestep, device)?.to_dtype(self.dtype)?;
                Some(silu(&embedding.forward(&sinusoid)?)?)
            }
            _ => None,
        };
        let start = match (&self.time_aware_linear, &time) {
            (Some(linear), Some(time)) => {
                self.latents.broadcast_add(&linear.forward(time)?.unsqueeze(1)?)?
            }
            _ => self.latents.clone(),
        };
        let blocks = self.blocks.iter().map(|block| block.at(time.as_ref()));
        Ok(Arc::new(TimestepTerms { start, blocks: blocks.collect::<Result<_>>()? }))
    }

    /// Whether the tokens depend on the timestep.
    pub fn feels_time(&self) -> bool {
        self.kind != BlockKind::Plain || self.time_aware_linear.is_some()
    }

    /// What its blocks are, as runs record it: `tsc`, `resampler` or `adaln-zero`.
    pub fn kind(&self) -> &'static str {
        match self.kind {
            BlockKind::Plain => "resampler",
            BlockKind::Timestep => "tsc",
            BlockKind::Gated => "adaln-zero",
        }
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
