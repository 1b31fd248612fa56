//! In: the safetensors files of one component (`unet/`, `vae/`, `text_encoder/`). Out: tensors by
//! name, checked against the shape that the network expects. What a tensor means is left to the
//! networks.
//!
//! Files are read tensor by tensor, so loading needs no more memory than the network itself.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::ModelError;

/// Headers of real checkpoints stay far below; a larger claim means that this is no header.
const LARGEST_HEADER: u64 = 100_000_000;

/// The safetensors files of one component.
#[derive(Debug)]
pub struct Weights {
    folder: PathBuf,
    shards: Vec<Shard>,
    /// Which shard holds which tensor.
    holders: BTreeMap<String, usize>,
    sha256: String,
    dtype: DType,
    device: Device,
}

/// One file with its parsed header.
#[derive(Debug)]
struct Shard {
    path: PathBuf,
    metadata: Metadata,
    data_start: u64,
    sha256: String,
}

/// `*.safetensors.index.json` of a checkpoint in several files.
#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    /// Opens the weights called `stem` (`diffusion_pytorch_model` or `model`) in `folder`: one file
    /// or several with an index, plain or `.fp16.`. Of the two, f16 prefers `.fp16.` and every other
    /// `dtype` the plain one. Tensors come out as `dtype` on `device`.
    ///
    /// # Errors
    /// There is no safetensors file, or one is truncated or not in that format.
    pub fn open(
        folder: &Path,
        stem: &str,
        dtype: DType,
        device: &Device,
    ) -> Result<Self, ModelError> {
        Self::of_files(folder, &find_files(folder, stem, dtype)?, dtype, device)
    }

    /// Opens the one safetensors file `path`; otherwise as [`Weights::open`].
    ///
    /// # Errors
    /// The file is missing, truncated or not in that format.
    pub fn open_file(path: &Path, dtype: DType, device: &Device) -> Result<Self, ModelError> {
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::of_files(folder, &[path.to_path_buf()], dtype, device)
    }

    fn of_files(
        folder: &Path,
        files: &[PathBuf],
        dtype: DType,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let shards: Vec<Shard> =
            files.iter().map(|path| Shard::open(path)).collect::<Result<_, _>>()?;
        let mut holders = BTreeMap::new();
        for (number, shard) in shards.iter().enumerate() {
            for tensor in shard.metadata.offset_keys() {
                if let Some(other) = holders.insert(tensor.clone(), number) {
                    let other = shards[other].path.display();
                    let reason = format!("tensor `{tensor}` is also in {other}; download again");
                    return Err(ModelError::broken(&shard.path, reason));
                }
            }
        }
        let sha256 = match shards.as_slice() {
            [only] => only.sha256.clone(),
            several => {
                let mut digest = Sha256::new();
                for shard in several {
                    digest.update(&shard.sha256);
                }
                hex(digest)
            }
        };
        Ok(Self {
            folder: folder.to_path_buf(),
            shards,
            holders,
            sha256,
            dtype,
            device: device.clone(),
        })
    }

    /// SHA-256 of the file, in hex, as model hubs show it; of the files' digests joined in the
    /// order of their names where there are several.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Number format of the tensors that come out.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Device of the tensors that come out.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// All tensors, by their full names.
    pub fn root(&self) -> Scope<'_> {
        Scope { weights: self, prefix: String::new() }
    }

    fn info(&self, name: &str) -> Option<(&Shard, &TensorInfo)> {
        let shard = &self.shards[*self.holders.get(name)?];
        Some((shard, shard.metadata.info(name)?))
    }

    fn tensor(&self, name: &str, expected: &[usize]) -> Result<Tensor, ModelError> {
        let Some((shard, info)) = self.info(name) else {
            // With several files there is no saying which of them should have held it.
            let path = if self.shards.len() == 1 { &self.shards[0].path } else { &self.folder };
            return Err(ModelError::MissingTensor { path: path.clone(), tensor: name.into() });
        };
        if info.shape != expected {
            return Err(ModelError::WrongShape {
                path: shard.path.clone(),
                tensor: name.into(),
                expected: expected.to_vec(),
                found: info.shape.clone(),
            });
        }
        let stored = match info.dtype {
            safetensors::Dtype::F16 => DType::F16,
            safetensors::Dtype::BF16 => DType::BF16,
            safetensors::Dtype::F32 => DType::F32,
            safetensors::Dtype::F64 => DType::F64,
            other => {
                let reason = format!("tensor `{name}` is stored as {other:?}, which is no float");
                return Err(ModelError::broken(&shard.path, reason));
            }
        };
        let bytes = shard.read(info)?;
        Tensor::from_raw_buffer(&bytes, stored, expected, &Device::Cpu)
            .and_then(|tensor| tensor.to_dtype(self.dtype))
            .and_then(|tensor| tensor.to_device(&self.device))
            .map_err(|source| ModelError::Tensor {
                path: shard.path.clone(),
                tensor: name.into(),
                source: source.into(),
            })
    }
}

