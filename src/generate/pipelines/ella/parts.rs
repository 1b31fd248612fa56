//! In: nothing. Out: what an ELLA is made of: the checkpoint below it, its files, and which tokens it reads.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::checkpoint::folder::DiffusersPipeline;

/// The kind of checkpoint that ELLA reads texts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EllaBase {
    /// Stable Diffusion 1.x: the connector's tokens stand where CLIP's stood.
    Sd15,
    /// Stable Diffusion XL: likewise; pooled text and sizes are still the checkpoint's own.
    Sdxl,
}

impl EllaBase {
    /// Name of the ELLA over it, as runs record it.
    pub fn model(self) -> &'static str {
        match self {
            Self::Sd15 => "ella-sd15",
            Self::Sdxl => "ella-sdxl",
        }
    }

    /// The pipeline whose checkpoints it takes.
    pub(crate) fn pipeline(self) -> DiffusersPipeline {
        match self {
            Self::Sd15 => DiffusersPipeline::Sd1,
            Self::Sdxl => DiffusersPipeline::Sdxl,
        }
    }
}

/// Where the parts are.
#[derive(Debug, Clone)]
pub struct EllaFiles {
    /// Folder of the checkpoint, in the diffusers layout.
    pub checkpoint: PathBuf,
    /// The connector's `.safetensors` file.
    pub connector: PathBuf,
    /// Folder of the T5 encoder with its tokenizer, in the layout of flan-t5.
    pub text_encoder: PathBuf,
}

/// Which tokens of the text the connector and the UNet get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum EllaTokens {
    /// 128 T5 tokens, cut or padded; the padding is masked inside T5, and the connector sees it.
    #[default]
    #[serde(rename = "fixed")]
    Fixed,
    /// As many T5 tokens as the text has.
    #[serde(rename = "flexible")]
    Flexible,
    /// As [`EllaTokens::Flexible`], behind the checkpoint's own hidden states of the same text.
    #[serde(rename = "clip+ella")]
    ClipAndElla,
}
