//! In: a component's folder. Out: the files that hold its weights. Reading them is left to `weights`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::DType;
use serde::Deserialize;

use super::file_fault::FileFault;
use super::model_error::ModelError;
use super::pickle_file::StateDictLayout;
use super::safetensors_file::{FileContents, TensorFile, contents, contents_of_pickle};

/// Index of a checkpoint in several files.
#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

/// How the pickles begin that hold the weights called `stem`: transformers has another name for them.
pub(crate) fn pickle_stem(stem: &str) -> &str {
    if stem == "model" { "pytorch_model" } else { stem }
}

/// Whether `name` is that of a file, or of an index, with weights called `stem`.
pub(crate) fn is_weight_file(name: &str, stem: &str) -> bool {
    [(stem, ".safetensors"), (pickle_stem(stem), ".bin")].into_iter().any(|(stem, ending)| {
        name.strip_prefix(stem).is_some_and(|rest| rest.starts_with('.') && rest.contains(ending))
    })
}

/// The weight files of the variant that suits `dtype`, in name order. Of a variant that is there as safetensors
/// and as pickles, the safetensors are taken, as diffusers and transformers do.
///
/// # Errors
/// There are none.
pub(crate) fn find_files(
    folder: &Path,
    stem: &str,
    dtype: DType,
) -> Result<Vec<PathBuf>, ModelError> {
    let variants = if dtype == DType::F16 { [".fp16", ""] } else { ["", ".fp16"] };
    let pickles = pickle_stem(stem);
    for variant in variants {
        for (stem, ending) in [(stem, "safetensors"), (pickles, "bin")] {
            let single = folder.join(format!("{stem}{variant}.{ending}"));
            if single.is_file() {
                return Ok(vec![single]);
            }
            let indexes = [
                format!("{stem}{variant}.{ending}.index.json"),
                // The order of the parts that older versions of diffusers wrote.
                format!("{stem}.{ending}.index{variant}.json"),
            ];
            for index in indexes.map(|name| folder.join(name)) {
                if index.is_file() {
                    return shard_files(&index);
                }
            }
        }
    }
    if !folder.is_dir() {
        return Err(ModelError::broken(folder, FileFault::NoFolder));
    }
    let reason = FileFault::NoWeights { stem: stem.to_owned(), pickles: pickles.to_owned() };
    Err(ModelError::broken(folder, reason))
}

/// Whether a weight file is PyTorch's own: so diffusers tells as well, by the name alone.
fn is_pickle(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "bin")
}

/// Opens a file that [`find_files`] found.
pub(super) fn open(path: &Path) -> Result<TensorFile, ModelError> {
    if is_pickle(path) {
        return TensorFile::open_pickle(path, StateDictLayout::default());
    }
    TensorFile::open(path)
}

/// Names and shapes of the tensors in a file that [`find_files`] found.
///
/// # Errors
/// It is missing, truncated, not in the format that its name says, or a pickle that would call something.
pub(crate) fn contents_of_weights(path: &Path) -> Result<FileContents, ModelError> {
    if is_pickle(path) {
        return contents_of_pickle(path, StateDictLayout::default());
    }
    contents(path)
}

/// The files that an index names, each beside it.
fn shard_files(index: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let text = std::fs::read(index).map_err(|source| ModelError::unreadable(index, source))?;
    let parsed: ShardIndex = serde_json::from_slice(&text)
        .map_err(|error| ModelError::broken(index, FileFault::NoIndex(error)))?;
    let mut names: Vec<&String> = parsed.weight_map.values().collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        return Err(ModelError::broken(index, FileFault::EmptyIndex));
    }
    let folder = index.parent().unwrap_or(Path::new(""));
    names
        .into_iter()
        .map(|name| match Path::new(name).file_name() {
            Some(file) if file == name.as_str() => Ok(folder.join(name)),
            _ => Err(ModelError::broken(index, FileFault::IndexLeavesFolder(name.clone()))),
        })
        .collect()
}
