//! In: what flags, a model file, a preset and a model's own defaults say about sampling. Out: one choice
//! of each value, the earlier of them winning. The arithmetic is left to the schedulers.

use serde::{Deserialize, Deserializer};

use super::noise::NoiseSource;
use super::noise::seeds::SeedMode;
use crate::checkpoint::scheduler_config::SchedulerOverrides;
use crate::checkpoint::scheduler_config::scheduler_class::SchedulerClass;
use crate::checkpoint::scheduler_config::{PredictionType, TimestepSpacing};
use crate::near_names::did_you_mean;

/// Values that stand above a checkpoint's own; `None` leaves one as it is. Also the `[settings]` of a
/// model file.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingChoice {
    /// Denoising steps.
    pub steps: Option<usize>,
    /// Strength of classifier-free guidance.
    pub guidance: Option<f64>,
    /// Strength of the second guidance of models that are told one.
    pub true_cfg: Option<f64>,
    /// Width in pixels.
    pub width: Option<usize>,
    /// Height in pixels.
    pub height: Option<usize>,
    /// Scheduler, by its short name or its name in diffusers.
    #[serde(default, deserialize_with = "scheduler")]
    pub scheduler: Option<SchedulerClass>,
    /// Spread of the timesteps.
    pub spacing: Option<TimestepSpacing>,
    /// Karras sigmas.
    pub karras: Option<bool>,
    /// What the network predicts.
    pub prediction: Option<PredictionType>,
    /// What guidance leads away from.
    pub negative_prompt: Option<String>,
    /// Base seed.
    pub seed: Option<u64>,
    /// How an image's seed follows from it.
    pub seed_mode: Option<SeedMode>,
    /// Whose random numbers the noise is made of.
    #[serde(default, deserialize_with = "noise_source")]
    pub rng: Option<NoiseSource>,
}

impl SamplingChoice {
    /// This choice, and `lower` where it is silent.
    pub fn or(self, lower: Self) -> Self {
        Self {
            steps: self.steps.or(lower.steps),
            guidance: self.guidance.or(lower.guidance),
            true_cfg: self.true_cfg.or(lower.true_cfg),
            width: self.width.or(lower.width),
            height: self.height.or(lower.height),
            scheduler: self.scheduler.or(lower.scheduler),
            spacing: self.spacing.or(lower.spacing),
            karras: self.karras.or(lower.karras),
            prediction: self.prediction.or(lower.prediction),
            negative_prompt: self.negative_prompt.or(lower.negative_prompt),
            seed: self.seed.or(lower.seed),
            seed_mode: self.seed_mode.or(lower.seed_mode),
            rng: self.rng.or(lower.rng),
        }
    }

    /// The part that stands above a scheduler's configuration.
    pub fn scheduler_overrides(&self) -> SchedulerOverrides {
        SchedulerOverrides {
            spacing: self.spacing,
            karras: self.karras,
            prediction: self.prediction,
        }
    }

    /// Names of the values that both choices state, differently.
    pub fn conflicts(&self, other: &Self) -> Vec<&'static str> {
        fn differ<T: PartialEq>(a: &Option<T>, b: &Option<T>) -> bool {
            matches!((a, b), (Some(a), Some(b)) if a != b)
        }
        [
            ("steps", differ(&self.steps, &other.steps)),
            ("guidance", differ(&self.guidance, &other.guidance)),
            ("true-cfg", differ(&self.true_cfg, &other.true_cfg)),
            ("width", differ(&self.width, &other.width)),
            ("height", differ(&self.height, &other.height)),
            ("scheduler", differ(&self.scheduler, &other.scheduler)),
            ("spacing", differ(&self.spacing, &other.spacing)),
            ("karras", differ(&self.karras, &other.karras)),
            ("prediction", differ(&self.prediction, &other.prediction)),
            ("negative prompt", differ(&self.negative_prompt, &other.negative_prompt)),
            ("seed", differ(&self.seed, &other.seed)),
            ("seed mode", differ(&self.seed_mode, &other.seed_mode)),
            ("rng", differ(&self.rng, &other.rng)),
        ]
        .into_iter()
        .filter_map(|(name, differ)| differ.then_some(name))
        .collect()
    }
}

fn scheduler<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<SchedulerClass>, D::Error> {
    let name = String::deserialize(reader)?;
    SchedulerClass::from_name(&name).map(Some).map_err(serde::de::Error::custom)
}

fn noise_source<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<NoiseSource>, D::Error> {
    String::deserialize(reader)?.parse().map(Some).map_err(serde::de::Error::custom)
}

/// Values under one name, for `--preset`.
#[derive(Debug, Clone, PartialEq)]
pub struct Preset {
    /// Name on the command line.
    pub name: &'static str,
    /// One line for people.
    pub description: &'static str,
    /// What it states.
    pub choice: SamplingChoice,
}

/// Every preset.
pub fn presets() -> Vec<Preset> {
    vec![Preset {
        name: "paper",
        description: "as ELLA's paper and test code: 512 x 512, DPM-Solver++ 50 steps linspace, guidance \
                      12, seeds 1001, 1002, ... for every prompt",
        choice: SamplingChoice {
            steps: Some(50),
            guidance: Some(12.0),
            width: Some(512),
            height: Some(512),
            scheduler: Some(SchedulerClass::DpmSolverMultistep),
            spacing: Some(TimestepSpacing::Linspace),
            karras: Some(false),
            seed: Some(1001),
            seed_mode: Some(SeedMode::Sequential),
            rng: Some(NoiseSource::Cpu),
            ..Default::default()
        },
    }]
}

/// Finds a preset by its name.
///
/// # Errors
/// There is none; the sentence lists those there are.
pub fn preset(name: &str) -> Result<Preset, UnknownPreset> {
    presets()
        .into_iter()
        .find(|preset| preset.name == name)
        .ok_or_else(|| UnknownPreset(name.to_owned()))
}

/// No preset of that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "preset `{0}` is unknown{near}; there is {names}",
    near = did_you_mean(.0, presets().iter().map(|preset| preset.name)),
    names = presets().iter().map(|preset| preset.name).collect::<Vec<_>>().join(", ")
)]
pub struct UnknownPreset(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_higher_choice_wins_value_by_value() {
        let paper = preset("paper").unwrap().choice;
        let flags = SamplingChoice {
            steps: Some(20),
            guidance: Some(12.0),
            karras: Some(true),
            prediction: Some(PredictionType::VPrediction),
            ..Default::default()
        };
        assert_eq!(flags.conflicts(&paper), ["steps", "karras"]);
        let both = flags.or(paper.clone());
        assert_eq!(both.steps, Some(20));
        assert_eq!((both.width, both.seed), (Some(512), Some(1001)));
        assert_eq!(
            both.scheduler_overrides(),
            SchedulerOverrides {
                spacing: Some(TimestepSpacing::Linspace),
                karras: Some(true),
                prediction: Some(PredictionType::VPrediction),
            }
        );
        assert!(SamplingChoice::default().conflicts(&paper).is_empty());
        assert!(preset("pape").unwrap_err().to_string().contains("paper"));
    }
}
