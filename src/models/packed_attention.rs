//! In: rows that ask and rows that are seen. Out: what attention makes of them, with the weights of PyTorch's
//! `MultiheadAttention`: query, key and value packed into one tensor in this order.

use candle_core::{Module, Result, Tensor};

use crate::checkpoint::weights::Scope;
use crate::compute::attention::{AttentionMask, attend};
use crate::compute::cuda;
use crate::compute::layers::{Linear, LoadResult};

/// Names of its linear layers, and of its packed tensors.
pub(super) const LINEAR: &str = "out_proj";
pub(super) const PACKED: [&str; 2] = ["in_proj_weight", "in_proj_bias"];

/// Attention of `heads` heads.
#[derive(Debug)]
pub(super) struct PackedAttention {
    /// The three below in one, for a GPU, where a launch costs more than queries that nobody asks.
    packed: Linear,
    query: Linear,
    key: Linear,
    value: Linear,
    /// What its result goes through, which is left to the caller.
    pub(super) out: Linear,
    heads: usize,
}

impl PackedAttention {
    /// `in_proj_weight` [3 * width, width], `in_proj_bias` and `out_proj` in `scope`.
    pub(super) fn load(scope: &Scope, width: usize, heads: usize) -> LoadResult<Self> {
        let [weight, bias] = PACKED;
        let weight = scope.tensor(weight, &[3 * width, width])?;
        let bias = scope.tensor(bias, &[3 * width])?;
        let projection = |number: usize| -> LoadResult<Linear> {
            let rows = |tensor: &Tensor| tensor.narrow(0, number * width, width);
            let parts = rows(&weight).and_then(|weight| Ok((weight, rows(&bias)?)));
            let (weight, bias) = parts.map_err(|source| scope.refused(PACKED[0], source))?;
            Ok(Linear::new(weight, bias))
        };
        Ok(Self {
            query: projection(0)?,
            key: projection(1)?,
            value: projection(2)?,
            packed: Linear::new(weight, bias),
            out: Linear::load(&scope.at(LINEAR), width, width)?,
            heads,
        })
    }

    /// What the first `count` rows of `seen` [b, n, width] see in all of it, before the output projection.
    pub(super) fn of_first(&self, seen: &Tensor, count: usize) -> Result<Tensor> {
        if !cuda::apply(&[seen]) {
            return self.of(&seen.narrow(1, 0, count)?.contiguous()?, seen);
        }
        let all = self.packed.forward(seen)?;
        let width = all.dim(2)? / 3;
        let part = |number: usize| all.narrow(2, number * width, width);
        self.mix(&part(0)?.narrow(1, 0, count)?, &part(1)?, &part(2)?)
    }

    /// What `asking` [b, m, width] see in `seen` [b, n, width], before the output projection.
    pub(super) fn of(&self, asking: &Tensor, seen: &Tensor) -> Result<Tensor> {
        self.mix(&self.query.forward(asking)?, &self.key.forward(seen)?, &self.value.forward(seen)?)
    }

    fn mix(&self, query: &Tensor, key: &Tensor, value: &Tensor) -> Result<Tensor> {
        attend(query, key, value, self.heads, AttentionMask::All, self.out.packing())
    }
}
