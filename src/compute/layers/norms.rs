//! In: activations. Out: their layer, group and RMS norms, with sums in f32 and, for the layer norm, two passes.

use candle_core::{D, DType, Module, Result, Tensor};

use super::LoadResult;
use crate::checkpoint::weights::Scope;
use crate::compute::cpu;
use crate::compute::cpu::group_norm::FusedActivation;
use crate::compute::cpu::{group_norm, layer_norm};
use crate::compute::cuda::PendingBias;

/// Normalisation over the last dimension, in f32 throughout, variance from the centred values.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    pub(crate) weight: Tensor,
    pub(crate) bias: Tensor,
    pub(crate) eps: f64,
}

impl LayerNorm {
    /// `weight` and `bias`, both [width].
    pub(crate) fn load(scope: &Scope, width: usize, eps: f64) -> LoadResult<Self> {
        let exact = |name: &str| {
            let tensor = scope.tensor(name, &[width])?;
            tensor.to_dtype(DType::F32).map_err(|source| scope.refused(name, source))
        };
        Ok(Self { weight: exact("weight")?, bias: exact("bias")?, eps })
    }
}

impl Module for LayerNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if cpu::apply(&[x]) {
            return layer_norm::layer_norm(x, &self.weight, &self.bias, self.eps);
        }
        if cpu::is_half(x) {
            return cpu::through_f32(x, |x| self.forward(x));
        }
        if let Some(done) = self.on_gpu(x)? {
            return Ok(done);
        }
        standardised(x, self.eps)?
            .broadcast_mul(&self.weight)?
            .broadcast_add(&self.bias)?
            .to_dtype(x.dtype())
    }
}

/// `x` less its mean over the last dimension, over its deviation there; f32, in two passes.
pub(crate) fn standardised(x: &Tensor, eps: f64) -> Result<Tensor> {
    let x = x.to_dtype(DType::F32)?;
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred.broadcast_div(&(variance + eps)?.sqrt()?)
}

/// Normalisation over groups of channels of [b, c, ...], in f32 throughout.
#[derive(Debug)]
pub(crate) struct GroupNorm {
    pub(crate) inner: candle_nn::GroupNorm,
    pub(crate) weight: Tensor,
    pub(crate) bias: Tensor,
    pub(crate) groups: usize,
    pub(crate) eps: f64,
}

impl GroupNorm {
    /// `weight` and `bias`, both [channels]; `groups` must divide them, which configurations check.
    pub(crate) fn load(
        scope: &Scope,
        channels: usize,
        groups: usize,
        eps: f64,
    ) -> LoadResult<Self> {
        let weight = scope.tensor("weight", &[channels])?;
        let bias = scope.tensor("bias", &[channels])?;
        Self::new(weight, bias, groups, eps).map_err(|source| scope.refused("weight", source))
    }

    pub(crate) fn new(weight: Tensor, bias: Tensor, groups: usize, eps: f64) -> Result<Self> {
        let (weight, bias) = (weight.to_dtype(DType::F32)?, bias.to_dtype(DType::F32)?);
        let channels = weight.elem_count();
        let inner = candle_nn::GroupNorm::new(weight.clone(), bias.clone(), channels, groups, eps)?;
        Ok(Self { inner, weight, bias, groups, eps })
    }

    /// The normalised map, through SiLU.
    pub(crate) fn forward_silu(&self, x: &Tensor) -> Result<Tensor> {
        if cpu::apply(&[x, &self.weight]) {
            return self.fast(x, FusedActivation::Silu);
        }
        if let Some(done) = self.on_gpu(x, PendingBias::default(), true)? {
            return Ok(done);
        }
        if x.dtype() != DType::F32 {
            return cpu::through_f32(x, |x| self.forward_silu(x));
        }
        self.forward(x)?.silu()
    }

    fn fast(&self, x: &Tensor, then: FusedActivation) -> Result<Tensor> {
        group_norm::group_norm(x, &self.weight, &self.bias, self.groups, self.eps, then)
    }
}

