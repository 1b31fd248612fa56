//! In: what can be wrong with a checkpoint or a device name. Out: one sentence that says what to do.

use std::path::{Path, PathBuf};

use super::file_fault::FileFault;

/// Why a network could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A device name that means nothing here.
    #[error("device `{text}`: {reason}; use auto, cpu, cuda or cuda:N")]
    Device {
        /// What was asked for.
        text: String,
        /// Why it cannot be had.
        reason: DeviceFault,
    },
    /// A number format that means nothing here.
    #[error("dtype `{text}` is unknown; use auto, f32, f16 or bf16")]
    Dtype {
        /// What was asked for.
        text: String,
    },
    /// Rounded products where the processor does not make them.
    #[error(
        "products in {products} are made by the processor alone; use --device cpu, or products in f32"
    )]
    NoRoundedProducts {
        /// What was asked for.
        products: &'static str,
    },
    /// A file that could not be read.
    #[error("{path}: cannot be read: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A folder without usable weights, or a file whose content is not what its name says.
    #[error("{path}: {reason}", path = path.display())]
    Broken {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: Box<FileFault>,
    },
    /// A tensor that the network needs and the checkpoint lacks.
    #[error("{path}: tensor `{tensor}` is missing; is this the right component for its configuration?", path = path.display())]
    MissingTensor {
        /// The file.
        path: PathBuf,
        /// The tensor's full name.
        tensor: String,
    },
    /// A tensor of another shape than the configuration implies.
    #[error("{path}: tensor `{tensor}` has shape {found:?} where the configuration implies {expected:?}", path = path.display())]
    WrongShape {
        /// The file.
        path: PathBuf,
        /// The tensor's full name.
        tensor: String,
        /// Shape that the configuration implies.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// A configuration that asks for arithmetic which this network does not have.
    #[error("{path}: {key} = {value} is not supported{hint}", path = path.display())]
    Unsupported {
        /// The config.json.
        path: PathBuf,
        /// The key.
        key: String,
        /// Its value, as JSON.
        value: String,
        /// What is supported, beginning with a separator, or nothing.
        hint: String,
    },
    /// The tensor library refused.
    #[error("{path}: tensor `{tensor}`: {source}", path = path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor's full name.
        tensor: String,
        /// What it said.
        source: Box<candle_core::Error>,
    },
}

/// Why a device cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceFault {
    /// No device is called so.
    #[error("unknown")]
    Unknown,
    /// What stands behind `cuda:` is no number.
    #[error("no such GPU number")]
    NoNumber,
    /// The program was built without.
    #[error("this build has no CUDA support; scripts/build-cuda makes one that has")]
    NoCuda,
    /// There is none.
    #[error("this machine has no NVIDIA GPU, or no driver for it")]
    NoGpu,
    /// There are fewer; how many.
    #[error("this machine has {0}, from cuda:0 on")]
    Fewer(usize),
    /// The tensor library refused.
    #[error("{0} (are CUDA's libraries where LD_LIBRARY_PATH says?)")]
    Unopened(Box<candle_core::Error>),
}

impl ModelError {
    /// A [`ModelError::Broken`] for `path`.
    pub(crate) fn broken(path: &Path, reason: impl Into<FileFault>) -> Self {
        ModelError::Broken { path: path.to_path_buf(), reason: Box::new(reason.into()) }
    }

    /// A [`ModelError::Unreadable`] for `path`.
    pub(crate) fn unreadable(path: &Path, source: std::io::Error) -> Self {
        ModelError::Unreadable { path: path.to_path_buf(), source }
    }
}
