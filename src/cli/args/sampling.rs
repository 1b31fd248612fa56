//! In: the flags of sampling. Out: the plain choice that they state.

use crate::checkpoint::scheduler_config::scheduler_class::SchedulerClass;
use crate::checkpoint::scheduler_config::{PredictionType, TimestepSpacing};
use crate::generate::noise::NoiseSource;
use crate::generate::noise::seeds::SeedMode;
use crate::generate::sampling_choice::SamplingChoice;

/// How images are sampled.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// Settings under one name, which other flags override; `paper`: 512 x 512, DPM-Solver++ 50 steps
    /// linspace, guidance 12, sequential seeds from 1001, as in ELLA's paper
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Base seed [default: 0]
    #[arg(long, value_name = "SEED")]
    pub seed: Option<u64>,
    /// `hashed`: from base seed, item and image number; `sequential`: base seed + image number, the
    /// same for every item, as diffusers scripts do [default: hashed]
    #[arg(long, value_enum, hide_possible_values = true, value_name = "MODE")]
    pub seed_mode: Option<SeedModeArg>,
    /// Whose random numbers: `cpu`, PyTorch's generator on a processor; `cuda`, that on a GPU;
    /// `cuda:THREADS`, on a small GPU, with its number of threads
    /// [default: cpu]
    #[arg(long, value_name = "SOURCE")]
    pub rng: Option<NoiseSource>,
    /// Denoising steps [default: 50; 4 for lcm, 20 for pixart-alpha, pixart-sigma and the
    /// demo's models, 28 for sd3, 28 for flux, 4 where that is schnell]
    #[arg(long, visible_alias = "num-inference-steps", value_name = "N")]
    pub steps: Option<usize>,
    /// Strength of classifier-free guidance; 1 or less turns it off [default: the model's own: 7.5, for
    /// sdxl 5, for playground-v2 and v25 3, for lcm 8.5, for pixart-alpha and pixart-sigma 4.5, for sd3 7, for flux
    /// 3.5, for ella-sd15 12, for the demo's models 4]
    #[arg(long, visible_alias = "guidance-scale", alias = "cfg-scale", value_name = "NUMBER")]
    pub guidance: Option<f64>,
    /// For flux: a second guidance, away from the negative prompt, at twice the work; it takes a
    /// number above 1 and --negative-prompt [default: none]
    #[arg(long, visible_alias = "true-cfg-scale", value_name = "NUMBER")]
    pub true_cfg: Option<f64>,
    /// Width in pixels [default: the checkpoint's own]
    #[arg(long, value_name = "PIXELS")]
    pub width: Option<usize>,
    /// Height in pixels [default: the checkpoint's own]
    #[arg(long, value_name = "PIXELS")]
    pub height: Option<usize>,
    /// One of [`SchedulerClass::names`].
    #[arg(long, alias = "sampler", value_name = "NAME", help = scheduler_help())]
    pub scheduler: Option<String>,
    /// How the timesteps are spread: `linspace`, `leading` or `trailing` [default: the scheduler
    /// configuration's]
    #[arg(long, value_enum, hide_possible_values = true, value_name = "NAME")]
    pub spacing: Option<SpacingArg>,
    /// Karras sigmas, for the schedulers that have them.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL", help = karras_help())]
    pub karras: Option<bool>,
    /// What the network predicts: `epsilon` or `v` [default: the scheduler configuration's]
    #[arg(long, value_enum, hide_possible_values = true, value_name = "WHAT")]
    pub prediction: Option<PredictionArg>,
    /// What guidance leads away from [default: the empty text, which is encoded; for sdxl no text but
    /// zeros, where its checkpoint says so]
    #[arg(long, value_name = "TEXT")]
    pub negative_prompt: Option<String>,
}

fn scheduler_help() -> String {
    let names = SchedulerClass::names();
    format!(
        "One of {names}, made from the checkpoint's scheduler configuration [default: the checkpoint's own, for \
         ella-sd15 dpm++]"
    )
}

fn karras_help() -> String {
    let names = SchedulerClass::names_with_karras_sigmas();
    format!("Karras sigmas, for {names}; `--karras false` where the configuration has them")
}

/// Spelling of [`SeedMode`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum SeedModeArg {
    /// See [`SeedMode::Hashed`].
    Hashed,
    /// See [`SeedMode::Sequential`].
    Sequential,
}

impl From<SeedModeArg> for SeedMode {
    fn from(mode: SeedModeArg) -> Self {
        match mode {
            SeedModeArg::Hashed => Self::Hashed,
            SeedModeArg::Sequential => Self::Sequential,
        }
    }
}

/// Spelling of [`TimestepSpacing`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum SpacingArg {
    /// See [`TimestepSpacing::Linspace`].
    Linspace,
    /// See [`TimestepSpacing::Leading`].
    Leading,
    /// See [`TimestepSpacing::Trailing`].
    Trailing,
}

impl From<SpacingArg> for TimestepSpacing {
    fn from(spacing: SpacingArg) -> Self {
        match spacing {
            SpacingArg::Linspace => Self::Linspace,
            SpacingArg::Leading => Self::Leading,
            SpacingArg::Trailing => Self::Trailing,
        }
    }
}

/// Spelling of [`PredictionType`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum PredictionArg {
    /// See [`PredictionType::Epsilon`].
    Epsilon,
    /// See [`PredictionType::VPrediction`].
    #[value(alias = "v_prediction")]
    V,
}

impl From<PredictionArg> for PredictionType {
    fn from(prediction: PredictionArg) -> Self {
        match prediction {
            PredictionArg::Epsilon => Self::Epsilon,
            PredictionArg::V => Self::VPrediction,
        }
    }
}

impl SamplingArgs {
    /// What the flags state; a preset stands below it.
    ///
    /// # Errors
    /// The scheduler is unknown.
    pub(crate) fn choice(&self) -> anyhow::Result<SamplingChoice> {
        Ok(SamplingChoice {
            steps: self.steps,
            guidance: self.guidance,
            true_cfg: self.true_cfg,
            width: self.width,
            height: self.height,
            scheduler: self.scheduler.as_deref().map(SchedulerClass::from_name).transpose()?,
            spacing: self.spacing.map(Into::into),
            karras: self.karras,
            prediction: self.prediction.map(Into::into),
            negative_prompt: self.negative_prompt.clone(),
            seed: self.seed,
            seed_mode: self.seed_mode.map(Into::into),
            rng: self.rng,
        })
    }
}
