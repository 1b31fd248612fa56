//! In: a Stable Diffusion 1.x checkpoint in the diffusers layout, settings, prompts and seeds. Out:
//! pictures. The networks are left to `models`, the walk to `denoise`, the files of a run to
//! `generate_run`.
//!
//! Equal to `StableDiffusionPipeline` of diffusers without its safety checker, with one CPU generator
//! per image.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use image::RgbImage;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::clip_tokenizer::{ClipTokenizer, EncodedPrompt};
use super::conditioning::{FixedConditioning, TextCondition};
use super::denoise::denoise;
use super::noise::ImageNoise;
use super::schedulers::{SchedulerClass, SchedulerConfig};
use super::{GeneratedImage, ImageGenerator, catalog};
use crate::models::{ClipText, UNet, VaeDecoder};
use crate::results::Settings;
use crate::results::image_store::hex;

/// Largest picture side in pixels: a typing error must not ask for terabytes.
const MAX_SIDE: usize = 8192;

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
    /// What guidance leads away from.
    pub negative_prompt: String,
}

impl Default for Sd15Options {
    fn default() -> Self {
        Self {
            steps: 50,
            guidance: 7.5,
            width: None,
            height: None,
            scheduler: None,
            negative_prompt: String::new(),
        }
    }
}

/// A loaded Stable Diffusion 1.x pipeline with fixed settings.
pub struct Sd15 {
    tokenizer: ClipTokenizer,
    text_encoder: ClipText,
    unet: UNet,
    vae: VaeDecoder,
    scheduler: SchedulerConfig,
    options: Sd15Options,
    width: usize,
    height: usize,
    dtype: DType,
    device: Device,
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
        let scheduler = read_scheduler(folder, options.scheduler)?;
        scheduler.scheduler(options.steps)?;
        ensure!(
            !(device.is_cpu() && dtype == DType::BF16),
            "the processor cannot compute in bf16; use --dtype f32 or f16"
        );
        ensure!(options.guidance.is_finite(), "--guidance {} is no number", options.guidance);
        let tokenizer = ClipTokenizer::load(&folder.join("tokenizer"))?;
        let text_encoder = ClipText::load(&folder.join("text_encoder"), dtype, device)?;
        ensure!(
            tokenizer.max_length() <= text_encoder.max_tokens(),
            "{}: the tokenizer makes {} tokens, the text encoder takes {}",
            folder.display(),
            tokenizer.max_length(),
            text_encoder.max_tokens()
        );
        let unet = UNet::load(&folder.join("unet"), dtype, device)?;
        let vae = VaeDecoder::load(&folder.join("vae"), dtype, device)?;
        let own_side = unet.sample_size() * vae.spatial_factor();
        let mut pipeline = Self {
            width: check_side("width", options.width.unwrap_or(own_side), vae.spatial_factor())?,
            height: check_side("height", options.height.unwrap_or(own_side), vae.spatial_factor())?,
            tokenizer,
            text_encoder,
            unet,
            vae,
            scheduler,
            dtype,
            device: device.clone(),
            configuration_sha256: configuration_sha256(folder)?,
            unconditional: None,
            last_prompt: None,
            options,
        };
        let (_, negative) = pipeline.encode(&pipeline.options.negative_prompt)?;
        let width = negative.dim(2)?;
        ensure!(
            width == pipeline.unet.context_width(),
            "{}: the text encoder is {width} wide, the UNet attends to {}; the parts are of \
             different models",
            folder.display(),
            pipeline.unet.context_width()
        );
        pipeline.unconditional = (pipeline.options.guidance > 1.0).then_some(negative);
        Ok(pipeline)
    }

    fn encode(&self, prompt: &str) -> Result<(EncodedPrompt, Tensor)> {
        let encoded = self.tokenizer.encode(prompt)?;
        let hidden = self.text_encoder.forward(std::slice::from_ref(&encoded.ids))?;
        Ok((encoded, hidden))
    }

    /// The pictures of `prompt` before they are rounded to bytes: `[seeds, 3, height, width]`, f32 in
    /// 0..=1, with what the tokenizer made of the prompt.
    ///
    /// # Errors
    /// The prompt cannot be tokenized or a network failed.
    pub fn pictures(&mut self, prompt: &str, seeds: &[u64]) -> Result<(EncodedPrompt, Tensor)> {
        let (encoded, conditional) = match self.last_prompt.take() {
            Some((last, encoded, hidden)) if last == prompt => (encoded, hidden),
            _ => self.encode(prompt)?,
        };
        self.last_prompt = Some((prompt.to_owned(), encoded.clone(), conditional.clone()));
        let conditioning = FixedConditioning(TextCondition {
            conditional,
            unconditional: self.unconditional.clone(),
        });
        let factor = self.vae.spatial_factor();
        let shape = (self.unet.in_channels(), self.height / factor, self.width / factor);
        let mut noise = ImageNoise::new(seeds, shape, &self.device);
        let mut scheduler = self.scheduler.scheduler(self.options.steps)?;
        let network = |latents: &Tensor, timestep: f64, context: &Tensor| {
            self.unet.forward(&latents.to_dtype(self.dtype)?, timestep, context)
        };
        let latents = denoise(
            &network,
            &conditioning,
            scheduler.as_mut(),
            self.options.guidance,
            &mut noise,
        )?;
        Ok((encoded, self.decode(&latents)?))
    }

    /// Latents `[images, channels, h, w]` to pictures in 0..=1, one at a time: the decoder needs the
    /// most memory of all parts.
    fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let unscaled =
            latents.affine(1.0 / self.vae.scaling_factor(), 0.0)?.to_dtype(self.dtype)?;
        let mut pictures = Vec::new();
        for image in 0..unscaled.dim(0)? {
            let decoded = self.vae.decode(&unscaled.narrow(0, image, 1)?)?.to_dtype(DType::F32)?;
            pictures.push(decoded.affine(0.5, 0.5)?.clamp(0.0, 1.0)?);
        }
        Ok(Tensor::cat(&pictures, 0)?)
    }
}

