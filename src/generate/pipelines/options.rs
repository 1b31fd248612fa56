//! In: nothing. Out: the settings that every diffusion pipeline has.

use std::path::PathBuf;

use crate::checkpoint::scheduler_config::SchedulerOverrides;
use crate::checkpoint::scheduler_config::scheduler_class::SchedulerClass;
use crate::generate::control_images::ControlImages;
use crate::generate::noise::NoiseSource;
use crate::results::Settings;

/// How pictures are made; the defaults are those of diffusers' `StableDiffusionPipeline`.
#[derive(Debug, Clone, PartialEq)]
pub struct DiffusionOptions {
    /// Denoising steps.
    pub steps: usize,
    /// Strength of classifier-free guidance; 1 or less turns it off.
    pub guidance: f64,
    /// Strength of classifier-free guidance beside the one that a network is told, FLUX.1's alone; it takes a negative prompt,
    /// and a number above 1.
    pub true_cfg: Option<f64>,
    /// Width in pixels; `None` takes the checkpoint's own.
    pub width: Option<usize>,
    /// Height in pixels; `None` takes the checkpoint's own.
    pub height: Option<usize>,
    /// Another scheduler than the checkpoint's.
    pub scheduler: Option<SchedulerClass>,
    /// What stands above the scheduler's configuration.
    pub overrides: SchedulerOverrides,
    /// What guidance leads away from. `None` is the empty text; for SDXL it is no text at all.
    pub negative_prompt: Option<String>,
    /// Whose random numbers the noise is made of.
    pub rng: NoiseSource,
    /// A ControlNet, where pictures are made under one.
    pub control: Option<ControlOptions>,
    /// More for the record: the preset, the adapters and so on.
    pub record: Settings,
}

/// A ControlNet and how it is used; the defaults are those of diffusers' `StableDiffusionControlNetPipeline`.
#[derive(Debug, Clone, PartialEq)]
pub struct ControlOptions {
    /// Its folder in the diffusers layout, or one safetensors file.
    pub network: PathBuf,
    /// One image for each item.
    pub images: ControlImages,
    /// What its residuals are multiplied by (`controlnet_conditioning_scale`).
    pub scale: f64,
    /// Share of the steps after which it begins (`control_guidance_start`).
    pub start: f64,
    /// Share of the steps after which it ends (`control_guidance_end`).
    pub end: f64,
}

impl ControlOptions {
    /// The ControlNet in `network` with the defaults.
    pub fn new(network: PathBuf, images: ControlImages) -> Self {
        Self { network, images, scale: 1.0, start: 0.0, end: 1.0 }
    }
}

impl Default for DiffusionOptions {
    fn default() -> Self {
        Self {
            steps: 50,
            guidance: 7.5,
            true_cfg: None,
            width: None,
            height: None,
            scheduler: None,
            overrides: SchedulerOverrides::default(),
            negative_prompt: None,
            rng: NoiseSource::Cpu,
            control: None,
            record: Settings::new(),
        }
    }
}
