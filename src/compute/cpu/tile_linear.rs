//! In: a linear layer's weights. Out: the layer with its weights packed for the matrix tiles, and its results in f32.

use candle_core::{DType, Device, Result, Tensor};

use super::Values;
use super::matmul::Operand;
use super::packed::{Added, multiply};
use super::packing::{PackedWeights, Packing};
use super::tiles::TileKernel;

/// A linear layer whose weights stand packed alone.
#[derive(Debug)]
pub(crate) struct TileLinear {
    kernel: TileKernel,
    weights: PackedWeights,
    bias: Option<Tensor>,
}

impl TileLinear {
    /// Packs `weight` [output, input], in the processor's memory and in any format of floats, and keeps `bias` [output]
    /// in f32.
    ///
    /// # Errors
    /// The weights are elsewhere or no floats.
    pub(crate) fn pack(weight: &Tensor, bias: Option<&Tensor>, packing: Packing) -> Result<Self> {
        let (output, input) = weight.dims2()?;
        let Packing { kernel, parts } = packing;
        let weight = weight.to_dtype(DType::F32)?.contiguous()?;
        let values = Values::of(&weight)?;
        let weights = PackedWeights::pack(values.slice()?, output, input, parts);
        let bias = bias.map(|bias| bias.to_dtype(DType::F32)?.contiguous()).transpose()?;
        Ok(Self { kernel, weights, bias })
    }

    /// Numbers of a row of the result.
    pub(crate) fn output(&self) -> usize {
        self.weights.outputs()
    }

    /// `x @ weight^T + bias + shortcut` for `x` [..., input] in f32: [..., output]. A three-dimensional `x` may be a
    /// transposed view.
    ///
    /// # Errors
    /// Shapes that do not fit the weights.
    pub(crate) fn forward(&self, x: &Tensor, shortcut: Option<&Tensor>) -> Result<Tensor> {
        let (output, input) = (self.weights.outputs(), self.weights.inner());
        let mut shape = x.dims().to_vec();
        match shape.last_mut() {
            Some(width) if *width == input => *width = output,
            _ => candle_core::bail!("rows {:?} do not fit weights [{output}, {input}]", x.dims()),
        }
        // (entries, rows, strides of entries, rows and columns)
        let (entries, rows, strides) = match (x.is_contiguous(), x.stride()) {
            (false, &[entry, row, column]) => (x.dim(0)?, x.dim(1)?, [entry, row, column]),
            (true, _) => (1, x.elem_count() / input.max(1), [0, input, 1]),
            _ => return self.forward(&x.contiguous()?, shortcut),
        };
        let values = Values::strided(x);
        let values = values.slice()?;
        let bias = self.bias.as_ref().map(Values::of).transpose()?;
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
