//! In: a feature map and the text's hidden states. Out: the map after self-attention,
//! cross-attention and feed-forward. Follows `Transformer2DModel` and `BasicTransformerBlock` of
//! diffusers.

use candle_core::{Module, Result, Tensor};

use super::text_context::{CrossAttentionTexts, KeysAndValues};
use crate::checkpoint::weights::Scope;
use crate::compute::attention::{AttentionMask, attend};
use crate::compute::layers::{FusedLinears, GroupNorm, LayerNorm, Linear, LoadResult, positions};

/// Epsilon of `Transformer2DModel.norm`; unlike the UNet's other norms it is not configurable.
const INPUT_NORM_EPS: f64 = 1e-6;
/// Epsilon of the blocks' layer norms, PyTorch's default.
const LAYER_NORM_EPS: f64 = 1e-5;

/// Dimensions of one spatial transformer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TransformerSize {
    /// Channels of the feature map.
    pub(crate) channels: usize,
    /// Attention heads.
    pub(crate) heads: usize,
    /// Blocks.
    pub(crate) depth: usize,
    /// Width of the text's hidden states.
    pub(crate) context: usize,
    /// Groups of the input norm.
    pub(crate) groups: usize,
}

/// Attention over the positions of a feature map, and from them to the text.
#[derive(Debug)]
pub(crate) struct Transformer2DModel {
    norm: GroupNorm,
    proj_in: Linear,
    blocks: Vec<BasicTransformerBlock>,
    proj_out: Linear,
}

impl Transformer2DModel {
    /// The tensors under `attentions.N`. The projections may be stored as linear layers or as 1x1
    /// convolutions, which are the same arithmetic.
    pub(crate) fn load(scope: &Scope, size: TransformerSize) -> LoadResult<Self> {
        let channels = size.channels;
        let blocks = scope.at("transformer_blocks");
        Ok(Self {
            norm: GroupNorm::load(&scope.at("norm"), channels, size.groups, INPUT_NORM_EPS)?,
            proj_in: Linear::load_pointwise(&scope.at("proj_in"), channels, channels)?,
            blocks: (0..size.depth)
                .map(|number| BasicTransformerBlock::load(&blocks.at(number), size))
                .collect::<LoadResult<_>>()?,
            proj_out: Linear::load_pointwise(&scope.at("proj_out"), channels, channels)?,
        })
    }

    /// Keys and values of the text `states` [r, n, context], block by block.
    pub(crate) fn project<'s>(
        &'s self,
        states: &'s Tensor,
    ) -> impl Iterator<Item = Result<KeysAndValues>> + 's {
        self.blocks.iter().map(|block| block.attn2.project(states))
    }

    /// What makes keys and values of a text, block by block: a block's keys, then its values.
    pub(crate) fn text_layers(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.blocks.iter_mut().flat_map(|block| [&mut block.attn2.to_k, &mut block.attn2.to_v])
    }

    /// `x` [b, c, h, w] to the same shape; of the texts' r rows, each serves b / r rows of `x` that
    /// follow one another.
    pub(crate) fn forward(&self, x: &Tensor, texts: &mut CrossAttentionTexts) -> Result<Tensor> {
        let mut hidden = self.proj_in.forward(&positions(&self.norm.forward(x)?)?)?;
        for block in &self.blocks {
            hidden = block.forward(&hidden, &texts.next_layer()?)?;
        }
        self.proj_out.forward_transposed_with_shortcut(&hidden, x)
    }
}

/// Self-attention, cross-attention and a gated feed-forward, each with its norm and shortcut.
#[derive(Debug)]
struct BasicTransformerBlock {
    norm1: LayerNorm,
    attn1: Attention,
    norm2: LayerNorm,
    attn2: Attention,
    norm3: LayerNorm,
    ff: GatedFeedForward,
}

impl BasicTransformerBlock {
    fn load(scope: &Scope, size: TransformerSize) -> LoadResult<Self> {
        let TransformerSize { channels, heads, context, .. } = size;
        let norm = |name: &str| LayerNorm::load(&scope.at(name), channels, LAYER_NORM_EPS);
        Ok(Self {
            norm1: norm("norm1")?,
            attn1: Attention::load(&scope.at("attn1"), channels, channels, heads)?,
            norm2: norm("norm2")?,
            attn2: Attention::load(&scope.at("attn2"), channels, context, heads)?,
            norm3: norm("norm3")?,
            ff: GatedFeedForward::load(&scope.at("ff"), channels)?,
        })
    }

