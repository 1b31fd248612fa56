//! In: a `pytorch_model.bin` as `torch.save` writes it since PyTorch 1.6: a zip archive with a pickle and
//! the elements of its tensors. Out: where each tensor lies in the file. Reading it is left to
//! `safetensors_file`, naming and checking to `weights`.
//!
//! The pickle is read as data: nothing in it is imported or called (`unpickler`), and a file that asks
//! for a call which no checkpoint needs is refused by name.

pub(super) mod fault;
mod harmless;
mod opcodes;
mod unpickler;
mod value;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::rc::Rc;

use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use zip::{CompressionMethod, ZipArchive};

use self::fault::{EntryDamage, EntryFault, PickleFault, TensorFault, cut};
use self::unpickler::Pickle;
use self::value::{Id, Value, View};
use super::file_fault::FileFault;
use super::model_error::ModelError;

/// The pickles of real checkpoints, optimizer states and all, are far smaller.
const LARGEST_PICKLE: u64 = 32 << 20;

/// Where in a pickle the state dict lies and what its names are called here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StateDictLayout {
    /// Keys that are followed, in this order, where they are there and hold a dictionary.
    pub keys: &'static [&'static str],
    /// What is taken out of each name, wherever it stands in it.
    pub removed: &'static str,
}

/// A tensor's place in the file. Its elements lie in `info.data_offsets`, from the first to the last that
/// it uses; one after the other unless there are `strides`.
#[derive(Debug, Clone)]
pub(crate) struct TensorLocation {
    pub(crate) info: TensorInfo,
    /// Steps in elements along each dimension, where the elements do not follow one another.
    pub(crate) strides: Option<Vec<usize>>,
}

impl TensorLocation {
    /// Bytes of an element.
    pub(crate) fn width(&self) -> usize {
        self.info.dtype.bitsize() / 8
    }

    /// Whether both are the same elements in the same order.
    fn is(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.info, &other.info);
        ours.dtype == theirs.dtype
            && ours.shape == theirs.shape
            && ours.data_offsets == theirs.data_offsets
            && self.strides == other.strides
    }
}

type ByName<T> = BTreeMap<String, T>;

/// The tensors of the state dict in `path`, by name.
///
/// # Errors
/// The file cannot be read, is no such archive, is truncated, holds no state dict, would call something,
/// or describes a tensor that its elements do not suffice for.
pub(crate) fn tensors(
    path: &Path,
    unwrapping: StateDictLayout,
) -> Result<BTreeMap<String, TensorLocation>, ModelError> {
    tensors_and_notes(path, unwrapping).map(|(tensors, _)| tensors)
}

/// The tensors of the state dict in `path`, and the texts that the outermost dictionary holds, both by name.
///
/// # Errors
/// As [`tensors`].
pub(crate) fn tensors_and_notes(
    path: &Path,
    unwrapping: StateDictLayout,
) -> Result<(ByName<TensorLocation>, ByName<String>), ModelError> {
    let broken = |fault: PickleFault| ModelError::broken(path, fault);
    let mut file = File::open(path).map_err(|source| ModelError::unreadable(path, source))?;
    refuse_other_formats(path, &mut file)?;
    let mut archive = Archive::open(file).map_err(broken)?;
    let bytes = archive.pickle().map_err(broken)?;
    let pickle = unpickler::read(&bytes).map_err(broken)?;
    let mut places: BTreeMap<String, (&str, TensorLocation)> = BTreeMap::new();
    for (name, view) in state_dict(&pickle, unwrapping.keys).map_err(broken)? {
        let place = archive
            .place(&pickle, view)
            .map_err(|fault| broken(PickleFault::Tensor { name: name.to_owned(), fault }))?;
        let ours = match unwrapping.removed {
            "" => name.to_owned(),
            removed => name.replace(removed, ""),
        };
        match places.get(&ours) {
            Some((other, known)) if *other != name && !known.is(&place) => {
                let (one, other) = ((*other).to_owned(), name.to_owned());
                return Err(broken(PickleFault::SameName { one, other }));
            }
            _ => places.insert(ours, (name, place)),
        };
    }
    let tensors: BTreeMap<_, _> =
        places.into_iter().map(|(name, (_, place))| (name, place)).collect();
    log::debug!("opened {}: a pickle, {} tensors", path.display(), tensors.len());
    Ok((tensors, notes(&pickle)))
}

/// The texts of the outermost dictionary.
fn notes(pickle: &Pickle<'_>) -> BTreeMap<String, String> {
    let Value::Dict(entries) = &pickle.values[pickle.top] else { return BTreeMap::new() };
    let text = |id: Id| match pickle.values[id] {
        Value::Text(text) => Some(text.to_owned()),
        _ => None,
    };
    entries.iter().filter_map(|(key, value)| text(*key).zip(text(*value))).collect()
}

