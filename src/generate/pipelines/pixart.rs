//! In: a checkpoint of PixArt-alpha or PixArt-Sigma in the diffusers layout, settings, prompts and seeds. Out: pictures. The
//! networks are left to `models`, the way from noise to pictures to `diffusion`, the files of a run to `generate_run`.
//!
//! Equal to `PixArtAlphaPipeline` and `PixArtSigmaPipeline` of diffusers with `clean_caption` off, with one CPU generator per
//! image.

mod sizes;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use serde_json::json;

use self::sizes::table_size;
use super::conditioning::{FixedConditioning, TextCondition};
use super::diffusion::{Diffusion, DiffusionParts, MAX_SIDE, PictureSize, load_vae};
use super::options::DiffusionOptions;
use super::pixels::images;
use super::scheduler_of::read_scheduler;
use super::t5_prompts::T5Prompts;
use crate::checkpoint::folder::{DiffusersPipeline, check_folder, files_sha256};
use crate::checkpoint::load_report::LoadReport;
use crate::checkpoint::scheduler_config::SchedulerClass;
use crate::generate::{GeneratedImage, ImageGenerator, ImageTimes};
use crate::models::{PixArtTransformer, TextContext, VaeDecoder};
use crate::results::Settings;
use crate::text::t5::{T5Prompt, TOKENIZER_FILES};

/// The models that are loaded and run alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PixArtModel {
    /// PixArt-alpha.
    Alpha,
    /// PixArt-Sigma.
    Sigma,
}

impl PixArtModel {
    /// Its name, as runs record it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alpha => "pixart-alpha",
            Self::Sigma => "pixart-sigma",
        }
    }

    /// The pipeline whose checkpoints it takes.
    pub(crate) fn pipeline(self) -> DiffusersPipeline {
        match self {
            Self::Alpha => DiffusersPipeline::PixArtAlpha,
            Self::Sigma => DiffusersPipeline::PixArtSigma,
        }
    }

    /// T5 tokens of a text that are read.
    fn tokens(self) -> usize {
        match self {
            Self::Alpha => 120,
            Self::Sigma => 300,
        }
    }
}

/// A loaded pipeline of one of them with fixed settings.
pub struct PixArt {
    model: PixArtModel,
    texts: T5Prompts,
    diffusion: Diffusion,
    /// Height and width that the networks make.
    made: (usize, usize),
    negative_prompt: String,
    configuration_sha256: String,
    /// The negative prompt, encoded; `None` where guidance is off.
    unconditional: Option<TextContext>,
    /// The last prompt: the images of an item follow one another.
    last_prompt: Option<(String, T5Prompt, TextContext)>,
}

impl PixArt {
    /// Loads the checkpoint of `model` in `folder`. Where the run is f16 and the autoencoder's configuration has
    /// `force_upcast`, pictures are decoded in f32.
    ///
    /// # Errors
    /// A file is missing or broken, the checkpoint is of another kind, or a setting is impossible.
    pub fn load(
        model: PixArtModel,
        folder: &Path,
        dtype: DType,
        device: &Device,
        options: DiffusionOptions,
    ) -> Result<Self> {
        let pipeline = model.pipeline();
        check_folder(folder, model.name(), pipeline)?;
        let mut read = read_scheduler(folder, pipeline, &options)?;
        // Of one step this pipeline takes the predicted picture.
        if (model, options.steps, read.config.class)
            == (PixArtModel::Alpha, 1, SchedulerClass::Ddim)
        {
            read.config.set_alpha_to_one = true;
        }
        let upcast = dtype == DType::F16 && VaeDecoder::overflows_f16(&folder.join("vae"))?;
        let dtypes = (dtype, if upcast { DType::F32 } else { dtype });
        let mut transformer = PixArtTransformer::load(&folder.join("transformer"), dtype, device)?;
        let vae = load_vae(folder, dtypes, device)?;
        let config = folder.join("transformer/config.json");
        check_parts(model, &transformer, &vae).with_context(|| config.display().to_string())?;
        let (factor, sample_size) = (vae.spatial_factor(), transformer.sample_size());
        let own = sample_size * factor;
        let side = |name: &str, given: Option<usize>| {
            let side = given.unwrap_or(own);
            ensure!(
                (1..=MAX_SIDE).contains(&side),
                "--{name} {side} cannot be made: it must be from 1 to {MAX_SIDE}"
            );
            Ok(side)
        };
        let asked = (side("height", options.height)?, side("width", options.width)?);
        let made = table_size(sample_size, asked)
            .filter(|_| model == PixArtModel::Sigma || sample_size < 256)
            .with_context(|| {
                format!(
                    "{}: sample_size = {sample_size}, for which {} of diffusers has no table of sizes",
                    config.display(),
                    pipeline.class()
                )
            })?;
        let latents = (made.0 / factor, made.1 / factor);
        transformer.prepare(latents, made, device)?;
        let size = PictureSize { asked, made, note: None };
        let parts = DiffusionParts { network: Box::new(transformer), vae, read: read.into(), size };
        let diffusion = Diffusion::of(parts, pipeline, dtypes, device, &options)?;
        let names = ("tokenizer", "text_encoder");
        let texts = T5Prompts::load(folder, names, model.tokens(), dtype, device)?;
        diffusion.check_context(texts.width(), "text encoder", folder)?;
        let negative_prompt = options.negative_prompt.unwrap_or_default();
        let (_, negative) = texts.encode(&prepared(&negative_prompt))?;
        Ok(Self {
            model,
            unconditional: diffusion.is_guided().then(|| TextContext::new(negative)),
            texts,
            diffusion,
            made,
            configuration_sha256: configuration_sha256(folder)?,
            last_prompt: None,
            negative_prompt,
        })
    }

