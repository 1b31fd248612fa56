//! In: one safetensors file. Out: its header, its digest, and its tensors one by one. Which file holds
//! what is left to `weights`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Metadata, TensorInfo};
use sha2::{Digest, Sha256};

use super::ModelError;

/// Headers of real checkpoints stay far below; a larger claim means that this is no header.
const LARGEST_HEADER: u64 = 100_000_000;

/// Digests taken by this process, by path, size and time of the last change: a single file holds all
/// components of a checkpoint, and is read for each.
type KnownDigests = BTreeMap<(PathBuf, u64, SystemTime), String>;
static KNOWN_DIGESTS: Mutex<KnownDigests> = Mutex::new(BTreeMap::new());

fn known_digests() -> MutexGuard<'static, KnownDigests> {
    KNOWN_DIGESTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One file with its parsed header.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) path: PathBuf,
    pub(super) metadata: Metadata,
    data_start: u64,
    pub(super) sha256: String,
}

impl Shard {
    /// Reads the header, and takes the digest of the file.
    pub(super) fn open(path: &Path) -> Result<Self, ModelError> {
        let unreadable = |source| ModelError::unreadable(path, source);
        let OpenFile { mut file, size, header, metadata } = OpenFile::open(path)?;
        let data_start = 8 + header.len() as u64;
        let state = file.metadata().and_then(|about| Ok((about.len(), about.modified()?)));
        // A file that changed just now may change again within the clock's resolution.
        let settled = |modified: &SystemTime| {
            modified.elapsed().is_ok_and(|age| age > Duration::from_secs(2))
        };
        let state = state.ok().filter(|(_, modified)| settled(modified));
        let key = state.map(|(size, modified)| (path.to_path_buf(), size, modified));
        let known = key.as_ref().and_then(|key| known_digests().get(key).cloned());
        let sha256 = match known {
            Some(sha256) => sha256,
            None => {
                let mut digest = Sha256::new();
                digest.update(size);
                digest.update(&header);
                let mut buffer = vec![0; 1 << 20];
                loop {
                    match file.read(&mut buffer).map_err(unreadable)? {
                        0 => break,
                        count => digest.update(&buffer[..count]),
                    }
                }
                hex(digest)
            }
        };
        if let Some(key) = key {
            known_digests().insert(key, sha256.clone());
        }
        Ok(Self { path: path.to_path_buf(), metadata, data_start, sha256 })
    }

    /// A tensor of the file as it is stored; `name` is the one by which errors call it.
    pub(super) fn tensor(
        &self,
        name: &str,
        info: &TensorInfo,
        expected: &[usize],
    ) -> Result<Tensor, ModelError> {
        if info.shape != expected {
            return Err(self.wrong_shape(name, expected, &info.shape));
        }
        let stored = match info.dtype {
            safetensors::Dtype::F16 => DType::F16,
            safetensors::Dtype::BF16 => DType::BF16,
            safetensors::Dtype::F32 => DType::F32,
            safetensors::Dtype::F64 => DType::F64,
            other => {
                let reason = format!("tensor `{name}` is stored as {other:?}, which is no float");
                return Err(ModelError::broken(&self.path, reason));
            }
        };
        let bytes = self.read(info)?;
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

    fn read(&self, info: &TensorInfo) -> Result<Vec<u8>, ModelError> {
        let unreadable = |source| ModelError::unreadable(&self.path, source);
        let (start, end) = info.data_offsets;
        let mut bytes = vec![0; end - start];
        let mut file = File::open(&self.path).map_err(unreadable)?;
        file.seek(SeekFrom::Start(self.data_start + start as u64)).map_err(unreadable)?;
        file.read_exact(&mut bytes).map_err(unreadable)?;
        Ok(bytes)
    }
}

/// A safetensors file, read up to its data.
struct OpenFile {
    file: File,
    size: [u8; 8],
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
        Ok(Self { file, size, header, metadata })
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

/// What a safetensors file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileContents {
    /// Shapes by name.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// The header's `__metadata__`.
    pub notes: BTreeMap<String, String>,
}

pub(super) fn hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
