//! In: the hidden states of a language model. Out: what SDXL's UNet attends to, and the pooled vector that it is told
//! beside that, in place of both CLIP encoders. This is the network of RouWei-Gemma and other files for
//! `LLMToSDXLAdapter` of NeuroSenko/ComfyUI_LLM_SDXL_Adapter (at 77c1e6c, llm_to_sdxl_adapter.py): attention among the
//! text's tokens, a resampler with a gate, attention among its tokens, and a pooling head. It does not feel the time.
//!
//! There, texts are padded with zeros which no token of text sees; here the padding is left out.

use std::path::Path;

use candle_core::{D, DType, Module, Result, Tensor};

use super::packed_attention;
use super::packed_attention::PackedAttention;
use crate::checkpoint::file_fault::FileFault;
use crate::checkpoint::model_error::ModelError;
use crate::checkpoint::weights::{Scope, Weights};
use crate::compute::layers::{Activation, LayerNorm, Linear, LoadResult};

/// The tensor that tells such a file from others.
pub(super) const MARK: &str = "compression_queries";
/// Heads of every attention, of both published kinds; no file says.
const HEADS: usize = 16;
const NORM_EPS: f64 = 1e-5;

/// Tensors of three dimensions.
const TABLES: [&str; 4] =
    [MARK, "input_position_embeddings", "output_position_embeddings", "pooling_token"];
/// Linear layers and norms outside the blocks and attentions.
const MODULES: &[&str] = &[
    "compression_gate.0",
    "compression_norm",
    "pooled_projection.0",
    "pooled_projection.1",
    "pooled_projection.4",
    "seq_projection",
];
const ATTENTIONS: [&str; 2] = ["compression_attention", "pooling_attention"];
const BLOCKS: [&str; 2] = ["wide_attention_blocks", "narrow_attention_blocks"];
const BLOCK_MODULES: &[&str] = &["mlp.0", "mlp.2", "norm1", "norm2"];

/// An adapter from a language model to SDXL.
#[derive(Debug)]
pub struct LlmAdapter {
    projection: Option<Linear>,
    /// [1, most tokens of text, width].
    input_positions: Tensor,
    wide: Vec<Block>,
    /// [1, tokens, width].
    queries: Tensor,
    compression: PackedAttention,
    gate: Linear,
    norm: LayerNorm,
    /// [1, tokens, width].
    output_positions: Tensor,
    narrow: Vec<Block>,
    /// [1, 1, width].
    pooling_token: Tensor,
    pooling: PackedAttention,
    pooled: (Linear, LayerNorm, Linear),
    input: usize,
    dtype: DType,
    sha256: String,
}

impl LlmAdapter {
    /// The adapter of `weights`, all of them, which are those of `file`.
    pub(super) fn of(file: &Path, weights: &Weights) -> LoadResult<Self> {
        let refused = |reason: String| ModelError::broken(file, FileFault::Network(reason));
        let root = weights.root();
        let shape = |name: &str, rank: usize| match root.shape(name) {
            Some(shape) if shape.len() == rank => Ok(shape),
            Some(shape) => Err(refused(format!(
                "tensor `{name}` has shape {shape:?}; {rank} dimensions are due"
            ))),
            None => Err(refused(format!(
                "tensor `{name}` is missing, which an adapter of a language model to SDXL has"
            ))),
        };
        let queries = shape(MARK, 3)?;
        let (tokens, width) = (queries[1], queries[2]);
        if width == 0 || !width.is_multiple_of(HEADS) {
            return Err(refused(format!(
                "`{MARK}` is {queries:?}; the width must be a multiple of {HEADS}"
            )));
        }
        let most = shape("input_position_embeddings", 3)?[1];
        let projects = root.has("seq_projection.weight");
        let input = if projects { shape("seq_projection.weight", 2)?[1] } else { width };
        let pooled = shape("pooled_projection.4.weight", 2)?[0];
        let table = |name: &str, rows: usize| root.tensor(name, &[1, rows, width]);
        let linear =
            |name: &str, input: usize, output: usize| Linear::load(&root.at(name), input, output);
        let norm = |name: &str| LayerNorm::load(&root.at(name), width, NORM_EPS);
        let attention = |name: &str| PackedAttention::load(&root.at(name), width, HEADS);
        let blocks = |name: &str| -> LoadResult<Vec<Block>> {
            let scope = root.at(name);
            (0..)
                .take_while(|number| scope.has(&format!("{number}.attn.in_proj_weight")))
                .map(|number| Block::load(&scope.at(number), width))
                .collect()
        };
        let [wide, narrow] = BLOCKS;
        let [compression, pooling] = ATTENTIONS;
        let adapter = Self {
            projection: projects.then(|| linear("seq_projection", input, width)).transpose()?,
            input_positions: table("input_position_embeddings", most)?,
            wide: blocks(wide)?,
            queries: table(MARK, tokens)?,
            compression: attention(compression)?,
            gate: linear("compression_gate.0", 2 * width, width)?,
            norm: norm("compression_norm")?,
            output_positions: table("output_position_embeddings", tokens)?,
            narrow: blocks(narrow)?,
            pooling_token: table("pooling_token", 1)?,
            pooling: attention(pooling)?,
            pooled: (
                linear("pooled_projection.0", width, width)?,
                norm("pooled_projection.1")?,
                linear("pooled_projection.4", width, pooled)?,
            ),
            input,
            dtype: weights.dtype(),
            sha256: weights.sha256().to_owned(),
        };
        // As the original, which loads strictly.
        match weights.names().find(|name| !adapter.has_place_for(name)) {
            None => Ok(adapter),
            Some(name) => Err(refused(format!(
                "tensor `{name}` has no place in an adapter of a language model to SDXL, so this is one of \
                 another make"
            ))),
        }
    }

