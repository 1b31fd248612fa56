//! In: a folder that should hold a checkpoint in the diffusers layout. Out: a complaint where it does
//! not, its small files, and their digest. The weights are left to `models`.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::catalog;
use super::embeddings::WORDS_FILE;
use crate::results::image_store::hex;

/// `model_index.json` of `folder`, which must name the pipeline `class`; `model` is its name in the
/// catalog. Complains about absent files before any is read.
///
/// # Errors
/// A file is missing or broken, or the checkpoint is of another kind.
pub(super) fn check_folder(folder: &Path, model: &str, class: &str) -> Result<Value> {
    ensure!(
        folder.is_dir(),
        "{} is no folder; --weights takes a diffusers checkpoint",
        folder.display()
    );
    let missing = catalog::find(model)?.missing(folder);
    if !missing.is_empty() {
        let list: String = missing.iter().map(|file| format!("\n  {file}")).collect();
        bail!("{} is no complete {class} checkpoint; it lacks:{list}", folder.display());
    }
    let path = folder.join("model_index.json");
    let index: Value = serde_json::from_str(&read(&path)?)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    let found = index.get("_class_name").and_then(Value::as_str).unwrap_or("nothing");
    ensure!(
        found == class,
        "{} names a {found}; model {model} runs {class} checkpoints",
        path.display()
    );
    Ok(index)
}

/// The text of a file.
pub(super) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The small files of a tokenizer that decide its ids, by their names in `folder`.
pub(super) fn tokenizer_files(folder: &str) -> Vec<String> {
    let names = [
        "vocab.json",
        "merges.txt",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        WORDS_FILE,
    ];
    names.iter().map(|name| format!("{folder}/{name}")).collect()
}

/// SHA-256 over names, lengths and contents of those of `files` that are in `folder`.
pub(super) fn files_sha256(
    folder: &Path,
    files: impl IntoIterator<Item = impl AsRef<str>>,
) -> Result<String> {
    let mut hasher = Sha256::new();
    for file in files {
        let file = file.as_ref();
        let path = folder.join(file);
        if !path.is_file() {
            continue;
        }
        let bytes =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        hasher.update(format!("{file} {}\n", bytes.len()));
        hasher.update(bytes);
    }
    Ok(hex(&hasher.finalize()))
}
