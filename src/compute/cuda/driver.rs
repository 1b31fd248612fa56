//! In: a launch and the tensors that it reads. Out: the tensor that it writes. The one place that hands
//! addresses to a device; that they and the sizes are right is the business of the files beside this one.
#![allow(unsafe_code)]

use std::any::Any;
use std::ffi::c_void;

use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DeviceRepr, LaunchConfig, PushKernelArg,
    SyncOnDrop, result, sys,
};
use candle_core::cuda_backend::{CudaStorage, CudaStorageSlice, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, DType, Device, Result, Storage, Tensor};
use half::{bf16, f16};

use super::launch::{File, Launch, Output, Sizes};

/// Shared memory that a launch may bring without asking.
const USUAL_SHARED_BYTES: u32 = 48 * 1024;

macro_rules! kernels {
    ($name:literal) => {
        (concat!("dpg_bench_", $name), include_str!(concat!(env!("OUT_DIR"), "/", $name, ".ptx")))
    };
}

impl File {
    /// The module's name and its PTX, which the build made.
    fn module(self) -> Result<(&'static str, &'static str)> {
        Ok(match self {
            File::GroupNorm => kernels!("group_norm"),
            File::GroupNormLast => kernels!("group_norm_last"),
            File::RowNorm => kernels!("row_norm"),
            File::Pointwise => kernels!("pointwise"),
            File::AttentionF32 => kernels!("attention_f32"),
            File::Attention(40) => kernels!("attention_40"),
            File::Attention(64) => kernels!("attention_64"),
            File::Attention(80) => kernels!("attention_80"),
            File::Attention(128) => kernels!("attention_128"),
            File::Attention(160) => kernels!("attention_160"),
            File::Attention(512) => kernels!("attention_512"),
            File::Attention(other) => {
                candle_core::bail!("no attention kernel is made for heads of {other} numbers")
            }
        })
    }
}

/// Sizes as an argument of a kernel.
#[repr(transparent)]
struct ByValue<S>(S);

// SAFETY: `Sizes` promises plain numbers in the kernel's layout.
unsafe impl<S: Sizes> DeviceRepr for ByValue<S> {}

/// Runs `launch` on the inputs' device: the kernel gets the addresses of the result, then of the inputs
/// (zero for `None`), then the sizes.
pub(crate) fn launch<S: Sizes>(
    launch: &Launch<S>,
    output: Output,
    inputs: &[Option<&Tensor>],
) -> Result<Tensor> {
    let gpu = match inputs.iter().flatten().next().map(|tensor| tensor.device()) {
        Some(Device::Cuda(gpu)) => gpu.clone(),
        _ => candle_core::bail!("{}: the tensors are not on a GPU", launch.function),
    };
    let (module, ptx) = launch.file.module()?;
    let function = gpu.get_or_load_custom_func(&launch.function, module, ptx)?;
    if launch.shared_bytes > USUAL_SHARED_BYTES {
        let attribute =
            sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        function.set_attribute(attribute, launch.shared_bytes as i32).w()?;
    }
    let started = written(&gpu, output, inputs, |to, addresses| {
        let sizes = ByValue(launch.sizes);
        let mut builder = function.builder();
        builder.arg(&to);
        for address in addresses {
            builder.arg(address);
        }
        builder.arg(&sizes);
        let [x, y, z] = launch.grid;
        let config = LaunchConfig {
            grid_dim: (x, y, z),
            block_dim: (launch.threads, 1, 1),
            shared_mem_bytes: launch.shared_bytes,
        };
        // SAFETY: the arguments are those of the kernel, in its order; the callers' arithmetic keeps
        // every place inside the tensors, whose storages are held until the launch is queued.
        unsafe { builder.launch(config) }.w()?;
        Ok(true)
    })?;
    match started {
        Some(result) => Ok(result),
        None => candle_core::bail!("{} was not launched", launch.function),
    }
}

