//! In: tensors on an NVIDIA GPU, in f16, bf16 or f32. Out: what candle has no fused kernel for there, each
//! in one or two launches with sums in f32: attention without score matrices, group, layer and RMS norm,
//! GEGLU, and the additions that follow a product or a convolution. The layers ask [`apply`] whether a
//! tensor belongs here; what a kernel cannot take, it hands back as `None`, and candle's operations do it.
//!
//! The kernels are CUDA C (`kernels/`), which the build turns into PTX where the feature `cuda` is on.
//! Everything that decides how one is launched is plain arithmetic over shapes, compiled and tested in
//! every build; only `driver.rs` and `linear.rs` talk to a device. docs/gpu-kernels.md has what was and was not checked.

mod attention;
#[cfg(feature = "cudnn")]
pub(crate) mod cudnn_conv2d;
#[cfg(feature = "cuda")]
mod driver;
#[cfg(not(feature = "cuda"))]
#[path = "cuda/no_driver.rs"]
mod driver;
mod group_norm_last;
mod launch;
#[cfg(feature = "cuda")]
mod linear;
mod norms;
mod numbers;
mod pointwise;

use candle_core::{DType, Device, Tensor};

pub(crate) use self::attention::attention;
#[cfg(not(feature = "cuda"))]
pub(crate) use self::driver::linear;
pub(crate) use self::driver::{keep_uploads, open};
pub(crate) use self::group_norm_last::group_norm_last;
#[cfg(feature = "cuda")]
pub(crate) use self::linear::linear;
pub(crate) use self::norms::{GroupNormWeights, group_norm, layer_norm, rms_norm};
pub(crate) use self::pointwise::{
    ActivationKind, Channels, PendingBias, concat_rows, curve, enlarge, finish, geglu, transpose,
};

/// Whether all of `tensors` are on one GPU, in one number format that the kernels know.
pub(crate) fn apply(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|tensor| {
        let known = matches!(tensor.dtype(), DType::F16 | DType::BF16 | DType::F32);
        matches!(tensor.device(), Device::Cuda(_)) && known && tensor.dtype() == tensors[0].dtype()
    })
}
