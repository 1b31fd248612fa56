//! In: a checkpoint's network, autoencoder and scheduler, settings, a conditioning and seeds. Out:
//! pictures. What the conditioning is made from is left to the pipelines, the walk to `denoise`.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use serde_json::json;

use super::conditioning::Conditioning;
use super::control::{Control, Controlled};
use super::denoise::{Networks, denoise, denoise_up_to};
use super::guidance::Guidance;
use super::network::Network;
use super::options::DiffusionOptions;
use super::pixels::resized_and_cropped;
pub use super::pixels::to_pixels;
use super::scheduler_of::{ReadSchedule, Schedule, read_schedule};
use crate::checkpoint::folder::DiffusersPipeline;
use crate::checkpoint::load_report::{LoadReport, tensors_in_nothing};
use crate::generate::ImageTimes;
use crate::generate::control_images::ControlImages;
use crate::generate::noise::{ImageNoise, NoiseSource};
use crate::models::{LatentStatistics, UNet, UnusedParts, VaeDecoder};
use crate::results::Settings;

/// Largest picture side in pixels: a typing error must not ask for terabytes.
pub(super) const MAX_SIDE: usize = 8192;

/// The half of a pipeline that comes after the text: from noise to pictures, with fixed settings.
pub struct Diffusion {
    network: Box<dyn Network>,
    control: Option<Control>,
    vae: VaeDecoder,
    pipeline: DiffusersPipeline,
    scheduler: Schedule,
    understood: LoadReport,
    steps: usize,
    guidance: Guidance,
    width: usize,
    height: usize,
    /// Height and width that the networks make, which is then brought to those asked for.
    made: (usize, usize),
    rng: NoiseSource,
    record: Settings,
    dtype: DType,
    vae_dtype: DType,
    device: Device,
}

/// What a [`Diffusion`] is made of.
pub(crate) struct DiffusionParts {
    pub(crate) network: Box<dyn Network>,
    pub(crate) vae: VaeDecoder,
    pub(crate) read: ReadSchedule,
    pub(crate) size: PictureSize,
}

