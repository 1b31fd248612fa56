//! In: a feature map and filters on an NVIDIA GPU. Out: their convolution by cuDNN, with sums in f32 whatever the
//! number format. candle's own call has cuDNN sum f16 in f16, over up to 11,520 products, lets it round f32 to
//! TF32, and asks for the algorithm anew and for a cleared workspace at every call. Built with the feature
//! `cudnn` alone. Never run on a GPU, for none was at hand; run on a stand-in for one (docs/gpu.md).
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::cudnn::safe::{ConvForward, Cudnn, CudnnDataType};
use candle_core::cuda_backend::cudarc::cudnn::sys::{
    cudnnConvolutionFwdAlgo_t as Algorithm, cudnnConvolutionMode_t as Mode,
    cudnnMathType_t as Math, cudnnTensorFormat_t as Format,
};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DeviceRepr};
use candle_core::cuda_backend::{CudaDType, DeviceId};
use candle_core::{
    CpuStorage, CudaDevice, CudaStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, WithDType,
};

/// Whether [`conv2d`] can take these.
pub(crate) fn applies(x: &Tensor, weight: &Tensor) -> bool {
    let known = matches!(x.dtype(), DType::F16 | DType::BF16 | DType::F32);
    x.device().is_cuda() && weight.device().is_cuda() && known && x.dtype() == weight.dtype()
}

/// How a convolution is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ConvSettings {
    /// Pixels from one place of the filters to the next.
    pub(crate) stride: usize,
    /// Zeros around the map.
    pub(crate) padding: usize,
    /// Whether map, filters and result are channels last.
    pub(crate) channels_last: bool,
    /// Whether factors in f32 may be rounded to TF32.
    pub(crate) tf32: bool,
}

/// `x` [b, ci, h, w] convolved with `weight` [co, ci, side, side]; channels last, [b, h, w, ci] with
/// [co, side, side, ci].
pub(crate) fn conv2d(x: &Tensor, weight: &Tensor, setting: ConvSettings) -> Result<Tensor> {
    x.contiguous()?.apply_op2_no_bwd(&weight.contiguous()?, &Convolution(setting))
}

struct Convolution(ConvSettings);

/// Everything that cuDNN's choice depends on: number format, map, filters, and how they meet.
type Case = (DType, [i32; 4], [i32; 4], ConvSettings);

/// The sizes of a map or of filters, in cuDNN's order whatever theirs is: [b, c, h, w].
fn sizes(layout: &Layout, channels_last: bool) -> Result<[usize; 4]> {
    let (first, second, third, fourth) = layout.shape().dims4()?;
    Ok(match channels_last {
        true => [first, fourth, second, third],
        false => [first, second, third, fourth],
    })
}

#[derive(Debug, Clone, Copy)]
struct Chosen {
    algorithm: Algorithm,
    workspace: usize,
}

struct Library {
    cudnn: Arc<Cudnn>,
    /// What cuDNN chose for each case, or why it would not do it.
    chosen: HashMap<Case, std::result::Result<Chosen, String>>,
}

thread_local! {
    /// cuDNN's handles may not go from thread to thread.
    static LIBRARIES: RefCell<HashMap<DeviceId, Library>> = RefCell::default();
}

impl CustomOp2 for Convolution {
    fn name(&self) -> &'static str {
        "cudnn-conv2d"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        candle_core::bail!("cuDNN convolves on GPUs alone")
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        weight: &CudaStorage,
        weight_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        use candle_core::backend::BackendStorage;
        let (input, filter) = ((x, x_layout), (weight, weight_layout));
        match x.dtype() {
            DType::F16 => self.run::<half::f16>(input, filter),
            DType::BF16 => self.run::<half::bf16>(input, filter),
            DType::F32 => self.run::<f32>(input, filter),
            other => candle_core::bail!("cuDNN is not asked to convolve {other:?}"),
        }
    }
}

