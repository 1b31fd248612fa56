//! In: a Stable Diffusion XL base checkpoint in the diffusers layout, settings, prompts and seeds. Out:
//! pictures. The networks are left to `models`, the way from noise to pictures to `diffusion`, the
//! files of a run to `generate_run`. There is no refiner.
//!
//! Equal to `StableDiffusionXLPipeline` of diffusers without its watermark, with one CPU generator per
//! image.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use serde_json::json;

use super::checkpoint_folder::{check_folder, files_sha256, tokenizer_files};
use super::clip_tokenizer::{ClipTokenizer, EncodedPrompt};
use super::conditioning::{AddedConditions, FixedConditioning, TextCondition, WithAdded};
use super::diffusion::{Diffusion, images};
use super::sd15::Sd15Options;
use super::{GeneratedImage, ImageGenerator};
use crate::models::{AddedCondition, ClipText, ClipTextWithProjection, VaeDecoder};
use crate::results::Settings;

/// A text as the UNet takes it.
#[derive(Debug, Clone)]
struct EncodedText {
    /// Penultimate hidden states of both encoders, side by side: [1, tokens, width].
    hidden: Tensor,
    /// Pooled output of the second encoder: [1, width].
    pooled: Tensor,
}

/// A loaded Stable Diffusion XL pipeline with fixed settings.
pub struct Sdxl {
    tokenizer: ClipTokenizer,
    tokenizer_2: ClipTokenizer,
    text_encoder: ClipText,
    text_encoder_2: ClipTextWithProjection,
    diffusion: Diffusion,
    /// `None` where zeros stand in its place.
    negative_prompt: Option<String>,
    configuration_sha256: String,
    /// The negative prompt, encoded; `None` where guidance is off.
    unconditional: Option<EncodedText>,
    /// The last prompt: the images of an item follow one another.
    last_prompt: Option<(String, EncodedPrompt, EncodedText)>,
}

impl Sdxl {
    /// Loads the checkpoint in `folder`. A negative prompt of `None` is zeros in place of a text, where
    /// the checkpoint's `force_zeros_for_empty_prompt` says so; the empty text is a text, and is encoded.
    ///
    /// Where the run is f16 and the autoencoder's configuration has `force_upcast`, pictures are decoded
    /// in f32: the published autoencoder overflows f16.
    ///
    /// # Errors
    /// A file is missing or broken, the checkpoint is of another kind, or a setting is impossible.
    pub fn load(
        folder: &Path,
        dtype: DType,
        device: &Device,
        options: Sd15Options,
    ) -> Result<Self> {
        let index = check_folder(folder, "sdxl", "StableDiffusionXLPipeline")?;
        let upcast = dtype == DType::F16 && VaeDecoder::overflows_f16(&folder.join("vae"))?;
        let vae_dtype = if upcast { DType::F32 } else { dtype };
        let diffusion = Diffusion::load_with_vae(folder, dtype, vae_dtype, device, &options)?;
        let zeros = index["force_zeros_for_empty_prompt"].as_bool().unwrap_or(true);
        let mut pipeline = Self {
            tokenizer: ClipTokenizer::load(&folder.join("tokenizer"))?,
            tokenizer_2: ClipTokenizer::load(&folder.join("tokenizer_2"))?,
            text_encoder: ClipText::load(&folder.join("text_encoder"), dtype, device)?,
            text_encoder_2: ClipTextWithProjection::load(
                &folder.join("text_encoder_2"),
                dtype,
                device,
            )?,
            diffusion,
            negative_prompt: if zeros {
                options.negative_prompt
            } else {
                Some(options.negative_prompt.unwrap_or_default())
            },
            configuration_sha256: configuration_sha256(folder)?,
            unconditional: None,
            last_prompt: None,
        };
        pipeline.check_parts().with_context(|| folder.display().to_string())?;
        let negative = pipeline.encode_negative()?;
        pipeline.check_widths(&negative).with_context(|| folder.display().to_string())?;
        pipeline.unconditional = pipeline.diffusion.is_guided().then_some(negative);
        Ok(pipeline)
    }

    /// Refuses tokenizers and text encoders that do not go together.
    fn check_parts(&self) -> Result<()> {
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
        Ok(())
    }

    /// Refuses text encoders and a UNet of different models.
    fn check_widths(&self, text: &EncodedText) -> Result<()> {
        let (hidden, pooled) = (text.hidden.dim(2)?, text.pooled.dim(1)?);
        let needed = self.diffusion.context_width();
        let needed_pooled = self.diffusion.pooled_width().context(
            "unet/config.json: no `addition_embed_type`, or too small a \
             `projection_class_embeddings_input_dim`; this is no SDXL base UNet",
        )?;
        ensure!(
            (hidden, pooled) == (needed, needed_pooled),
            "the text encoders give {hidden} channels and {pooled} pooled ones, the UNet takes {needed} \
             and {needed_pooled}; the parts are of different models"
        );
        Ok(())
    }

