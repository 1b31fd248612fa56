//! In: feature maps. Out: square convolutions with what is added to them, on the processor by the operations of its own.

use candle_core::{DType, Module, Result, Tensor};
use candle_nn::Conv2dConfig;

use super::LoadResult;
use crate::models::ops;
use crate::models::ops::conv2d::{self, Start};
use crate::models::weights::Scope;

/// A square convolution with bias over [b, c, h, w], padded to keep the size at stride one.
#[derive(Debug)]
pub(crate) struct Conv2d {
    pub(super) inner: candle_nn::Conv2d,
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
