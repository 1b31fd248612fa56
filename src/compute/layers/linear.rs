//! In: activations. Out: products with a weight matrix.

use candle_core::{DType, Module, Result, Tensor};

use crate::checkpoint::model_error::ModelError;
use crate::checkpoint::weights::Scope;
use crate::compute::cpu::tile_linear::TileLinear;
use crate::compute::cpu::{half_linear, linear};
use crate::compute::{cpu, products};

/// `x @ weight^T + bias` over the last dimension.
#[derive(Debug)]
pub(crate) struct Linear {
    held: Held,
}

/// A layer's weights and bias.
#[derive(Debug)]
enum Held {
    /// As they were loaded.
    Plain(candle_nn::Linear),
    /// Packed for the processor's matrix tiles.
    Packed(TileLinear),
}

impl Linear {
    /// `weight` [out, in] and `bias` [out].
    pub(crate) fn load(scope: &Scope, input: usize, output: usize) -> LoadResult<Self> {
        let weight = scope.tensor("weight", &[output, input])?;
        let bias = scope.tensor("bias", &[output])?;
        Ok(Self::new(weight, bias))
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
        Self::loaded(candle_nn::Linear::new(weight, Some(bias)))
    }

    /// `weight` [out, in] that is at hand already, alone.
    pub(crate) fn without_bias(weight: Tensor) -> Self {
        Self::loaded(candle_nn::Linear::new(weight, None))
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
        Ok(Self::new(weight, bias))
    }

    /// A layer as it stands, which is never packed: a part of another, say.
    pub(crate) fn plain(inner: candle_nn::Linear) -> Self {
        Self { held: Held::Plain(inner) }
    }

    /// A layer of a network that is being loaded, packed where its products are to be rounded.
    fn loaded(inner: candle_nn::Linear) -> Self {
        let packed = products::packing().map(|packing| {
            // Refuses nothing but tensors that the layer itself could not use either.
            TileLinear::pack(inner.weight(), inner.bias(), packing).ok()
        });
        match packed.flatten() {
            Some(packed) => Self { held: Held::Packed(packed) },
            None => Self::plain(inner),
        }
    }

    /// Weights and bias, unless they are packed.
    pub(crate) fn unpacked(&self) -> Option<&candle_nn::Linear> {
        match &self.held {
            Held::Plain(inner) => Some(inner),
            Held::Packed(_) => None,
        }
    }

    /// Numbers of a row of the result.
    pub(crate) fn output_width(&self) -> usize {
        match &self.held {
            Held::Plain(inner) => inner.weight().dims()[0],
            Held::Packed(packed) => packed.output(),
        }
    }
}

/// What loading a layer gives.
pub(crate) type LoadResult<T> = std::result::Result<T, ModelError>;

impl Linear {
    /// The layer's result with `shortcut`, of the result's shape, added.
    pub(crate) fn forward_with_shortcut(&self, x: &Tensor, shortcut: &Tensor) -> Result<Tensor> {
        let inner = match &self.held {
            Held::Packed(packed) if cpu::apply(&[x, shortcut]) => {
                return packed.forward(x, Some(&shortcut.contiguous()?));
            }
            Held::Packed(_) => return self.through_f32_with_shortcut(x, shortcut),
            Held::Plain(inner) => inner,
        };
        let (weight, bias) = (inner.weight(), inner.bias());
        if cpu::apply(&[x, weight, shortcut]) {
            return linear::linear(x, weight, bias, Some(&shortcut.contiguous()?));
        }
        if half_linear::applies(x, weight) && cpu::apply(&[shortcut]) {
            return half_linear::linear(x, weight, bias, Some(&shortcut.contiguous()?));
        }
        if cpu::is_half(x) {
            return self.through_f32_with_shortcut(x, shortcut);
        }
        if let Some(done) = self.on_gpu(x, Some(shortcut))? {
            return Ok(done);
        }
        shortcut + self.forward(x)?
    }

    /// The same, rounded once to the format of `x`.
    fn through_f32_with_shortcut(&self, x: &Tensor, shortcut: &Tensor) -> Result<Tensor> {
        let shortcut = shortcut.to_dtype(DType::F32)?;
        cpu::through_f32(x, |x| self.forward_with_shortcut(x, &shortcut))
    }
}

impl Module for Linear {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let inner = match &self.held {
            Held::Packed(packed) if cpu::apply(&[x]) => return packed.forward(x, None),
            Held::Packed(_) => return cpu::through_f32(x, |x| self.forward(x)),
            Held::Plain(inner) => inner,
        };
        let (weight, bias) = (inner.weight(), inner.bias());
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
        inner.forward(&x.contiguous()?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::compute::golden::errors;
    use crate::compute::products::Products;

    fn numbers(shape: &[usize], seed: f32) -> Tensor {
        let count = shape.iter().product();
        // Squares, so that sums of products do not cancel.
        let number = |i: usize| (seed + (i * i % 9973) as f32 * 0.7).sin();
        let values: Vec<f32> = (0..count).map(number).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn packed_layers_do_what_plain_ones_do() {
        let load = || {
            let weight = numbers(&[35, 70], 1.0);
            [Linear::new(weight.clone(), numbers(&[35], 2.0)), Linear::without_bias(weight)]
        };
        let plain = load();
        for (products, bound) in [(Products::Bf16x3, 1e-5), (Products::Bf16, 5e-3)] {
            let packed = products.by_the_model().while_loading(load);
            for (packed, plain) in packed.iter().zip(&plain) {
                assert!(packed.unpacked().is_none() && packed.output_width() == 35);
                let turned = numbers(&[2, 70, 20], 3.0).transpose(1, 2).unwrap();
                let deep = numbers(&[2, 3, 70, 4], 3.0).transpose(2, 3).unwrap();
                for x in [numbers(&[2, 20, 70], 3.0), turned, deep, numbers(&[3, 70], 3.0)] {
                    let due = plain.forward(&x).unwrap();
                    let near = |found: &Tensor, due: &Tensor| {
                        errors("packed", found, due).within(bound, 100.0 * bound)
                    };
                    assert!(near(&packed.forward(&x).unwrap(), &due));
                    let shortcut = numbers(due.dims(), 4.0);
                    let found = packed.forward_with_shortcut(&x, &shortcut).unwrap();
                    assert!(near(&found, &(due + &shortcut).unwrap()));
                    assert!(!near(&found, &packed.forward(&x).unwrap()));
                }
                // f16 goes through f32 and is rounded once more.
                let x = numbers(&[3, 70], 3.0).to_dtype(DType::F16).unwrap();
                let (found, due) = (packed.forward(&x).unwrap(), plain.forward(&x).unwrap());
                assert!(errors("f16", &found, &due).within(bound + 1e-3, 0.1));
                assert_eq!(found.dtype(), DType::F16);
                assert!(packed.forward(&numbers(&[3, 71], 1.0)).is_err());
                assert!(packed.forward_with_shortcut(&numbers(&[3, 70], 1.0), &x).is_err());
            }
        }
    }
}
