//! In: a Stable Diffusion 1.x checkpoint in the diffusers layout, settings, prompts and seeds. Out:
//! pictures. The networks are left to `models`, the way from noise to pictures to `diffusion`, the
//! files of a run to `generate_run`.
//!
//! Equal to `StableDiffusionPipeline` of diffusers without its safety checker, with one CPU generator
//! per image.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::clip_tokenizer::{ClipTokenizer, EncodedPrompt};
use super::conditioning::{FixedConditioning, TextCondition};
pub use super::diffusion::to_pixels;
use super::diffusion::{Diffusion, images};
use super::noise::NoiseSource;
use super::schedulers::{SchedulerClass, SchedulerOverrides};
use super::{GeneratedImage, ImageGenerator, catalog};
use crate::models::ClipText;
use crate::results::Settings;
use crate::results::image_store::hex;

/// How pictures are made; the defaults are those of diffusers' pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Sd15Options {
    /// Denoising steps.
    pub steps: usize,
    /// Strength of classifier-free guidance; 1 or less turns it off.
    pub guidance: f64,
    /// Width in pixels; `None` takes the checkpoint's own.
    pub width: Option<usize>,
    /// Height in pixels; `None` takes the checkpoint's own.
    pub height: Option<usize>,
    /// Another scheduler than the checkpoint's.
    pub scheduler: Option<SchedulerClass>,
    /// What stands above the scheduler's configuration.
    pub overrides: SchedulerOverrides,
    /// What guidance leads away from.
    pub negative_prompt: String,
    /// Whose random numbers the noise is made of.
    pub rng: NoiseSource,
    /// More for the record: the preset, the adapters and so on.
    pub record: Settings,
}

impl Default for Sd15Options {
    fn default() -> Self {
        Self {
            steps: 50,
            guidance: 7.5,
            width: None,
            height: None,
            scheduler: None,
            overrides: SchedulerOverrides::default(),
            negative_prompt: String::new(),
            rng: NoiseSource::Cpu,
            record: Settings::new(),
        }
    }
}

/// A loaded Stable Diffusion 1.x pipeline with fixed settings.
pub struct Sd15 {
    clip: ClipPrompts,
    diffusion: Diffusion,
    options: Sd15Options,
    configuration_sha256: String,
    /// The negative prompt, encoded; `None` where guidance is off.
    unconditional: Option<Tensor>,
    /// The last prompt: the images of an item follow one another.
    last_prompt: Option<(String, EncodedPrompt, Tensor)>,
}

impl Sd15 {
    /// Loads the checkpoint in `folder`.
    ///
    /// # Errors
    /// A file is missing or broken, the checkpoint is of another kind, or a setting is impossible.
    pub fn load(
        folder: &Path,
        dtype: DType,
        device: &Device,
        options: Sd15Options,
    ) -> Result<Self> {
        check_folder(folder)?;
        let diffusion = Diffusion::load(folder, dtype, device, &options)?;
        let clip = ClipPrompts::load(folder, dtype, device)?;
        let (_, negative) = clip.encode(&options.negative_prompt)?;
        diffusion.check_context(negative.dim(2)?, "text encoder", folder)?;
        Ok(Self {
            clip,
            unconditional: diffusion.is_guided().then_some(negative),
            diffusion,
            configuration_sha256: configuration_sha256(folder)?,
            last_prompt: None,
            options,
        })
    }

