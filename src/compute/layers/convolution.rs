//! In: feature maps. Out: square convolutions with what is added to them, on the processor by the operations of its own.

use candle_core::{DType, Module, Result, Tensor};
use candle_nn::Conv2dConfig;

use super::LoadResult;
use super::channels_last::{channels_second, pixels_first};
use crate::checkpoint::weights::Scope;
use crate::compute::cpu;
use crate::compute::cpu::conv2d;
use crate::compute::cpu::conv2d::InitialOutput;
use crate::compute::cpu::tile_conv2d::TileConv2d;
use crate::compute::products;
use crate::compute::products::Packing;

/// A square convolution with bias over [b, c, h, w], padded to keep the size at stride one.
#[derive(Debug)]
pub(crate) struct Conv2d {
    /// Without filters where they are packed.
    pub(crate) inner: candle_nn::Conv2d,
    pub(crate) way: CudnnMode,
    /// Filters and bias packed for the processor's matrix tiles.
    packed: Option<TileConv2d>,
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
        let inner = candle_nn::Conv2d::new(filters, Some(bias), config);
        let packed = products::packing().and_then(|packing| Self::packed(&inner, packing).ok());
        match packed {
            Some((inner, packed)) => Self { inner, way, packed: Some(packed) },
            None => Self { inner, way, packed: None },
        }
    }

    /// Packs the filters, and leaves the layer without them. Refuses nothing but tensors that the layer itself could not
    /// use either.
    fn packed(
        inner: &candle_nn::Conv2d,
        packing: Packing,
    ) -> Result<(candle_nn::Conv2d, TileConv2d)> {
        let (weight, bias, config) = (inner.weight(), inner.bias(), *inner.config());
        let sizes = (config.stride, config.padding);
        let packed = TileConv2d::pack(weight, bias, sizes, packing)?;
        let (_, channels, height, width) = weight.dims4()?;
        let none = Tensor::zeros((0, channels, height, width), weight.dtype(), weight.device())?;
        Ok((candle_nn::Conv2d::new(none, None, config), packed))
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
        if let Some(packed) = &self.packed {
            if !cpu::apply(&[x]) {
                return cpu::through_f32(x, |x| {
                    let (shift, shortcut) = (cpu::widened(shift)?, cpu::widened(shortcut)?);
                    self.forward_with_shortcut(x, shift.as_ref(), shortcut.as_ref())
                });
            }
            let shift = shift.map(Tensor::contiguous).transpose()?;
            let shortcut = shortcut.map(Tensor::contiguous).transpose()?;
            return packed.forward(x, shift.as_ref(), shortcut.as_ref());
        }
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
        Ok(Self { inner, way: CudnnMode::default(), packed: None })
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
    use crate::compute::golden::errors;
    use crate::compute::products::Products;

    #[test]
    fn packed_filters_do_what_plain_ones_do() {
        let numbers = |shape: &[usize], seed: f32| {
            let count: usize = shape.iter().product();
            let number = |i: usize| (seed + (i * i % 9973) as f32 * 0.7).sin();
            let values: Vec<f32> = (0..count).map(number).collect();
            Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
        };
        let load = || Conv2d::new(numbers(&[35, 40, 3, 3], 1.0), numbers(&[35], 2.0), 1);
        let (x, shift) = (numbers(&[2, 40, 6, 7], 3.0), numbers(&[2, 35], 4.0));
        let shortcut = numbers(&[2, 35, 6, 7], 5.0);
        let plain = load();
        for (products, bound) in [(Products::Bf16x3, 1e-5), (Products::Bf16, 5e-3)] {
            let packed = products.by_the_model().while_loading(load);
            // Nothing but the packed filters is held.
            assert_eq!(packed.inner.weight().elem_count(), 0);
            for dtype in [DType::F32, DType::F16] {
                let [x, shift, shortcut] =
                    [&x, &shift, &shortcut].map(|tensor| tensor.to_dtype(dtype).unwrap());
                let run = |conv: &Conv2d| {
                    conv.forward_with_shortcut(&x, Some(&shift), Some(&shortcut)).unwrap()
                };
                let bound = bound + if dtype == DType::F16 { 1e-3 } else { 0.0 };
                assert!(errors("packed", &run(&packed), &run(&plain)).within(bound, 1.0));
                assert_eq!(run(&packed).dtype(), dtype);
                let alone = packed.forward(&x).unwrap();
                assert!(errors("alone", &alone, &plain.forward(&x).unwrap()).within(bound, 1.0));
            }
        }
    }

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
