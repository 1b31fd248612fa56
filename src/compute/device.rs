//! In: the device and number format that the user named. Out: candle's, or a sentence on why not.

use candle_core::DType;
pub use candle_core::Device;

use crate::checkpoint::model_error::{DeviceFault, ModelError};

/// The device named by `text`: `auto` (the first GPU where this build knows GPUs and there is one, else
/// the processor), `cpu`, `cuda` or `cuda:N`.
///
/// # Errors
/// The name is unknown, this build has no CUDA, there is no such GPU, or it cannot be opened. `auto`
/// does not pass over a GPU that cannot be opened: a run on the processor takes a hundred times longer.
pub(crate) fn parse_device(text: &str) -> Result<Device, ModelError> {
    let refuse = |reason| ModelError::Device { text: text.into(), reason };
    let index = match text {
        "cpu" => return Ok(Device::Cpu),
        "auto" if gpus() == 0 => return Ok(Device::Cpu),
        "auto" | "cuda" => 0,
        other => match other.strip_prefix("cuda:") {
            Some(number) => number.parse().map_err(|_| refuse(DeviceFault::NoNumber))?,
            None => return Err(refuse(DeviceFault::Unknown)),
        },
    };
    if !knows_gpus() {
        return Err(refuse(DeviceFault::NoCuda));
    }
    match gpus() {
        0 => Err(refuse(DeviceFault::NoGpu)),
        count if index >= count => Err(refuse(DeviceFault::Fewer(count))),
        _ => super::cuda::open(index).map_err(|error| refuse(DeviceFault::Unopened(error.into()))),
    }
}

/// The number format named by `text`: `auto` (f32 on the processor, f16 on a GPU), `f32`, `f16`,
/// `bf16`.
///
/// # Errors
/// The name is unknown.
pub(crate) fn parse_dtype(text: &str, device: &Device) -> Result<DType, ModelError> {
    match text {
        "auto" if device.is_cpu() => Ok(DType::F32),
        "auto" | "f16" | "fp16" => Ok(DType::F16),
        "f32" | "fp32" => Ok(DType::F32),
        "bf16" => Ok(DType::BF16),
        _ => Err(ModelError::Dtype { text: text.into() }),
    }
}

/// Whether this build can use GPUs, whether or not there are any.
pub(crate) fn knows_gpus() -> bool {
    cfg!(feature = "cuda")
}

/// How many NVIDIA GPUs this build can see; none where there is no driver. candle's own question
/// (`cuda_is_available`) is only about the build.
pub(crate) fn gpus() -> usize {
    #[cfg(feature = "cuda")]
    {
        use candle_core::cuda_backend::cudarc::driver::CudaContext;
        CudaContext::device_count().map_or(0, |count| usize::try_from(count).unwrap_or(0))
    }
    #[cfg(not(feature = "cuda"))]
    0
}

/// What the maker calls the GPU, as `NVIDIA H100 80GB HBM3`.
pub(crate) fn gpu_name(device: &Device) -> Option<String> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(gpu) => gpu.cuda_stream().context().name().ok(),
        _ => None,
    }
}

/// As long as the result lives, small things that this thread uploads to `device` again and again - shapes
/// of operands, timesteps - are uploaded once, and kept for the thread's life. Of use around a loop that
/// does the same at each turn; nothing on the processor.
pub(crate) fn keep_uploads(device: &Device) -> Option<Box<dyn std::any::Any>> {
    super::cuda::keep_uploads(device)
}

/// Where networks compute, and in which number format.
#[derive(Debug, Clone)]
pub struct Place {
    /// Their device.
    pub device: Device,
    /// Their number format.
    pub dtype: DType,
}

impl Place {
    /// The place that [`parse_device`] and [`parse_dtype`] make of the two names.
    ///
    /// # Errors
    /// As these.
    pub fn parse(device: &str, dtype: &str) -> Result<Self, ModelError> {
        let device = parse_device(device)?;
        Ok(Self { dtype: parse_dtype(dtype, &device)?, device })
    }
}

/// One line on the device for the run's record: `cpu, 2 threads` or `cuda:0`.
pub(crate) fn describe_device(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => {
            format!("cpu, {} threads", candle_core::utils::get_num_threads())
        }
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_or_refused() {
        assert!(parse_device("cpu").unwrap().is_cpu());
        for (name, expected) in [("gpu", "unknown"), ("cuda:x", "no such GPU number")] {
            let message = parse_device(name).unwrap_err().to_string();
            assert!(message.contains(expected) && message.contains(name), "{message}");
        }
    }

    /// Holds for every build: what is refused is said, and `auto` does without a GPU that is not there.
    #[test]
    fn a_gpu_that_is_not_there_is_refused_in_a_sentence() {
        if gpus() > 0 {
            assert!(!parse_device("auto").unwrap().is_cpu());
        } else {
            assert!(parse_device("auto").unwrap().is_cpu());
            let due = if knows_gpus() { "no NVIDIA GPU" } else { "no CUDA support" };
            for name in ["cuda", "cuda:0", "cuda:1"] {
                let message = parse_device(name).unwrap_err().to_string();
                assert!(message.contains(due) && message.contains(name), "{message}");
            }
        }
        if knows_gpus() {
            let message = parse_device("cuda:4000").unwrap_err().to_string();
            assert!(message.contains("this machine has"), "{message}");
        }
    }

    #[test]
    fn the_automatic_format_follows_the_device() {
        let cpu = Device::Cpu;
        assert_eq!(parse_dtype("auto", &cpu).unwrap(), DType::F32);
        assert_eq!(parse_dtype("bf16", &cpu).unwrap(), DType::BF16);
        assert!(parse_dtype("int8", &cpu).unwrap_err().to_string().contains("int8"));
        assert!(describe_device(&cpu).starts_with("cpu, "));
    }
}