    fn forward(&self, x: &Tensor, text: &KeysAndValues) -> Result<Tensor> {
        let (query, own) = self.attn1.project_all(&self.norm1.forward(x)?)?;
        let x = self.attn1.forward_with_shortcut(&query, &own, x)?;
        let query = self.attn2.to_q.forward(&self.norm2.forward(&x)?)?;
        let x = self.attn2.forward_with_shortcut(&query, text, &x)?;
        self.ff.forward_with_shortcut(&self.norm3.forward(&x)?, &x)
    }
}

/// Multi-head attention without biases on queries, keys and values.
#[derive(Debug)]
struct Attention {
    /// On a GPU, where its three products are one launch: rows of `to_q`, `to_k` and `to_v`, which are views
    /// of it.
    joined: Option<FusedLinears>,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    heads: usize,
}

impl Attention {
    fn load(scope: &Scope, width: usize, context: usize, heads: usize) -> LoadResult<Self> {
        let mut to_q = Linear::load_without_bias(&scope.at("to_q"), width, width)?;
        let mut to_k = Linear::load_without_bias(&scope.at("to_k"), context, width)?;
        let mut to_v = Linear::load_without_bias(&scope.at("to_v"), context, width)?;
        let joined = match context == width {
            true => FusedLinears::on_gpu(&mut [&mut to_q, &mut to_k, &mut to_v]),
            false => None,
        };
        let to_out = Linear::load(&scope.at("to_out.0"), width, width)?;
        Ok(Self { joined, to_q, to_k, to_v, to_out, heads })
    }

    /// Queries, keys and values of one map `x` [b, n, width].
    fn project_all(&self, x: &Tensor) -> Result<(Tensor, KeysAndValues)> {
        let Some(joined) = &self.joined else {
            return Ok((self.to_q.forward(x)?, self.project(x)?));
        };
        let all = joined.forward(x)?;
        let (keys, values) = (all[1].clone(), all[2].clone());
        Ok((all[0].clone(), KeysAndValues { keys, values }))
    }

    fn project(&self, context: &Tensor) -> Result<KeysAndValues> {
        Ok(KeysAndValues { keys: self.to_k.forward(context)?, values: self.to_v.forward(context)? })
    }

    /// The attention's result for `query` [b, n, width], added to `shortcut`.
    fn forward_with_shortcut(
        &self,
        query: &Tensor,
        KeysAndValues { keys, values }: &KeysAndValues,
        shortcut: &Tensor,
    ) -> Result<Tensor> {
        let (batch, length, width) = query.dims3()?;
        let rows = keys.dim(0)?;
        // Queries that share keys stand in a row: to the attention they are one longer row.
        let query = match rows == batch {
            true => query.clone(),
            false => query.reshape((rows, batch / rows * length, width))?,
        };
        let packing = self.to_out.packing();
        let mixed = attend(&query, keys, values, self.heads, AttentionMask::All, packing)?;
        self.to_out.forward_with_shortcut(&mixed.reshape((batch, length, width))?, shortcut)
    }
}

/// GEGLU: one half of a projection, gated by the exact GELU of the other half.
#[derive(Debug)]
struct GatedFeedForward {
    proj: Linear,
    out: Linear,
}

impl GatedFeedForward {
    fn load(scope: &Scope, width: usize) -> LoadResult<Self> {
        let inner = 4 * width;
        Ok(Self {
            proj: Linear::load(&scope.at("net.0.proj"), width, 2 * inner)?,
            out: Linear::load(&scope.at("net.2"), inner, width)?,
        })
    }

    /// The feed-forward's result, added to `shortcut`.
    fn forward_with_shortcut(&self, x: &Tensor, shortcut: &Tensor) -> Result<Tensor> {
        self.out.forward_with_shortcut(&self.proj.forward_gated(x)?, shortcut)
    }
}
