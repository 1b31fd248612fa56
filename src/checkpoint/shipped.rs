//! In: the trained models of the demo, which are inside the binary. Out: the same files in a temporary
//! folder, for the loaders that read any other model. What they are is told in benchmark/demo/models.

use std::path::Path;

use tempfile::TempDir;

/// A folder of files inside the binary.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShippedFolder {
    /// The model's name, which is the folder's under `benchmark/demo/models` too.
    pub name: &'static str,
    /// Path inside the folder, with `/` between folder and file, and content.
    files: &'static [(&'static str, &'static [u8])],
}

macro_rules! shipped {
    ($name:literal: $($path:literal),* $(,)?) => {
        ShippedFolder {
            name: $name,
            files: &[$((
                $path,
                include_bytes!(concat!("../../benchmark/demo/models/", $name, "/", $path)),
            )),*],
        }
    };
}

// Each a `static`: of a constant, every part of the program that names it would hold a copy, of megabytes.

/// A Stable Diffusion 1.x checkpoint in the diffusers layout.
pub(crate) static DEMO_SD: ShippedFolder = shipped!("demo-sd":
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
);

/// An ELLA connector for [`DEMO_SD`], `ella.safetensors`, and its T5 encoder in `text_encoder`.
pub(crate) static DEMO_ELLA: ShippedFolder = shipped!("demo-ella":
    "ella.safetensors",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "text_encoder/spiece.model",
);

/// An mPLUG model for visual question answering, with safetensors.
pub static DEMO_JUDGE: ShippedFolder = shipped!("demo-judge":
    "config.yaml",
    "config_bert.json",
    "configuration.json",
    "model.safetensors",
    "vocab.txt",
);

/// Width and height of the images of [`DEMO_SD`] in pixels.
pub(crate) const DEMO_SIDE: u32 = 64;

impl ShippedFolder {
    /// Writes the files to a temporary folder, which is removed when the value is dropped.
    ///
    /// # Errors
    /// The temporary folder cannot be made or written.
    pub fn unpack(&self) -> std::io::Result<TempDir> {
        let folder = tempfile::tempdir()?;
        for (path, content) in self.files {
            write(&folder.path().join(path), content)?;
        }
        Ok(folder)
    }
}

fn write(path: &Path, content: &[u8]) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(path, content)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// Every file below `folder`, model cards aside.
    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(files(&path));
            } else if path.extension().is_none_or(|extension| extension != "md") {
                found.push(path);
            }
        }
        found
    }

    #[test]
    fn every_file_of_each_folder_is_inside() {
        for shipped in [&DEMO_SD, &DEMO_ELLA, &DEMO_JUDGE] {
            let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("benchmark/demo/models");
            let source = models.join(shipped.name);
            let unpacked = shipped.unpack().unwrap();
            let there = files(&source);
            assert_eq!(there.len(), shipped.files.len(), "{}", shipped.name);
            for file in there {
                let copy = unpacked.path().join(file.strip_prefix(&source).unwrap());
                assert_eq!(std::fs::read(copy).unwrap(), std::fs::read(&file).unwrap());
            }
        }
    }

    #[test]
    fn the_demo_makes_images_of_the_side_that_is_told() {
        let config = |path: &str| -> serde_json::Value {
            let found = DEMO_SD.files.iter().find(|(name, _)| *name == path).unwrap();
            serde_json::from_slice(found.1).unwrap()
        };
        let latent = config("unet/config.json")["sample_size"].as_u64().unwrap();
        let levels = config("vae/config.json")["block_out_channels"].as_array().unwrap().len();
        assert_eq!(latent << (levels - 1), u64::from(DEMO_SIDE));
    }

    /// What issue and README promise of the models' size.
    #[test]
    fn the_demos_models_are_small() {
        let bytes: usize = [&DEMO_SD, &DEMO_ELLA, &DEMO_JUDGE]
            .iter()
            .flat_map(|shipped| shipped.files)
            .map(|(_, content)| content.len())
            .sum();
        assert!(bytes <= 12 << 20, "{bytes} bytes");
    }
}
