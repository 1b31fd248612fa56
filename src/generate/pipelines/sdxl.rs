//! In: a Stable Diffusion XL base checkpoint in the diffusers layout, settings, prompts and seeds. Out:
//! pictures. The networks are left to `models`, the way from noise to pictures to `diffusion`, the
//! files of a run to `generate_run`. There is no refiner.
//!
//! Equal to `StableDiffusionXLPipeline` and `StableDiffusionXLControlNetPipeline` of diffusers without their watermark, with
//! one CPU generator per image.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use serde_json::json;

use super::conditioning::{FixedConditioning, TextCondition, WithAdded};
use super::diffusion::Diffusion;
use super::options::DiffusionOptions;
use super::pixels::images;
use super::sdxl_prompts::{
    SdxlPrompts, SdxlText, added, configuration_sha256, load_diffusion, negative_prompt, time_ids,
};
use crate::checkpoint::folder::{DiffusersPipeline, check_folder};
use crate::checkpoint::load_report::LoadReport;
use crate::generate::control_images::ControlImages;
use crate::generate::{GeneratedImage, ImageGenerator, ImageRequest, ImageTimes};
use crate::results::Settings;
use crate::text::clip::EncodedPrompt;

/// The models that are loaded and run alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SdxlModel {
    /// Stable Diffusion XL base.
    Sdxl,
    /// Playground v2.
    PlaygroundV2,
    /// Playground v2.5, with its scheduler of EDM.
    PlaygroundV25,
}

impl SdxlModel {
    /// Its name, as runs record it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sdxl => "sdxl",
            Self::PlaygroundV2 => "playground-v2",
            Self::PlaygroundV25 => "playground-v25",
        }
    }

    /// The pipeline whose checkpoints it takes.
    pub(crate) fn pipeline(self) -> DiffusersPipeline {
        match self {
            Self::Sdxl | Self::PlaygroundV2 => DiffusersPipeline::Sdxl,
            Self::PlaygroundV25 => DiffusersPipeline::SdxlEdm,
        }
    }
}

/// A loaded Stable Diffusion XL pipeline with fixed settings.
pub struct Sdxl {
    model: SdxlModel,
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
    /// Loads the checkpoint of Stable Diffusion XL in `folder`.
    ///
    /// # Errors
    /// As [`Sdxl::load_model`].
    pub fn load(
        folder: &Path,
        dtype: DType,
        device: &Device,
        options: DiffusionOptions,
    ) -> Result<Self> {
        Self::load_model(SdxlModel::Sdxl, folder, dtype, device, options)
    }

    /// Loads the checkpoint of `model` in `folder`. A negative prompt of `None` is zeros in place of a text, where
    /// the checkpoint's `force_zeros_for_empty_prompt` says so; the empty text is a text, and is encoded.
    ///
    /// Where the run is f16 and the autoencoder's configuration has `force_upcast`, pictures are decoded
    /// in f32: the published autoencoder overflows f16.
    ///
    /// # Errors
    /// A file is missing or broken, the checkpoint is of another kind, or a setting is impossible.
    pub fn load_model(
        model: SdxlModel,
        folder: &Path,
        dtype: DType,
        device: &Device,
        options: DiffusionOptions,
    ) -> Result<Self> {
        let pipeline = model.pipeline();
        let index = check_folder(folder, model.name(), pipeline)?;
        let diffusion = load_diffusion(folder, pipeline, dtype, device, &options)?;
        let mut pipeline = Self {
            model,
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
        self.pictures_of(None, prompt, seeds)
    }

    /// As [`Sdxl::pictures`], of `item`, whose control image is taken where there is a ControlNet.
    ///
    /// # Errors
    /// As there, or the control image cannot be read.
    pub fn pictures_of(
        &mut self,
        item: Option<&str>,
        prompt: &str,
        seeds: &[u64],
    ) -> Result<(EncodedPrompt, Tensor)> {
        let (encoded, conditioning) = self.conditioning(prompt)?;
        Ok((encoded, self.diffusion.pictures_of(item, &conditioning, seeds)?))
    }

    fn images_of(
        &mut self,
        item: Option<&str>,
        prompt: &str,
        seeds: &[u64],
    ) -> Result<Vec<GeneratedImage>> {
        let (encoded, pictures) = self.pictures_of(item, prompt, seeds)?;
        let dtype = self.diffusion.dtype();
        images(&pictures, seeds, encoded.full_length, encoded.truncated, dtype)
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
                ("model", json!(self.model.name())),
                ("pipeline", json!(self.diffusion.class())),
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

    fn control_images(&self) -> Option<&ControlImages> {
        self.diffusion.control_images()
    }

    fn generate(&mut self, prompt: &str, seeds: &[u64]) -> Result<Vec<GeneratedImage>> {
        self.images_of(None, prompt, seeds)
    }

    fn generate_asked(&mut self, request: ImageRequest<'_>) -> Result<Vec<GeneratedImage>> {
        self.images_of(Some(request.item), request.prompt, request.seeds)
    }
}