/// Tells what is no zip archive apart by its first bytes.
fn refuse_other_formats(path: &Path, file: &mut File) -> Result<(), ModelError> {
    let broken = |fault: PickleFault| ModelError::broken(path, fault);
    let mut start = Vec::new();
    let read = file.by_ref().take(8).read_to_end(&mut start).and_then(|_| file.rewind());
    read.map_err(|error| broken(PickleFault::Unreadable(error)))?;
    match start.as_slice() {
        [b'P', b'K', ..] => Ok(()),
        b"version " => Err(ModelError::broken(path, FileFault::GitLfsPointer)),
        [0x80, 2..=5, ..] => Err(broken(PickleFault::OldFormat)),
        _ => Err(broken(PickleFault::NoArchive)),
    }
}

/// The tensors of a state dict by name, the last where a name stands twice.
fn state_dict<'p>(
    pickle: &'p Pickle<'p>,
    keys: &[&str],
) -> Result<BTreeMap<&'p str, &'p View>, PickleFault> {
    let mut dict = match &pickle.values[pickle.top] {
        Value::Dict(entries) => entries,
        Value::Inert(module, name) | Value::Global(module, name) => {
            let (module, name) = ((*module).to_owned(), (*name).to_owned());
            return Err(PickleFault::HoldsObject { module, name });
        }
        Value::Tensor(_) => return Err(PickleFault::HoldsTensor),
        _ => return Err(PickleFault::NoStateDict),
    };
    let text = |id: Id| match pickle.values[id] {
        Value::Text(text) => Some(text),
        _ => None,
    };
    for wanted in keys {
        let inner = dict.iter().rev().find(|(key, _)| text(*key) == Some(wanted));
        if let Some((_, value)) = inner
            && let Value::Dict(entries) = &pickle.values[*value]
        {
            dict = entries;
        }
    }
    let mut tensors = BTreeMap::new();
    for (key, value) in dict {
        if let (Some(name), Value::Tensor(view)) = (text(*key), &pickle.values[*value]) {
            tensors.insert(name, view);
        }
    }
    if tensors.is_empty() {
        let keys = dict.iter().filter_map(|(key, _)| text(*key)).take(8).map(cut).collect();
        return Err(PickleFault::NoTensors(keys));
    }
    Ok(tensors)
}

/// A checkpoint's directory has about a hundred bytes for each tensor.
const LARGEST_DIRECTORY: u64 = 64 << 20;

/// A file that gives up when more is read of it than `left`: so a made-up or cut archive is not searched
/// from end to end, nor a directory of any size kept.
struct Bounded {
    file: BufReader<File>,
    left: Rc<Cell<u64>>,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        let left = self.left.get().checked_sub(count as u64);
        self.left.set(left.ok_or_else(|| io::Error::other("no directory at its end"))?);
        Ok(count)
    }
}

impl Seek for Bounded {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// A zip archive whose entries are stored as they are.
struct Archive {
    zip: ZipArchive<Bounded>,
    length: u64,
    /// What stands before `data.pkl` and `data/`.
    folder: String,
    /// Places of storages that were looked up: start and length in bytes.
    known: BTreeMap<String, (u64, u64)>,
}

impl Archive {
    fn open(file: File) -> Result<Self, PickleFault> {
        let length = file.metadata().map_err(PickleFault::Unreadable)?.len();
        let left = Rc::new(Cell::new(LARGEST_DIRECTORY));
        let bounded = Bounded { file: BufReader::new(file), left: Rc::clone(&left) };
        let zip = ZipArchive::new(bounded)
            .map_err(|error| PickleFault::Damaged(io::Error::other(error)))?;
        left.set(u64::MAX);
        let pickles: Vec<String> = zip
            .file_names()
            .filter_map(|name| name.ok())
            .filter(|name| *name == "data.pkl" || name.ends_with("/data.pkl"))
            .map(|name| name.into_owned())
            .collect();
        let [pickle] = pickles.as_slice() else {
            return Err(PickleFault::Pickles(pickles.len()));
        };
        let folder = pickle.strip_suffix("data.pkl").unwrap_or_default().to_owned();
        Ok(Self { zip, length, folder, known: BTreeMap::new() })
    }

    /// Start and length of an entry.
    fn entry(&mut self, name: &str) -> Result<(u64, u64), EntryFault> {
        let index =
            self.zip.index_for_name(name).ok_or_else(|| EntryFault::Missing(name.to_owned()))?;
        let damaged = |damage| EntryFault::Damaged { name: name.to_owned(), damage };
        let entry = self
            .zip
            .by_index_raw(index)
            .map_err(|error| damaged(EntryDamage::Zip(io::Error::other(error))))?;
        if entry.encrypted() || entry.compression() != CompressionMethod::Stored {
            return Err(damaged(EntryDamage::NotStored));
        }
        let size = entry.size();
        let start = entry.data_start().ok_or_else(|| damaged(EntryDamage::NoPlace))?;
        match start.checked_add(size) {
            Some(end) if end <= self.length && entry.compressed_size() == size => Ok((start, size)),
            _ => Err(damaged(EntryDamage::BeyondEnd)),
        }
    }

