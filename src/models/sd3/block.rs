//! In: tokens of a picture and of its text, and what time and text make of a block. Out: both. Follows `JointTransformerBlock` of
//! diffusers: all rows of a call share time and text, so scale and shift are a norm's weights.

use candle_core::{D, DType, Module, Result, Tensor};

use super::config::BlockSize;
use crate::checkpoint::weights::Scope;
use crate::compute::attention::{AttentionMask, attend};
use crate::compute::layers::{Activation, FusedLinears, LayerNorm, Linear, LoadResult, RmsNorm};

/// Epsilon of every norm, which is not configurable.
pub(super) const EPS: f64 = 1e-6;

/// What a layer makes of time and text, [rows, width] in f32, for norms and gates.
pub(super) struct Modulation(Tensor);

impl Modulation {
    /// `rows` of `linear`'s result for `time` [1, width], which has gone through SiLU.
    pub(super) fn of(linear: &Linear, time: &Tensor, rows: usize) -> Result<Self> {
        Ok(Self(linear.forward(time)?.to_dtype(DType::F32)?.reshape((rows, ()))?))
    }

    /// `x` normalised, times one more than row `scale`, plus row `shift`.
    pub(super) fn norm(&self, x: &Tensor, shift: usize, scale: usize) -> Result<Tensor> {
        let (bias, weight) = (self.0.get(shift)?, (self.0.get(scale)? + 1.0)?);
        LayerNorm { weight, bias, eps: EPS }.forward(x)
    }

    /// `x` plus row `gate` times `y`.
    fn gated(&self, x: &Tensor, y: &Tensor, gate: usize) -> Result<Tensor> {
        x + y.broadcast_mul(&self.0.get(gate)?.to_dtype(y.dtype())?)?
    }
}

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

/// Queries, keys and values of one kind of tokens, and what is made of the result.
#[derive(Debug)]
struct Projections {
    /// On a GPU, where its three products are one launch.
    joined: Option<FusedLinears>,
    query: Linear,
    key: Linear,
    value: Linear,
    norms: Option<(RmsNorm, RmsNorm)>,
    out: Option<Linear>,
}

impl Projections {
    /// By their names in `scope`; without a name for the last layer there is none.
    fn load(scope: &Scope, names: [&str; 6], size: BlockSize) -> LoadResult<Self> {
        let BlockSize { width, heads, qk_norm } = size;
        let linear = |name: &str| Linear::load(&scope.at(name), width, width);
        let norm = |name: &str| RmsNorm::load(&scope.at(name), width / heads, EPS);
        let [mut query, mut key, mut value] =
            [linear(names[0])?, linear(names[1])?, linear(names[2])?];
        Ok(Self {
            joined: FusedLinears::on_gpu(&mut [&mut query, &mut key, &mut value]),
            query,
            key,
            value,
            norms: qk_norm.then(|| Ok((norm(names[4])?, norm(names[5])?))).transpose()?,
            out: (!names[3].is_empty()).then(|| linear(names[3])).transpose()?,
        })
    }

    /// Queries, keys and values of `x` [b, n, width].
    fn project(&self, x: &Tensor, heads: usize) -> Result<[Tensor; 3]> {
        let [query, key, value] = match &self.joined {
            Some(joined) => {
                let all = joined.forward(x)?;
                [all[0].clone(), all[1].clone(), all[2].clone()]
            }
            None => [self.query.forward(x)?, self.key.forward(x)?, self.value.forward(x)?],
        };
        let Some((of_query, of_key)) = &self.norms else { return Ok([query, key, value]) };
        let by_head = |norm: &RmsNorm, x: &Tensor| -> Result<Tensor> {
            let (batch, length, width) = x.dims3()?;
            let split = x.contiguous()?.reshape((batch, length, heads, width / heads))?;
            norm.forward(&split)?.flatten_from(D::Minus2)
        };
        Ok([by_head(of_query, &query)?, by_head(of_key, &key)?, value])
    }

    fn finish(&self, x: &Tensor) -> Result<Tensor> {
        match &self.out {
            Some(out) => out.forward(x),
            None => Ok(x.clone()),
        }
    }

    fn out_packing(&self) -> Option<crate::compute::products::Packing> {
        self.query.packing()
    }
}

/// Two linear layers with the tanh GELU between.
#[derive(Debug)]
struct FeedForward {
    proj: Linear,
    out: Linear,
}

impl FeedForward {
    fn load(scope: &Scope, width: usize) -> LoadResult<Self> {
        let inner = 4 * width;
        Ok(Self {
            proj: Linear::load(&scope.at("net.0.proj"), width, inner)?,
            out: Linear::load(&scope.at("net.2"), inner, width)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.out.forward(&Activation::GeluTanh.apply(&self.proj.forward(x)?)?)
    }
}
