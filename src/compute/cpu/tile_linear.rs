//! In: a linear layer's weights, and rows. Out: the weights packed for the matrix tiles, and the layer's result in f32.

use candle_core::{DType, Device, Result, Tensor};

use super::Values;
use super::linear::{result_shape, rows_of};
use super::matmul::Operand;
use super::tile_packing::{Packing, TileMatrix};
use super::tile_product::{Added, multiply};
use super::tiles::TileKernel;

/// A linear layer's weights [output, input], packed alone.
#[derive(Debug)]
pub(crate) struct TileWeights {
    kernel: TileKernel,
    weights: TileMatrix,
}

impl TileWeights {
    /// Packs `weight` [output, input], in the processor's memory and in any format of floats.
    ///
    /// # Errors
    /// The weights are elsewhere or no floats.
    pub(crate) fn pack(weight: &Tensor, packing: Packing) -> Result<Self> {
        let (output, input) = weight.dims2()?;
        let Packing { kernel, parts } = packing;
        let weight = weight.to_dtype(DType::F32)?.contiguous()?;
        let values = Values::of(&weight)?;
        let weights = TileMatrix::pack(values.slice()?, output, input, parts);
        Ok(Self { kernel, weights })
    }

    /// How they are packed.
    pub(crate) fn packing(&self) -> Packing {
        Packing { kernel: self.kernel, parts: self.weights.parts() }
    }

    /// Output and input width.
    pub(crate) fn dims(&self) -> [usize; 2] {
        [self.weights.outputs(), self.weights.inner()]
    }

    /// `x @ weight^T + bias + shortcut` for `x` [..., input] in f32: [..., output]. A three-dimensional `x` may be a
    /// transposed view.
    ///
    /// # Errors
    /// Shapes that do not fit the weights.
    pub(crate) fn linear(
        &self,
        x: &Tensor,
        bias: Option<&Tensor>,
        shortcut: Option<&Tensor>,
    ) -> Result<Tensor> {
        let [output, input] = self.dims();
        let shape = result_shape(x, output, input)?;
        let Some((entries, rows, strides)) = rows_of(x, input)? else {
            return self.linear(&x.contiguous()?, bias, shortcut);
        };
        let values = Values::strided(x);
        let values = values.slice()?;
        let bias = bias.map(Values::of).transpose()?;
        let bias = bias.as_ref().map(Values::slice).transpose()?.unwrap_or_default();
        let shortcut = shortcut.map(Values::of).transpose()?;
        let shortcut = shortcut.as_ref().map(Values::slice).transpose()?.unwrap_or_default();
        let mut result = vec![0.0; entries * rows * output];
        if !(bias.is_empty() || bias.len() == output)
            || !(shortcut.is_empty() || shortcut.len() == result.len())
        {
            candle_core::bail!("bias or shortcut do not fit a result {shape:?}")
        }
        for (entry, result) in result.chunks_mut((rows * output).max(1)).enumerate() {
            let left = Operand {
                values: values.get(entry * strides[0]..).unwrap_or_default(),
                row_stride: strides[1],
                column_stride: strides[2],
            };
            let shortcut = shortcut.get(entry * rows * output..).unwrap_or_default();
            let shortcut = shortcut.get(..result.len()).unwrap_or_default();
            multiply(self.kernel, left, rows, &self.weights, Added { bias, shortcut }, result);
        }
        Tensor::from_vec(result, shape, &Device::Cpu)
    }
}
