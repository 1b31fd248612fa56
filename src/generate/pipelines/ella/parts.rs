//! In: nothing. Out: what an ELLA is made of: the checkpoint below it, its files, and which tokens it reads.

use std::path::PathBuf;

use anyhow::{Result, bail};
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
    /// Folder of the text encoder with its tokenizer: a T5 encoder in the layout of flan-t5, or a decoder-only
    /// language model.
    pub text_encoder: PathBuf,
}

/// How an ELLA reads texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EllaReading {
    /// What of a text the connector and the UNet get; where it is `None`, what the connector was made for: 128 tokens,
    /// or as many as the text has for an adapter that hides padding itself.
    pub tokens: Option<EllaTokens>,
    /// What a decoder-only text encoder is told, with `{prompt}` where the text goes and every special token spelled
    /// out; where it is `None`, the text alone, with the special tokens that its tokenizer adds.
    pub template: Option<String>,
    /// How many of its first tokens' states are dropped.
    pub skip: usize,
}

impl EllaReading {
    /// Refuses what T5 does not do.
    pub(crate) fn refuse_beside_t5(&self) -> Result<()> {
        for (flag, given) in
            [("--text-template", self.template.is_some()), ("--text-skip", self.skip > 0)]
        {
            if given {
                bail!("{flag} is for decoder-only text encoders; T5 reads the prompt alone");
            }
        }
        Ok(())
    }
}

impl From<EllaTokens> for EllaReading {
    fn from(tokens: EllaTokens) -> Self {
        Self { tokens: Some(tokens), ..Self::default() }
    }
}

/// Which tokens of the text the connector and the UNet get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum EllaTokens {
    /// 128 tokens, cut or padded; the padding is masked inside the text encoder, and the connector sees it.
    #[default]
    #[serde(rename = "fixed")]
    Fixed,
    /// As many tokens as the text has.
    #[serde(rename = "flexible")]
    Flexible,
    /// As [`EllaTokens::Flexible`], behind the checkpoint's own hidden states of the same text.
    #[serde(rename = "clip+ella")]
    ClipAndElla,
}