impl Module for GroupNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if cpu::apply(&[x, &self.weight]) {
            return self.fast(x, FusedActivation::Plain);
        }
        if let Some(done) = self.on_gpu(x, PendingBias::default(), false)? {
            return Ok(done);
        }
        // candle's own rounds to a half format before scale and shift, and after each.
        if x.dtype() != DType::F32 {
            return cpu::through_f32(x, |x| self.forward(x));
        }
        self.inner.forward(&x.contiguous()?)
    }
}

/// Scaling by the root of the mean square, in f32, without mean or bias.
#[derive(Debug)]
pub(crate) struct RmsNorm {
    pub(crate) weight: Tensor,
    pub(crate) eps: f64,
    /// Whether the factor is applied before the result is rounded to the format of `x`.
    rounds_last: bool,
}

impl RmsNorm {
    /// `weight` [width].
    pub(crate) fn load(scope: &Scope, width: usize, eps: f64) -> LoadResult<Self> {
        Ok(Self { weight: scope.tensor("weight", &[width])?, eps, rounds_last: false })
    }

    /// `weight` [width], to which one is added, as Gemma stores it; the result is rounded once.
    pub(crate) fn load_around_one(scope: &Scope, width: usize, eps: f64) -> LoadResult<Self> {
        let factor = scope.tensor("weight", &[width])?.to_dtype(DType::F32);
        let weight = factor
            .and_then(|weight| weight + 1.0)
            .map_err(|source| scope.refused("weight", source))?;
        Ok(Self { weight, eps, rounds_last: true })
    }
}

impl Module for RmsNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if self.rounds_last && x.dtype() != DType::F32 {
            return self.forward(&x.to_dtype(DType::F32)?)?.to_dtype(x.dtype());
        }
        // The number format is that of `x`, whatever the weights are stored in.
        let weight = self.weight.to_dtype(x.dtype())?;
        if cpu::apply(&[x]) {
            return layer_norm::rms_norm(x, &weight, self.eps);
        }
        if let Some(done) = self.on_gpu(x, &weight)? {
            return Ok(done);
        }
        let exact = x.to_dtype(DType::F32)?;
        let mean_square = exact.sqr()?.mean_keepdim(D::Minus1)?;
        exact
            .broadcast_div(&(mean_square + self.eps)?.sqrt()?)?
            .to_dtype(x.dtype())?
            .broadcast_mul(&weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::golden::{Golden, errors};

    #[test]
    fn layer_norm_survives_a_large_mean() {
        let golden = Golden::open("layers");
        let (input, output) = (golden.get("layer_norm.input"), golden.get("layer_norm.output"));
        let (weight, bias) = (golden.get("layer_norm.weight"), golden.get("layer_norm.bias"));
        let ours = LayerNorm { weight: weight.clone(), bias: bias.clone(), eps: 1e-5 };
        let ours = ours.forward(&input).unwrap();
        assert!(errors("layer_norm", &ours, &output).within(2e-5, 1e-4));
        let one_pass = candle_nn::ops::layer_norm(&input, &weight, &bias, 1e-5).unwrap();
        assert!(!errors("one-pass sabotage", &one_pass, &output).within(2e-5, 1e-4));
    }

    #[test]
    fn group_norm_equals_pytorch_and_feels_its_eps() {
        let golden = Golden::open("layers");
        let (input, output) = (golden.get("group_norm.input"), golden.get("group_norm.output"));
        let with = |groups: usize, eps: f64| {
            let (weight, bias) = (golden.get("group_norm.weight"), golden.get("group_norm.bias"));
            let ours = GroupNorm::new(weight, bias, groups, eps).unwrap().forward(&input).unwrap();
            errors(&format!("group_norm {groups} {eps:e}"), &ours, &output).within(5e-6, 5e-5)
        };
        assert!(with(4, 1e-5));
        assert!(!with(4, 1e-6));
        assert!(!with(8, 1e-5));
    }
}
