//! In: one safetensors file, or the places of tensors in a PyTorch checkpoint. Out: its digest, and its
//! tensors one by one. Which file holds what is left to `weights`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Metadata, TensorInfo};

use super::ModelError;
use super::file_digest::sha256_of_file;
use super::pickle_file::{self, Place, Unwrapping};

/// Headers of real checkpoints stay far below; a larger claim means that this is no header.
const LARGEST_HEADER: u64 = 100_000_000;

/// One file, with the places of its tensors.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) path: PathBuf,
    pub(super) tensors: BTreeMap<String, Place>,
    /// Where the places are counted from.
    data_start: u64,
}

impl Shard {
    /// Reads the header.
    pub(super) fn open(path: &Path) -> Result<Self, ModelError> {
        let OpenFile { header, metadata, .. } = OpenFile::open(path)?;
        let place = |info: &TensorInfo| Place { info: info.clone(), strides: None };
        let tensors = metadata.tensors().into_iter().map(|(name, info)| (name, place(info)));
        let data_start = 8 + header.len() as u64;
        Ok(Self { path: path.to_path_buf(), tensors: tensors.collect(), data_start })
    }

    /// Looks up the tensors of a PyTorch checkpoint.
    pub(super) fn open_pickle(path: &Path, unwrapping: Unwrapping) -> Result<Self, ModelError> {
        let tensors = pickle_file::tensors(path, unwrapping)?;
        Ok(Self { path: path.to_path_buf(), tensors, data_start: 0 })
    }

    /// SHA-256 of the whole file, in hex.
    pub(super) fn digest(&self) -> Result<String, ModelError> {
        sha256_of_file(&self.path)
    }

    /// A tensor of the file as it is stored; `name` is the one by which errors call it.
    pub(super) fn tensor(
        &self,
        name: &str,
        place: &Place,
        expected: &[usize],
    ) -> Result<Tensor, ModelError> {
        if place.info.shape != expected {
            return Err(self.wrong_shape(name, expected, &place.info.shape));
        }
        let stored = match place.info.dtype {
            safetensors::Dtype::F16 => DType::F16,
            safetensors::Dtype::BF16 => DType::BF16,
            safetensors::Dtype::F32 => DType::F32,
            safetensors::Dtype::F64 => DType::F64,
            other => {
                let reason = format!("tensor `{name}` is stored as {other:?}, which is no float");
                return Err(ModelError::broken(&self.path, reason));
            }
        };
        let bytes = self.read(place)?;
        Tensor::from_raw_buffer(&bytes, stored, expected, &Device::Cpu)
            .map_err(|source| self.refused(name, source))
    }

    pub(super) fn wrong_shape(
        &self,
        name: &str,
        expected: &[usize],
        found: &[usize],
    ) -> ModelError {
        ModelError::WrongShape {
            path: self.path.clone(),
            tensor: name.into(),
            expected: expected.to_vec(),
            found: found.to_vec(),
        }
    }

    pub(super) fn refused(&self, name: &str, source: candle_core::Error) -> ModelError {
        ModelError::Tensor { path: self.path.clone(), tensor: name.into(), source: source.into() }
    }

    /// The bytes of a tensor, its last dimension fastest.
    pub(super) fn read(&self, place: &Place) -> Result<Vec<u8>, ModelError> {
        let unreadable = |source| ModelError::unreadable(&self.path, source);
        let (start, end) = place.info.data_offsets;
        let mut bytes = vec![0; end - start];
        let mut file = File::open(&self.path).map_err(unreadable)?;
        file.seek(SeekFrom::Start(self.data_start + start as u64)).map_err(unreadable)?;
        file.read_exact(&mut bytes).map_err(unreadable)?;
        Ok(match &place.strides {
            None => bytes,
            Some(strides) => in_order(&bytes, &place.info.shape, strides, place.width()),
        })
    }
}

/// The elements of a view, each `width` bytes, in the order of its shape.
fn in_order(bytes: &[u8], shape: &[usize], strides: &[usize], width: usize) -> Vec<u8> {
    let count: usize = shape.iter().product();
    let mut out = Vec::with_capacity(count * width);
    let mut index = vec![0; shape.len()];
    for _ in 0..count {
        let element: usize = index.iter().zip(strides).map(|(at, step)| at * step).sum();
        out.extend_from_slice(&bytes[element * width..][..width]);
        for (at, &size) in index.iter_mut().zip(shape).rev() {
            *at += 1;
            if *at < size {
                break;
            }
            *at = 0;
        }
    }
    out
}

/// A safetensors file, read up to its data.
struct OpenFile {
    header: Vec<u8>,
    metadata: Metadata,
}

impl OpenFile {
    /// Reads the header and checks it against the file's length.
    fn open(path: &Path) -> Result<Self, ModelError> {
        let unreadable = |source| ModelError::unreadable(path, source);
        let broken = |reason: String| ModelError::broken(path, reason);
        let mut file = File::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let mut size = [0; 8];
        if length < 8 {
            return Err(broken(format!("is only {length} bytes long; download it again")));
        }
        file.read_exact(&mut size).map_err(unreadable)?;
        if size == *b"version " {
            let reason = "is a Git LFS pointer, not the weights; run `git lfs pull` there";
            return Err(broken(reason.into()));
        }
        let header_size = u64::from_le_bytes(size);
        if header_size > LARGEST_HEADER {
            let reason = "is not a safetensors file (no sensible header length)";
            return Err(broken(reason.into()));
        }
        let data_start = 8 + header_size;
        if data_start > length {
            let reason = format!("is truncated: the header needs {data_start} bytes of {length}");
            return Err(broken(reason));
        }
        let mut header = vec![0; header_size as usize];
        file.read_exact(&mut header).map_err(unreadable)?;
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|error| broken(format!("is not a safetensors file: {error}")))?;
        let expected = data_start + metadata.data_len() as u64;
        if expected != length {
            let state = if expected > length { "is truncated" } else { "has bytes left over" };
            let reason = format!("{state}: {length} bytes where its header implies {expected}");
            return Err(broken(format!("{reason}; download it again")));
        }
        Ok(Self { header, metadata })
    }
}

/// Names and shapes of the tensors in a safetensors file, with the free text of its header.
///
/// # Errors
/// It is missing, truncated or not in that format.
pub fn contents(path: &Path) -> Result<FileContents, ModelError> {
    let OpenFile { metadata, .. } = OpenFile::open(path)?;
    let shapes =
        metadata.tensors().into_iter().map(|(name, info)| (name, info.shape.clone())).collect();
    let notes = metadata.metadata().clone().unwrap_or_default().into_iter().collect();
    Ok(FileContents { shapes, notes })
}

/// The numbers of a tensor of a safetensors file, its last dimension fastest.
///
/// # Errors
/// The file cannot be read, has no such tensor, or stores it as no float.
pub fn values(path: &Path, name: &str) -> Result<Vec<f32>, ModelError> {
    let shard = Shard::open(path)?;
    let Some(place) = shard.tensors.get(name) else {
        return Err(ModelError::MissingTensor { path: path.to_path_buf(), tensor: name.into() });
    };
    let tensor = shard.tensor(name, place, &place.info.shape)?;
    tensor
        .to_dtype(DType::F32)
        .and_then(|tensor| tensor.flatten_all()?.to_vec1())
        .map_err(|source| shard.refused(name, source))
}

/// What a safetensors file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileContents {
    /// Shapes by name.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// The header's `__metadata__`.
    pub notes: BTreeMap<String, String>,
}
