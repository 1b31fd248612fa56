//! In: activations. Out: products with a weight matrix.

use candle_core::{DType, Module, Result, Tensor};

use crate::checkpoint::model_error::ModelError;
use crate::checkpoint::weights::Scope;
use crate::compute::cpu::packed_linear::PackedWeights;
use crate::compute::cpu::tile_linear::TileWeights;
use crate::compute::cpu::{half_linear, linear};
use crate::compute::products::Packing;
use crate::compute::{cpu, products};

/// `x @ weight^T + bias` over the last dimension.
#[derive(Debug)]
pub(crate) struct Linear {
    weights: LinearWeights,
    bias: Option<Tensor>,
}

#[derive(Debug)]
enum LinearWeights {
    /// [out, in].
    Plain(Tensor),
    /// For the processor in f32.
    Packed(PackedWeights),
    /// For the processor's matrix tiles, see [`products`].
    Tiles(TileWeights),
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
        Self::loaded(weight, Some(bias))
    }

    /// `weight` [out, in] that is at hand already, alone.
    pub(crate) fn without_bias(weight: Tensor) -> Self {
        Self::loaded(weight, None)
    }

    /// A layer of a network that is being loaded, packed where its products are to be rounded, and where that pays for many rows too.
    fn loaded(weight: Tensor, bias: Option<Tensor>) -> Self {
        let layer = Self::shared(weight, bias);
        if PackedWeights::pay_for_many_rows() { layer.for_few_rows() } else { layer }
    }

    /// Of a `weight` that is held elsewhere too: packed only where its products are to be rounded.
    pub(crate) fn shared(weight: Tensor, bias: Option<Tensor>) -> Self {
        // Refuses nothing but tensors that the layer itself could not use either.
        let packed = products::packing()
            .and_then(|packing| Self::for_tiles(&weight, bias.as_ref(), packing).ok());
        packed.unwrap_or_else(|| Self::of(weight, bias))
    }

    fn for_tiles(weight: &Tensor, bias: Option<&Tensor>, packing: Packing) -> Result<Self> {
        let weights = LinearWeights::Tiles(TileWeights::pack(weight, packing)?);
        let bias = bias.map(|bias| bias.to_dtype(DType::F32)?.contiguous()).transpose()?;
        Ok(Self { weights, bias })
    }

    /// `weight` [out, in] and perhaps `bias` [out], as they are.
    pub(crate) fn of(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weights: LinearWeights::Plain(weight), bias }
    }

    /// The layer of a network that sees few rows at a time, some hundred at most, as text has: in f32 on the processor its
    /// weights are packed for them ([`PackedWeights`]), in place of the tensor.
    #[must_use]
    pub(crate) fn for_few_rows(self) -> Self {
        let packed = self.tensor().and_then(PackedWeights::of).map(LinearWeights::Packed);
        Self { weights: packed.unwrap_or(self.weights), bias: self.bias }
    }

    /// Weights [out, in], where they are not packed.
    pub(crate) fn tensor(&self) -> Option<&Tensor> {
        match &self.weights {
            LinearWeights::Plain(weight) => Some(weight),
            LinearWeights::Packed(_) | LinearWeights::Tiles(_) => None,
        }
    }

    /// The same, where only a GPU's layers come.
    pub(crate) fn weight(&self) -> Result<&Tensor> {
        match &self.weights {
            LinearWeights::Plain(weight) => Ok(weight),
            LinearWeights::Packed(_) | LinearWeights::Tiles(_) => {
                candle_core::bail!(
                    "weights of {} rows are packed for the processor",
                    self.output_width()
                )
            }
        }
    }

    pub(crate) fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// Numbers of a row of the result.
    pub(crate) fn output_width(&self) -> usize {
        match &self.weights {
            LinearWeights::Plain(weight) => weight.dims()[0],
            LinearWeights::Packed(packed) => packed.dims()[0],
            LinearWeights::Tiles(packed) => packed.dims()[0],
        }
    }

    /// How its weights are packed, where its products are rounded on the processor: attention beside it multiplies alike.
    pub(crate) fn packing(&self) -> Option<Packing> {
        match &self.weights {
            LinearWeights::Tiles(packed) => Some(packed.packing()),
            LinearWeights::Plain(_) | LinearWeights::Packed(_) => None,
        }
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
}

/// What loading a layer gives.
pub(crate) type LoadResult<T> = std::result::Result<T, ModelError>;

