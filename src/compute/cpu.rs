//! In: f32 tensors in the processor's memory. Out: the few operations that take nearly all of a
//! network's time there, each in one pass over its data: convolution, attention, linear layers, and
//! the norms and gates around them. Other devices and gradients are left to candle; the layers ask
//! [`apply`] which of the two they are to use.
//!
//! f16 and bf16 are formats of storage here ([`through_f32`]): every operation computes in f32 and rounds
//! its result once, as a GPU's matrix units do.
//!
//! Two rules. Work is cut by shape alone, never by the number of threads, and every sum has a fixed
//! order, so the bits are the same at any number of threads. And the loops are plain Rust that the
//! compiler turns into vector code, once per instruction set, chosen at run time (`vector.rs`).

pub(crate) mod activation;
pub(crate) mod attention;
mod attention_block;
pub(crate) mod conv2d;
mod few_rows;
pub(crate) mod group_norm;
pub(crate) mod half_linear;
pub(crate) mod layer_norm;
pub(crate) mod linear;
mod lines;
mod many_rows;
mod matmul;
pub(crate) mod packed_linear;
mod panel_attention;
mod sharing;
#[cfg(test)]
mod tests;
mod tile_attention;
pub(crate) mod tile_conv2d;
pub(crate) mod tile_linear;
mod tile_map;
pub(crate) mod tile_packing;
mod tile_product;
pub(crate) mod tiles;
mod vector;

use candle_core::{CpuStorage, DType, Result, Storage, StorageRef, Tensor};

/// Whether the operations here can take all of `tensors`.
pub(crate) fn apply(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|tensor| tensor.device().is_cpu() && tensor.dtype() == DType::F32)
}

/// Whether the operations here can take `tensor` once it is widened.
pub(crate) fn is_half(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && matches!(tensor.dtype(), DType::F16 | DType::BF16)
}

/// `operation` on `x` in f32, its result rounded to the format of `x`.
pub(crate) fn through_f32(
    x: &Tensor,
    operation: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    operation(&x.to_dtype(DType::F32)?)?.to_dtype(x.dtype())
}

/// `tensor` in f32, where there is one.
pub(crate) fn widened(tensor: Option<&Tensor>) -> Result<Option<Tensor>> {
    tensor.map(|tensor| tensor.to_dtype(DType::F32)).transpose()
}

/// A contiguous tensor's numbers, borrowed for as long as this lives.
struct Values<'a> {
    storage: StorageRef<'a>,
    first: usize,
    count: usize,
}

impl<'a> Values<'a> {
    /// Of a contiguous tensor.
    fn of(tensor: &'a Tensor) -> Result<Self> {
        if !tensor.is_contiguous() {
            candle_core::bail!("a contiguous tensor is needed, not {:?}", tensor.layout())
        }
        Ok(Self::from_its_start(tensor))
    }

    /// From the tensor's first number to the end of its storage, whatever the strides.
    fn strided(tensor: &'a Tensor) -> Self {
        let mut values = Self::from_its_start(tensor);
        values.count = usize::MAX;
        values
    }

    fn from_its_start(tensor: &'a Tensor) -> Self {
        let (storage, layout) = tensor.storage_and_layout();
        Self { storage, first: layout.start_offset(), count: tensor.elem_count() }
    }

    fn slice(&self) -> Result<&[f32]> {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => {
                let values = &values[self.first..];
                Ok(&values[..self.count.min(values.len())])
            }
            _ => candle_core::bail!("f32 in the processor's memory is needed"),
        }
    }
}
