//! In: a checkpoint of Stable Diffusion 3 or 3.5 in the diffusers layout, settings, prompts and seeds. Out: pictures. The networks
//! are left to `models`, the way from noise to pictures to `diffusion`, the files of a run to `generate_run`.
//!
//! Equal to `StableDiffusion3Pipeline` of diffusers without skipped layers, with one CPU generator per image.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use serde_json::json;

use super::conditioning::{FixedConditioning, WithAdded};
use super::diffusion::{Diffusion, DiffusionParts, PictureSize, check_side, load_vae};
use super::joint_text::JointText;
use super::options::DiffusionOptions;
use super::pixels::images;
use super::scheduler_of::read_flow;
use super::sd3_prompts::{Sd3Prompts, configuration_sha256};
use crate::checkpoint::folder::{DiffusersPipeline, check_folder};
use crate::checkpoint::load_report::LoadReport;
use crate::generate::{GeneratedImage, ImageGenerator, ImageTimes};
use crate::models::{Sd3Transformer, VaeDecoder};
use crate::results::Settings;

/// Its name, as runs record it.
const NAME: &str = "sd3";
const PIPELINE: DiffusersPipeline = DiffusersPipeline::Sd3;

/// A loaded Stable Diffusion 3 pipeline with fixed settings.
pub struct Sd3 {
    texts: Sd3Prompts,
    diffusion: Diffusion,
    negative_prompt: String,
    configuration_sha256: String,
    /// The negative prompt, encoded; `None` where guidance is off.
    unconditional: Option<JointText>,
    /// The last prompt: the images of an item follow one another.
    last_prompt: Option<(String, JointText)>,
}

impl Sd3 {
    /// Loads the checkpoint in `folder`; where its `model_index.json` has null for `text_encoder_3`, zeros stand for T5. Where the
    /// run is f16 and the autoencoder's configuration has `force_upcast`, pictures are decoded in f32.
    ///
    /// # Errors
    /// A file is missing or broken, the checkpoint is of another kind, or a setting is impossible.
    pub fn load(
        folder: &Path,
        dtype: DType,
        device: &Device,
        options: DiffusionOptions,
    ) -> Result<Self> {
        let index = check_folder(folder, NAME, PIPELINE)?;
        let read = read_flow(folder, PIPELINE, &options, None)?;
        let upcast = dtype == DType::F16 && VaeDecoder::overflows_f16(&folder.join("vae"))?;
        let dtypes = (dtype, if upcast { DType::F32 } else { dtype });
        let transformer = Sd3Transformer::load(&folder.join("transformer"), dtype, device)?;
        let vae = load_vae(folder, dtypes, device)?;
        let (takes, latents) = (transformer.in_channels(), vae.latent_channels());
        ensure!(
            takes == latents,
            "{}: in_channels = {takes}, where the autoencoder's latents have {latents} channels",
            folder.join("transformer/config.json").display()
        );
        let factor = vae.spatial_factor();
        let (patch, most) = transformer.squares();
        let own = transformer.sample_size() * factor;
        let side = |name: &str, given: Option<usize>| -> Result<usize> {
            let side = check_side(name, given.unwrap_or(own), factor * patch)?;
            let most = most * patch * factor;
            ensure!(
                side <= most,
                "--{name} {side} cannot be made: the transformer has positions for {most} pixels a side"
            );
            Ok(side)
        };
        let size = (side("height", options.height)?, side("width", options.width)?);
        let (width, pooled) = (transformer.context_width(), transformer.pooled_width());
        let size = PictureSize { asked: size, made: size, note: None };
        let parts = DiffusionParts { network: Box::new(transformer), vae, read, size };
        let diffusion = Diffusion::of(parts, PIPELINE, dtypes, device, &options)?;
        let texts = Sd3Prompts::load(folder, &index, width, dtype, device)?;
        let negative_prompt = options.negative_prompt.unwrap_or_default();
        let negative =
            texts.encode(&negative_prompt).with_context(|| folder.display().to_string())?;
        let found = negative.pooled.dim(1)?;
        ensure!(
            found == pooled,
            "{}: the text encoders pool to {found} channels, the transformer takes {pooled}; the parts are of different models",
            folder.display()
        );
        Ok(Self {
            unconditional: diffusion.is_guided().then_some(negative),
            texts,
            diffusion,
            configuration_sha256: configuration_sha256(folder)?,
            last_prompt: None,
            negative_prompt,
        })
    }

    /// The pictures of `prompt` before they are rounded to bytes: `[seeds, 3, height, width]`, f32 in 0..=1.
    ///
    /// # Errors
    /// The prompt cannot be tokenized or a network failed.
    pub fn pictures(&mut self, prompt: &str, seeds: &[u64]) -> Result<Tensor> {
        let (_, conditioning) = self.conditioning(prompt)?;
        self.diffusion.pictures(&conditioning, seeds)
    }

    fn conditioning(&mut self, prompt: &str) -> Result<(JointText, WithAdded<FixedConditioning>)> {
        let text = match self.last_prompt.take() {
            Some((last, text)) if last == prompt => text,
            _ => self.texts.encode(prompt)?,
        };
        self.last_prompt = Some((prompt.to_owned(), text.clone()));
        let conditioning = text.conditioning(self.unconditional.as_ref());
        Ok((text, conditioning))
    }
}

impl ImageGenerator for Sd3 {
    fn settings(&self) -> Settings {
        let mut weights = self.diffusion.digests();
        weights.extend(self.texts.digests());
        weights.insert("configuration".to_owned(), json!(self.configuration_sha256));
        let mut settings = self.diffusion.settings();
        settings.extend(
            [
                ("model", json!(NAME)),
                ("pipeline", json!(PIPELINE.class())),
                ("weights", json!(weights)),
                ("negative_prompt", json!(self.negative_prompt)),
                ("t5", json!(self.texts.has_t5())),
                ("vae_dtype", json!(self.diffusion.vae_dtype().as_str())),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        settings
    }

    fn understood(&self) -> LoadReport {
        let mut understood = self.diffusion.understood();
        understood.line("negative prompt", format!("{:?}", self.negative_prompt));
        let t5 = if self.texts.has_t5() { "there" } else { "none, zeros in its place" };
        understood.line("T5", t5);
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
        let (text, conditioning) = self.conditioning(prompt)?;
        let pictures = self.diffusion.pictures(&conditioning, seeds)?;
        images(&pictures, seeds, text.full_length, text.truncated, self.diffusion.dtype())
    }
}