impl Linear {
    /// The layer's result with `shortcut`, of the result's shape, added.
    pub(crate) fn forward_with_shortcut(&self, x: &Tensor, shortcut: &Tensor) -> Result<Tensor> {
        if cpu::apply(&[shortcut])
            && let Some(done) = self.on_processor(x, Some(&shortcut.contiguous()?))?
        {
            return Ok(done);
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

    /// The layer's result with `shortcut` added, for `x` in f32 in the processor's memory.
    fn on_processor(&self, x: &Tensor, shortcut: Option<&Tensor>) -> Result<Option<Tensor>> {
        let bias = self.bias();
        match &self.weights {
            LinearWeights::Packed(packed) if cpu::apply(&[x]) => {
                packed.linear(x, bias, shortcut).map(Some)
            }
            LinearWeights::Tiles(packed) if cpu::apply(&[x]) => {
                packed.linear(x, bias, shortcut).map(Some)
            }
            LinearWeights::Plain(weight) if cpu::apply(&[x, weight]) => {
                linear::linear(x, weight, bias, shortcut).map(Some)
            }
            LinearWeights::Plain(weight) if half_linear::applies(x, weight) => {
                half_linear::linear(x, weight, bias, shortcut).map(Some)
            }
            _ => Ok(None),
        }
    }
}

impl Module for Linear {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if let Some(done) = self.on_processor(x, None)? {
            return Ok(done);
        }
        if cpu::is_half(x) {
            return cpu::through_f32(x, |x| self.forward(x));
        }
        if let Some(done) = self.on_gpu(x, None)? {
            return Ok(done);
        }
        candle_nn::Linear::new(self.weight()?.clone(), self.bias.clone()).forward(&x.contiguous()?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::compute::golden::errors;
    use crate::compute::products::Products;

    #[test]
    fn a_layer_for_few_rows_gives_what_the_plain_one_gives() {
        let numbers = |shape: &[usize], seed: f32| {
            let count = shape.iter().product();
            let values: Vec<f32> = (0..count).map(|i| (seed + i as f32 * 0.7).sin()).collect();
            Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
        };
        let (weight, bias) = (numbers(&[520, 512], 1.0), numbers(&[520], 2.0));
        let plain = Linear::of(weight.clone(), Some(bias.clone()));
        assert!(plain.tensor().is_some());
        let loaded = Linear::new(weight.clone(), bias.clone());
        assert_eq!(loaded.tensor().is_none(), PackedWeights::pay_for_many_rows());
        let packed = Linear::new(weight.clone(), bias).for_few_rows();
        assert!(packed.tensor().is_none() && packed.weight().is_err());
        assert_eq!([plain.output_width(), packed.output_width()], [520, 520]);
        let (x, shortcut) = (numbers(&[2, 7, 512], 3.0), numbers(&[2, 7, 520], 4.0));
        let differs = |a: Result<Tensor>, b: Result<Tensor>| -> f32 {
            let difference = (a.unwrap() - b.unwrap()).unwrap().abs().unwrap();
            difference.max_all().unwrap().to_scalar().unwrap()
        };
        assert!(differs(packed.forward(&x), plain.forward(&x)) < 1e-4);
        let ours = packed.forward_with_shortcut(&x, &shortcut);
        assert!(differs(ours, plain.forward_with_shortcut(&x, &shortcut)) < 1e-4);
        let ours = packed.forward_with_shortcut(&x, &shortcut);
        assert!(differs(ours, plain.forward(&x)) > 0.5);
        let ours = packed.forward_then_add(&x, &shortcut);
        assert!(differs(ours, plain.forward_then_add(&x, &shortcut)) < 1e-4);
        // Rows in half precision, through f32.
        let half = x.to_dtype(DType::BF16).unwrap();
        let ours = packed.forward(&half).unwrap();
        assert_eq!(ours.dtype(), DType::BF16);
        let wide = |x: Tensor| x.to_dtype(DType::F32);
        let due = plain.forward(&half.to_dtype(DType::F32).unwrap()).unwrap();
        assert!(differs(wide(ours), wide(due.to_dtype(DType::BF16).unwrap())) < 1e-4);
        // Weights of 16 bits stay as they are stored.
        let stored = weight.to_dtype(DType::BF16).unwrap();
        assert!(Linear::without_bias(stored).for_few_rows().tensor().is_some());
    }

    #[test]
    fn layers_for_matrix_tiles_do_what_plain_ones_do() {
        let numbers = |shape: &[usize], seed: f32| {
            let count = shape.iter().product();
            // Squares, so that sums of products do not cancel.
            let number = |i: usize| (seed + (i * i % 9973) as f32 * 0.7).sin();
            let values: Vec<f32> = (0..count).map(number).collect();
            Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
        };
        let load = || {
            let weight = numbers(&[35, 70], 1.0);
            [Linear::new(weight.clone(), numbers(&[35], 2.0)), Linear::without_bias(weight)]
        };
        let plain = load();
        for (products, bound) in [(Products::Bf16x3, 1e-5), (Products::Bf16, 5e-3)] {
            let packed = products.by_the_model().while_loading(load);
            for (packed, plain) in packed.iter().zip(&plain) {
                assert!(packed.tensor().is_none() && packed.output_width() == 35);
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
