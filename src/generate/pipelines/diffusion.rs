//! In: a checkpoint's UNet, autoencoder and scheduler, settings, a conditioning and seeds. Out:
//! pictures. What the conditioning is made from is left to the pipelines, the walk to `denoise`.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use candle_core::{DType, Device, Tensor};
use image::RgbImage;
use serde_json::json;

use super::conditioning::Conditioning;
use super::denoise::{Denoiser, denoise, denoise_up_to};
use super::options::DiffusionOptions;
use crate::checkpoint::folder::{DiffusersPipeline, read};
use crate::checkpoint::load_report::{LoadReport, tensors_in_nothing};
use crate::checkpoint::scheduler_config::pipeline_rules::ReadScheduler;
use crate::checkpoint::scheduler_config::{SchedulerConfig, SchedulerError};
use crate::generate::noise::{ImageNoise, NoiseSource};
use crate::generate::{GeneratedImage, ImageTimes};
use crate::models::{AddedCondition, LatentStatistics, TextContext, UNet, UnusedParts, VaeDecoder};
use crate::results::Settings;

/// Largest picture side in pixels: a typing error must not ask for terabytes.
const MAX_SIDE: usize = 8192;

/// The half of a pipeline that comes after the text: from noise to pictures, with fixed settings.
pub struct Diffusion {
    unet: UNet,
    vae: VaeDecoder,
    pipeline: DiffusersPipeline,
    scheduler: SchedulerConfig,
    understood: LoadReport,
    steps: usize,
    guidance: f64,
    width: usize,
    height: usize,
    rng: NoiseSource,
    record: Settings,
    dtype: DType,
    vae_dtype: DType,
    device: Device,
}

impl Diffusion {
    /// Loads `unet/`, `vae/` and `scheduler/` of the checkpoint in `folder`, as `pipeline` does; the
    /// autoencoder decodes in `vae_dtype`.
    ///
    /// # Errors
    /// A file is missing or broken, the parts do not go together, or a setting is impossible.
    pub fn load(
        folder: &Path,
        pipeline: DiffusersPipeline,
        (dtype, vae_dtype): (DType, DType),
        device: &Device,
        options: &DiffusionOptions,
    ) -> Result<Self> {
        let read = read_scheduler(folder, pipeline, options)?;
        let scheduler = read.config.clone();
        scheduler.scheduler(options.steps)?;
        ensure!(options.guidance.is_finite(), "--guidance {} is no number", options.guidance);
        let mut unet = UNet::load(&folder.join("unet"), dtype, device)?;
        unet.tell_guidance(options.guidance, device)?;
        let vae = match vae_dtype == DType::F32 && dtype != DType::F32 {
            true => VaeDecoder::load_upcast(&folder.join("vae"), device)?,
            false => VaeDecoder::load(&folder.join("vae"), vae_dtype, device)?,
        };
        check_channels(folder, &unet, &vae)?;
        let factor = vae.spatial_factor();
        let own = pipeline.sample_size(folder, unet.sample_size())?;
        let side = |name: &str, given: Option<usize>, own: Option<usize>| {
            let side = given.or(own.map(|own| own * factor)).with_context(|| {
                format!("unet/config.json states no sample_size; give --width and --height: {name} is absent")
            })?;
            check_side(name, side, factor)
        };
        let mut loaded = Self {
            width: side("width", options.width, own.size.map(|(_, width)| width))?,
            height: side("height", options.height, own.size.map(|(height, _)| height))?,
            pipeline,
            understood: LoadReport::default(),
            unet,
            vae,
            scheduler,
            steps: options.steps,
            guidance: options.guidance,
            rng: options.rng,
            record: options.record.clone(),
            dtype,
            vae_dtype,
            device: device.clone(),
        };
        loaded.understood = loaded.describe(&read, own.note, options.negative_prompt.as_deref());
        Ok(loaded)
    }