    /// Whether the network has a tensor of that name.
    fn has_place_for(&self, name: &str) -> bool {
        let linear = |name: &str, known: &[&str]| {
            let module = name.strip_suffix(".weight").or_else(|| name.strip_suffix(".bias"));
            module.is_some_and(|module| known.contains(&module))
        };
        let of_attention = |name: &str, attention: &str| {
            let own = name.strip_prefix(attention).and_then(|name| name.strip_prefix('.'));
            own.is_some_and(|own| {
                packed_attention::PACKED.contains(&own) || linear(own, &[packed_attention::LINEAR])
            })
        };
        let of_blocks = |(blocks, held): (&str, &[Block])| {
            let own = name.strip_prefix(blocks).and_then(|name| name.strip_prefix('.'));
            own.and_then(|own| own.split_once('.')).is_some_and(|(number, own)| {
                number.parse::<usize>().is_ok_and(|number| number < held.len())
                    && (linear(own, BLOCK_MODULES) || of_attention(own, "attn"))
            })
        };
        let [wide, narrow] = BLOCKS;
        TABLES.contains(&name)
            || linear(name, MODULES)
            || ATTENTIONS.iter().any(|attention| of_attention(name, attention))
            || of_blocks((wide, &self.wide))
            || of_blocks((narrow, &self.narrow))
    }

    /// What the UNet attends to, [b, tokens, width], and the pooled vector [b, pooled width], of hidden states
    /// [b, n, input width]; those behind the first [`LlmAdapter::most_tokens`] are not seen.
    ///
    /// # Errors
    /// Another width, or no hidden state.
    pub fn forward(&self, text: &Tensor) -> Result<(Tensor, Tensor)> {
        let text = text.to_dtype(self.dtype)?;
        let count = text.dim(1)?.min(self.most_tokens());
        let text = text.narrow(1, 0, count)?.contiguous()?;
        let batch = text.dim(0)?;
        let mut x = match &self.projection {
            Some(projection) => projection.forward(&text)?,
            None => text,
        };
        x = x.broadcast_add(&self.input_positions.narrow(1, 0, count)?)?;
        for block in &self.wide {
            x = block.forward(&x)?;
        }
        let width = x.dim(2)?;
        let queries = self.queries.broadcast_as((batch, self.tokens(), width))?.contiguous()?;
        let seen = self.compression.of(&queries, &x)?;
        let seen = self.compression.out.forward(&seen)?;
        let gate = self.gate.forward(&Tensor::cat(&[&queries, &seen], D::Minus1)?)?;
        let gate = candle_nn::ops::sigmoid(&gate)?;
        // The share of what was seen; the rest is the query's own.
        let mixed = (&queries + (gate * (seen - &queries)?)?)?;
        let mut x = self.norm.forward(&mixed)?.broadcast_add(&self.output_positions)?;
        for block in &self.narrow {
            x = block.forward(&x)?;
        }
        let token = self.pooling_token.broadcast_as((batch, 1, width))?.contiguous()?;
        let pooled = self.pooling.out.forward(&self.pooling.of(&token, &x)?)?.squeeze(1)?;
        let (first, norm, last) = &self.pooled;
        let pooled = Activation::Gelu.apply(&norm.forward(&first.forward(&pooled)?)?)?;
        Ok((x, last.forward(&pooled)?))
    }

    /// Width of the hidden states that go in.
    pub fn input_width(&self) -> usize {
        self.input
    }

    /// Width of the tokens that come out.
    pub fn output_width(&self) -> usize {
        self.queries.dims()[2]
    }

    /// Number of the tokens that come out.
    pub fn tokens(&self) -> usize {
        self.queries.dims()[1]
    }

    /// Tokens of a text that are seen.
    pub fn most_tokens(&self) -> usize {
        self.input_positions.dims()[1]
    }

    /// Digest of the file, see [`Weights::sha256`].
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

/// Attention of a row of tokens to itself, then a feed-forward, each behind its norm and beside its shortcut.
#[derive(Debug)]
struct Block {
    attention_norm: LayerNorm,
    attention: PackedAttention,
    feed_forward_norm: LayerNorm,
    inner: Linear,
    outer: Linear,
}

impl Block {
    fn load(scope: &Scope, width: usize) -> LoadResult<Self> {
        let inner = scope.shape("mlp.0.weight").map_or(4 * width, |shape| shape[0]);
        Ok(Self {
            attention_norm: LayerNorm::load(&scope.at("norm1"), width, NORM_EPS)?,
            attention: PackedAttention::load(&scope.at("attn"), width, HEADS)?,
            feed_forward_norm: LayerNorm::load(&scope.at("norm2"), width, NORM_EPS)?,
            inner: Linear::load(&scope.at("mlp.0"), width, inner)?,
            outer: Linear::load(&scope.at("mlp.2"), inner, width)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let normed = self.attention_norm.forward(x)?;
        let mixed = self.attention.of_first(&normed, normed.dim(1)?)?;
        let x = self.attention.out.forward_then_add(&mixed, x)?;
        let inner = self.inner.forward(&self.feed_forward_norm.forward(&x)?)?;
        self.outer.forward_then_add(&Activation::Gelu.apply(&inner)?, &x)
    }
}
