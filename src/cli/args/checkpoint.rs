//! In: the flags that name a checkpoint's parts. Out: the parts.

use std::path::PathBuf;

use crate::checkpoint::embeddings::EmbeddingFile;
use crate::checkpoint::lora::LoraFile;

/// Parts of a checkpoint.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Checkpoint parts")]
pub(crate) struct CheckpointArgs {
    /// The model's checkpoint: a folder in the diffusers layout, one .safetensors file in the
    /// latent-diffusion layout, as community models come, or the name of a model in the local Hugging Face
    /// cache, as `hf download OWNER/NAME` left it [default: what `fetch MODEL` got]
    #[arg(
        long,
        alias = "pretrained-model-name-or-path",
        value_name = "DIR|FILE|OWNER/NAME",
        help_heading = "Model"
    )]
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
    /// LoRA adapter (a small file of changes to the weights): a .safetensors or .bin file or the folder that it was
    /// saved to, with a weight [default: 1]; can be repeated
    #[arg(long, value_name = "FILE|DIR[:WEIGHT]")]
    pub lora: Vec<LoraFile>,
    /// Textual-inversion embedding (a file that teaches the text encoder a new word): a .safetensors, .bin or .pt
    /// file or the folder that it was saved to, with the word for prompts [default: the file's own]; can be repeated
    #[arg(long, value_name = "FILE|DIR[:TOKEN]")]
    pub embedding: Vec<EmbeddingFile>,
}
