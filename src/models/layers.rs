//! In: a scope of tensors. Out: the layers that every network here is made of, each safe for any
//! batch and any memory layout.
//!
//! Two traps of candle 0.11 shape this file. A permuted tensor in a matrix product can give wrong
//! numbers on the processor once the batch exceeds one (candle issue 3744), so every product here
//! makes its input contiguous. And candle's own LayerNorm subtracts two large numbers
//! (E[x^2] - mean^2), which loses half the digits where the mean is large, so ours takes two passes.

mod joined;

use candle_core::{D, DType, Module, Result, Tensor};
use candle_nn::Conv2dConfig;

pub(crate) use self::joined::turned;
use super::ModelError;
use super::cuda::Owed;
use super::ops::activation::{self, Curve};
use super::ops::conv2d::Start;
use super::ops::group_norm::Then;
use super::ops::{self, conv2d, group_norm, layer_norm, linear, narrow};
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
    pub(crate) fn forward_onto(&self, x: &Tensor, shortcut: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (self.inner.weight(), self.inner.bias());
        if ops::apply(&[x, weight, shortcut]) {
            return linear::linear(x, weight, bias, Some(&shortcut.contiguous()?));
        }
        if narrow::applies(x, weight) && ops::apply(&[shortcut]) {
            return narrow::linear(x, weight, bias, Some(&shortcut.contiguous()?));
        }
        if ops::is_half(x) {
            let shortcut = shortcut.to_dtype(DType::F32)?;
            return ops::through_f32(x, |x| self.forward_onto(x, &shortcut));
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
        if ops::apply(&[x, weight]) {
            return linear::linear(x, weight, bias, None);
        }
        if narrow::applies(x, weight) {
            return narrow::linear(x, weight, bias, None);
        }
        if ops::is_half(x) {
            return ops::through_f32(x, |x| self.forward(x));
        }
        if let Some(done) = self.on_gpu(x, None)? {
            return Ok(done);
        }
        self.inner.forward(&x.contiguous()?)
    }
}

/// Rows of `table` [vocabulary, width] for `rows` of ids, all of one length of at most `most`: [rows,
/// length, width].
pub(crate) fn embed(table: &Tensor, rows: &[Vec<u32>], most: Option<usize>) -> Result<Tensor> {
    let (vocabulary, width) = table.dims2()?;
    let length = rows.first().map_or(0, Vec::len);
    let fits = (1..=most.unwrap_or(usize::MAX)).contains(&length);
    if !fits || rows.iter().any(|row| row.len() != length) {
        let lengths: Vec<usize> = rows.iter().map(Vec::len).collect();
        let range = most.map_or("of at least 1".to_owned(), |most| format!("from 1 to {most}"));
        candle_core::bail!("token rows of {lengths:?} ids: one length {range} is due")
    }
    let flat = rows.concat();
    if let Some(id) = flat.iter().find(|id| **id as usize >= vocabulary) {
        candle_core::bail!(
            "token id {id} is outside this text encoder's vocabulary of {vocabulary}: the \
             tokenizer belongs to another model"
        )
    }
    let flat = Tensor::from_vec(flat, rows.len() * length, table.device())?;
    table.index_select(&flat, 0)?.reshape((rows.len(), length, width))
}

/// `pixels` [b, 3, side, side] cut into squares of `patch` x `patch`, row by row: [b, squares, 3 * patch *
/// patch], so that a convolution without overlap is a product. What does not fill a square at the right
/// and at the bottom is not seen.
pub(crate) fn square_patches(pixels: &Tensor, side: usize, patch: usize) -> Result<Tensor> {
    let (batch, channels, height, width) = pixels.dims4()?;
    if (channels, height, width) != (3, side, side) {
        let found = pixels.dims();
        candle_core::bail!("pictures [b, 3, {side}, {side}] are needed, not {found:?}")
    }
    let grid = side / patch;
    pixels
        .narrow(2, 0, grid * patch)?
        .narrow(3, 0, grid * patch)?
        .reshape((batch, 3, grid, patch, grid, patch))?
        .permute([0, 2, 4, 1, 3, 5])?
        .contiguous()?
        .reshape((batch, grid * grid, 3 * patch * patch))
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

    /// `weight` [out, in, side, side] and `bias` [out] that are at hand already, padded so that the map
    /// keeps its size at stride 1.
    pub(crate) fn new(weight: Tensor, bias: Tensor, stride: usize) -> Self {
        let padding = weight.dims().last().map_or(0, |side| side / 2);
        let config = Conv2dConfig { padding, stride, ..Default::default() };
        Self { inner: candle_nn::Conv2d::new(weight, Some(bias), config) }
    }
}

