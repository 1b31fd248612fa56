//! In: a checkpoint of Stable Diffusion 1.x or 2.x, or a latent consistency model of one, in the diffusers layout,
//! settings, prompts and seeds. Out: pictures. The networks are left to `models`, the way from noise to pictures to
//! `diffusion`, the files of a run to `generate_run`.
//!
//! Equal to `StableDiffusionPipeline`, `StableDiffusionControlNetPipeline` and `LatentConsistencyModelPipeline` of diffusers
//! without their safety checker, with one CPU generator per image.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use serde_json::json;

use super::clip_prompts::{ClipPrompts, configuration_sha256};
use super::conditioning::{FixedConditioning, TextCondition};
use super::diffusion::Diffusion;
use super::options::DiffusionOptions;
use super::pixels::images;
pub use super::pixels::to_pixels;
use crate::checkpoint::folder::{DiffusersPipeline, check_folder};
use crate::checkpoint::load_report::LoadReport;
use crate::generate::control_images::ControlImages;
use crate::generate::{GeneratedImage, ImageGenerator, ImageRequest, ImageTimes};
use crate::models::TextContext;
use crate::results::Settings;
use crate::text::clip::EncodedPrompt;

/// The models that are loaded and run alike, with one CLIP text encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SdModel {
    /// Stable Diffusion 1.x.
    Sd15,
    /// Stable Diffusion 2.x.
    Sd2,
    /// A latent consistency model.
    Lcm,
}

impl SdModel {
    /// Its name, as runs record it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sd15 => "sd15",
            Self::Sd2 => "sd2",
            Self::Lcm => "lcm",
        }
    }

    /// The pipeline whose checkpoints it takes.
    pub(crate) fn pipeline(self) -> DiffusersPipeline {
        match self {
            Self::Sd15 => DiffusersPipeline::Sd1,
            Self::Sd2 => DiffusersPipeline::Sd2,
            Self::Lcm => DiffusersPipeline::Lcm,
        }
    }
}

/// A loaded pipeline of one of them with fixed settings.
pub struct Sd15 {
    model: SdModel,
    clip: ClipPrompts,
    diffusion: Diffusion,
    negative_prompt: String,
    configuration_sha256: String,
    /// The negative prompt, encoded; `None` where guidance is off.
    unconditional: Option<TextContext>,
    /// The last prompt: the images of an item follow one another.
    last_prompt: Option<(String, EncodedPrompt, TextContext)>,
}

impl Sd15 {
    /// Loads the checkpoint of Stable Diffusion 1.x in `folder`.
    ///
    /// # Errors
    /// A file is missing or broken, the checkpoint is of another kind, or a setting is impossible.
    pub fn load(
        folder: &Path,
        dtype: DType,
        device: &Device,
        options: DiffusionOptions,
    ) -> Result<Self> {
        Self::load_model(SdModel::Sd15, folder, dtype, device, options)
    }

    /// Loads the checkpoint of `model` in `folder`.
    ///
    /// # Errors
    /// As [`Sd15::load`].
    pub fn load_model(
        model: SdModel,
        folder: &Path,
        dtype: DType,
        device: &Device,
        options: DiffusionOptions,
    ) -> Result<Self> {
        let pipeline = model.pipeline();
        check_folder(folder, model.name(), pipeline)?;
        let diffusion = Diffusion::load(folder, pipeline, (dtype, dtype), device, &options)?;
        let clip = ClipPrompts::load(folder, dtype, device)?;
        let negative_prompt = options.negative_prompt.unwrap_or_default();
        let (_, negative) = clip.encode(&negative_prompt)?;
        diffusion.check_context(negative.dim(2)?, "text encoder", folder)?;
        Ok(Self {
            model,
            clip,
            unconditional: diffusion.is_guided().then(|| TextContext::new(negative)),
            diffusion,
            configuration_sha256: configuration_sha256(folder)?,
            last_prompt: None,
            negative_prompt,
        })
    }

    /// The pictures of `prompt` before they are rounded to bytes: `[seeds, 3, height, width]`, f32 in
    /// 0..=1, with what the tokenizer made of the prompt.
    ///
    /// # Errors
    /// The prompt cannot be tokenized or a network failed.
    pub fn pictures(&mut self, prompt: &str, seeds: &[u64]) -> Result<(EncodedPrompt, Tensor)> {
        self.pictures_of(None, prompt, seeds)
    }

    /// As [`Sd15::pictures`], of `item`, whose control image is taken where there is a ControlNet.
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

    fn conditioning(&mut self, prompt: &str) -> Result<(EncodedPrompt, FixedConditioning)> {
        let (encoded, conditional) = match self.last_prompt.take() {
            Some((last, encoded, hidden)) if last == prompt => (encoded, hidden),
            _ => {
                let (encoded, hidden) = self.clip.encode(prompt)?;
                (encoded, TextContext::new(hidden))
            }
        };
        self.last_prompt = Some((prompt.to_owned(), encoded.clone(), conditional.clone()));
        let unconditional = self.unconditional.clone();
        Ok((encoded, FixedConditioning(TextCondition { conditional, unconditional })))
    }
}

impl ImageGenerator for Sd15 {
    fn settings(&self) -> Settings {
        let mut weights = self.diffusion.digests();
        weights.insert("configuration".to_owned(), json!(self.configuration_sha256));
        weights.insert("text_encoder".to_owned(), json!(self.clip.sha256()));
        let mut settings = self.diffusion.settings();
        settings.extend(
            [
                ("model", json!(self.model.name())),
                ("pipeline", json!(self.diffusion.class())),
                ("weights", json!(weights)),
                ("negative_prompt", json!(self.negative_prompt)),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        settings
    }

    fn understood(&self) -> LoadReport {
        let mut understood = self.diffusion.understood();
        understood.line("negative prompt", format!("{:?}", self.negative_prompt));
        self.clip.warn(&mut understood);
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