    /// The text for both encoders, and what the tokenizers made of it: they count differently where
    /// it has exclamation marks, and the larger number is told.
    fn encode(&self, prompt: &str) -> Result<(EncodedPrompt, EncodedText)> {
        let first = self.tokenizer.encode(prompt)?;
        let second = self.tokenizer_2.encode(prompt)?;
        let hidden = self.text_encoder.states(std::slice::from_ref(&first.ids))?.penultimate;
        let (states, pooled) = self.text_encoder_2.forward(std::slice::from_ref(&second.ids))?;
        let encoded = EncodedPrompt {
            full_length: first.full_length.max(second.full_length),
            truncated: first.truncated || second.truncated,
            ids: first.ids,
        };
        let hidden = Tensor::cat(&[&hidden, &states.penultimate], 2)?;
        Ok((encoded, EncodedText { hidden, pooled }))
    }

    fn encode_negative(&self) -> Result<EncodedText> {
        let (_, text) = self.encode(self.negative_prompt.as_deref().unwrap_or_default())?;
        if self.negative_prompt.is_some() {
            return Ok(text);
        }
        Ok(EncodedText { hidden: text.hidden.zeros_like()?, pooled: text.pooled.zeros_like()? })
    }

    /// Original size, crop and target size, as diffusers' pipeline defaults to them: the picture as it
    /// is, uncropped.
    fn time_ids(&self) -> [usize; 6] {
        let (height, width) = self.diffusion.size();
        [height, width, 0, 0, height, width]
    }

    /// The pictures of `prompt` before they are rounded to bytes: `[seeds, 3, height, width]`, f32 in
    /// 0..=1, with what the tokenizers made of the prompt.
    ///
    /// # Errors
    /// The prompt cannot be tokenized or a network failed.
    pub fn pictures(&mut self, prompt: &str, seeds: &[u64]) -> Result<(EncodedPrompt, Tensor)> {
        let (encoded, text) = match self.last_prompt.take() {
            Some((last, encoded, text)) if last == prompt => (encoded, text),
            _ => self.encode(prompt)?,
        };
        self.last_prompt = Some((prompt.to_owned(), encoded.clone(), text.clone()));
        let time_ids: Vec<f64> = self.time_ids().iter().map(|&size| size as f64).collect();
        let added = |text: &EncodedText| AddedCondition {
            pooled: text.pooled.clone(),
            time_ids: time_ids.clone(),
        };
        let conditioning = WithAdded {
            added: AddedConditions {
                conditional: added(&text),
                unconditional: self.unconditional.as_ref().map(added),
            },
            text: FixedConditioning(TextCondition {
                conditional: text.hidden,
                unconditional: self.unconditional.as_ref().map(|text| text.hidden.clone()),
            }),
        };
        Ok((encoded, self.diffusion.pictures(&conditioning, seeds)?))
    }
}

impl ImageGenerator for Sdxl {
    fn settings(&self) -> Settings {
        let mut weights = self.diffusion.digests();
        weights.extend(
            [
                ("configuration", self.configuration_sha256.as_str()),
                ("text_encoder", self.text_encoder.sha256()),
                ("text_encoder_2", self.text_encoder_2.sha256()),
            ]
            .map(|(name, digest)| (name.to_owned(), json!(digest))),
        );
        let mut settings = self.diffusion.settings();
        settings.extend(
            [
                ("model", json!("sdxl")),
                ("pipeline", json!("StableDiffusionXLPipeline")),
                ("weights", json!(weights)),
                // Null where zeros stand in its place.
                ("negative_prompt", json!(self.negative_prompt)),
                ("time_ids", json!(self.time_ids())),
                ("vae_dtype", json!(self.diffusion.vae_dtype().as_str())),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        settings
    }

    fn generate(&mut self, prompt: &str, seeds: &[u64]) -> Result<Vec<GeneratedImage>> {
        let (encoded, pictures) = self.pictures(prompt, seeds)?;
        images(&pictures, seeds, encoded.full_length, encoded.truncated)
    }
}

/// Digest of the small files that decide the arithmetic beside the weights, as for SD1.5.
fn configuration_sha256(folder: &Path) -> Result<String> {
    let networks = ["text_encoder", "text_encoder_2", "unet", "vae"];
    let configurations = networks.iter().map(|network| format!("{network}/config.json"));
    let tokenizers = ["tokenizer", "tokenizer_2"];
    files_sha256(folder, configurations.chain(tokenizers.into_iter().flat_map(tokenizer_files)))
}
