//! In: states of tokens, and a way to attend. Out: their states behind one layer of a decoder-only language model:
//! attention and a gated feed-forward, each behind its norm and beside its shortcut. The layers of LLaMA, Qwen3 and
//! Gemma 3 differ in few places, which [`LayerSizes`] names. Who sees whom is left to the caller.

use candle_core::{Module, Result, Tensor};

use super::rotary::RotaryEmbedding;
use crate::checkpoint::weights::Scope;
use crate::compute::layers::{Activation, Linear, LoadResult, RmsNorm};
use crate::compute::products::Packing;

/// Dimensions of a layer, and what of it there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct LayerSizes {
    pub(super) width: usize,
    pub(super) inner: usize,
    pub(super) heads: usize,
    /// Heads of keys and values; each serves `heads / key_heads` heads of queries.
    pub(super) key_heads: usize,
    /// Numbers of a head.
    pub(super) head: usize,
    pub(super) activation: Activation,
    pub(super) eps: f64,
    /// Whether queries and keys have norms over each head.
    pub(super) head_norms: bool,
    /// Whether attention and feed-forward have norms behind them too, and every norm multiplies with one plus what is
    /// stored: Gemma's way.
    pub(super) norms_around: bool,
    /// Whether the projections of attention have biases.
    pub(super) attention_bias: bool,
    /// Whether those of the feed-forward have.
    pub(super) mlp_bias: bool,
    /// What queries are multiplied with, where scores are not divided by the root of the head size.
    pub(super) query_factor: Option<f64>,
}

impl LayerSizes {
    /// Heads of queries that one head of keys serves.
    fn shared(&self) -> usize {
        self.heads / self.key_heads
    }

    /// A norm of `width` numbers.
    pub(super) fn norm(&self, scope: &Scope, width: usize) -> LoadResult<RmsNorm> {
        match self.norms_around {
            true => RmsNorm::load_around_one(scope, width, self.eps),
            false => RmsNorm::load(scope, width, self.eps),
        }
    }
}

/// What tokens of a layer ask, and what they offer.
pub(super) struct Attending {
    /// [rows * queries of a head of keys, key heads * head]: each head of keys takes the heads of queries that it
    /// serves as so many rows of its own.
    pub(super) query: Tensor,
    /// [rows, key heads * head].
    pub(super) key: Tensor,
    /// [rows, key heads * head].
    pub(super) value: Tensor,
    /// Heads of `query` in this form.
    pub(super) heads: usize,
    pub(super) packing: Option<Packing>,
}

/// One layer.
#[derive(Debug)]
pub(super) struct DecoderLayer {
    attention_norm: RmsNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    /// Over each head, of queries and of keys.
    head_norms: Option<(RmsNorm, RmsNorm)>,
    out: Linear,
    feed_forward_norm: RmsNorm,
    gate: Linear,
    inner: Linear,
    outer: Linear,
    /// Behind attention and behind the feed-forward.
    norms_behind: Option<(RmsNorm, RmsNorm)>,
    sizes: LayerSizes,
}

impl DecoderLayer {
    /// Loads the layer in `scope`.
    pub(super) fn load(scope: &Scope, sizes: LayerSizes) -> LoadResult<Self> {
        let LayerSizes { width, inner, heads, key_heads, head, .. } = sizes;
        let (own, dense) = (scope.at("self_attn"), scope.at("mlp"));
        let linear = |scope: &Scope, input: usize, output: usize, bias: bool| {
            let layer = match bias {
                true => Linear::load(scope, input, output),
                false => Linear::load_without_bias(scope, input, output),
            };
            layer.map(Linear::for_few_rows)
        };
        let (of_attention, of_mlp) = (sizes.attention_bias, sizes.mlp_bias);
        let norm = |name: &str| sizes.norm(&scope.at(name), width);
        let of_heads = |name: &str| sizes.norm(&own.at(name), head);
        let (before, behind) = match sizes.norms_around {
            true => (
                "pre_feedforward_layernorm",
                Some((norm("post_attention_layernorm")?, norm("post_feedforward_layernorm")?)),
            ),
            false => ("post_attention_layernorm", None),
        };
        let head_norms = match sizes.head_norms {
            true => Some((of_heads("q_norm")?, of_heads("k_norm")?)),
            false => None,
        };
        Ok(Self {
            attention_norm: norm("input_layernorm")?,
            query: linear(&own.at("q_proj"), width, heads * head, of_attention)?,
            key: linear(&own.at("k_proj"), width, key_heads * head, of_attention)?,
            value: linear(&own.at("v_proj"), width, key_heads * head, of_attention)?,
            head_norms,
            out: linear(&own.at("o_proj"), heads * head, width, of_attention)?,
            feed_forward_norm: norm(before)?,
            gate: linear(&dense.at("gate_proj"), width, inner, of_mlp)?,
            inner: linear(&dense.at("up_proj"), width, inner, of_mlp)?,
            outer: linear(&dense.at("down_proj"), inner, width, of_mlp)?,
            norms_behind: behind,
            sizes,
        })
    }

    /// States [rows, width] of `x` [rows, width]. `attend` gives what attention makes of each row, in the form of
    /// [`Attending::query`].
    pub(super) fn forward(
        &self,
        x: &Tensor,
        turns: &RotaryEmbedding,
        attend: impl FnOnce(Attending) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let rows = x.dim(0)?;
        let LayerSizes { heads, key_heads, head, .. } = self.sizes;
        let shared = self.sizes.shared();
        let normed = self.attention_norm.forward(x)?;
        let mut query = self.query.forward(&normed)?.reshape((rows, heads, head))?;
        let mut key = self.key.forward(&normed)?.reshape((rows, key_heads, head))?;
        if let Some((of_queries, of_keys)) = &self.head_norms {
            query = of_queries.forward(&query)?;
            key = of_keys.forward(&key)?;
        }
        let mut query = turns.apply(&query)?;
        if let Some(factor) = self.sizes.query_factor {
            query = (query * factor)?;
        }
        let mixed = attend(Attending {
            // [rows, key heads, heads served, head] to rows of heads served by key heads.
            query: query
                .reshape((rows, key_heads, shared, head))?
                .transpose(1, 2)?
                .contiguous()?
                .reshape((rows * shared, key_heads * head))?,
            key: turns.apply(&key)?.flatten_from(1)?,
            value: self.value.forward(&normed)?,
            heads: key_heads,
            packing: self.out.packing(),
        })?
        .reshape((rows, shared, key_heads, head))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((rows, heads * head))?;
        let behind = self.norms_behind.as_ref();
        let x = add(&self.out, &mixed, behind.map(|(norm, _)| norm), x)?;
        let normed = self.feed_forward_norm.forward(&x)?;
        let gate = self.sizes.activation.apply_to_own(self.gate.forward(&normed)?)?;
        let inner = (gate * self.inner.forward(&normed)?)?;
        add(&self.outer, &inner, behind.map(|(_, norm)| norm), &x)
    }
}

/// `shortcut` with the result of `layer` added, which goes through `norm` where there is one.
fn add(layer: &Linear, x: &Tensor, norm: Option<&RmsNorm>, shortcut: &Tensor) -> Result<Tensor> {
    match norm {
        None => layer.forward_with_shortcut(x, shortcut),
        Some(norm) => shortcut + norm.forward(&layer.forward(x)?)?,
    }
}
