//! In: a Stable Diffusion XL base checkpoint in the diffusers layout, settings, prompts and seeds. Out:
//! pictures. The networks are left to `models`, the way from noise to pictures to `diffusion`, the
//! files of a run to `generate_run`. There is no refiner.
//!
//! Equal to `StableDiffusionXLPipeline` of diffusers without its watermark, with one CPU generator per
//! image.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

use super::conditioning::{AddedConditions, FixedConditioning, TextCondition, WithAdded};
use super::diffusion::{Diffusion, images, warn_of_files};
use super::options::DiffusionOptions;
use crate::checkpoint::folder::{DiffusersPipeline, check_folder, files_sha256, tokenizer_files};
use crate::checkpoint::load_report::LoadReport;
use crate::generate::{GeneratedImage, ImageGenerator, ImageTimes};
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

/// A loaded Stable Diffusion XL pipeline with fixed settings.
pub struct Sdxl {
    texts: SdxlPrompts,
    diffusion: Diffusion,
    /// `None` where zeros stand in its place.
    negative_prompt: Option<String>,
    configuration_sha256: String,
    /// The negative prompt, encoded; `None` where guidance is off.
    unconditional: Option<SdxlText>,
    /// The last prompt: the images of an item follow one another.
    last_prompt: Option<(String, EncodedPrompt, SdxlText)>,
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
        options: DiffusionOptions,
    ) -> Result<Self> {
        let index = check_folder(folder, "sdxl", DiffusersPipeline::Sdxl)?;
        let diffusion = load_diffusion(folder, dtype, device, &options)?;
        let mut pipeline = Self {
            texts: SdxlPrompts::load(folder, dtype, device)?,
            diffusion,
            negative_prompt: negative_prompt(&index, options.negative_prompt),
            configuration_sha256: configuration_sha256(folder)?,
            unconditional: None,
            last_prompt: None,
        };
        let negative = pipeline.texts.encode_or_zeros(pipeline.negative_prompt.as_deref())?;
        pipeline.check_widths(&negative).with_context(|| folder.display().to_string())?;
        pipeline.unconditional = pipeline.diffusion.is_guided().then_some(negative);
        Ok(pipeline)
    }

    /// Refuses text encoders and a UNet of different models.
    fn check_widths(&self, text: &SdxlText) -> Result<()> {
        let (hidden, pooled) = (text.hidden.states().dim(2)?, text.pooled.dim(1)?);
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

    /// The pictures of `prompt` before they are rounded to bytes: `[seeds, 3, height, width]`, f32 in
    /// 0..=1, with what the tokenizers made of the prompt.
    ///
    /// # Errors
    /// The prompt cannot be tokenized or a network failed.
    pub fn pictures(&mut self, prompt: &str, seeds: &[u64]) -> Result<(EncodedPrompt, Tensor)> {
        let (encoded, conditioning) = self.conditioning(prompt)?;
        Ok((encoded, self.diffusion.pictures(&conditioning, seeds)?))
    }

    fn conditioning(
        &mut self,
        prompt: &str,
    ) -> Result<(EncodedPrompt, WithAdded<FixedConditioning>)> {
        let (encoded, text) = match self.last_prompt.take() {
            Some((last, encoded, text)) if last == prompt => (encoded, text),
            _ => self.texts.encode(prompt)?,
        };
        self.last_prompt = Some((prompt.to_owned(), encoded.clone(), text.clone()));
        let unconditional = self.unconditional.as_ref();
        let conditioning = WithAdded {
            added: added(&text.pooled, unconditional.map(|text| &text.pooled), &self.diffusion),
            text: FixedConditioning(TextCondition {
                conditional: text.hidden,
                unconditional: unconditional.map(|text| text.hidden.clone()),
            }),
        };
        Ok((encoded, conditioning))
    }
}

impl ImageGenerator for Sdxl {
    fn settings(&self) -> Settings {
        let mut weights = self.diffusion.digests();
        weights.extend(self.texts.digests());
        weights.insert("configuration".to_owned(), json!(self.configuration_sha256));
        let mut settings = self.diffusion.settings();
        settings.extend(
            [
                ("model", json!("sdxl")),
                ("pipeline", json!("StableDiffusionXLPipeline")),
                ("weights", json!(weights)),
                // Null where zeros stand in its place.
                ("negative_prompt", json!(self.negative_prompt)),
                ("time_ids", json!(time_ids(&self.diffusion))),
                ("vae_dtype", json!(self.diffusion.vae_dtype().as_str())),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        settings
    }

    fn understood(&self) -> LoadReport {
        let mut understood = self.diffusion.understood();
        let negative = self.negative_prompt.as_ref();
        let negative = negative.map_or("zeros in its place".to_owned(), |text| format!("{text:?}"));
        understood.line("negative prompt", negative);
        self.texts.warn(&mut understood);
        understood
    }

    fn runs_on_gpu(&self) -> bool {
        self.diffusion.runs_on_gpu()
    }

    fn measure(&mut self, prompt: &str, calls: usize) -> Result<Option<ImageTimes>> {
        self.last_prompt = None;
        let start = Instant::now();
        let (_, conditioning) = self.conditioning(prompt)?;
        let text = start.elapsed();
        Ok(Some(ImageTimes { text, ..self.diffusion.measure(&conditioning, calls)? }))
    }

    fn generate(&mut self, prompt: &str, seeds: &[u64]) -> Result<Vec<GeneratedImage>> {
        let (encoded, pictures) = self.pictures(prompt, seeds)?;
        let dtype = self.diffusion.dtype();
        images(&pictures, seeds, encoded.full_length, encoded.truncated, dtype)
    }
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
    dtype: DType,
    device: &Device,
    options: &DiffusionOptions,
) -> Result<Diffusion> {
    let upcast = dtype == DType::F16 && VaeDecoder::overflows_f16(&folder.join("vae"))?;
    let vae_dtype = if upcast { DType::F32 } else { dtype };
    Diffusion::load(folder, DiffusersPipeline::Sdxl, (dtype, vae_dtype), device, options)
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