impl Convolution {
    fn run<T: CudaDType + CudnnDataType + DeviceRepr + WithDType>(
        &self,
        (x, x_layout): (&CudaStorage, &Layout),
        (weight, weight_layout): (&CudaStorage, &Layout),
    ) -> Result<(CudaStorage, Shape)> {
        let device = x.device.clone();
        let ConvSettings { stride, padding, channels_last, tf32 } = self.0;
        let [rows, channels, height, width] = sizes(x_layout, channels_last)?;
        let [outputs, inputs, side, _] = sizes(weight_layout, channels_last)?;
        if inputs != channels || height + 2 * padding < side || width + 2 * padding < side {
            let (map, filters) = (x_layout.shape(), weight_layout.shape());
            candle_core::bail!("filters {filters:?} do not fit the map {map:?}")
        }
        let out = |length: usize| (length + 2 * padding - side) / stride + 1;
        let (out_height, out_width) = (out(height), out(width));
        let result_sizes = [rows, outputs, out_height, out_width];
        let (shape, format) = match channels_last {
            true => ([rows, out_height, out_width, outputs], Format::CUDNN_TENSOR_NHWC),
            false => (result_sizes, Format::CUDNN_TENSOR_NCHW),
        };
        let case = (
            T::DTYPE,
            ints([rows, channels, height, width])?,
            ints([outputs, inputs, side, side])?,
            self.0,
        );
        // SAFETY: the convolution writes every element.
        let mut result = unsafe { device.alloc::<T>(shape.iter().product())? };
        let source = x.as_cuda_slice::<T>()?.slice(x_layout.start_offset()..);
        let filters = weight.as_cuda_slice::<T>()?.slice(weight_layout.start_offset()..);
        LIBRARIES.with_borrow_mut(|libraries| {
            let library = library(libraries, &device)?;
            let cudnn = library.cudnn.clone();
            let (_, map, filter, _) = case;
            let [stride, padding] = ints([stride, padding])?;
            let mut conv = cudnn
                .create_conv2d::<f32>(
                    [padding; 2],
                    [stride; 2],
                    [1; 2],
                    Mode::CUDNN_CROSS_CORRELATION,
                )
                .map_err(candle_core::Error::wrap)?;
            let math = match T::DTYPE {
                // Without TF32 unless it is allowed: who asks for f32 gets it.
                DType::F32 if tf32 => Math::CUDNN_DEFAULT_MATH,
                DType::F32 => Math::CUDNN_FMA_MATH,
                _ => Math::CUDNN_TENSOR_OP_MATH,
            };
            conv.set_math_type(math).map_err(candle_core::Error::wrap)?;
            let tensor = |dims: [i32; 4]| {
                cudnn.create_4d_tensor::<T>(format, dims).map_err(candle_core::Error::wrap)
            };
            let described = (tensor(map)?, tensor(ints(result_sizes)?)?);
            let w =
                cudnn.create_4d_filter::<T>(format, filter).map_err(candle_core::Error::wrap)?;
            let call = ConvForward { conv: &conv, x: &described.0, w: &w, y: &described.1 };
            let chosen = match library.chosen.get(&case) {
                Some(chosen) => chosen.clone(),
                None => {
                    let chosen = call.pick_algorithm().and_then(|algorithm| {
                        let workspace = call.get_workspace_size(algorithm)?;
                        Ok(Chosen { algorithm, workspace })
                    });
                    let chosen = chosen.map_err(|error| format!("cuDNN: {error:?}"));
                    library.chosen.insert(case, chosen.clone());
                    chosen
                }
            };
            let chosen = chosen.map_err(candle_core::Error::msg)?;
            // CUDA gives no memory of 0 bytes.
            let mut workspace = match chosen.workspace {
                0 => None,
                // SAFETY: cuDNN asks nothing of its workspace's content.
                bytes => Some(unsafe { device.alloc::<u8>(bytes)? }),
            };
            // SAFETY: the descriptors above describe these very tensors, which are contiguous.
            unsafe {
                call.launch::<CudaSlice<u8>, _, _, _>(
                    chosen.algorithm,
                    workspace.as_mut(),
                    (T::from_f64(1.0), T::from_f64(0.0)),
                    &source,
                    &filters,
                    &mut result,
                )
            }
            .map_err(candle_core::Error::wrap)
        })?;
        Ok((CudaStorage::wrap_cuda_slice(result, device), Shape::from(shape.to_vec())))
    }
}

fn library<'l>(
    libraries: &'l mut HashMap<DeviceId, Library>,
    device: &CudaDevice,
) -> Result<&'l mut Library> {
    use std::collections::hash_map::Entry;
    match libraries.entry(device.id()) {
        Entry::Occupied(found) => Ok(found.into_mut()),
        Entry::Vacant(empty) => match Cudnn::new(device.cuda_stream()) {
            Ok(cudnn) => Ok(empty.insert(Library { cudnn, chosen: HashMap::new() })),
            Err(error) => candle_core::bail!(
                "cuDNN cannot be had: {error:?} (is libcudnn.so.9 where LD_LIBRARY_PATH says? a build with the \
                 feature `cuda` alone does without it)"
            ),
        },
    }
}

fn ints<const N: usize>(sizes: [usize; N]) -> Result<[i32; N]> {
    let mut found = [0; N];
    for (found, size) in found.iter_mut().zip(sizes) {
        *found = i32::try_from(size).map_err(candle_core::Error::wrap)?;
    }
    Ok(found)
}
