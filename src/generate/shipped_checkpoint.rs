//! In: the tiny checkpoint inside the binary. Out: the same files in a temporary folder, for the loader
//! that reads any other checkpoint. Its weights are random: its pictures are noise.

use std::path::Path;

use anyhow::Context;
use tempfile::TempDir;

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_bytes!(concat!("../../tests/fixtures/sd15-tiny/", $path)))),*]
    };
}

/// Path inside the checkpoint folder, and content.
const FILES: &[(&str, &[u8])] = files![
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
];

/// Writes the checkpoint to a temporary folder, which is removed when the value is dropped.
///
/// # Errors
/// The temporary folder cannot be written.
pub fn unpack() -> anyhow::Result<TempDir> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    for (path, content) in FILES {
        write(&folder.path().join(path), content)
            .with_context(|| format!("cannot unpack the shipped checkpoint's {path}"))?;
    }
    Ok(folder)
}

fn write(path: &Path, content: &[u8]) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(path, content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_checkpoint_is_inside() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sd15-tiny");
        let unpacked = unpack().unwrap();
        let mut count = 0;
        for part in std::fs::read_dir(&source).unwrap() {
            let part = part.unwrap().path();
            let files = if part.is_dir() {
                std::fs::read_dir(part).unwrap().map(|file| file.unwrap().path()).collect()
            } else {
                vec![part]
            };
            for file in files {
                let copy = unpacked.path().join(file.strip_prefix(&source).unwrap());
                assert_eq!(std::fs::read(copy).unwrap(), std::fs::read(&file).unwrap());
                count += 1;
            }
        }
        assert_eq!(count, FILES.len());
    }
}
