//! In: nothing that ever comes. Out: refusals: this build has no CUDA, so no tensor is on a GPU.

use std::any::Any;

use candle_core::{Device, Result, Tensor};

use super::launch::{Launch, Output, Sizes};

/// Says that there is no CUDA.
pub(crate) fn launch<S: Sizes>(
    launch: &Launch<S>,
    output: Output,
    _inputs: &[Option<&Tensor>],
) -> Result<Tensor> {
    let (function, Output { shape, dtype }) = (&launch.function, output);
    candle_core::bail!("{function}, {shape:?} in {dtype:?}: this build has no CUDA support")
}

/// No library multiplies.
pub(crate) fn linear(
    _x: &Tensor,
    _weight: &Tensor,
    _bias: Option<&Tensor>,
    _shortcut: Option<&Tensor>,
) -> Result<Option<Tensor>> {
    Ok(None)
}

/// candle's own refusal.
pub(crate) fn open(index: usize) -> Result<Device> {
    Device::new_cuda(index)
}

/// Nothing is uploaded.
pub(crate) fn keep_uploads(_device: &Device) -> Option<Box<dyn Any>> {
    None
}
