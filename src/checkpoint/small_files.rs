//! In: the small files of a checkpoint. Out: their content, or new ones. Which of them make a checkpoint is left to
//! `assembled_checkpoint`.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::known_configs;

/// Makes a copy of the first vocabulary SDXL's second one: it pads with `!`. Words that were added stay.
pub(crate) fn pad_as_sdxl(folder: &Path) -> Result<()> {
    let config = folder.join("tokenizer_config.json");
    let own = if config.is_file() { read_json(&config)? } else { Value::Null };
    let decoder = &own["added_tokens_decoder"];
    if decoder.is_null() && !folder.join("added_tokens.json").is_file() {
        return write(&config, known_configs::SDXL_TOKENIZER_2);
    }
    let mut padded: Value = serde_json::from_str(known_configs::SDXL_TOKENIZER_2)?;
    match (decoder, padded.as_object_mut()) {
        // The older files are read where the newer entry is absent, and would pad otherwise.
        (Value::Null, Some(entries)) => {
            entries.remove("added_tokens_decoder");
            write(&folder.join("special_tokens_map.json"), "{}")?;
        }
        _ => padded["added_tokens_decoder"] = decoder.clone(),
    }
    write_json(&config, &padded)
}

pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    let written = path
        .parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| std::fs::write(path, content));
    written.with_context(|| format!("cannot write {}", path.display()))
}

pub(crate) fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    write(path, serde_json::to_vec_pretty(value)?)
}

pub(crate) fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", path.display()))
}

pub(crate) fn number(path: &Path, key: &str) -> Result<usize> {
    read_json(path)?[key]
        .as_u64()
        .and_then(|number| usize::try_from(number).ok())
        .with_context(|| format!("{}: `{key}` is no whole number", path.display()))
}

pub(crate) fn level_count(path: &Path) -> Result<usize> {
    read_json(path)?["block_out_channels"]
        .as_array()
        .map(Vec::len)
        .with_context(|| format!("{}: `block_out_channels` is no list", path.display()))
}
