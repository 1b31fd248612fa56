//! In: tokens of a picture and of its text, and what time and text make of a block. Out: both. Follows `JointTransformerBlock` of
//! diffusers.

use candle_core::{Result, Tensor};

use crate::checkpoint::weights::Scope;
use crate::compute::attention::{AttentionMask, attend};
use crate::compute::layers::{Linear, LoadResult};
use crate::models::joint::{BlockSize, FeedForward, Modulation, Projections};

/// Joint attention of picture and text, and a feed-forward for each.
#[derive(Debug)]
pub(super) struct Block {
    norm1: Linear,
    norm1_context: Linear,
    attn: Projections,
    added: Projections,
    attn2: Option<Projections>,
    ff: FeedForward,
    /// `None` in the last block, after which nobody reads the text.
    ff_context: Option<FeedForward>,
    heads: usize,
}

impl Block {
    pub(super) fn load(
        scope: &Scope,
        size: BlockSize,
        is_dual: bool,
        is_last: bool,
    ) -> LoadResult<Self> {
        let width = size.width;
        let linear = |name: &str, rows: usize| Linear::load(&scope.at(name), width, rows * width);
        let attn = scope.at("attn");
        let own = ["to_q", "to_k", "to_v", "to_out.0", "norm_q", "norm_k"];
        let mut added = [
            "add_q_proj",
            "add_k_proj",
            "add_v_proj",
            "to_add_out",
            "norm_added_q",
            "norm_added_k",
        ];
        if is_last {
            added[3] = "";
        }
        Ok(Self {
            norm1: linear("norm1.linear", if is_dual { 9 } else { 6 })?,
            norm1_context: linear("norm1_context.linear", if is_last { 2 } else { 6 })?,
            attn: Projections::load(&attn, own, size)?,
            added: Projections::load(&attn, added, size)?,
            attn2: is_dual.then(|| Projections::load(&scope.at("attn2"), own, size)).transpose()?,
            ff: FeedForward::load(&scope.at("ff"), width)?,
            ff_context: (!is_last)
                .then(|| FeedForward::load(&scope.at("ff_context"), width))
                .transpose()?,
            heads: size.heads,
        })
    }

    /// `x` [b, n, width] and `context` [b, m, width] to the same shapes; `time` is [1, width], through SiLU.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        context: &Tensor,
        time: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let own = Modulation::of(&self.norm1, time, if self.attn2.is_some() { 9 } else { 6 })?;
        let is_last = self.ff_context.is_none();
        let of_text = Modulation::of(&self.norm1_context, time, if is_last { 2 } else { 6 })?;
        // The last block's norm has the scale first.
        let (shift, scale) = if is_last { (1, 0) } else { (0, 1) };
        let all = self.attn.project(&own.norm(x, 0, 1)?, self.heads)?;
        let read = self.added.project(&of_text.norm(context, shift, scale)?, self.heads)?;
        let joined = |part: usize| Tensor::cat(&[&all[part], &read[part]], 1);
        let packing = self.attn.out_packing();
        let (query, key, value) = (joined(0)?, joined(1)?, joined(2)?);
        let mixed = attend(&query, &key, &value, self.heads, AttentionMask::All, packing)?;
        let squares = x.dim(1)?;
        let seen = self.attn.finish(&mixed.narrow(1, 0, squares)?.contiguous()?)?;
        let mut after = own.gated(x, &seen, 2)?;
        if let Some(attn2) = &self.attn2 {
            let parts = attn2.project(&own.norm(x, 6, 7)?, self.heads)?;
            let [query, key, value] = &parts;
            let packing = attn2.out_packing();
            let mixed = attend(query, key, value, self.heads, AttentionMask::All, packing)?;
            after = own.gated(&after, &attn2.finish(&mixed)?, 8)?;
        }
        let after = own.gated(&after, &self.ff.forward(&own.norm(&after, 3, 4)?)?, 5)?;
        let Some(ff_context) = &self.ff_context else { return Ok((after, context.clone())) };
        let words = context.dim(1)?;
        let told = self.added.finish(&mixed.narrow(1, squares, words)?.contiguous()?)?;
        let told = of_text.gated(context, &told, 2)?;
        let told = of_text.gated(&told, &ff_context.forward(&of_text.norm(&told, 3, 4)?)?, 5)?;
        Ok((after, told))
    }
}
