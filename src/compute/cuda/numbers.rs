//! In: a tensor on a GPU. Out: what the kernels must know of its number format and its place in memory.

use candle_core::{DType, Result, Tensor};

/// Numbers of `tensor` that 16 bytes hold.
pub(crate) fn wide(tensor: &Tensor) -> usize {
    16 / tensor.dtype().size_in_bytes()
}

/// Whether the tensor's first number lies at a multiple of 16 bytes: every allocation begins at one.
pub(crate) fn begins_wide(tensor: &Tensor) -> bool {
    tensor.layout().start_offset().is_multiple_of(wide(tensor))
}

/// How the kernels' names end for the tensor's number format.
pub(crate) fn suffix(tensor: &Tensor) -> Result<&'static str> {
    match tensor.dtype() {
        DType::F16 => Ok("f16"),
        DType::BF16 => Ok("bf16"),
        DType::F32 => Ok("f32"),
        other => candle_core::bail!("no kernel computes in {other:?}"),
    }
}

/// `tensor` contiguous and in f32.
pub(crate) fn exact(tensor: &Tensor) -> Result<Tensor> {
    tensor.to_dtype(DType::F32)?.contiguous()
}
