//! In: a component's folder. Out: the safetensors files that hold its weights. Reading them is left to
//! `weights`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::DType;
use serde::Deserialize;

use super::model_error::ModelError;

/// `*.safetensors.index.json` of a checkpoint in several files.
#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

/// The weight files of the variant that suits `dtype`, in name order.
///
/// # Errors
/// There are none, or only pickles.
pub fn find_files(folder: &Path, stem: &str, dtype: DType) -> Result<Vec<PathBuf>, ModelError> {
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
