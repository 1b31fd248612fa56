//! In: tokens, and what time and text make of a block. Out: what blocks of the transformers are made of in which picture and
//! text attend to one another: all rows of a call share time and text, so scale and shift are a norm's weights. The blocks are
//! left to the networks.

use candle_core::{D, DType, Module, Result, Tensor};

use crate::checkpoint::weights::Scope;
use crate::compute::layers::{
    Activation, FusedLinears, LayerNorm, Linear, LoadResult, RmsNorm, gated_sum,
};
use crate::compute::products::Packing;

/// Dimensions of a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockSize {
    pub(super) width: usize,
    pub(super) heads: usize,
    /// Whether each head's queries and keys are normalised.
    pub(super) qk_norm: bool,
}

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
    pub(super) fn gated(&self, x: &Tensor, y: &Tensor, gate: usize) -> Result<Tensor> {
        gated_sum(x, y, &self.0.get(gate)?)
    }
}

/// Queries, keys and values of one kind of tokens, and what is made of the result.
#[derive(Debug)]
pub(super) struct Projections {
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
    pub(super) fn load(scope: &Scope, names: [&str; 6], size: BlockSize) -> LoadResult<Self> {
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
    pub(super) fn project(&self, x: &Tensor, heads: usize) -> Result<[Tensor; 3]> {
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

    pub(super) fn finish(&self, x: &Tensor) -> Result<Tensor> {
        match &self.out {
            Some(out) => out.forward(x),
            None => Ok(x.clone()),
        }
    }

    pub(super) fn out_packing(&self) -> Option<Packing> {
        self.query.packing()
    }
}

/// Two linear layers with the tanh GELU between.
#[derive(Debug)]
pub(super) struct FeedForward {
    proj: Linear,
    out: Linear,
}

impl FeedForward {
    pub(super) fn load(scope: &Scope, width: usize) -> LoadResult<Self> {
        let inner = 4 * width;
        Ok(Self {
            proj: Linear::load(&scope.at("net.0.proj"), width, inner)?,
            out: Linear::load(&scope.at("net.2"), inner, width)?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.out.forward(&Activation::GeluTanh.apply_to_own(self.proj.forward(x)?)?)
    }
}
