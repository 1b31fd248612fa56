//! In: a prompt, and a Stable Diffusion 1.x checkpoint. Out: CLIP's hidden states, and the digest of the files that decide
//! them; for the pipelines that read prompts with CLIP.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};

use super::diffusion::warn_of_files;
use crate::checkpoint::folder::{files_sha256, tokenizer_files};
use crate::checkpoint::load_report::LoadReport;
use crate::models::ClipTextModel;
use crate::text::clip::{ClipTokenizer, EncodedPrompt};

/// CLIP's tokenizer and text encoder: prompts to hidden states.
pub(crate) struct ClipPrompts {
    tokenizer: ClipTokenizer,
    text_encoder: ClipTextModel,
    spare_rows: Option<String>,
}

impl ClipPrompts {
    /// Loads `tokenizer/` and `text_encoder/` of the checkpoint in `folder`.
    pub(crate) fn load(folder: &Path, dtype: DType, device: &Device) -> Result<Self> {
        let tokenizer = ClipTokenizer::load(&folder.join("tokenizer"))?;
        let text_encoder = ClipTextModel::load(&folder.join("text_encoder"), dtype, device)?;
        ensure!(
            tokenizer.max_length() <= text_encoder.max_tokens(),
            "{}: the tokenizer makes {} tokens, the text encoder takes {}",
            folder.display(),
            tokenizer.max_length(),
            text_encoder.max_tokens()
        );
        let spare_rows = tokenizer
            .check_rows(text_encoder.token_rows(), "text encoder")
            .with_context(|| folder.display().to_string())?;
        Ok(Self { tokenizer, text_encoder, spare_rows })
    }

    /// Hidden states `[1, tokens, width]` of `prompt`, with what the tokenizer made of it.
    pub(crate) fn encode(&self, prompt: &str) -> Result<(EncodedPrompt, Tensor)> {
        let encoded = self.tokenizer.encode(prompt)?;
        let hidden = self.text_encoder.forward(std::slice::from_ref(&encoded.ids))?;
        Ok((encoded, hidden))
    }

    /// Warns of what changed nothing in the files of `text_encoder/`, and of rows without a token.
    pub(crate) fn warn(&self, understood: &mut LoadReport) {
        warn_of_files(understood, "text_encoder", self.text_encoder.unused_parts());
        understood.warnings.extend(self.spare_rows.clone());
    }

    /// Digest of the text encoder's weights.
    pub(crate) fn sha256(&self) -> &str {
        self.text_encoder.sha256()
    }
}

/// Digest of the small files that decide the arithmetic beside the weights: the vocabulary and the
/// networks' configurations. The scheduler's stands in the settings.
pub(crate) fn configuration_sha256(folder: &Path) -> Result<String> {
    let parts = ["text_encoder/config.json", "unet/config.json", "vae/config.json"];
    let parts = parts.map(str::to_owned).into_iter();
    files_sha256(folder, parts.chain(tokenizer_files("tokenizer")))
}