    /// What was understood, for people.
    fn describe(
        &self,
        read: &ReadScheduler,
        size_note: Option<String>,
        negative_prompt: Option<&str>,
    ) -> LoadReport {
        let mut understood = LoadReport::default();
        understood.line("pipeline", self.pipeline.class());
        understood.line("prediction", self.scheduler.prediction_type.name());
        understood.line("schedule", format!("{}; {} steps", self.scheduler, self.steps));
        understood.line("size", format!("{} x {}", self.width, self.height));
        let told = if self.unet.takes_guidance() { ", told to the UNet" } else { "" };
        understood.line("guidance", format!("{}{told}", self.guidance));
        if self.unet.takes_guidance() && negative_prompt.is_some_and(|text| !text.is_empty()) {
            understood.warn(
                "the negative prompt changes nothing: this UNet is told the guidance (time_cond_proj_dim in \
                 unet/config.json) and sees the prompt alone",
            );
        }
        for note in read.notes.iter().cloned().chain(size_note) {
            understood.line("mended", note);
        }
        warn_of_keys(&mut understood, "scheduler/scheduler_config.json", &read.unknown_keys);
        warn_of_files(&mut understood, "unet", self.unet.unused_parts());
        warn_of_files(&mut understood, "vae", self.vae.unused_parts());
        let unused_parts = [
            ("shift_factor", self.vae.has_shift()),
            (
                "latents_mean and latents_std",
                self.vae.latent_statistics().is_some() && self.pipeline != DiffusersPipeline::Sdxl,
            ),
        ];
        for (keys, is_there) in unused_parts {
            if is_there {
                understood.warn(format!(
                    "vae/config.json: {keys}: passed over, as {} of diffusers does",
                    self.pipeline.class()
                ));
            }
        }
        understood
    }

    /// What was understood of these parts.
    pub fn understood(&self) -> LoadReport {
        self.understood.clone()
    }

    /// Refuses text of another width than the UNet attends to; `part` of `path` makes it.
    pub(crate) fn check_context(&self, width: usize, part: &str, path: &Path) -> Result<()> {
        ensure!(
            width == self.unet.context_width(),
            "{}: the {part} is {width} wide, the UNet attends to {}; the parts are of different \
             models",
            path.display(),
            self.unet.context_width()
        );
        Ok(())
    }

    /// Width of the text's hidden states that the UNet attends to.
    pub fn context_width(&self) -> usize {
        self.unet.context_width()
    }

    /// Width of the pooled text that the UNet takes beside six sizes, where it takes them.
    pub fn pooled_width(&self) -> Option<usize> {
        self.unet.pooled_width()
    }

    /// Height and width of the pictures in pixels.
    pub fn size(&self) -> (usize, usize) {
        (self.height, self.width)
    }

    /// Number format that the pictures are decoded in.
    pub fn vae_dtype(&self) -> DType {
        self.vae_dtype
    }

    /// Whether it computes on a GPU.
    pub fn runs_on_gpu(&self) -> bool {
        !self.device.is_cpu()
    }

    /// Whether there is an unconditional half.
    pub(crate) fn is_guided(&self) -> bool {
        self.guidance > 1.0 && !self.unet.takes_guidance()
    }

    /// Pictures before they are rounded to bytes: `[seeds, 3, height, width]`, f32 in 0..=1.
    ///
    /// # Errors
    /// A network failed.
    pub fn pictures(&self, conditioning: &dyn Conditioning, seeds: &[u64]) -> Result<Tensor> {
        let factor = self.vae.spatial_factor();
        let shape = (self.unet.in_channels(), self.height / factor, self.width / factor);
        let mut noise = ImageNoise::from_source(self.rng, seeds, shape, &self.device);
        let mut scheduler = self.scheduler.scheduler(self.steps)?;
        let latents =
            denoise(&self.unet, conditioning, scheduler.as_mut(), self.guidance, &mut noise)?;
        self.decode(&latents)
    }

