//! In: feature maps. Out: square convolutions with what is added to them, on the processor by the operations of its own.

use candle_core::{DType, Module, Result, Tensor};
use candle_nn::Conv2dConfig;

use super::LoadResult;
use super::channels_last::{channels_second, pixels_first};
use crate::checkpoint::weights::Scope;
use crate::compute::cpu;
use crate::compute::cpu::conv2d;
use crate::compute::cpu::conv2d::InitialOutput;

/// A square convolution with bias over [b, c, h, w], padded to keep the size at stride one.
#[derive(Debug)]
pub(crate) struct Conv2d {
    pub(crate) inner: candle_nn::Conv2d,
    pub(crate) way: CudnnMode,
}

/// How the layer computes where cuDNN does it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct CudnnMode {
    /// Its filters lie channels last, and so do the maps that it takes and leaves.
    pub(crate) channels_last: bool,
    /// It computes in plain order, and its result is turned: the layers after it want it channels last.
    pub(crate) transposes_result: bool,
    /// Factors in f32 may be rounded to TF32.
    pub(crate) tf32: bool,
}

impl CudnnMode {
    /// For filters `weight` [out, in, side, side]; `tf32` is what a network allows.
    fn of(weight: &Tensor, tf32: bool) -> Self {
        let on_tensor_cores = match weight.dtype() {
            DType::F16 | DType::BF16 => true,
            dtype => dtype == DType::F32 && tf32,
        };
        let has_cudnn = cfg!(feature = "cudnn") && weight.device().is_cuda();
        Self::where_cudnn_is(has_cudnn && on_tensor_cores, weight.dims(), tf32)
    }

    fn where_cudnn_is(on_tensor_cores: bool, filters: &[usize], tf32: bool) -> Self {
        // The tensor cores take eight channels of 16 bits at a time, four of 32.
        let even = |place: usize| filters.get(place).is_some_and(|count| count.is_multiple_of(8));
        Self {
            channels_last: on_tensor_cores && even(0) && even(1),
            transposes_result: on_tensor_cores && even(0) && !even(1),
            tf32,
        }
    }
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
        Ok(Self::of(weight, bias, stride, scope.allows_tf32()))
    }

    /// `weight` [out, in, side, side] and `bias` [out] that are at hand already, padded so that the map
    /// keeps its size at stride 1.
    pub(crate) fn new(weight: Tensor, bias: Tensor, stride: usize) -> Self {
        Self::of(weight, bias, stride, false)
    }

    fn of(weight: Tensor, bias: Tensor, stride: usize, tf32: bool) -> Self {
        let padding = weight.dims().last().map_or(0, |side| side / 2);
        let config = Conv2dConfig { padding, stride, ..Default::default() };
        let mut way = CudnnMode::of(&weight, tf32);
        let mut filters = weight;
        if way.channels_last {
            let turned = pixels_first(&filters).and_then(|x| channels_second(&x.contiguous()?));
            match turned {
                Ok(turned) => filters = turned,
                // No memory to turn them, say: cuDNN turns them, at every call.
                Err(_) => way = CudnnMode { tf32, ..CudnnMode::default() },
            }
        }
        Self { inner: candle_nn::Conv2d::new(filters, Some(bias), config), way }
    }
}

impl Conv2d {
    /// The convolved map with `shift` [1 or b, co], for all pixels of a channel, and `shortcut`, of
    /// the result's shape, added.
    pub(crate) fn forward_with_shortcut(
        &self,
        x: &Tensor,
        shift: Option<&Tensor>,
        shortcut: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (weight, config) = (self.inner.weight(), self.inner.config());
        if cpu::apply(&[x, weight]) {
            let shift = shift.map(Tensor::contiguous).transpose()?;
            let shortcut = shortcut.map(Tensor::contiguous).transpose()?;
            let start = InitialOutput {
                bias: self.inner.bias(),
                shift: shift.as_ref(),
                shortcut: shortcut.as_ref(),
            };
            return conv2d::conv2d(x, weight, config.stride, config.padding, start);
        }
        if cpu::is_half(x) {
            return cpu::through_f32(x, |x| {
                let (shift, shortcut) = (cpu::widened(shift)?, cpu::widened(shortcut)?);
                self.widened()?.forward_with_shortcut(x, shift.as_ref(), shortcut.as_ref())
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
        let bias = cpu::widened(self.inner.bias())?;
        let inner = candle_nn::Conv2d::new(weight, bias, *self.inner.config());
        Ok(Self { inner, way: CudnnMode::default() })
    }
}

impl Module for Conv2d {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_with_shortcut(x, None, None)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn filters_lie_channels_last_where_the_tensor_cores_take_them_so() {
        let way = |on, filters: [usize; 4]| CudnnMode::where_cudnn_is(on, &filters, false);
        let last = CudnnMode { channels_last: true, ..CudnnMode::default() };
        let turns = CudnnMode { transposes_result: true, ..CudnnMode::default() };
        assert_eq!(way(true, [320, 320, 3, 3]), last);
        assert_eq!(way(true, [640, 320, 1, 1]), last);
        // The first of a network makes plain latents such maps, the last one's result is plain.
        assert_eq!(way(true, [320, 4, 3, 3]), turns);
        assert_eq!(way(true, [4, 320, 3, 3]), CudnnMode::default());
        assert_eq!(way(true, [4, 4, 1, 1]), CudnnMode::default());
        assert_eq!(way(false, [320, 320, 3, 3]), CudnnMode::default());
        // On the processor nothing is turned.
        let weight = Tensor::zeros((8, 8, 3, 3), DType::F16, &Device::Cpu).unwrap();
        assert_eq!(CudnnMode::of(&weight, true), CudnnMode { tf32: true, ..CudnnMode::default() });
    }
}
