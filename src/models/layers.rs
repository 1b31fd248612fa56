//! In: a scope of tensors. Out: the layers that every network here is made of, each safe for any
//! batch and any memory layout.
//!
//! Two traps of candle 0.11 shape this file. A permuted tensor in a matrix product can give wrong
//! numbers on the processor once the batch exceeds one (candle issue 3744), so every product here
//! makes its input contiguous. And candle's own LayerNorm subtracts two large numbers
//! (E[x^2] - mean^2), which loses half the digits where the mean is large, so ours takes two passes.

use candle_core::{D, DType, Module, Result, Tensor};
use candle_nn::Conv2dConfig;

use super::ModelError;
use super::weights::Scope;

/// `x @ weight^T + bias` over the last dimension.
#[derive(Debug)]
pub(crate) struct Linear {
    inner: candle_nn::Linear,
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
        let weight = scope.tensor("weight", &[output, input])?;
        Ok(Self { inner: candle_nn::Linear::new(weight, None) })
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

impl Module for Linear {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.inner.forward(&x.contiguous()?)
    }
}

/// A square convolution with bias over [b, c, h, w], padded to keep the size at stride one.
#[derive(Debug)]
pub(crate) struct Conv2d {
    inner: candle_nn::Conv2d,
}

impl Conv2d {
    /// `weight` [out, in, side, side] and `bias` [out].
    pub(crate) fn load(
        scope: &Scope,
        input: usize,
        output: usize,
        side: usize,
        stride: usize,
    ) -> LoadResult<Self> {
        let weight = scope.tensor("weight", &[output, input, side, side])?;
        let bias = scope.tensor("bias", &[output])?;
        let config = Conv2dConfig { padding: side / 2, stride, ..Default::default() };
        Ok(Self { inner: candle_nn::Conv2d::new(weight, Some(bias), config) })
    }
}

impl Module for Conv2d {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.inner.forward(&x.contiguous()?)
    }
}

/// Normalisation over the last dimension, in f32, variance from the centred values.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// `weight` and `bias`, both [width].
    pub(crate) fn load(scope: &Scope, width: usize, eps: f64) -> LoadResult<Self> {
        let weight = scope.tensor("weight", &[width])?;
        let bias = scope.tensor("bias", &[width])?;
        Ok(Self { weight, bias, eps })
    }
}

impl Module for LayerNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let dtype = x.dtype();
        let x = x.to_dtype(DType::F32)?;
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        centred
            .broadcast_div(&(variance + self.eps)?.sqrt()?)?
            .to_dtype(dtype)?
            .broadcast_mul(&self.weight)?
            .broadcast_add(&self.bias)
    }
}

/// Normalisation over groups of channels of [b, c, ...], accumulating in f32.
#[derive(Debug)]
pub(crate) struct GroupNorm {
    inner: candle_nn::GroupNorm,
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
        let inner = candle_nn::GroupNorm::new(weight, bias, channels, groups, eps);
        Ok(Self { inner: inner.map_err(|source| scope.refused("weight", source))? })
    }
}

impl Module for GroupNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.inner.forward(&x.contiguous()?)
    }
}

/// Activations by the names that configurations use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// `x * sigmoid(1.702 x)`, of OpenAI's CLIP.
    QuickGelu,
    /// The exact GELU, through the error function. (`Tensor::gelu` is the tanh form.)
    Gelu,
    /// The tanh approximation.
    GeluTanh,
}

impl Activation {
    /// The activation that transformers calls `name`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "quick_gelu" => Some(Activation::QuickGelu),
            "gelu" => Some(Activation::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Some(Activation::GeluTanh),
            _ => None,
        }
    }

    /// Applies it to every element.
    pub(crate) fn apply(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Activation::QuickGelu => x * candle_nn::ops::sigmoid(&(x * 1.702)?)?,
            Activation::Gelu => x.gelu_erf(),
            Activation::GeluTanh => x.gelu(),
        }
    }
}