    /// The pictures of `prompt` before they are rounded to bytes: `[seeds, 3, height, width]`, f32 in 0..=1, with what the
    /// tokenizer made of the prompt.
    ///
    /// # Errors
    /// The prompt cannot be tokenized or a network failed.
    pub fn pictures(&mut self, prompt: &str, seeds: &[u64]) -> Result<(T5Prompt, Tensor)> {
        let (encoded, conditioning) = self.conditioning(prompt)?;
        Ok((encoded, self.diffusion.pictures(&conditioning, seeds)?))
    }

    fn conditioning(&mut self, prompt: &str) -> Result<(T5Prompt, FixedConditioning)> {
        let (encoded, conditional) = match self.last_prompt.take() {
            Some((last, encoded, hidden)) if last == prompt => (encoded, hidden),
            _ => {
                let (encoded, hidden) = self.texts.encode(&prepared(prompt))?;
                (encoded, TextContext::new(hidden))
            }
        };
        self.last_prompt = Some((prompt.to_owned(), encoded.clone(), conditional.clone()));
        let unconditional = self.unconditional.clone();
        Ok((encoded, FixedConditioning(TextCondition { conditional, unconditional })))
    }
}

/// A caption as the pipelines prepare it without cleaning: `lower().strip()` of Python.
fn prepared(caption: &str) -> String {
    let is_space = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
    caption.to_lowercase().trim_matches(is_space).to_owned()
}

/// Refuses networks that do not go together, and a transformer that the pipeline does not tell what it asks for.
fn check_parts(
    model: PixArtModel,
    transformer: &PixArtTransformer,
    vae: &VaeDecoder,
) -> Result<()> {
    let (takes, latents) = (transformer.in_channels(), vae.latent_channels());
    ensure!(
        takes == latents,
        "in_channels = {takes}, where the autoencoder's latents have {latents} channels"
    );
    let told = model == PixArtModel::Alpha && transformer.sample_size() == 128;
    ensure!(
        told || !transformer.takes_size(),
        "use_additional_conditions: {} of diffusers tells a transformer of this sample_size no size",
        model.pipeline().class()
    );
    Ok(())
}

/// Digest of the small files that decide the arithmetic beside the weights.
fn configuration_sha256(folder: &Path) -> Result<String> {
    let networks = ["text_encoder", "transformer", "vae"];
    let configurations = networks.iter().map(|network| format!("{network}/config.json"));
    let tokenizer = TOKENIZER_FILES.iter().map(|file| format!("tokenizer/{file}"));
    files_sha256(folder, configurations.chain(tokenizer))
}

impl ImageGenerator for PixArt {
    fn settings(&self) -> Settings {
        let mut weights = self.diffusion.digests();
        weights.insert("configuration".to_owned(), json!(self.configuration_sha256));
        weights.insert("text_encoder".to_owned(), json!(self.texts.sha256()));
        let mut settings = self.diffusion.settings();
        settings.extend(
            [
                ("model", json!(self.model.name())),
                ("pipeline", json!(self.model.pipeline().class())),
                ("weights", json!(weights)),
                ("negative_prompt", json!(self.negative_prompt)),
                // Height before width.
                ("table_size", json!([self.made.0, self.made.1])),
                ("captions", json!("lower case, not cleaned")),
                ("text_tokens", json!(self.model.tokens())),
                ("vae_dtype", json!(self.diffusion.vae_dtype().as_str())),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        settings
    }

    fn understood(&self) -> LoadReport {
        let mut understood = self.diffusion.understood();
        understood.line("negative prompt", format!("{:?}", self.negative_prompt));
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
        images(&pictures, seeds, encoded.full_length, encoded.truncated(), dtype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_are_prepared_as_python_does() {
        assert_eq!(
            prepared("  \u{1f}A 2x2 Grid, \u{c9}T\u{c9}\u{2003}\n"),
            "a 2x2 grid, \u{e9}t\u{e9}"
        );
        // A sigma at the end of a word is another letter.
        assert_eq!(prepared("\u{39f}\u{394}\u{39f}\u{3a3}"), "\u{3bf}\u{3b4}\u{3bf}\u{3c2}");
    }
}
