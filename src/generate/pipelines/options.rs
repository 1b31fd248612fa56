//! In: nothing. Out: the settings that every diffusion pipeline has.

use crate::checkpoint::scheduler_config::SchedulerOverrides;
use crate::checkpoint::scheduler_config::scheduler_class::SchedulerClass;
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
    /// More for the record: the preset, the adapters and so on.
    pub record: Settings,
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
            record: Settings::new(),
        }
    }
}