impl Shard {
    /// Reads the header, checks it against the file's length, and takes the digest of the file.
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
        Ok(Self { path: path.to_path_buf(), metadata, data_start, sha256: hex(digest) })
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

fn hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The weight files of the variant that suits `dtype`, in name order.
fn find_files(folder: &Path, stem: &str, dtype: DType) -> Result<Vec<PathBuf>, ModelError> {
    let variants = if dtype == DType::F16 { [".fp16", ""] } else { ["", ".fp16"] };
    for variant in variants {
        let single = folder.join(format!("{stem}{variant}.safetensors"));
        if single.is_file() {
            return Ok(vec![single]);
        }
        let indexes = [
            format!("{stem}{variant}.safetensors.index.json"),
            // The order of the parts that older versions of diffusers wrote.
            format!("{stem}.safetensors.index{variant}.json"),
        ];
        for index in indexes.map(|name| folder.join(name)) {
            if index.is_file() {
                return shard_files(&index);
            }
        }
    }
    if !folder.is_dir() {
        return Err(ModelError::broken(folder, "there is no such folder"));
    }
    let pickled = ["", ".fp16"]
        .iter()
        .flat_map(|variant| {
            [format!("{stem}{variant}.bin"), format!("pytorch_{stem}{variant}.bin")]
        })
        .find(|name| folder.join(name).is_file());
    let reason = match pickled {
        Some(name) => format!(
            "holds only {name}, a pickle, which is not read because it can run code; get the \
             .safetensors files of this model, or convert it with diffusers' save_pretrained"
        ),
        None => format!("holds no {stem}.safetensors (nor {stem}.fp16.safetensors, nor an index)"),
    };
    Err(ModelError::broken(folder, reason))
}

/// The files that a `*.safetensors.index.json` names, each beside it.
fn shard_files(index: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let text = std::fs::read(index).map_err(|source| ModelError::unreadable(index, source))?;
    let parsed: ShardIndex = serde_json::from_slice(&text)
        .map_err(|error| ModelError::broken(index, format!("is not a shard index: {error}")))?;
    let mut names: Vec<&String> = parsed.weight_map.values().collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        return Err(ModelError::broken(index, "names no files"));
    }
    let folder = index.parent().unwrap_or(Path::new(""));
    names
        .into_iter()
        .map(|name| match Path::new(name).file_name() {
            Some(file) if file == name.as_str() => Ok(folder.join(name)),
            _ => Err(ModelError::broken(index, format!("names `{name}`, which is no plain file"))),
        })
        .collect()
}

/// Tensors whose names begin with a prefix, as a module of the network sees them.
#[derive(Debug, Clone)]
pub struct Scope<'w> {
    weights: &'w Weights,
    prefix: String,
}

impl<'w> Scope<'w> {
    /// The tensors under `name` of this scope.
    pub fn at(&self, name: impl std::fmt::Display) -> Scope<'w> {
        Scope { weights: self.weights, prefix: format!("{}{name}.", self.prefix) }
    }

    /// Whether the checkpoint has this tensor.
    pub fn has(&self, name: &str) -> bool {
        self.weights.info(&format!("{}{name}", self.prefix)).is_some()
    }

    /// Shape of a tensor in the checkpoint, where it has it.
    pub fn shape(&self, name: &str) -> Option<&'w [usize]> {
        let (_, info) = self.weights.info(&format!("{}{name}", self.prefix))?;
        Some(&info.shape)
    }

    /// The tensor `name`, which must have the shape `expected`.
    ///
    /// # Errors
    /// It is missing, has another shape, holds no floats, or cannot be read.
    pub fn tensor(&self, name: &str, expected: &[usize]) -> Result<Tensor, ModelError> {
        self.weights.tensor(&format!("{}{name}", self.prefix), expected)
    }

    /// The error for a tensor that the tensor library would not take.
    pub(crate) fn refused(&self, name: &str, source: candle_core::Error) -> ModelError {
        ModelError::Tensor {
            path: self.weights.folder.clone(),
            tensor: format!("{}{name}", self.prefix),
            source: source.into(),
        }
    }
}
