//! In: rows, a linear layer's weights and what is added to its result, on a GPU. Out: their product by cuBLASLt, which
//! adds bias and shortcut to its sums in f32 before it rounds them: no pass over the result, no launch. cuBLASLt is
//! asked once for each shape which of its kernels to take; what it refuses, the layers do in two steps.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::mem::ManuallyDrop;

use candle_core::cuda_backend::cudarc::cublaslt::result::{self, CublasError};
use candle_core::cuda_backend::cudarc::cublaslt::sys::{
    cublasComputeType_t as Compute, cublasLtEpilogue_t as Epilogue, cublasLtHandle_t as Handle,
    cublasLtMatmulAlgo_t as Algorithm, cublasLtMatmulDesc_t as Description,
    cublasLtMatmulDescAttributes_t as Attribute, cublasLtMatmulPreferenceAttributes_t as Wish,
    cublasLtMatrixLayout_t as MatrixLayout, cublasStatus_t as Status, cudaDataType as DataType,
};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtrMut};
use candle_core::cuda_backend::{DeviceId, WrapErr};
use candle_core::{CudaDevice, DType, Device, Result, Tensor};

use super::driver::written;
use super::launch::Output;

/// Bytes that a kernel may have to work in: what NVIDIA recommends for Hopper.
const WORKSPACE: usize = 32 << 20;
/// What cuBLASLt takes for granted of every address unless it is told otherwise.
const USUAL_ALIGNMENT: u32 = 256;

/// Everything that the choice of a kernel depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Case {
    dtype: DType,
    rows: usize,
    inner: usize,
    width: usize,
    bias: bool,
    shortcut: bool,
    /// The largest power of two that divides all addresses, up to [`USUAL_ALIGNMENT`].
    alignment: u32,
}

/// A product as cuBLASLt knows it: [width, rows] = weight [inner, width], turned, by x [inner, rows], column by
/// column, which is our [rows, width] row by row.
struct Plan {
    description: Description,
    weight: MatrixLayout,
    x: MatrixLayout,
    result: MatrixLayout,
    algorithm: Algorithm,
    workspace: usize,
}

/// Kept until the program ends: a thread may end after its device.
struct Library {
    handle: Handle,
    /// `None` where cuBLASLt has no kernel.
    plans: HashMap<Case, Option<Plan>>,
    /// For all products of the thread, which follow one another in the device's stream; as large as any asked for.
    workspace: Option<ManuallyDrop<CudaSlice<u8>>>,
}

thread_local! {
    /// Descriptions are changed before a call, so that threads may not share them.
    static LIBRARIES: RefCell<HashMap<DeviceId, Library>> = RefCell::default();
}

/// `x` [..., inner] times `weight` [width, inner], turned, plus `bias` [width] and `shortcut` [..., width]; all of one
/// format, `x`, `weight` and `shortcut` contiguous. `None` where cuBLASLt cannot take them.
pub(crate) fn linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    shortcut: Option<&Tensor>,
) -> Result<Option<Tensor>> {
    let Device::Cuda(gpu) = x.device() else {
        candle_core::bail!("cuBLASLt multiplies on GPUs alone")
    };
    let (width, inner) = weight.dims2()?;
    let mut shape = x.dims().to_vec();
    match shape.last_mut() {
        Some(last) if *last == inner => *last = width,
        _ => candle_core::bail!("rows {:?} do not fit weights {:?}", x.dims(), weight.dims()),
    }
    if let Some(bias) = bias.filter(|bias| bias.dims() != [width]) {
        candle_core::bail!("a bias {:?} does not fit weights {:?}", bias.dims(), weight.dims())
    }
    if let Some(shortcut) = shortcut.filter(|shortcut| shortcut.dims() != shape) {
        candle_core::bail!("a shortcut {:?} is added to {shape:?}", shortcut.dims())
    }
    let operands = [Some(x), Some(weight), bias, shortcut];
    let contiguous = operands.iter().flatten().all(|tensor| tensor.is_contiguous());
    if x.elem_count() == 0 || width == 0 || !contiguous {
        return Ok(None);
    }
    let stream = gpu.cuda_stream();
    stream.context().bind_to_thread().w()?;
    let output = Output { shape, dtype: x.dtype() };
    written(gpu, output, &operands, |to, addresses| {
        let case = Case {
            dtype: x.dtype(),
            rows: x.elem_count() / inner,
            inner,
            width,
            bias: bias.is_some(),
            shortcut: shortcut.is_some(),
            alignment: alignment(addresses.iter().copied().chain([to])),
        };
        LIBRARIES.with_borrow_mut(|libraries| {
            let Some(library) = library(libraries, gpu) else { return Ok(false) };
            let Library { handle, plans, workspace } = library;
            let plan = plans.entry(case).or_insert_with(|| {
                // SAFETY: the handle lives as long as the thread.
                unsafe { Plan::make(*handle, case) }.ok()
            });
            let Some(plan) = plan else { return Ok(false) };
            let room = address_in(workspace, plan.workspace, gpu)?;
            // SAFETY: the plan was made for tensors of these sizes and this alignment, whose storages are held until
            // the call is queued; the workspace is this thread's, and its products wait for one another.
            unsafe { plan.run(*handle, addresses, to, room, stream.cu_stream().cast()) }
                .map_err(candle_core::Error::wrap)?;
            Ok(true)
        })
    })
}

