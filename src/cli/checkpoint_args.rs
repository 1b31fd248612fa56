//! In: the flags that name a checkpoint's parts, and a model file. Out: the model, its parts and the
//! settings of the model file. Putting parts together is left to `checkpoint::assembled`.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::checkpoint::assembled::CheckpointParts;
use crate::checkpoint::embeddings::EmbeddingFile;
use crate::checkpoint::lora::LoraFile;
use crate::results::Settings;

/// Parts of a checkpoint.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct CheckpointArgs {
    /// The model's checkpoint: a folder in the diffusers layout, or one .safetensors file in the
    /// latent-diffusion layout, as community models come [default: what `fetch MODEL` got]
    #[arg(long, value_name = "DIR|FILE")]
    pub weights: Option<PathBuf>,
    /// For a single file: a folder in the diffusers layout whose configurations and vocabulary it uses
    /// [default: the configurations of Stable Diffusion 1.5 or SDXL base; the vocabulary by
    /// --tokenizer]
    #[arg(long, value_name = "DIR")]
    pub base: Option<PathBuf>,
    /// Folder with another vocabulary: vocab.json and merges.txt, or tokenizer.json
    #[arg(long, value_name = "DIR")]
    pub tokenizer: Option<PathBuf>,
    /// Another autoencoder: its folder in the diffusers layout, or a .safetensors or .bin file
    #[arg(long, value_name = "DIR|FILE")]
    pub vae: Option<PathBuf>,
    /// LoRA adapter, a .safetensors or .bin file or the folder that it was saved to, with a weight [default: 1];
    /// may be given again
    #[arg(long, value_name = "FILE|DIR[:WEIGHT]")]
    pub lora: Vec<LoraFile>,
    /// Textual-inversion embedding, a .safetensors, .bin or .pt file or the folder that it was saved to, with the
    /// word that stands for it [default: the file's own]; may be given again
    #[arg(long, value_name = "FILE|DIR[:TOKEN]")]
    pub embedding: Vec<EmbeddingFile>,
}

impl CheckpointArgs {
    /// The parts, of the checkpoint at `checkpoint`.
    pub fn parts(&self, checkpoint: &Path) -> CheckpointParts {
        CheckpointParts {
            checkpoint: checkpoint.to_path_buf(),
            base: self.base.clone(),
            tokenizer: self.tokenizer.clone(),
            vae: self.vae.clone(),
            loras: self.lora.clone(),
            embeddings: self.embedding.clone(),
            prediction: None,
        }
    }
}

/// What a run's record says of the parts beside their digests: file names, not where they lie.
pub fn record(parts: &CheckpointParts) -> Settings {
    let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let mut record = Settings::new();
    if parts.checkpoint.is_file() {
        record.insert("checkpoint_file".to_owned(), json!(name(&parts.checkpoint)));
    }
    let loras: Vec<_> = parts
        .loras
        .iter()
        .map(|lora| json!({"file": name(&lora.file), "weight": lora.weight}))
        .collect();
    let embeddings: Vec<_> = parts
        .embeddings
        .iter()
        .map(|embedding| json!({"file": name(&embedding.file), "token": embedding.token}))
        .collect();
    for (key, list) in [("loras", loras), ("embeddings", embeddings)] {
        if !list.is_empty() {
            record.insert(key.to_owned(), json!(list));
        }
    }
    record
}