impl Conv2d {
    /// The convolved map with `shift` [1 or b, co], for all pixels of a channel, and `shortcut`, of
    /// the result's shape, added.
    pub(crate) fn forward_onto(
        &self,
        x: &Tensor,
        shift: Option<&Tensor>,
        shortcut: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (weight, config) = (self.inner.weight(), self.inner.config());
        if ops::apply(&[x, weight]) {
            let shift = shift.map(Tensor::contiguous).transpose()?;
            let shortcut = shortcut.map(Tensor::contiguous).transpose()?;
            let start = Start {
                bias: self.inner.bias(),
                shift: shift.as_ref(),
                shortcut: shortcut.as_ref(),
            };
            return conv2d::conv2d(x, weight, config.stride, config.padding, start);
        }
        if ops::is_half(x) {
            return ops::through_f32(x, |x| {
                let (shift, shortcut) = (ops::widened(shift)?, ops::widened(shortcut)?);
                self.widened()?.forward_onto(x, shift.as_ref(), shortcut.as_ref())
            });
        }
        if let Some(done) = self.on_gpu(x, shift, shortcut)? {
            return Ok(done);
        }
        let mut result = self.inner.forward(&x.contiguous()?)?;
        if let Some(shift) = shift {
            let (rows, _) = shift.dims2()?;
            result = result.broadcast_add(&shift.reshape((rows, (), 1, 1))?)?;
        }
        match shortcut {
            Some(shortcut) => shortcut + result,
            None => Ok(result),
        }
    }

    /// The same in f32.
    fn widened(&self) -> Result<Self> {
        let weight = self.inner.weight().to_dtype(DType::F32)?;
        let bias = ops::widened(self.inner.bias())?;
        Ok(Self { inner: candle_nn::Conv2d::new(weight, bias, *self.inner.config()) })
    }
}

impl Module for Conv2d {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_onto(x, None, None)
    }
}

/// Normalisation over the last dimension, in f32 throughout, variance from the centred values.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
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
        if ops::apply(&[x]) {
            return layer_norm::layer_norm(x, &self.weight, &self.bias, self.eps);
        }
        if ops::is_half(x) {
            return ops::through_f32(x, |x| self.forward(x));
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
    inner: candle_nn::GroupNorm,
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    eps: f64,
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

    fn new(weight: Tensor, bias: Tensor, groups: usize, eps: f64) -> Result<Self> {
        let (weight, bias) = (weight.to_dtype(DType::F32)?, bias.to_dtype(DType::F32)?);
        let channels = weight.elem_count();
        let inner = candle_nn::GroupNorm::new(weight.clone(), bias.clone(), channels, groups, eps)?;
        Ok(Self { inner, weight, bias, groups, eps })
    }

    /// The normalised map, through SiLU.
    pub(crate) fn forward_silu(&self, x: &Tensor) -> Result<Tensor> {
        if ops::apply(&[x, &self.weight]) {
            return self.fast(x, Then::Silu);
        }
        if let Some(done) = self.on_gpu(x, Owed::default(), true)? {
            return Ok(done);
        }
        if x.dtype() != DType::F32 {
            return ops::through_f32(x, |x| self.forward_silu(x));
        }
        self.forward(x)?.silu()
    }

    fn fast(&self, x: &Tensor, then: Then) -> Result<Tensor> {
        group_norm::group_norm(x, &self.weight, &self.bias, self.groups, self.eps, then)
    }
}

impl Module for GroupNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if ops::apply(&[x, &self.weight]) {
            return self.fast(x, Then::Plain);
        }
        if let Some(done) = self.on_gpu(x, Owed::default(), false)? {
            return Ok(done);
        }
        // candle's own rounds to a half format before scale and shift, and after each.
        if x.dtype() != DType::F32 {
            return ops::through_f32(x, |x| self.forward(x));
        }
        self.inner.forward(&x.contiguous()?)
    }
}

/// Scaling by the root of the mean square, in f32, without mean or bias.
#[derive(Debug)]
pub(crate) struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    /// `weight` [width].
    pub(crate) fn load(scope: &Scope, width: usize, eps: f64) -> LoadResult<Self> {
        Ok(Self { weight: scope.tensor("weight", &[width])?, eps })
    }
}

