//! In: a prompt, and a FLUX.1 checkpoint. Out: what its transformer is told of the prompt: T5's hidden states and CLIP's pooled
//! output.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device};
use serde_json::json;

use super::diffusion::warn_of_files;
use super::joint_text::JointText;
use super::t5_prompts::T5Prompts;
use crate::checkpoint::folder::{files_sha256, tokenizer_files};
use crate::checkpoint::load_report::LoadReport;
use crate::models::ClipTextModelWithPooling;
use crate::results::Settings;
use crate::text::clip::ClipTokenizer;
use crate::text::t5::TOKENIZER_FILES;

/// CLIP's text encoder and T5.
pub(crate) struct FluxPrompts {
    tokenizer: ClipTokenizer,
    clip: ClipTextModelWithPooling,
    t5: T5Prompts,
    spare_rows: Option<String>,
}

impl FluxPrompts {
    /// Loads the encoders of the checkpoint in `folder`; T5 reads `tokens` tokens of a text.
    pub(crate) fn load(
        folder: &Path,
        tokens: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let tokenizer = ClipTokenizer::load(&folder.join("tokenizer"))?;
        let clip = ClipTextModelWithPooling::load(&folder.join("text_encoder"), dtype, device)?;
        ensure!(
            tokenizer.max_length() <= clip.text().max_tokens(),
            "{}: the tokenizer makes {} tokens, the text encoder takes {}",
            folder.display(),
            tokenizer.max_length(),
            clip.text().max_tokens()
        );
        let spare_rows = tokenizer
            .check_rows(clip.text().token_rows(), "text encoder")
            .with_context(|| folder.display().to_string())?;
        let names = ("tokenizer_2", "text_encoder_2");
        let t5 = T5Prompts::load(folder, names, tokens, dtype, device)?;
        Ok(Self { tokenizer, clip, t5, spare_rows })
    }

    /// The text for both encoders.
    pub(crate) fn encode(&self, text: &str) -> Result<JointText> {
        let ids = self.tokenizer.encode(text)?.ids;
        let (_, pooled) = self.clip.forward(&[ids])?;
        let (encoded, states) = self.t5.encode_padded(text)?;
        let (full_length, truncated) = (encoded.full_length, encoded.truncated());
        Ok(JointText { states, pooled, full_length, truncated })
    }

    /// Width of T5's hidden states.
    pub(crate) fn width(&self) -> usize {
        self.t5.width()
    }

    /// Warns of what changed nothing in the encoders' files, and of rows without a token.
    pub(crate) fn warn(&self, understood: &mut LoadReport) {
        warn_of_files(understood, "text_encoder", self.clip.text().unused_parts());
        understood.warnings.extend(self.spare_rows.clone());
        self.t5.warn(understood);
    }

    /// Digests of the weights, by part.
    pub(crate) fn digests(&self) -> Settings {
        [("text_encoder", self.clip.text().sha256()), ("text_encoder_2", self.t5.sha256())]
            .map(|(name, digest)| (name.to_owned(), json!(digest)))
            .into()
    }
}

/// Digest of the small files that decide the arithmetic beside the weights.
pub(crate) fn configuration_sha256(folder: &Path) -> Result<String> {
    let networks = ["text_encoder", "text_encoder_2", "transformer", "vae"];
    let configurations = networks.iter().map(|network| format!("{network}/config.json"));
    let t5 = TOKENIZER_FILES.iter().map(|file| format!("tokenizer_2/{file}"));
    files_sha256(folder, configurations.chain(tokenizer_files("tokenizer")).chain(t5))
}
