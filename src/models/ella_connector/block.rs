//! In: latents and projected text. Out: the latents behind one block of a connector: attention from the latents to
//! themselves and the text, then a feed-forward, each beside its shortcut. Norms are plain ones, or follow from the
//! time; with them, what is added may be multiplied by gates that follow from it too.

use candle_core::{D, DType, Module, Result, Tensor};

use crate::checkpoint::weights::Scope;
use crate::compute::cuda;
use crate::compute::layers::{LayerNorm, Linear, LoadResult, squared_relu, standardised};
use crate::models::packed_attention::PackedAttention;

/// That of norms that follow from the time, and that of PyTorch's own.
const TIME_AWARE_EPS: f64 = 1e-6;
const PLAIN_EPS: f64 = 1e-5;

/// Norms of a block: of the latents, of the text and of the feed-forward.
pub(super) const NORMS: [&str; 3] = ["ln_1", "ln_2", "ln_ff"];

/// What of a block feels the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockKind {
    /// Nothing.
    Plain,
    /// The norms: AdaLN.
    Timestep,
    /// The norms, and gates: AdaLN-Zero.
    Gated,
}

impl BlockKind {
    /// That of the block in `scope`, by its tensors. Without a norm's tensors it is taken for AdaLN, whose are then
    /// missing.
    pub(super) fn of(scope: &Scope) -> Self {
        if scope.has("gate_linear.weight") {
            Self::Gated
        } else if scope.has("ln_1.weight") {
            Self::Plain
        } else {
            Self::Timestep
        }
    }

    /// What stands behind a norm's name before `.weight`.
    pub(super) fn norm_suffix(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Timestep | Self::Gated => ".linear",
        }
    }
}

/// One block.
#[derive(Debug)]
pub(super) struct Block {
    norms: Norms,
    attention: PackedAttention,
    inner: Linear,
    outer: Linear,
    /// Gates of attention and feed-forward, [2 * width, time].
    gates: Option<Linear>,
}

#[derive(Debug)]
enum Norms {
    Plain([LayerNorm; NORMS.len()]),
    TimeAware([TimeAwareNorm; NORMS.len()]),
}

/// What a block takes of a timestep.
#[derive(Debug)]
pub(super) struct BlockTerms {
    norms: Option<[TimestepNorm; NORMS.len()]>,
    /// [1, 1, width] each.
    gates: Option<(Tensor, Tensor)>,
}

impl Block {
    pub(super) fn load(
        scope: &Scope,
        kind: BlockKind,
        (width, time): (usize, usize),
        heads: usize,
    ) -> LoadResult<Self> {
        let mlp = scope.at("mlp");
        let inner = scope.shape("mlp.c_fc.weight").map_or(4 * width, |shape| shape[0]);
        let [latents, text, feed_forward] = NORMS.map(|name| scope.at(name));
        let plain = |scope: &Scope| LayerNorm::load(scope, width, PLAIN_EPS);
        let time_aware = |scope: &Scope| TimeAwareNorm::load(scope, width, time);
        let norms = match kind {
            BlockKind::Plain => {
                Norms::Plain([plain(&latents)?, plain(&text)?, plain(&feed_forward)?])
            }
            BlockKind::Timestep | BlockKind::Gated => Norms::TimeAware([
                time_aware(&latents)?,
                time_aware(&text)?,
                time_aware(&feed_forward)?,
            ]),
        };
        let gates = (kind == BlockKind::Gated)
            .then(|| Linear::load(&scope.at("gate_linear"), time, 2 * width));
        Ok(Self {
            norms,
            attention: PackedAttention::load(&scope.at("attn"), width, heads)?,
            inner: Linear::load(&mlp.at("c_fc"), width, inner)?,
            outer: Linear::load(&mlp.at("c_proj"), inner, width)?,
            gates: gates.transpose()?,
        })
    }

    /// What it takes of `time` [1, time], behind its SiLU already; `None` where nothing feels it.
    pub(super) fn at(&self, time: Option<&Tensor>) -> Result<BlockTerms> {
        let Some(time) = time else { return Ok(BlockTerms { norms: None, gates: None }) };
        let norms = match &self.norms {
            Norms::Plain(_) => None,
            Norms::TimeAware([latents, text, feed_forward]) => {
                Some([latents.at(time)?, text.at(time)?, feed_forward.at(time)?])
            }
        };
        let gates = match &self.gates {
            None => None,
            Some(gates) => {
                let both = gates.forward(time)?.unsqueeze(1)?;
                let width = both.dim(D::Minus1)? / 2;
                let half =
                    |number: usize| both.narrow(D::Minus1, number * width, width)?.contiguous();
                Some((half(0)?, half(1)?))
            }
        };
        Ok(BlockTerms { norms, gates })
    }

    /// `latents` [b, tokens, width] behind the block; `text` is [b, n, width].
    pub(super) fn forward(
        &self,
        latents: &Tensor,
        text: &Tensor,
        terms: &BlockTerms,
    ) -> Result<Tensor> {
        let norm = |number: usize, x: &Tensor| match (&self.norms, &terms.norms) {
            (Norms::Plain(norms), _) => norms[number].forward(x),
            (Norms::TimeAware(_), Some(norms)) => norms[number].forward(x),
            (Norms::TimeAware(_), None) => candle_core::bail!("the block's norms need a time"),
        };
        let normed = norm(0, latents)?;
        let seen = Tensor::cat(&[&normed, &norm(1, text)?], 1)?;
        let mixed = self.attention.of_first(&seen, normed.dim(1)?)?;
        let gates = terms.gates.as_ref();
        let latents = add(&self.attention.out, &mixed, gates.map(|gates| &gates.0), latents)?;
        let inner = squared_relu(&self.inner.forward(&norm(2, &latents)?)?)?;
        add(&self.outer, &inner, gates.map(|gates| &gates.1), &latents)
    }
}

/// `shortcut` with the result of `layer` added, which is multiplied by `gate` where there is one.
fn add(layer: &Linear, x: &Tensor, gate: Option<&Tensor>, shortcut: &Tensor) -> Result<Tensor> {
    match gate {
        None => layer.forward_then_add(x, shortcut),
        Some(gate) => shortcut + layer.forward(x)?.broadcast_mul(gate)?,
    }
}

/// Normalisation over the last dimension whose shift and scale follow from the time.
#[derive(Debug)]
struct TimeAwareNorm {
    linear: Linear,
    width: usize,
}

impl TimeAwareNorm {
    fn load(scope: &Scope, width: usize, time: usize) -> LoadResult<Self> {
        let linear = Linear::load(&scope.at("linear"), time, 2 * width)?;
        Ok(Self { linear, width })
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
            && let Some(done) = cuda::layer_norm(x, &self.factor, &self.shift, TIME_AWARE_EPS)?
        {
            return Ok(done);
        }
        standardised(x, TIME_AWARE_EPS)?
            .to_dtype(x.dtype())?
            .broadcast_mul(&self.factor.to_dtype(x.dtype())?)?
            .broadcast_add(&self.shift.to_dtype(x.dtype())?)
    }
}
