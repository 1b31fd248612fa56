//! In: tokens of a picture and of its text, where each stands, and what time and text make of a block. Out: both. Follows
//! `FluxTransformerBlock` and `FluxSingleTransformerBlock` of diffusers.

use candle_core::{DType, Module, Result, Tensor};

use super::rotary::Rotary;
use crate::checkpoint::weights::Scope;
use crate::compute::attention::{AttentionMask, attend};
use crate::compute::layers::{Activation, Linear, LoadResult};
use crate::models::joint::{BlockSize, FeedForward, Modulation, Projections};

/// Largest number of f16, to which diffusers cuts what runs over.
const LARGEST_F16: f64 = 65504.0;

/// Attention of picture and text to both, and a feed-forward for each.
#[derive(Debug)]
pub(super) struct DoubleBlock {
    norm1: Linear,
    norm1_context: Linear,
    attn: Projections,
    added: Projections,
    ff: FeedForward,
    ff_context: FeedForward,
    heads: usize,
}

impl DoubleBlock {
    pub(super) fn load(scope: &Scope, size: BlockSize) -> LoadResult<Self> {
        let width = size.width;
        let attn = scope.at("attn");
        let own = ["to_q", "to_k", "to_v", "to_out.0", "norm_q", "norm_k"];
        let added = [
            "add_q_proj",
            "add_k_proj",
            "add_v_proj",
            "to_add_out",
            "norm_added_q",
            "norm_added_k",
        ];
        Ok(Self {
            norm1: Linear::load(&scope.at("norm1.linear"), width, 6 * width)?,
            norm1_context: Linear::load(&scope.at("norm1_context.linear"), width, 6 * width)?,
            attn: Projections::load(&attn, own, size)?,
            added: Projections::load(&attn, added, size)?,
            ff: FeedForward::load(&scope.at("ff"), width)?,
            ff_context: FeedForward::load(&scope.at("ff_context"), width)?,
            heads: size.heads,
        })
    }

    /// `x` [b, n, width] and `text` [b, m, width] to the same shapes; `time` is [1, width], through SiLU.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        text: &Tensor,
        time: &Tensor,
        places: &Rotary,
    ) -> Result<(Tensor, Tensor)> {
        let own = Modulation::of(&self.norm1, time, 6)?;
        let of_text = Modulation::of(&self.norm1_context, time, 6)?;
        let all = self.attn.project(&own.norm(x, 0, 1)?, self.heads)?;
        let read = self.added.project(&of_text.norm(text, 0, 1)?, self.heads)?;
        let joined = |part: usize| Tensor::cat(&[&read[part], &all[part]], 1);
        let (query, key) = (places.turn(&joined(0)?)?, places.turn(&joined(1)?)?);
        let packing = self.attn.out_packing();
        let mixed = attend(&query, &key, &joined(2)?, self.heads, AttentionMask::All, packing)?;
        let (words, squares) = (text.dim(1)?, x.dim(1)?);
        let seen = self.attn.finish(&mixed.narrow(1, words, squares)?.contiguous()?)?;
        let x = own.gated(x, &seen, 2)?;
        let x = own.gated(&x, &self.ff.forward(&own.norm(&x, 3, 4)?)?, 5)?;
        let told = self.added.finish(&mixed.narrow(1, 0, words)?.contiguous()?)?;
        let text = of_text.gated(text, &told, 2)?;
        let inner = self.ff_context.forward(&of_text.norm(&text, 3, 4)?)?;
        Ok((x, within_f16(of_text.gated(&text, &inner, 5)?)?))
    }
}

/// Attention and feed-forward side by side, of text and picture in one row.
#[derive(Debug)]
pub(super) struct SingleBlock {
    norm: Linear,
    attn: Projections,
    proj_mlp: Linear,
    proj_out: Linear,
    heads: usize,
}

impl SingleBlock {
    pub(super) fn load(scope: &Scope, size: BlockSize) -> LoadResult<Self> {
        let width = size.width;
        let names = ["to_q", "to_k", "to_v", "", "norm_q", "norm_k"];
        Ok(Self {
            norm: Linear::load(&scope.at("norm.linear"), width, 3 * width)?,
            attn: Projections::load(&scope.at("attn"), names, size)?,
            proj_mlp: Linear::load(&scope.at("proj_mlp"), width, 4 * width)?,
            proj_out: Linear::load(&scope.at("proj_out"), 5 * width, width)?,
            heads: size.heads,
        })
    }

    /// `x` [b, m + n, width], the text before the picture, to the same shape.
    pub(super) fn forward(&self, x: &Tensor, time: &Tensor, places: &Rotary) -> Result<Tensor> {
        let own = Modulation::of(&self.norm, time, 3)?;
        let normed = own.norm(x, 0, 1)?;
        let [query, key, value] = self.attn.project(&normed, self.heads)?;
        let (query, key) = (places.turn(&query)?, places.turn(&key)?);
        let packing = self.attn.out_packing();
        let mixed = attend(&query, &key, &value, self.heads, AttentionMask::All, packing)?;
        let inner = Activation::GeluTanh.apply_to_own(self.proj_mlp.forward(&normed)?)?;
        let both = Tensor::cat(&[&mixed, &inner], 2)?;
        within_f16(own.gated(x, &self.proj_out.forward(&both)?, 2)?)
    }
}

/// In f16, what runs over at the largest number in its place.
fn within_f16(x: Tensor) -> Result<Tensor> {
    match x.dtype() {
        DType::F16 => x.clamp(-LARGEST_F16, LARGEST_F16),
        _ => Ok(x),
    }
}
