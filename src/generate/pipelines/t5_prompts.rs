//! In: a text, and a checkpoint with a T5 encoder. Out: T5's hidden states of it; for the pipelines that read prompts with T5
//! alone or beside CLIP.

use std::path::Path;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};

use super::diffusion::warn_of_files;
use crate::checkpoint::load_report::LoadReport;
use crate::models::T5EncoderModel;
use crate::text::t5::{T5Prompt, T5Tokenizer};

/// T5's tokenizer and encoder, with the number of tokens that it reads.
pub(crate) struct T5Prompts {
    tokenizer: T5Tokenizer,
    encoder: T5EncoderModel,
    /// Name of the encoder's folder.
    folder: &'static str,
    most: usize,
}

impl T5Prompts {
    /// Loads the tokenizer and encoder in folders `tokenizer` and `encoder` of the checkpoint in `folder`; `most` tokens of a
    /// text are read.
    pub(crate) fn load(
        folder: &Path,
        (tokenizer, encoder): (&str, &'static str),
        most: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        Ok(Self {
            tokenizer: T5Tokenizer::load(&folder.join(tokenizer))?,
            encoder: T5EncoderModel::load_summing_in_f32(&folder.join(encoder), dtype, device)?,
            folder: encoder,
            most,
        })
    }

    /// Hidden states `[1, n, width]` of the text's own tokens, cut but not padded.
    pub(crate) fn encode(&self, text: &str) -> Result<(T5Prompt, Tensor)> {
        let mut encoded = self.tokenizer.encode_to(text, self.most)?;
        encoded.ids.truncate(encoded.length);
        let hidden = self.encoder.forward(std::slice::from_ref(&encoded.ids), &[encoded.length])?;
        Ok((encoded, hidden))
    }

    /// Hidden states `[1, most, width]` of the text, cut or padded, where nothing hides the padding.
    pub(crate) fn encode_padded(&self, text: &str) -> Result<(T5Prompt, Tensor)> {
        let encoded = self.tokenizer.encode_to(text, self.most)?;
        let hidden = self.encoder.forward(std::slice::from_ref(&encoded.ids), &[self.most])?;
        Ok((encoded, hidden))
    }

    /// Width of the hidden states.
    pub(crate) fn width(&self) -> usize {
        self.encoder.width()
    }

    /// Warns of what changed nothing in the encoder's files.
    pub(crate) fn warn(&self, understood: &mut LoadReport) {
        warn_of_files(understood, self.folder, self.encoder.unused_parts());
    }

    /// Digest of the encoder's weights.
    pub(crate) fn sha256(&self) -> &str {
        self.encoder.sha256()
    }
}