    /// The bytes of `data.pkl`, once the archive is known to be one that can be read.
    fn pickle(&mut self) -> Result<Vec<u8>, PickleFault> {
        let order = format!("{}byteorder", self.folder);
        if self.zip.index_for_name(&order).is_some() {
            let (_, size) = self.entry(&order)?;
            if self.read(&order, size.min(16))? != b"little" {
                return Err(PickleFault::ByteOrder);
            }
        }
        let name = format!("{}data.pkl", self.folder);
        let (_, size) = self.entry(&name)?;
        if size > LARGEST_PICKLE {
            return Err(PickleFault::TooLarge(size));
        }
        Ok(self.read(&name, size)?)
    }

    /// The first `size` bytes of an entry.
    fn read(&mut self, name: &str, size: u64) -> Result<Vec<u8>, EntryFault> {
        let index = self.zip.index_for_name(name).unwrap_or(usize::MAX);
        let entry = self
            .zip
            .by_index_raw(index)
            .map_err(|error| EntryFault::Unreadable(io::Error::other(error)))?;
        let mut bytes = Vec::new();
        let read = entry.take(size).read_to_end(&mut bytes);
        read.map_err(EntryFault::Unreadable)?;
        if bytes.len() as u64 == size { Ok(bytes) } else { Err(EntryFault::EndsEarly) }
    }

    /// Where the elements of a view lie.
    fn place(&mut self, pickle: &Pickle<'_>, view: &View) -> Result<TensorLocation, TensorFault> {
        let Value::Storage(storage) = pickle.values[view.storage] else {
            return Err(TensorFault::NoStorage);
        };
        let (dtype, width) =
            element(storage.class).ok_or_else(|| TensorFault::Class(storage.class.to_owned()))?;
        let name = format!("{}data/{}", self.folder, storage.key);
        let (start, size) = match self.known.get(storage.key) {
            Some(place) => *place,
            None => {
                let place = self.entry(&name)?;
                self.known.insert(storage.key.to_owned(), place);
                place
            }
        };
        let too_large = || TensorFault::TooLarge {
            shape: view.shape.clone(),
            storage: storage.key.to_owned(),
            size,
        };
        let (first, last) = span(view).ok_or_else(too_large)?;
        let (from, to) = (
            first.checked_mul(width).ok_or_else(too_large)?,
            last.checked_mul(width).ok_or_else(too_large)?,
        );
        if last > storage.elements || to > size {
            return Err(too_large());
        }
        let whole = |number: u64| usize::try_from(number).map_err(|_| too_large());
        let shape = view.shape.iter().map(|&n| whole(n)).collect::<Result<Vec<_>, _>>()?;
        let strides = if is_contiguous(view) {
            None
        } else {
            Some(view.strides.iter().map(|&n| whole(n)).collect::<Result<Vec<_>, _>>()?)
        };
        let data_offsets = (whole(start + from)?, whole(start + to)?);
        Ok(TensorLocation { info: TensorInfo { dtype, shape, data_offsets }, strides })
    }
}

/// The elements of a storage that a view uses, from the first to behind the last; `None` where there are
/// more than can be counted.
fn span(view: &View) -> Option<(u64, u64)> {
    if view.shape.contains(&0) {
        return Some((view.offset, view.offset));
    }
    let mut last = view.offset;
    let mut count = 1_u64;
    for (&size, &stride) in view.shape.iter().zip(&view.strides) {
        last = last.checked_add((size - 1).checked_mul(stride)?)?;
        count = count.checked_mul(size)?;
    }
    // So that a shape can be multiplied out by whoever sees it, in bytes as well.
    count.checked_mul(16)?;
    Some((view.offset, last.checked_add(1)?))
}

/// Whether the elements follow one another, the last dimension fastest.
fn is_contiguous(view: &View) -> bool {
    if view.shape.contains(&0) {
        return true;
    }
    let mut expected = 1;
    for (&size, &stride) in view.shape.iter().zip(&view.strides).rev() {
        if size != 1 && stride != expected {
            return false;
        }
        expected *= size;
    }
    true
}

/// Number format and bytes of an element of a storage class.
fn element(class: &str) -> Option<(Dtype, u64)> {
    Some(match class {
        "DoubleStorage" => (Dtype::F64, 8),
        "FloatStorage" => (Dtype::F32, 4),
        "HalfStorage" => (Dtype::F16, 2),
        "BFloat16Storage" => (Dtype::BF16, 2),
        "LongStorage" => (Dtype::I64, 8),
        "IntStorage" => (Dtype::I32, 4),
        "ShortStorage" => (Dtype::I16, 2),
        "CharStorage" => (Dtype::I8, 1),
        "ByteStorage" => (Dtype::U8, 1),
        "BoolStorage" => (Dtype::BOOL, 1),
        _ => return None,
    })
}
