//! In: one safetensors file, or the places of tensors in a PyTorch checkpoint. Out: its digest, and its
//! tensors one by one, eight-bit floats as f32 with their scale. Which file holds what is left to `weights`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Bound;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Metadata, TensorInfo};

use super::file_digest::sha256_of_file;
use super::file_fault::FileFault;
use super::float8::ScaleLookup;
use super::model_error::ModelError;
use super::pickle_file::{StateDictLayout, TensorLocation};
use super::{float8, pickle_file};

/// Headers of real checkpoints stay far below; a larger claim means that this is no header.
const LARGEST_HEADER: u64 = 100_000_000;

/// One file, with the places of its tensors.
#[derive(Debug)]
pub(crate) struct TensorFile {
    pub(crate) path: PathBuf,
    pub(crate) tensors: BTreeMap<String, TensorLocation>,
    /// Where the places are counted from.
    data_start: u64,
}

impl TensorFile {
    /// Reads the header.
    pub(crate) fn open(path: &Path) -> Result<Self, ModelError> {
        let OpenFile { header, metadata, .. } = OpenFile::open(path)?;
        let place = |info: &TensorInfo| TensorLocation { info: info.clone(), strides: None };
        let tensors = metadata.tensors().into_iter().map(|(name, info)| (name, place(info)));
        let data_start = 8 + header.len() as u64;
        Ok(Self { path: path.to_path_buf(), tensors: tensors.collect(), data_start })
    }

    /// Looks up the tensors of a PyTorch checkpoint.
    pub(crate) fn open_pickle(
        path: &Path,
        unwrapping: StateDictLayout,
    ) -> Result<Self, ModelError> {
        let tensors = pickle_file::tensors(path, unwrapping)?;
        Ok(Self { path: path.to_path_buf(), tensors, data_start: 0 })
    }

    /// As [`TensorFile::open`] or [`TensorFile::open_pickle`], by what is in the file.
    pub(crate) fn open_any(path: &Path, unwrapping: StateDictLayout) -> Result<Self, ModelError> {
        if is_archive(path)? { Self::open_pickle(path, unwrapping) } else { Self::open(path) }
    }

    /// SHA-256 of the whole file, in hex.
    pub(crate) fn digest(&self) -> Result<String, ModelError> {
        sha256_of_file(&self.path)
    }

    /// The tensor that the file calls `stored`, in its own number format, or in f32 where that has eight bits;
    /// `name` is the one by which errors call it.
    pub(crate) fn tensor(
        &self,
        name: &str,
        (stored, place): (&str, &TensorLocation),
        expected: &[usize],
    ) -> Result<Tensor, ModelError> {
        if place.info.shape != expected {
            return Err(self.wrong_shape(name, expected, &place.info.shape));
        }
        let module = stored.rsplit_once('.').map_or("", |(module, _)| module);
        let from = (Bound::Included(module), Bound::Unbounded);
        let neighbours = self.tensors.range::<str, _>(from);
        let neighbours = neighbours.map(|(key, _)| key.as_str());
        let beside =
            float8::find_scale(stored, neighbours.take_while(|key| key.starts_with(module)));
        let format = match (place.info.dtype, beside) {
            (safetensors::Dtype::F8_E4M3 | safetensors::Dtype::F8_E5M2, _) => {
                return self.eight_bits(name, place, beside);
            }
            (other, ScaleLookup::Scale(scale) | ScaleLookup::Unknown(scale)) => {
                let (tensor, scale) = (stored.to_owned(), scale.to_owned());
                let reason = FileFault::NeedlessScale { tensor, dtype: other, scale };
                return Err(ModelError::broken(&self.path, reason));
            }
            (safetensors::Dtype::F16, _) => DType::F16,
            (safetensors::Dtype::BF16, _) => DType::BF16,
            (safetensors::Dtype::F32, _) => DType::F32,
            (safetensors::Dtype::F64, _) => DType::F64,
            (other, _) => {
                let reason = FileFault::UnreadFloat { tensor: name.to_owned(), dtype: other };
                return Err(ModelError::broken(&self.path, reason));
            }
        };
        let bytes = self.read(place)?;
        Tensor::from_raw_buffer(&bytes, format, expected, &Device::Cpu)
            .map_err(|source| self.refused(name, source))
    }

