//! In: tokens, a text's keys and values, and what the timestep makes of a block. Out: tokens. Follows `BasicTransformerBlock`
//! of diffusers under `ada_norm_single`: all rows of a call share the timestep, so scale and shift are a norm's weights.

use candle_core::{Module, Result, Tensor};

use super::config::BlockSize;
use crate::checkpoint::weights::Scope;
use crate::compute::attention::{AttentionMask, attend};
use crate::compute::layers::{Activation, FusedLinears, LayerNorm, Linear, LoadResult, gated_sum};
use crate::models::unet::text_context::KeysAndValues;

/// Numbers of a block for each channel, in order: shift, scale and gate of the self-attention, then of the feed-forward.
pub(super) const MODULATIONS: usize = 6;

/// Self-attention, attention to the text, and a feed-forward.
#[derive(Debug)]
pub(super) struct Block {
    attn1: Attention,
    attn2: Attention,
    proj: Linear,
    out: Linear,
    eps: f64,
}

impl Block {
    pub(super) fn load(scope: &Scope, size: BlockSize) -> LoadResult<Self> {
        let BlockSize { width, context, eps, .. } = size;
        let inner = 4 * width;
        Ok(Self {
            attn1: Attention::load(&scope.at("attn1"), size, width)?.joined_on_gpu(),
            attn2: Attention::load(&scope.at("attn2"), size, context)?,
            proj: Linear::load(&scope.at("ff.net.0.proj"), width, inner)?,
            out: Linear::load(&scope.at("ff.net.2"), inner, width)?,
            eps,
        })
    }

    /// Its keys and values of the text `states` [r, n, context].
    pub(super) fn project(&self, states: &Tensor) -> Result<KeysAndValues> {
        self.attn2.project(states)
    }

    /// `x` [b, n, width] to the same shape; `modulation` is [6, width], f32, with the scales above one.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        text: &KeysAndValues,
        modulation: &Tensor,
    ) -> Result<Tensor> {
        let norm = |x: &Tensor, first: usize| -> Result<Tensor> {
            let (bias, weight) = (modulation.get(first)?, modulation.get(first + 1)?);
            LayerNorm { weight, bias, eps: self.eps }.forward(x)
        };
        let (query, own) = self.attn1.project_all(&norm(x, 0)?)?;
        let seen = self.attn1.to_out.forward(&self.attn1.attend(&query, &own)?)?;
        let x = gated_sum(x, &seen, &modulation.get(2)?)?;
        // No norm stands before the text's attention.
        let query = self.attn2.to_q.forward(&x)?;
        let read = self.attn2.attend(&query, text)?;
        let x = self.attn2.to_out.forward_with_shortcut(&read, &x)?;
        let inner = Activation::GeluTanh.apply_to_own(self.proj.forward(&norm(&x, 3)?)?)?;
        gated_sum(&x, &self.out.forward(&inner)?, &modulation.get(5)?)
    }
}

/// Multi-head attention.
#[derive(Debug)]
struct Attention {
    /// On a GPU, where its three products are one launch: rows of `to_q`, `to_k` and `to_v`, which are views of it.
    joined: Option<FusedLinears>,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    heads: usize,
}

impl Attention {
    fn load(scope: &Scope, size: BlockSize, context: usize) -> LoadResult<Self> {
        let BlockSize { width, heads, biases, .. } = size;
        let linear = |name: &str, input: usize| match biases {
            true => Linear::load(&scope.at(name), input, width),
            false => Linear::load_without_bias(&scope.at(name), input, width),
        };
        Ok(Self {
            joined: None,
            to_q: linear("to_q", width)?,
            to_k: linear("to_k", context)?,
            to_v: linear("to_v", context)?,
            to_out: Linear::load(&scope.at("to_out.0"), width, width)?,
            heads,
        })
    }

    /// For a map that attends to itself.
    fn joined_on_gpu(mut self) -> Self {
        let Self { to_q, to_k, to_v, .. } = &mut self;
        self.joined = FusedLinears::on_gpu(&mut [to_q, to_k, to_v]);
        self
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

    /// What `query` [b, n, width] sees of r rows, each of which serves b / r queries that follow one another.
    fn attend(
        &self,
        query: &Tensor,
        KeysAndValues { keys, values }: &KeysAndValues,
    ) -> Result<Tensor> {
        let (batch, length, width) = query.dims3()?;
        let rows = keys.dim(0)?;
        // Queries that share keys stand in a row: to the attention they are one longer row.
        let query = match rows == batch {
            true => query.clone(),
            false => query.reshape((rows, batch / rows * length, width))?,
        };
        let packing = self.to_out.packing();
        attend(&query, keys, values, self.heads, AttentionMask::All, packing)?
            .reshape((batch, length, width))
    }
}