/// Height and width of pictures in pixels.
pub(crate) struct PictureSize {
    /// As the user gets them.
    pub(crate) asked: (usize, usize),
    /// As the networks make them.
    pub(crate) made: (usize, usize),
    /// What was mended of the stated size.
    pub(crate) note: Option<String>,
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
        let read = read_schedule(folder, pipeline, options)?;
        let mut unet = UNet::load(&folder.join("unet"), dtype, device)?;
        ensure!(
            pipeline != DiffusersPipeline::Lcm || unet.takes_guidance(),
            "{}: time_cond_proj_dim is not stated, and {} of diffusers tells the UNet the guidance; an ordinary UNet with an LCM-LoRA \
             runs from a StableDiffusionPipeline's folder: --model sd15 --scheduler lcm --lora FILE",
            folder.join("unet/config.json").display(),
            pipeline.class()
        );
        unet.tell_guidance(options.guidance, device)?;
        let vae = load_vae(folder, (dtype, vae_dtype), device)?;
        check_channels(folder, &unet, &vae)?;
        let factor = vae.spatial_factor();
        let own = pipeline.sample_size(folder, unet.sample_size())?;
        let side = |name: &str, given: Option<usize>, own: Option<usize>| {
            let side = given.or(own.map(|own| own * factor)).with_context(|| {
                format!("unet/config.json states no sample_size; give --width and --height: {name} is absent")
            })?;
            check_side(name, side, factor)
        };
        let width = side("width", options.width, own.size.map(|(_, width)| width))?;
        let height = side("height", options.height, own.size.map(|(height, _)| height))?;
        let size = PictureSize { asked: (height, width), made: (height, width), note: own.note };
        let load = |options| Control::load(options, (&unet, folder), factor, dtype, device);
        let control = options.control.as_ref().map(load).transpose()?;
        let parts = DiffusionParts { network: Box::new(unet), vae, read, size };
        Self::under(control, parts, pipeline, (dtype, vae_dtype), device, options)
    }

    /// Of parts that go together.
    pub(crate) fn of(
        parts: DiffusionParts,
        pipeline: DiffusersPipeline,
        dtypes: (DType, DType),
        device: &Device,
        options: &DiffusionOptions,
    ) -> Result<Self> {
        Self::under(None, parts, pipeline, dtypes, device, options)
    }

    /// The same under a ControlNet, where there is one.
    fn under(
        control: Option<Control>,
        DiffusionParts { network, vae, read, size }: DiffusionParts,
        pipeline: DiffusersPipeline,
        (dtype, vae_dtype): (DType, DType),
        device: &Device,
        options: &DiffusionOptions,
    ) -> Result<Self> {
        ensure!(
            vae.shift_factor().is_some() || !pipeline.adds_shift_factor(),
            "vae/config.json states no shift_factor, which {} of diffusers adds to latents; is it another model's autoencoder?",
            pipeline.class()
        );
        let (height, width) = size.asked;
        let usage = network.guidance_use();
        let guidance = Guidance::new(usage, pipeline == DiffusersPipeline::Flux, options)?;
        let mut loaded = Self {
            width,
            height,
            made: size.made,
            pipeline,
            understood: LoadReport::default(),
            network,
            control,
            vae,
            scheduler: read.schedule.clone(),
            steps: options.steps,
            guidance,
            rng: options.rng,
            record: options.record.clone(),
            dtype,
            vae_dtype,
            device: device.clone(),
        };
        loaded.understood = loaded.describe(&read, size.note, options);
        Ok(loaded)
    }

    /// What was understood, for people.
    fn describe(
        &self,
        read: &ReadSchedule,
        size_note: Option<String>,
        options: &DiffusionOptions,
    ) -> LoadReport {
        let mut understood = LoadReport::default();
        understood.line("pipeline", self.class());
        understood.line("prediction", self.scheduler.prediction());
        understood.line("schedule", format!("{}; {} steps", self.scheduler, self.steps));
        let made = match self.made == (self.height, self.width) {
            true => String::new(),
            false => format!(", made at {} x {} and cut", self.made.1, self.made.0),
        };
        understood.line("size", format!("{} x {}{made}", self.width, self.height));
        let names = (self.network_name(), self.network.component());
        self.guidance.describe(names, options, &mut understood);
        for note in read.notes.iter().cloned().chain(size_note) {
            understood.line("mended", note);
        }
        warn_of_keys(&mut understood, "scheduler/scheduler_config.json", &read.unknown_keys);
        let network = &self.network;
        warn_of_files(&mut understood, network.component(), network.unused_parts());
        warn_of_files(&mut understood, "vae", self.vae.unused_parts());
        if let Some(control) = &self.control {
            understood.line("controlnet", control.described());
            let (folder, unused_parts) = control.unused_parts();
            warn_of_files(&mut understood, &folder, unused_parts);
        }
        let unused_parts = [
            (
                "shift_factor",
                self.vae.shift_factor().is_some_and(|shift| shift != 0.0)
                    && !self.pipeline.adds_shift_factor(),
            ),
            (
                "latents_mean and latents_std",
                self.vae.latent_statistics().is_some() && !self.pipeline.scales_by_statistics(),
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
            width == self.network.context_width(),
            "{}: the {part} is {width} wide, the {} attends to {}; the parts are of different \
             models",
            path.display(),
            self.network_name(),
            self.network.context_width()
        );
        Ok(())
    }

    /// The network's name in sentences.
    fn network_name(&self) -> &'static str {
        match self.network.component() {
            "unet" => "UNet",
            name => name,
        }
    }

    /// Width of the text's hidden states that the network attends to.
    pub fn context_width(&self) -> usize {
        self.network.context_width()
    }

    /// Width of the pooled text that the network takes beside them, where it takes one.
    pub fn pooled_width(&self) -> Option<usize> {
        self.network.pooled_width()
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
        self.guidance.has_halves()
    }

    /// The second guidance, where it changes something.
    pub(crate) fn true_cfg(&self) -> Option<f64> {
        self.guidance.true_cfg
    }

    /// Pictures before they are rounded to bytes: `[seeds, 3, height, width]`, f32 in 0..=1.
    ///
    /// # Errors
    /// A network failed, or there is a ControlNet, which needs an item's image.
    pub fn pictures(&self, conditioning: &dyn Conditioning, seeds: &[u64]) -> Result<Tensor> {
        self.pictures_of(None, conditioning, seeds)
    }

    /// As [`Diffusion::pictures`], of `item`, whose control image is taken where there is a ControlNet.
    ///
    /// # Errors
    /// A network failed, or the control image cannot be read.
    pub fn pictures_of(
        &self,
        item: Option<&str>,
        conditioning: &dyn Conditioning,
        seeds: &[u64],
    ) -> Result<Tensor> {
        let controlled = match (self.control.as_ref(), item, self.network.as_unet()) {
            (Some(control), Some(item), Some(unet)) => Some(control.over(unet, item, self.made)?),
            (Some(_), None, _) => bail!("a ControlNet needs the control image of an item"),
            _ => None,
        };
        let mut noise = self.noise(seeds);
        let mut scheduler = self.scheduler.scheduler(self.steps)?;
        let networks = self.networks(controlled.as_ref());
        let scheduler = scheduler.as_mut();
        let latents =
            denoise(networks, conditioning, scheduler, self.guidance.scale(), &mut noise)?;
        self.decode(&latents)
    }

    /// The network of a walk, and that with a ControlNet in its part of the steps.
    fn networks<'a>(&'a self, controlled: Option<&'a Controlled<'a>>) -> Networks<'a> {
        controlled.map_or_else(|| Networks::one(self.network.as_ref()), Controlled::networks)
    }

    /// Noise in the shape of the latents.
    fn noise(&self, seeds: &[u64]) -> ImageNoise {
        let (factor, (height, width)) = (self.vae.spatial_factor(), self.made);
        let shape = (self.network.in_channels(), height / factor, width / factor);
        ImageNoise::from_source(self.rng, seeds, shape, &self.device)
    }

    /// Makes one picture with no more than `calls` calls of the network, throws it away, and tells how long
    /// that took; the time for the text is left at 0.
    ///
    /// # Errors
    /// A network failed.
    pub fn measure(&self, conditioning: &dyn Conditioning, calls: usize) -> Result<ImageTimes> {
        let mut noise = self.noise(&[0]);
        let mut scheduler = self.scheduler.scheduler(self.steps)?;
        let all = scheduler.timesteps().len();
        let calls = calls.clamp(1, all.max(1));
        self.device.synchronize()?;
        let controlled = match (self.control.as_ref(), self.network.as_unet()) {
            (Some(control), Some(unet)) => Some(control.over_black(unet, self.made)?),
            _ => None,
        };
        let networks = self.networks(controlled.as_ref());
        let start = Instant::now();
        let (scheduler, guidance) = (scheduler.as_mut(), self.guidance.scale());
        let latents =
            denoise_up_to(networks, conditioning, scheduler, guidance, &mut noise, calls)?;
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
        let shift = self.vae.shift_factor().filter(|_| self.pipeline.adds_shift_factor());
        let mut unscaled =
            latents.affine(1.0 / self.vae.scaling_factor(), shift.unwrap_or_default())?;
        if let (Some(LatentStatistics { mean, std }), true) =
            (self.vae.latent_statistics(), self.pipeline.scales_by_statistics())
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
            let decoded = resized_and_cropped(&decoded, self.size())?;
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
            ("guidance", json!(self.guidance.strength)),
            ("scheduler", json!(self.scheduler)),
            ("dtype", json!(self.dtype.as_str())),
            ("rng", json!(self.rng.to_string())),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        settings.extend(self.control.iter().flat_map(Control::settings));
        settings.extend(self.record.clone());
        settings
    }

    /// Number format of the networks.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Digests of the weights, by part.
    pub fn digests(&self) -> Settings {
        [(self.network.component(), self.network.sha256()), ("vae", self.vae.sha256())]
            .into_iter()
            .map(|(name, digest)| (name.to_owned(), json!(digest)))
            .chain(self.control.iter().flat_map(Control::digests))
            .collect()
    }

    /// The control images, where there is a ControlNet.
    pub(crate) fn control_images(&self) -> Option<&ControlImages> {
        self.control.as_ref().map(Control::images)
    }

    /// The class of diffusers that it is equal to.
    pub(crate) fn class(&self) -> &'static str {
        match self.control {
            Some(_) => self.pipeline.class_with_controlnet(),
            None => self.pipeline.class(),
        }
    }
}

pub(super) fn check_side(name: &str, side: usize, factor: usize) -> Result<usize> {
    ensure!(
        side > 0 && side.is_multiple_of(factor) && side <= MAX_SIDE,
        "--{name} {side} cannot be made: it must be a multiple of {factor}, up to {MAX_SIDE}"
    );
    Ok(side)
}

/// The autoencoder of the checkpoint in `folder`, for a network in `dtype`, which decodes in `vae_dtype`.
pub(crate) fn load_vae(
    folder: &Path,
    (dtype, vae_dtype): (DType, DType),
    device: &Device,
) -> Result<VaeDecoder> {
    let folder = folder.join("vae");
    Ok(match vae_dtype == DType::F32 && dtype != DType::F32 {
        true => VaeDecoder::load_upcast(&folder, device)?,
        false => VaeDecoder::load(&folder, vae_dtype, device)?,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

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