    /// The pictures of `prompt` before they are rounded to bytes: `[seeds, 3, height, width]`, f32 in
    /// 0..=1, with what the tokenizer made of the prompt.
    ///
    /// # Errors
    /// The prompt cannot be tokenized or a network failed.
    pub fn pictures(&mut self, prompt: &str, seeds: &[u64]) -> Result<(EncodedPrompt, Tensor)> {
        let (encoded, conditional) = match self.last_prompt.take() {
            Some((last, encoded, hidden)) if last == prompt => (encoded, hidden),
            _ => self.clip.encode(prompt)?,
        };
        self.last_prompt = Some((prompt.to_owned(), encoded.clone(), conditional.clone()));
        let conditioning = FixedConditioning(TextCondition {
            conditional,
            unconditional: self.unconditional.clone(),
        });
        Ok((encoded, self.diffusion.pictures(&conditioning, seeds)?))
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
                ("model", json!("sd15")),
                ("pipeline", json!("StableDiffusionPipeline")),
                ("weights", json!(weights)),
                ("negative_prompt", json!(self.options.negative_prompt)),
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

/// CLIP's tokenizer and text encoder: prompts to hidden states.
pub(super) struct ClipPrompts {
    tokenizer: ClipTokenizer,
    text_encoder: ClipText,
}

impl ClipPrompts {
    /// Loads `tokenizer/` and `text_encoder/` of the checkpoint in `folder`.
    pub(super) fn load(folder: &Path, dtype: DType, device: &Device) -> Result<Self> {
        let tokenizer = ClipTokenizer::load(&folder.join("tokenizer"))?;
        let text_encoder = ClipText::load(&folder.join("text_encoder"), dtype, device)?;
        ensure!(
            tokenizer.max_length() <= text_encoder.max_tokens(),
            "{}: the tokenizer makes {} tokens, the text encoder takes {}",
            folder.display(),
            tokenizer.max_length(),
            text_encoder.max_tokens()
        );
        Ok(Self { tokenizer, text_encoder })
    }

    /// Hidden states `[1, tokens, width]` of `prompt`, with what the tokenizer made of it.
    pub(super) fn encode(&self, prompt: &str) -> Result<(EncodedPrompt, Tensor)> {
        let encoded = self.tokenizer.encode(prompt)?;
        let hidden = self.text_encoder.forward(std::slice::from_ref(&encoded.ids))?;
        Ok((encoded, hidden))
    }

    /// Digest of the text encoder's weights.
    pub(super) fn sha256(&self) -> &str {
        self.text_encoder.sha256()
    }
}

/// Complains about absent files before any is read, and about another kind of checkpoint.
pub(super) fn check_folder(folder: &Path) -> Result<()> {
    ensure!(
        folder.is_dir(),
        "{} is no folder; --weights takes a diffusers checkpoint",
        folder.display()
    );
    let missing = catalog::find("sd15")?.missing(folder);
    if !missing.is_empty() {
        let list: String = missing.iter().map(|file| format!("\n  {file}")).collect();
        bail!("{} is no complete Stable Diffusion checkpoint; it lacks:{list}", folder.display());
    }
    let path = folder.join("model_index.json");
    let index: serde_json::Value = serde_json::from_str(&read(&path)?)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    let class = index.get("_class_name").and_then(|name| name.as_str()).unwrap_or("nothing");
    ensure!(
        class == "StableDiffusionPipeline",
        "{} names a {class}; model sd15 runs StableDiffusionPipeline checkpoints",
        path.display()
    );
    Ok(())
}

/// The text of a file.
pub(super) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The small files of a tokenizer that decide its ids.
const TOKENIZER_FILES: [&str; 6] = [
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/special_tokens_map.json",
    "tokenizer/embeddings.json",
];

/// Digest of the small files that decide the arithmetic beside the weights: the vocabulary and the
/// networks' configurations. The scheduler's stands in the settings.
pub(super) fn configuration_sha256(folder: &Path) -> Result<String> {
    let parts = ["text_encoder/config.json", "unet/config.json", "vae/config.json"];
    files_sha256(folder, parts.iter().chain(&TOKENIZER_FILES))
}

/// SHA-256 over names, lengths and contents of those of `files` that are in `folder`.
pub(super) fn files_sha256<'n>(
    folder: &Path,
    files: impl IntoIterator<Item = &'n &'n str>,
) -> Result<String> {
    let mut hasher = Sha256::new();
    for file in files {
        let path = folder.join(file);
        if !path.is_file() {
            continue;
        }
        let bytes =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        hasher.update(format!("{file} {}\n", bytes.len()));
        hasher.update(bytes);
    }
    Ok(hex(&hasher.finalize()))
}