    /// Makes one picture with no more than `calls` calls of the UNet, throws it away, and tells how long
    /// that took; the time for the text is left at 0.
    ///
    /// # Errors
    /// A network failed.
    pub fn measure(&self, conditioning: &dyn Conditioning, calls: usize) -> Result<ImageTimes> {
        let factor = self.vae.spatial_factor();
        let shape = (self.unet.in_channels(), self.height / factor, self.width / factor);
        let mut noise = ImageNoise::from_source(self.rng, &[0], shape, &self.device);
        let mut scheduler = self.scheduler.scheduler(self.steps)?;
        let all = scheduler.timesteps().len();
        let calls = calls.clamp(1, all.max(1));
        self.device.synchronize()?;
        let start = Instant::now();
        let (scheduler, guidance) = (scheduler.as_mut(), self.guidance);
        let latents =
            denoise_up_to(&self.unet, conditioning, scheduler, guidance, &mut noise, calls)?;
        self.device.synchronize()?;
        let denoised = start.elapsed();
        self.decode(&latents)?;
        self.device.synchronize()?;
        Ok(ImageTimes {
            text: Duration::ZERO,
            call: denoised / u32::try_from(calls)?,
            calls: all,
            decode: start.elapsed() - denoised,
            size: (self.height, self.width),
        })
    }

    /// Latents `[images, channels, h, w]` to pictures in 0..=1, one at a time: the decoder needs the
    /// most memory of all parts.
    fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let mut unscaled = latents.affine(1.0 / self.vae.scaling_factor(), 0.0)?;
        if let (Some(LatentStatistics { mean, std }), DiffusersPipeline::Sdxl) =
            (self.vae.latent_statistics(), self.pipeline)
        {
            let of_channels = |values: &[f64]| -> candle_core::Result<Tensor> {
                let values: Vec<f32> = values.iter().map(|value| *value as f32).collect();
                Tensor::from_vec(values, (1, std.len(), 1, 1), latents.device())
            };
            unscaled =
                unscaled.broadcast_mul(&of_channels(std)?)?.broadcast_add(&of_channels(mean)?)?;
        }
        let mut pictures = Vec::new();
        for image in 0..unscaled.dim(0)? {
            let decoded = self.vae.decode(&unscaled.narrow(0, image, 1)?)?;
            pictures.push(decoded.affine(0.5, 0.5)?.clamp(0.0, 1.0)?);
        }
        Ok(Tensor::cat(&pictures, 0)?)
    }

    /// Every setting of this half that can change a pixel.
    pub fn settings(&self) -> Settings {
        let mut settings: Settings = [
            ("width", json!(self.width)),
            ("height", json!(self.height)),
            ("steps", json!(self.steps)),
            ("guidance", json!(self.guidance)),
            ("scheduler", json!(self.scheduler)),
            ("dtype", json!(self.dtype.as_str())),
            ("rng", json!(self.rng.to_string())),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        settings.extend(self.record.clone());
        settings
    }

    /// Number format of the networks.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Digests of the weights, by part.
    pub fn digests(&self) -> Settings {
        [("unet", self.unet.sha256()), ("vae", self.vae.sha256())]
            .into_iter()
            .map(|(name, digest)| (name.to_owned(), json!(digest)))
            .collect()
    }
}

impl Denoiser for UNet {
    fn predict(
        &self,
        latents: &Tensor,
        timestep: f64,
        texts: &[&TextContext],
        added: Option<&AddedCondition>,
    ) -> candle_core::Result<Tensor> {
        self.forward_contexts(latents, timestep, texts, added)
    }
}

/// Pictures `[seeds, 3, height, width]` in 0..=1 as the images of a prompt.
///
/// # Errors
/// See [`to_pixels`]; the advice is for networks in `dtype`.
pub(crate) fn images(
    pictures: &Tensor,
    seeds: &[u64],
    prompt_tokens: usize,
    truncated: bool,
    dtype: DType,
) -> Result<Vec<GeneratedImage>> {
    let advice = match dtype {
        DType::F32 => {
            "a weight of the checkpoint, an adapter's weight or the guidance is out of range"
        }
        _ => "try --dtype f32",
    };
    seeds
        .iter()
        .enumerate()
        .map(|(index, &seed)| {
            Ok(GeneratedImage {
                pixels: to_pixels(&pictures.get(index)?).map_err(|e| anyhow!("{e}; {advice}"))?,
                seed,
                prompt_tokens: Some(u32::try_from(prompt_tokens)?),
                truncated: Some(truncated),
                served: None,
            })
        })
        .collect()
}