impl Module for RmsNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        // The number format is that of `x`, whatever the weights are stored in.
        let weight = self.weight.to_dtype(x.dtype())?;
        if ops::apply(&[x]) {
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

/// Activations by the names that configurations use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// `x * sigmoid(1.702 x)`, of OpenAI's CLIP.
    QuickGelu,
    /// The exact GELU, through the error function. (`Tensor::gelu` is the tanh form.)
    Gelu,
    /// The tanh approximation.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `x * sigmoid(x)`.
    Silu,
}

impl Activation {
    /// The activation that transformers calls `name`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "quick_gelu" => Some(Activation::QuickGelu),
            "gelu" => Some(Activation::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Some(Activation::GeluTanh),
            "relu" => Some(Activation::Relu),
            "silu" => Some(Activation::Silu),
            _ => None,
        }
    }

    /// Applies it to every element.
    pub(crate) fn apply(self, x: &Tensor) -> Result<Tensor> {
        let curve = match self {
            Activation::QuickGelu => Some(Curve::QuickGelu),
            Activation::Gelu => Some(Curve::Gelu),
            Activation::GeluTanh => Some(Curve::GeluTanh),
            Activation::Silu => Some(Curve::Silu),
            Activation::Relu => None,
        };
        if let Some(curve) = curve.filter(|_| ops::apply(&[x])) {
            return activation::activation(x, curve);
        }
        if ops::is_half(x) {
            return ops::through_f32(x, |x| self.apply(x));
        }
        match self {
            Activation::QuickGelu => x * candle_nn::ops::sigmoid(&(x * 1.702)?)?,
            Activation::Gelu => x.gelu_erf(),
            Activation::GeluTanh => x.gelu(),
            Activation::Relu => x.relu(),
            Activation::Silu => x.silu(),
        }
    }
}

/// `x * sigmoid(x)`, rounded once: embeddings of time go through it, in half precision too.
pub(crate) fn silu(x: &Tensor) -> Result<Tensor> {
    match x.dtype() {
        DType::F32 => x.silu(),
        _ => ops::through_f32(x, Tensor::silu),
    }
}

/// GEGLU: the first half of `x`'s last dimension times the exact GELU of its second half.
pub(crate) fn gated_by_gelu(x: &Tensor) -> Result<Tensor> {
    if ops::apply(&[x]) {
        return activation::geglu(x);
    }
    if ops::is_half(x) {
        return ops::through_f32(x, gated_by_gelu);
    }
    let halves = x.chunk(2, D::Minus1)?;
    &halves[0] * Activation::Gelu.apply(&halves[1].contiguous()?)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::golden::{Golden, errors};

    #[test]
    fn activations_equal_pytorch() {
        let golden = Golden::open("layers");
        let input = golden.get("gelu.input");
        let exact = golden.get("gelu.output");
        let gelu = Activation::Gelu.apply(&input).unwrap();
        assert!(errors("gelu", &gelu, &exact).within(5e-6, 5e-6));
        let quick = Activation::QuickGelu.apply(&input).unwrap();
        let quick_golden = golden.get("quick_gelu.output");
        assert!(errors("quick_gelu", &quick, &quick_golden).within(5e-6, 5e-6));
        // The tanh form and CLIP's form must not pass for the exact one.
        let tanh = Activation::GeluTanh.apply(&input).unwrap();
        assert!(!errors("tanh sabotage", &tanh, &exact).within(5e-6, 5e-6));
        assert!(!errors("quick sabotage", &quick, &exact).within(5e-6, 5e-6));
    }

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

    /// candle issue 3744: the product must not see the transposed layout.
    #[test]
    fn a_transposed_batch_of_two_goes_through_linear_unharmed() {
        let golden = Golden::open("layers");
        let transposed = golden.get("linear.input").transpose(1, 2).unwrap();
        let inner =
            candle_nn::Linear::new(golden.get("linear.weight"), Some(golden.get("linear.bias")));
        let output = golden.get("linear.output");
        let ours = Linear { inner: inner.clone() }.forward(&transposed).unwrap();
        assert!(errors("linear", &ours, &output).within(5e-6, 5e-6));
        // What the rule guards against. Once candle is mended this line fails, and the rule in the
        // head of this file can go.
        let unguarded = inner.forward(&transposed).unwrap();
        assert!(!errors("strided sabotage", &unguarded, &output).within(5e-6, 5e-6));
    }
}