    /// A tensor of eight-bit floats, times its scale where it has one, in f32.
    fn eight_bits(
        &self,
        name: &str,
        place: &TensorLocation,
        beside: ScaleLookup<'_>,
    ) -> Result<Tensor, ModelError> {
        let refused = |source| self.refused(name, source);
        let shape = place.info.shape.as_slice();
        let values = float8::values(&self.read(place)?, place.info.dtype).unwrap_or_default();
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu).map_err(refused)?;
        let broken = |reason| ModelError::broken(&self.path, reason);
        let named = |scale: &str| (name.to_owned(), scale.to_owned());
        let scale = match beside {
            ScaleLookup::Nothing => return Ok(tensor),
            ScaleLookup::Unknown(scale) => {
                let (tensor, scale) = named(scale);
                return Err(broken(FileFault::UnknownScale { tensor, scale }));
            }
            ScaleLookup::Scale(scale) => scale,
        };
        let info = &self.tensors[scale].info;
        let per_row =
            info.shape.first() == shape.first() && info.shape.iter().skip(1).all(|&n| n == 1);
        let count: usize = info.shape.iter().product();
        let rows = match count {
            1 => 1,
            rows if per_row => rows,
            _ => {
                let (tensor, scale) = named(scale);
                return Err(broken(FileFault::ScaleShape { tensor, scale }));
            }
        };
        let numbers = self.tensor(scale, (scale, &self.tensors[scale]), &info.shape)?;
        let mut factors = vec![1; shape.len()];
        if let (Some(first), true) = (factors.first_mut(), rows > 1) {
            *first = rows;
        }
        numbers
            .to_dtype(DType::F32)
            .and_then(|numbers| numbers.reshape(factors))
            .and_then(|numbers| tensor.broadcast_mul(&numbers))
            .map_err(refused)
    }

    pub(crate) fn wrong_shape(
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

    pub(crate) fn refused(&self, name: &str, source: candle_core::Error) -> ModelError {
        ModelError::Tensor { path: self.path.clone(), tensor: name.into(), source: source.into() }
    }

    /// The bytes of a tensor, its last dimension fastest.
    pub(crate) fn read(&self, place: &TensorLocation) -> Result<Vec<u8>, ModelError> {
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
        let broken = |reason| ModelError::broken(path, reason);
        let mut file = File::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let mut size = [0; 8];
        if length < 8 {
            return Err(broken(FileFault::TooShort(length)));
        }
        file.read_exact(&mut size).map_err(unreadable)?;
        if size == *b"version " {
            return Err(broken(FileFault::GitLfsPointer));
        }
        let header_size = u64::from_le_bytes(size);
        if header_size > LARGEST_HEADER {
            return Err(broken(FileFault::HeaderLength));
        }
        let data_start = 8 + header_size;
        if data_start > length {
            return Err(broken(FileFault::HeaderCut { needed: data_start, length }));
        }
        let mut header = vec![0; header_size as usize];
        file.read_exact(&mut header).map_err(unreadable)?;
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|error| broken(FileFault::NoHeader(error)))?;
        let expected = data_start + metadata.data_len() as u64;
        if expected != length {
            return Err(broken(FileFault::OtherLength { length, expected }));
        }
        let count = metadata.offset_keys().len();
        log::debug!("opened {}: {length} bytes, {count} tensors", path.display());
        Ok(Self { header, metadata })
    }
}

/// Whether a file is a zip archive, as PyTorch's checkpoints are.
fn is_archive(path: &Path) -> Result<bool, ModelError> {
    let unreadable = |source| ModelError::unreadable(path, source);
    let mut start = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(2).read_to_end(&mut start).map_err(unreadable)?;
    Ok(start == b"PK")
}

/// [`contents`] of a safetensors file, or names and shapes of the tensors in a PyTorch checkpoint with the texts that
/// stand beside them.
///
/// # Errors
/// It is missing, truncated, in neither format, or a pickle that would call something.
pub(crate) fn contents_of_any(
    path: &Path,
    unwrapping: StateDictLayout,
) -> Result<FileContents, ModelError> {
    if is_archive(path)? { contents_of_pickle(path, unwrapping) } else { contents(path) }
}

/// [`contents_of_any`] of a PyTorch checkpoint.
///
/// # Errors
/// As there.
pub(super) fn contents_of_pickle(
    path: &Path,
    unwrapping: StateDictLayout,
) -> Result<FileContents, ModelError> {
    let (tensors, notes) = pickle_file::tensors_and_notes(path, unwrapping)?;
    let shapes = tensors.into_iter().map(|(name, place)| (name, place.info.shape)).collect();
    Ok(FileContents { shapes, notes })
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
    let shard = TensorFile::open(path)?;
    let Some(place) = shard.tensors.get(name) else {
        return Err(ModelError::MissingTensor { path: path.to_path_buf(), tensor: name.into() });
    };
    let tensor = shard.tensor(name, (name, place), &place.info.shape)?;
    tensor
        .to_dtype(DType::F32)
        .and_then(|tensor| tensor.flatten_all()?.to_vec1())
        .map_err(|source| shard.refused(name, source))
}

/// The whole number of 64 bits that a tensor of a safetensors file holds; `None` where there is none.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn whole_number(path: &Path, name: &str) -> Result<Option<i64>, ModelError> {
    let shard = TensorFile::open(path)?;
    let place = shard.tensors.get(name);
    let Some(place) = place.filter(|place| place.info.dtype == safetensors::Dtype::I64) else {
        return Ok(None);
    };
    Ok(<[u8; 8]>::try_from(shard.read(place)?).ok().map(i64::from_le_bytes))
}

/// What a file of tensors says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileContents {
    /// Shapes by name.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// The header's `__metadata__`, or the texts beside a pickle's tensors.
    pub notes: BTreeMap<String, String>,
}