/// `[3, height, width]` in 0..=1 to bytes, rounded half to even as NumPy does.
///
/// # Errors
/// Another shape, or a number that is none (a network overflowed).
pub fn to_pixels(picture: &Tensor) -> Result<RgbImage> {
    let (channels, height, width) = picture.dims3()?;
    ensure!(channels == 3, "an image has 3 channels, not {channels}");
    let values = picture.permute((1, 2, 0))?.contiguous()?.flatten_all()?.to_vec1::<f32>()?;
    if values.iter().any(|value| value.is_nan()) {
        bail!("the image holds numbers that are none: the networks overflowed");
    }
    let bytes = values.iter().map(|value| (value * 255.0).round_ties_even() as u8).collect();
    RgbImage::from_raw(u32::try_from(width)?, u32::try_from(height)?, bytes)
        .context("the image has another size than its pixels")
}

fn check_side(name: &str, side: usize, factor: usize) -> Result<usize> {
    ensure!(
        side > 0 && side.is_multiple_of(factor) && side <= MAX_SIDE,
        "--{name} {side} cannot be made: it must be a multiple of {factor}, up to {MAX_SIDE}"
    );
    Ok(side)
}

/// Adds a warning for keys that changed nothing, where there are any.
fn warn_of_keys(understood: &mut LoadReport, file: &str, keys: &[String]) {
    if !keys.is_empty() {
        understood.warn(format!("{file}: unknown keys, which change nothing: {}", keys.join(", ")));
    }
}

/// Warns of what changed nothing in the files of `folder`, a component's.
pub(super) fn warn_of_files(understood: &mut LoadReport, folder: &str, unused_parts: &UnusedParts) {
    warn_of_keys(understood, &format!("{folder}/config.json"), &unused_parts.keys);
    if let Some(sentence) = tensors_in_nothing(&unused_parts.tensors) {
        understood
            .warn(format!("{folder}: {sentence}; is {folder}/config.json that of these weights?"));
    }
}

/// Refuses a UNet that is fed, or gives, something else than the autoencoder's latents.
fn check_channels(folder: &Path, unet: &UNet, vae: &VaeDecoder) -> Result<()> {
    let (takes, gives, latents) = (unet.in_channels(), unet.out_channels(), vae.latent_channels());
    let kind = match (takes.checked_sub(latents), gives == latents) {
        (Some(0), true) => return Ok(()),
        (Some(more), _) if more == latents + 1 => ": it is made for inpainting",
        (Some(more), _) if more == latents => ": it is made for editing images",
        _ => "",
    };
    bail!(
        "{}: in_channels = {takes}, out_channels = {gives}, where the autoencoder's latents have {latents} \
         channels{kind}; a text alone makes no image with it",
        folder.join("unet/config.json").display()
    )
}

fn read_scheduler(
    folder: &Path,
    pipeline: DiffusersPipeline,
    options: &DiffusionOptions,
) -> Result<ReadScheduler> {
    let path = folder.join("scheduler/scheduler_config.json");
    let rules = pipeline.scheduler_rules(folder)?;
    let read = SchedulerConfig::of_pipeline(&read(&path)?, &rules, options.scheduler).map_err(
        |error| {
            let of_index =
                matches!(error, SchedulerError::UnknownClass { .. }) && rules.class_name.is_some();
            let named_in = if of_index { folder.join("model_index.json") } else { path.clone() };
            anyhow::Error::new(error).context(named_in.display().to_string())
        },
    )?;
    Ok(ReadScheduler { config: read.config.overridden(&options.overrides)?, ..read })
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
        let pictures = Tensor::full(f32::NAN, (1, 3, 2, 2), &Device::Cpu).unwrap();
        let told = |dtype| images(&pictures, &[1], 7, false, dtype).unwrap_err().to_string();
        assert!(told(DType::F16).ends_with("the networks overflowed; try --dtype f32"));
        assert!(!told(DType::F32).contains("--dtype"), "{}", told(DType::F32));
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
