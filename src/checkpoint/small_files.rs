//! In: the small files of a checkpoint. Out: their content, or new ones. Which of them make a checkpoint is left to
//! `assembled`.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use super::config::drop_unset;

/// Makes a copy of CLIP's vocabulary that of Stable Diffusion 2, or SDXL's second one: it pads with `!`. Words that
/// were added stay.
pub(crate) fn pad_with_exclamation_mark(folder: &Path) -> Result<()> {
    let (config, map) =
        (folder.join("tokenizer_config.json"), folder.join("special_tokens_map.json"));
    for path in [Some(&config), Some(&map).filter(|map| map.is_file())].into_iter().flatten() {
        let mut entries = if path.is_file() { read_json(path)? } else { json!({}) };
        let Value::Object(values) = &mut entries else {
            bail!("{}: is not a JSON object", path.display());
        };
        values.insert("pad_token".to_owned(), "!".into());
        write_json(path, &entries)?;
    }
    Ok(())
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
    log::debug!("opened {}", path.display());
    serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", path.display()))
}

/// A JSON file of a pipeline or component of diffusers, without the keys that nobody set.
pub(crate) fn read_component(path: &Path) -> Result<Value> {
    let mut config = read_json(path)?;
    if let Value::Object(values) = &mut config {
        drop_unset(values).map_err(|reason| anyhow!("{}: {reason}", path.display()))?;
    }
    Ok(config)
}

pub(crate) fn number(path: &Path, key: &str) -> Result<usize> {
    read_component(path)?[key]
        .as_u64()
        .and_then(|number| usize::try_from(number).ok())
        .with_context(|| format!("{}: `{key}` is no whole number", path.display()))
}

pub(crate) fn level_count(path: &Path) -> Result<usize> {
    read_component(path)?["block_out_channels"]
        .as_array()
        .map(Vec::len)
        .with_context(|| format!("{}: `block_out_channels` is no list", path.display()))
}