impl ImageGenerator for Sd15 {
    fn settings(&self) -> Settings {
        [
            ("model", json!("sd15")),
            ("pipeline", json!("StableDiffusionPipeline")),
            (
                "weights",
                json!({
                    "configuration": self.configuration_sha256,
                    "text_encoder": self.text_encoder.sha256(),
                    "unet": self.unet.sha256(),
                    "vae": self.vae.sha256(),
                }),
            ),
            ("width", json!(self.width)),
            ("height", json!(self.height)),
            ("steps", json!(self.options.steps)),
            ("guidance", json!(self.options.guidance)),
            ("negative_prompt", json!(self.options.negative_prompt)),
            ("scheduler", json!(self.scheduler)),
            ("dtype", json!(self.dtype.as_str())),
            ("rng", json!("cpu")),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }

    fn generate(&mut self, prompt: &str, seeds: &[u64]) -> Result<Vec<GeneratedImage>> {
        let (encoded, pictures) = self.pictures(prompt, seeds)?;
        seeds
            .iter()
            .enumerate()
            .map(|(index, &seed)| {
                Ok(GeneratedImage {
                    pixels: to_pixels(&pictures.get(index)?)?,
                    seed,
                    prompt_tokens: u32::try_from(encoded.full_length)?,
                    truncated: encoded.truncated,
                })
            })
            .collect()
    }
}

/// `[3, height, width]` in 0..=1 to bytes, rounded half to even as NumPy does.
///
/// # Errors
/// Another shape, or a number that is none (a network overflowed).
pub fn to_pixels(picture: &Tensor) -> Result<RgbImage> {
    let (channels, height, width) = picture.dims3()?;
    ensure!(channels == 3, "a picture has 3 channels, not {channels}");
    let values = picture.permute((1, 2, 0))?.contiguous()?.flatten_all()?.to_vec1::<f32>()?;
    if values.iter().any(|value| value.is_nan()) {
        bail!("the picture holds numbers that are none: the networks overflowed; try --dtype f32");
    }
    let bytes = values.iter().map(|value| (value * 255.0).round_ties_even() as u8).collect();
    RgbImage::from_raw(u32::try_from(width)?, u32::try_from(height)?, bytes)
        .context("the picture has another size than its pixels")
}

fn check_side(name: &str, side: usize, factor: usize) -> Result<usize> {
    ensure!(
        side > 0 && side.is_multiple_of(factor) && side <= MAX_SIDE,
        "--{name} {side} cannot be made: it must be a multiple of {factor}, up to {MAX_SIDE}"
    );
    Ok(side)
}

/// Complains about absent files before any is read, and about another kind of checkpoint.
fn check_folder(folder: &Path) -> Result<()> {
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

fn read_scheduler(folder: &Path, class: Option<SchedulerClass>) -> Result<SchedulerConfig> {
    let path = folder.join("scheduler/scheduler_config.json");
    SchedulerConfig::from_json(&read(&path)?, class).with_context(|| path.display().to_string())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// SHA-256 over names and contents of the small files that decide the arithmetic beside the weights:
/// the vocabulary and the networks' configurations. The scheduler's stands in the settings.
fn configuration_sha256(folder: &Path) -> Result<String> {
    let mut files: Vec<PathBuf> = ["text_encoder", "unet", "vae"]
        .iter()
        .map(|part| Path::new(part).join("config.json"))
        .chain(
            [
                "vocab.json",
                "merges.txt",
                "tokenizer.json",
                "tokenizer_config.json",
                "special_tokens_map.json",
            ]
            .iter()
            .map(|name| Path::new("tokenizer").join(name)),
        )
        .collect();
    files.retain(|file| folder.join(file).is_file());
    let mut hasher = Sha256::new();
    for file in files {
        let path = folder.join(&file);
        let bytes =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        hasher.update(format!("{} {}\n", file.to_string_lossy().replace('\\', "/"), bytes.len()));
        hasher.update(bytes);
    }
    Ok(hex(&hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_rounded_half_to_even() {
        // 0.5, 1.5 and 2.5 of 255, as f32 products.
        let values: Vec<f32> = vec![0.5 / 255.0, 1.5 / 255.0, 2.5 / 255.0, 0.0, 1.0, 0.999];
        let halves = values.iter().map(|value| value * 255.0).collect::<Vec<_>>();
        assert_eq!(&halves[..3], [0.5, 1.5, 2.5]);
        let picture = Tensor::from_vec(values, (3, 1, 2), &Device::Cpu).unwrap();
        let image = to_pixels(&picture).unwrap();
        assert_eq!(image.get_pixel(0, 0).0, [0, 2, 255]);
        assert_eq!(image.get_pixel(1, 0).0, [2, 0, 255]);
    }

    #[test]
    fn a_picture_of_nothing_is_refused() {
        let picture = Tensor::full(f32::NAN, (3, 2, 2), &Device::Cpu).unwrap();
        assert!(to_pixels(&picture).unwrap_err().to_string().contains("--dtype f32"));
    }

    #[test]
    fn sizes_must_fit_the_autoencoder() {
        assert_eq!(check_side("width", 512, 8).unwrap(), 512);
        for side in [0, 100, 8200] {
            let message = check_side("width", side, 8).unwrap_err().to_string();
            assert!(
                message.contains(&format!("--width {side}")) && message.contains('8'),
                "{message}"
            );
        }
    }
}
