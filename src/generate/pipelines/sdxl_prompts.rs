//! In: a prompt, and a Stable Diffusion XL checkpoint. Out: what its UNet is told of the prompt, and the networks behind;
//! for the pipelines over such a checkpoint.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

use super::conditioning::AddedConditions;
use super::diffusion::{Diffusion, warn_of_files};
use super::options::DiffusionOptions;
use crate::checkpoint::folder::{DiffusersPipeline, files_sha256, tokenizer_files};
use crate::checkpoint::load_report::LoadReport;
use crate::models::{
    AddedCondition, ClipTextModel, ClipTextModelWithProjection, TextContext, VaeDecoder,
};
use crate::results::Settings;
use crate::text::clip::{ClipTokenizer, EncodedPrompt};

/// A text as the UNet takes it.
#[derive(Debug, Clone)]
pub(crate) struct SdxlText {
    /// Penultimate hidden states of both encoders, side by side: [1, tokens, width].
    pub(crate) hidden: TextContext,
    /// Pooled output of the second encoder: [1, width].
    pub(crate) pooled: Tensor,
}

/// Both tokenizers and text encoders: prompts to hidden states and pooled output.
pub(crate) struct SdxlPrompts {
    tokenizer: ClipTokenizer,
    tokenizer_2: ClipTokenizer,
    text_encoder: ClipTextModel,
    text_encoder_2: ClipTextModelWithProjection,
    spare_rows: Vec<String>,
}

impl SdxlPrompts {
    /// Loads the two tokenizers and text encoders of the checkpoint in `folder`.
    pub(crate) fn load(folder: &Path, dtype: DType, device: &Device) -> Result<Self> {
        let second = folder.join("text_encoder_2");
        let mut prompts = Self {
            tokenizer: ClipTokenizer::load(&folder.join("tokenizer"))?,
            tokenizer_2: ClipTokenizer::load(&folder.join("tokenizer_2"))?,
            text_encoder: ClipTextModel::load(&folder.join("text_encoder"), dtype, device)?,
            text_encoder_2: ClipTextModelWithProjection::load(&second, dtype, device)?,
            spare_rows: Vec::new(),
        };
        prompts.spare_rows = prompts.check().with_context(|| folder.display().to_string())?;
        Ok(prompts)
    }

    /// Refuses tokenizers and text encoders that do not go together; returns what to tell.
    fn check(&self) -> Result<Vec<String>> {
        let (first, second) = (self.tokenizer.max_length(), self.tokenizer_2.max_length());
        ensure!(
            first == second,
            "the tokenizers make {first} and {second} tokens, where one number is due"
        );
        let takes = self.text_encoder.max_tokens().min(self.text_encoder_2.max_tokens());
        ensure!(
            first <= takes,
            "the tokenizers make {first} tokens, the text encoders take {takes}"
        );
        let (rows, rows_2) = (self.text_encoder.token_rows(), self.text_encoder_2.token_rows());
        let spare = [
            self.tokenizer.check_rows(rows, "first text encoder")?,
            self.tokenizer_2.check_rows(rows_2, "second text encoder")?,
        ];
        Ok(spare.into_iter().flatten().collect())
    }

    /// The text for both encoders, and what the tokenizers made of it: they count differently where
    /// it has exclamation marks, and the larger number is told.
    pub(crate) fn encode(&self, prompt: &str) -> Result<(EncodedPrompt, SdxlText)> {
        let first = self.tokenizer.encode(prompt)?;
        let second = self.tokenizer_2.encode(prompt)?;
        let hidden = self.text_encoder.states(std::slice::from_ref(&first.ids))?.penultimate;
        let (states, pooled) = self.text_encoder_2.forward(std::slice::from_ref(&second.ids))?;
        let encoded = EncodedPrompt {
            full_length: first.full_length.max(second.full_length),
            truncated: first.truncated || second.truncated,
            ids: first.ids,
        };
        let hidden = TextContext::new(Tensor::cat(&[&hidden, &states.penultimate], 2)?);
        Ok((encoded, SdxlText { hidden, pooled }))
    }

    /// The text, or zeros of its shape where there is none.
    pub(crate) fn encode_or_zeros(&self, text: Option<&str>) -> Result<SdxlText> {
        let (_, encoded) = self.encode(text.unwrap_or_default())?;
        if text.is_some() {
            return Ok(encoded);
        }
        let hidden = TextContext::new(encoded.hidden.states().zeros_like()?);
        Ok(SdxlText { hidden, pooled: encoded.pooled.zeros_like()? })
    }

    /// Warns of what changed nothing in the files of both text encoders, and of rows without a token.
    pub(crate) fn warn(&self, understood: &mut LoadReport) {
        warn_of_files(understood, "text_encoder", self.text_encoder.unused_parts());
        warn_of_files(understood, "text_encoder_2", self.text_encoder_2.unused_parts());
        understood.warnings.extend(self.spare_rows.iter().cloned());
    }

    /// Digests of the weights, by part.
    pub(crate) fn digests(&self) -> Settings {
        [
            ("text_encoder", self.text_encoder.sha256()),
            ("text_encoder_2", self.text_encoder_2.sha256()),
        ]
        .map(|(name, digest)| (name.to_owned(), json!(digest)))
        .into()
    }
}

/// UNet, autoencoder and scheduler; the autoencoder in f32 where it would overflow.
pub(crate) fn load_diffusion(
    folder: &Path,
    pipeline: DiffusersPipeline,
    dtype: DType,
    device: &Device,
    options: &DiffusionOptions,
) -> Result<Diffusion> {
    let upcast = dtype == DType::F16 && VaeDecoder::overflows_f16(&folder.join("vae"))?;
    let vae_dtype = if upcast { DType::F32 } else { dtype };
    Diffusion::load(folder, pipeline, (dtype, vae_dtype), device, options)
}

/// What guidance leads away from; `None` where zeros stand in its place, as `model_index.json` says.
pub(crate) fn negative_prompt(index: &Value, given: Option<String>) -> Option<String> {
    if index["force_zeros_for_empty_prompt"].as_bool().unwrap_or(true) {
        given
    } else {
        Some(given.unwrap_or_default())
    }
}

/// Original size, crop and target size, as diffusers' pipeline defaults to them: the picture as it is,
/// uncropped.
pub(crate) fn time_ids(diffusion: &Diffusion) -> [usize; 6] {
    let (height, width) = diffusion.size();
    [height, width, 0, 0, height, width]
}

/// What the UNet is told beside the hidden states, from the pooled outputs of prompt and negative
/// prompt.
pub(crate) fn added(
    conditional: &Tensor,
    unconditional: Option<&Tensor>,
    diffusion: &Diffusion,
) -> AddedConditions {
    let time_ids = time_ids(diffusion).map(|size| size as f64);
    let with = |pooled: &Tensor| AddedCondition::new(pooled.clone(), time_ids.to_vec());
    AddedConditions { conditional: with(conditional), unconditional: unconditional.map(with) }
}

/// Digest of the small files that decide the arithmetic beside the weights, as for SD1.5.
pub(crate) fn configuration_sha256(folder: &Path) -> Result<String> {
    let networks = ["text_encoder", "text_encoder_2", "unet", "vae"];
    let configurations = networks.iter().map(|network| format!("{network}/config.json"));
    let tokenizers = ["tokenizer", "tokenizer_2"];
    files_sha256(folder, configurations.chain(tokenizers.into_iter().flat_map(tokenizer_files)))
}
