//! In: activations. Out: products with a weight matrix.

use candle_core::{DType, Module, Result, Tensor};

use crate::checkpoint::model_error::ModelError;
use crate::checkpoint::weights::Scope;
use crate::compute::cpu;
use crate::compute::cpu::{half_linear, linear};

/// `x @ weight^T + bias` over the last dimension.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) inner: candle_nn::Linear,
}

impl Linear {
    /// `weight` [out, in] and `bias` [out].
    pub(crate) fn load(scope: &Scope, input: usize, output: usize) -> LoadResult<Self> {
        let weight = scope.tensor("weight", &[output, input])?;
        let bias = scope.tensor("bias", &[output])?;
        Ok(Self { inner: candle_nn::Linear::new(weight, Some(bias)) })
    }

    /// `weight` [out, in] alone.
    pub(crate) fn load_without_bias(
        scope: &Scope,
        input: usize,
        output: usize,
    ) -> LoadResult<Self> {
        Ok(Self::without_bias(scope.tensor("weight", &[output, input])?))
    }

    /// `weight` [out, in] and `bias` [out] that are at hand already.
    pub(crate) fn new(weight: Tensor, bias: Tensor) -> Self {
        Self { inner: candle_nn::Linear::new(weight, Some(bias)) }
    }

    /// `weight` [out, in] that is at hand already, alone.
    pub(crate) fn without_bias(weight: Tensor) -> Self {
        Self { inner: candle_nn::Linear::new(weight, None) }
    }

    /// A linear layer that the checkpoint stores as a 1x1 convolution, [out, in, 1, 1], or plainly.
    pub(crate) fn load_pointwise(scope: &Scope, input: usize, output: usize) -> LoadResult<Self> {
        if scope.shape("weight").is_none_or(|shape| shape.len() != 4) {
            return Self::load(scope, input, output);
        }
        let weight = scope.tensor("weight", &[output, input, 1, 1])?;
        let bias = scope.tensor("bias", &[output])?;
        // Dropping dimensions of size one cannot fail.
        let weight = weight.reshape((output, input)).unwrap_or(weight);
        Ok(Self { inner: candle_nn::Linear::new(weight, Some(bias)) })
    }
}

/// What loading a layer gives.
pub(crate) type LoadResult<T> = std::result::Result<T, ModelError>;

impl Linear {
    /// The layer's result with `shortcut`, of the result's shape, added.
    pub(crate) fn forward_with_shortcut(&self, x: &Tensor, shortcut: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (self.inner.weight(), self.inner.bias());
        if cpu::apply(&[x, weight, shortcut]) {
            return linear::linear(x, weight, bias, Some(&shortcut.contiguous()?));
        }
        if half_linear::applies(x, weight) && cpu::apply(&[shortcut]) {
            return half_linear::linear(x, weight, bias, Some(&shortcut.contiguous()?));
        }
        if cpu::is_half(x) {
            let shortcut = shortcut.to_dtype(DType::F32)?;
            return cpu::through_f32(x, |x| self.forward_with_shortcut(x, &shortcut));
        }
        if let Some(done) = self.on_gpu(x, Some(shortcut))? {
            return Ok(done);
        }
        shortcut + self.forward(x)?
    }
}

impl Module for Linear {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (self.inner.weight(), self.inner.bias());
        if cpu::apply(&[x, weight]) {
            return linear::linear(x, weight, bias, None);
        }
        if half_linear::applies(x, weight) {
            return half_linear::linear(x, weight, bias, None);
        }
        if cpu::is_half(x) {
            return cpu::through_f32(x, |x| self.forward(x));
        }
        if let Some(done) = self.on_gpu(x, None)? {
            return Ok(done);
        }
        self.inner.forward(&x.contiguous()?)
    }
}