/// A tensor that `work` queues the writing of: it gets the addresses of the result and of the inputs, zero for
/// `None`, which stay where they are until it returns. `None` where it says that it did nothing.
pub(crate) fn written(
    gpu: &CudaDevice,
    output: Output,
    inputs: &[Option<&Tensor>],
    work: impl FnOnce(u64, &[u64]) -> Result<bool>,
) -> Result<Option<Tensor>> {
    let stream = gpu.cuda_stream();
    let mut result = allocate(gpu, &output)?;
    let is_done = {
        let held: Vec<_> =
            inputs.iter().map(|tensor| tensor.map(Tensor::storage_and_layout)).collect();
        // The guards tell the stream's events of the reads and the write once they are dropped.
        let (to, _written) = address_of_result(&mut result, &stream)?;
        let mut guards = Vec::with_capacity(inputs.len());
        let mut addresses = Vec::with_capacity(inputs.len());
        for input in &held {
            let Some((storage, layout)) = input else {
                addresses.push(0);
                continue;
            };
            let Storage::Cuda(storage) = &**storage else {
                candle_core::bail!("an input is not on the GPU")
            };
            let (start, guard) = address(&storage.slice, &stream)?;
            let bytes = layout.start_offset() * storage.slice_dtype().size_in_bytes();
            addresses.push(start + bytes as u64);
            guards.push(guard);
        }
        work(to, &addresses)?
    };
    if !is_done {
        return Ok(None);
    }
    let storage = Storage::Cuda(CudaStorage { slice: result, device: gpu.clone() });
    Ok(Some(Tensor::from_storage(storage, output.shape, BackpropOp::none(), false)))
}

trait SliceDtype {
    fn slice_dtype(&self) -> DType;
}

impl SliceDtype for CudaStorage {
    fn slice_dtype(&self) -> DType {
        use candle_core::backend::BackendStorage;
        self.dtype()
    }
}

fn allocate(gpu: &CudaDevice, output: &Output) -> Result<CudaStorageSlice> {
    let count = output.shape.iter().product();
    // SAFETY: the kernel writes every number of its result before anything reads it.
    unsafe {
        Ok(match output.dtype {
            DType::F16 => CudaStorageSlice::F16(gpu.alloc::<f16>(count)?),
            DType::BF16 => CudaStorageSlice::BF16(gpu.alloc::<bf16>(count)?),
            DType::F32 => CudaStorageSlice::F32(gpu.alloc::<f32>(count)?),
            other => candle_core::bail!("no kernel writes {other:?}"),
        })
    }
}

fn address<'a>(
    slice: &'a CudaStorageSlice,
    stream: &'a CudaStream,
) -> Result<(u64, SyncOnDrop<'a>)> {
    match slice {
        CudaStorageSlice::F16(slice) => Ok(slice.device_ptr(stream)),
        CudaStorageSlice::BF16(slice) => Ok(slice.device_ptr(stream)),
        CudaStorageSlice::F32(slice) => Ok(slice.device_ptr(stream)),
        _ => candle_core::bail!("no kernel reads this number format"),
    }
}

fn address_of_result<'a>(
    slice: &'a mut CudaStorageSlice,
    stream: &'a CudaStream,
) -> Result<(u64, SyncOnDrop<'a>)> {
    fn of<'a, T>(slice: &'a mut CudaSlice<T>, stream: &'a CudaStream) -> (u64, SyncOnDrop<'a>) {
        slice.device_ptr_mut(stream)
    }
    match slice {
        CudaStorageSlice::F16(slice) => Ok(of(slice, stream)),
        CudaStorageSlice::BF16(slice) => Ok(of(slice, stream)),
        CudaStorageSlice::F32(slice) => Ok(of(slice, stream)),
        _ => candle_core::bail!("no kernel writes this number format"),
    }
}

/// The GPU of this number, set up for networks: one stream of its own, on which every thread's work
/// follows in order, so that no tensor needs events; and freed memory stays with the program instead of
/// going back to the driver at each synchronisation.
pub(crate) fn open(index: usize) -> Result<Device> {
    let gpu = CudaDevice::new_with_stream(index)?;
    // SAFETY: tensors of this device are made and used on its one stream alone.
    unsafe { gpu.disable_event_tracking() };
    let stream = gpu.cuda_stream();
    stream.context().bind_to_thread().w()?;
    let mut kept = u64::MAX;
    // SAFETY: the context's own device, its default pool, and a 64-bit number, which is what this
    // attribute is; the driver copies it.
    unsafe {
        let pool = result::device::get_default_mem_pool(stream.context().cu_device()).w()?;
        let value = (&raw mut kept).cast::<c_void>();
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        result::mem_pool::set_attribute(pool, attribute, value).w()?;
    }
    Ok(Device::Cuda(gpu))
}

/// As long as the result lives, what this thread uploads in small pieces (shapes of operands that are not
/// contiguous, timesteps) is uploaded once and kept for the thread's life.
pub(crate) fn keep_uploads(device: &Device) -> Option<Box<dyn Any>> {
    match device {
        Device::Cuda(gpu) => Some(Box::new(gpu.enable_cuda_graph_htod_cache())),
        _ => None,
    }
}
