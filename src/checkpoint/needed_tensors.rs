//! In: a checkpoint of one file, safetensors or PyTorch's own, and the tensors that a network needs of it.
//! Out: the certainty that it has them all, their digest, or a file of nothing else.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use candle_core::{DType, Device};
use sha2::{Digest, Sha256};

use super::file_digest::hex;
use super::file_fault::FileFault;
use super::model_error::ModelError;
use super::pickle_file::{StateDictLayout, TensorLocation};
use super::safetensors_file::TensorFile;
use super::weights::Weights;

/// Name and shape of a tensor.
pub type Needed = (String, Vec<usize>);

/// A file in which every tensor that is needed is known to be.
#[derive(Debug)]
pub struct NeededTensors {
    shard: TensorFile,
    /// In name order, each once.
    names: Vec<String>,
}

impl NeededTensors {
    /// Opens `path`, in PyTorch's format unless its name ends in `.safetensors`, and looks for `needed`.
    /// No tensor is read yet.
    ///
    /// # Errors
    /// The file cannot be read or is damaged, or a tensor is missing, has another shape or holds no
    /// floats; the sentence names it.
    pub fn open(
        path: &Path,
        unwrapping: StateDictLayout,
        needed: &[Needed],
    ) -> Result<Self, ModelError> {
        let shard = match path.extension() {
            Some(extension) if extension == "safetensors" => TensorFile::open(path)?,
            _ => TensorFile::open_pickle(path, unwrapping)?,
        };
        let missing: Vec<&str> = needed
            .iter()
            .filter(|(name, _)| !shard.tensors.contains_key(name))
            .map(|(name, _)| name.as_str())
            .collect();
        if let Some(first) = missing.first() {
            let reason = FileFault::MissingTensors {
                first: (*first).to_owned(),
                missing: missing.len(),
                needed: needed.len(),
            };
            return Err(ModelError::broken(path, reason));
        }
        for (name, shape) in needed {
            let place = &shard.tensors[name];
            if place.info.shape != *shape {
                return Err(shard.wrong_shape(name, shape, &place.info.shape));
            }
            if !is_float(place) {
                let reason = FileFault::NoFloat { tensor: name.clone(), dtype: place.info.dtype };
                return Err(ModelError::broken(path, reason));
            }
        }
        let mut names: Vec<String> = needed.iter().map(|(name, _)| name.clone()).collect();
        names.sort_unstable();
        names.dedup();
        Ok(Self { shard, names })
    }

    /// The weights, with the digest of the needed tensors for that of the file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn weights(self, dtype: DType, device: &Device) -> Result<Weights, ModelError> {
        let sha256 = self.digest()?;
        let folder = self.shard.path.parent().unwrap_or(Path::new("")).to_path_buf();
        Weights::of_shards(&folder, vec![self.shard], sha256, dtype, device)
    }

    /// SHA-256, in hex, over the needed tensors in name order: each one's name, number format, lengths
    /// (in decimal, after each a zero byte) and elements as they are stored. So it is the same for a
    /// published file and for what [`NeededTensors::write`] makes of it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn digest(&self) -> Result<String, ModelError> {
        let mut digest = Sha256::new();
        for (name, place) in self.places() {
            digest.update(format!("{name}\0{}\0", format_name(place)));
            for length in &place.info.shape {
                digest.update(format!("{length}\0"));
            }
            digest.update(self.shard.read(place)?);
        }
        Ok(hex(digest))
    }

    /// Writes a safetensors file of the needed tensors, as they are stored, with `notes` in its header.
    ///
    /// # Errors
    /// The file cannot be read, or the disk said no while `to` was written.
    pub fn write(&self, to: &Path, notes: &[(&str, String)]) -> Result<(), ModelError> {
        let unwritable =
            |source: std::io::Error| ModelError::broken(to, FileFault::Unwritable(source));
        let header = self.header(notes);
        let mut file = BufWriter::new(File::create(to).map_err(unwritable)?);
        file.write_all(&(header.len() as u64).to_le_bytes()).map_err(unwritable)?;
        file.write_all(header.as_bytes()).map_err(unwritable)?;
        for (_, place) in self.places() {
            file.write_all(&self.shard.read(place)?).map_err(unwritable)?;
        }
        let file = file.into_inner().map_err(|error| unwritable(error.into_error()))?;
        file.sync_all().map_err(unwritable)
    }

    /// Bytes of the needed tensors.
    pub fn size(&self) -> u64 {
        self.places().map(|(_, place)| size(place)).sum()
    }

    /// How many tensors the file has beside the needed ones.
    pub fn left_out(&self) -> usize {
        self.shard.tensors.len() - self.names.len()
    }

    fn places(&self) -> impl Iterator<Item = (&str, &TensorLocation)> {
        self.names.iter().map(|name| (name.as_str(), &self.shard.tensors[name]))
    }

    /// The header of a safetensors file, filled up to a multiple of eight bytes.
    fn header(&self, notes: &[(&str, String)]) -> String {
        let notes: serde_json::Map<String, serde_json::Value> =
            notes.iter().map(|(key, value)| ((*key).to_owned(), value.as_str().into())).collect();
        let mut entries = serde_json::Map::new();
        entries.insert("__metadata__".to_owned(), notes.into());
        let mut start = 0;
        for (name, place) in self.places() {
            let end = start + size(place);
            let entry = serde_json::json!({
                "dtype": format_name(place), "shape": place.info.shape, "data_offsets": [start, end],
            });
            entries.insert(name.to_owned(), entry);
            start = end;
        }
        let mut header = serde_json::Value::Object(entries).to_string();
        while !header.len().is_multiple_of(8) {
            header.push(' ');
        }
        header
    }
}

fn size(place: &TensorLocation) -> u64 {
    place.info.shape.iter().map(|&length| length as u64).product::<u64>() * place.width() as u64
}

fn is_float(place: &TensorLocation) -> bool {
    use safetensors::Dtype::{BF16, F16, F32, F64};
    matches!(place.info.dtype, F16 | BF16 | F32 | F64)
}

fn format_name(place: &TensorLocation) -> String {
    format!("{:?}", place.info.dtype)
}