/// The address of `bytes` bytes to work in, for which `kept` grows; 0 for none.
fn address_in(
    kept: &mut Option<ManuallyDrop<CudaSlice<u8>>>,
    bytes: usize,
    gpu: &CudaDevice,
) -> Result<u64> {
    if bytes == 0 {
        return Ok(0);
    }
    if let Some(small) = kept.take_if(|slice| slice.len() < bytes) {
        // It goes back in the order of the stream, after what still works in it.
        drop(ManuallyDrop::into_inner(small));
    }
    let slice = match kept {
        Some(slice) => slice,
        // SAFETY: cuBLASLt asks nothing of its workspace's content.
        None => kept.insert(ManuallyDrop::new(unsafe { gpu.alloc::<u8>(bytes)? })),
    };
    let stream = slice.stream().clone();
    let (address, _guard) = slice.device_ptr_mut(&stream);
    Ok(address)
}

/// That of all addresses which are not zero.
fn alignment(addresses: impl Iterator<Item = u64>) -> u32 {
    let all = addresses.fold(u64::from(USUAL_ALIGNMENT), |all, address| all | address);
    1 << all.trailing_zeros()
}

fn library<'l>(
    libraries: &'l mut HashMap<DeviceId, Library>,
    gpu: &CudaDevice,
) -> Option<&'l mut Library> {
    use std::collections::hash_map::Entry;
    match libraries.entry(gpu.id()) {
        Entry::Occupied(found) => Some(found.into_mut()),
        Entry::Vacant(empty) => {
            let handle = result::create_handle().ok()?;
            Some(empty.insert(Library { handle, plans: HashMap::new(), workspace: None }))
        }
    }
}

impl Plan {
    /// # Safety
    /// `handle` lives, and its context is bound to this thread.
    unsafe fn make(handle: Handle, case: Case) -> std::result::Result<Self, CublasError> {
        let Case { rows, inner, width, .. } = case;
        let format = match case.dtype {
            DType::F16 => DataType::CUDA_R_16F,
            DType::BF16 => DataType::CUDA_R_16BF,
            _ => DataType::CUDA_R_32F,
        };
        let layout = |rows: usize, columns: usize| {
            result::create_matrix_layout(format, rows as u64, columns as u64, rows as i64)
        };
        let turned = 1_i32;
        let epilogue = match case.bias {
            true => Epilogue::CUBLASLT_EPILOGUE_BIAS,
            false => Epilogue::CUBLASLT_EPILOGUE_DEFAULT,
        } as u32;
        // What was made before an error stays: some bytes for a shape that is never asked for again.
        let description =
            result::create_matmul_desc(Compute::CUBLAS_COMPUTE_32F, DataType::CUDA_R_32F)?;
        // SAFETY: each attribute gets a number of its own size, which is copied.
        unsafe {
            set(description, Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &turned)?;
            set(description, Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue)?;
            if case.bias {
                // No address, but an example of one: the choice is for biases that lie like this.
                let example = u64::from(case.alignment);
                set(description, Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &example)?;
            }
        }
        let (weight, x) = (layout(inner, width)?, layout(inner, rows)?);
        let result = layout(width, rows)?;
        let wishes = result::create_matmul_pref()?;
        let alignments = [
            Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
            Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
            Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
            Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
        ];
        // SAFETY: as above; nothing of it is freed before the call.
        let found = unsafe {
            let most = Wish::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
            let room = WORKSPACE;
            let (room, bytes) = ((&raw const room).cast(), size_of::<usize>());
            result::set_matmul_pref_attribute(wishes, most, room, bytes)?;
            for wish in alignments {
                let bytes = (&raw const case.alignment).cast();
                result::set_matmul_pref_attribute(wishes, wish, bytes, size_of::<u32>())?;
            }
            let (c, d) = (result, result);
            let found =
                result::get_matmul_algo_heuristic(handle, description, weight, x, c, d, wishes);
            result::destroy_matmul_pref(wishes)?;
            found?
        };
        let (algorithm, workspace) = (found.algo, found.workspaceSize);
        Ok(Self { description, weight, x, result, algorithm, workspace })
    }

    /// `addresses`: x, weight, bias, shortcut; zero for the last two where they are missing.
    ///
    /// # Safety
    /// They hold tensors of the plan's case; nothing else writes there until the stream is done.
    unsafe fn run(
        &self,
        handle: Handle,
        addresses: &[u64],
        to: u64,
        workspace: u64,
        stream: candle_core::cuda_backend::cudarc::cublaslt::sys::cudaStream_t,
    ) -> std::result::Result<(), CublasError> {
        let &[x, weight, bias, shortcut] = addresses else {
            return Err(CublasError(Status::CUBLAS_STATUS_INVALID_VALUE));
        };
        let pointer = |address: u64| address as *mut c_void;
        let (alpha, beta) = (1.0_f32, if shortcut == 0 { 0.0_f32 } else { 1.0 });
        let from = if shortcut == 0 { to } else { shortcut };
        // SAFETY: the caller's promise; alpha and beta are read before the call returns.
        unsafe {
            if bias != 0 {
                set(self.description, Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)?;
            }
            result::matmul(
                handle,
                self.description,
                (&raw const alpha).cast(),
                (&raw const beta).cast(),
                pointer(weight),
                self.weight,
                pointer(x),
                self.x,
                pointer(from),
                self.result,
                pointer(to),
                self.result,
                &raw const self.algorithm,
                pointer(workspace),
                self.workspace,
                stream,
            )
        }
    }
}

/// # Safety
/// `T` is what the attribute is.
unsafe fn set<T>(
    description: Description,
    attribute: Attribute,
    value: &T,
) -> std::result::Result<(), CublasError> {
    let from = std::ptr::from_ref(value).cast();
    // SAFETY: the caller's promise.
    unsafe { result::set_matmul_desc_attribute(description, attribute, from, size_of::<T>()) }
}
