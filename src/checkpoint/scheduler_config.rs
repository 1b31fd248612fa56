//! In: the JSON of a checkpoint's `scheduler_config.json` and, where given, another scheduler's name.
//! Out: every value that decides the arithmetic, resolved, or an error that names the option which is
//! not supported. The arithmetic is left to one file per scheduler.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub mod edm;
pub mod error;
pub mod flow_match;
pub mod noise_schedule;
pub(crate) mod pipeline_rules;
pub mod scheduler_class;
pub(crate) mod timestep_spacing;

use super::config::drop_unset;

pub use self::error::SchedulerError;
pub use self::scheduler_class::SchedulerClass;
pub use self::timestep_spacing::TimestepSpacing;

/// How the betas run from start to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BetaSchedule {
    /// In equal steps.
    Linear,
    /// Their square roots in equal steps.
    ScaledLinear,
}

/// What the network predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PredictionType {
    /// The noise.
    Epsilon,
    /// The velocity (arXiv 2202.00512).
    VPrediction,
}

impl PredictionType {
    /// Its name in diffusers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Epsilon => "epsilon",
            Self::VPrediction => "v_prediction",
        }
    }
}

/// What stands above a checkpoint's scheduler configuration; `None` leaves it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SchedulerOverrides {
    /// Spread of the timesteps.
    pub spacing: Option<TimestepSpacing>,
    /// Karras sigmas.
    pub karras: Option<bool>,
    /// What the network predicts.
    pub prediction: Option<PredictionType>,
}

/// A scheduler's resolved settings; they stand in the manifest of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SchedulerConfig {
    /// Which scheduler.
    pub class: SchedulerClass,
    /// Steps of the training schedule.
    pub train_steps: usize,
    /// First beta.
    pub beta_start: f64,
    /// Last beta.
    pub beta_end: f64,
    /// What lies between.
    pub beta_schedule: BetaSchedule,
    /// Spread of the timesteps.
    pub timestep_spacing: TimestepSpacing,
    /// Added to each timestep of the leading spacing.
    pub steps_offset: usize,
    /// What the network predicts.
    pub prediction_type: PredictionType,
    /// DPM-Solver++, Euler and UniPC: whether the sigmas are even in their seventh root
    /// (arXiv 2206.00364).
    #[serde(default)]
    pub use_karras_sigmas: bool,
    /// Whether the betas are rescaled so that nothing is left of the picture at the last training step
    /// (arXiv 2305.08891, algorithm 1).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rescale_betas_zero_snr: bool,
    /// PNDM and DDIM: whether the last step ends at alpha 1 or at the first training alpha.
    pub set_alpha_to_one: bool,
    /// DDIM and LCM: where the predicted picture is cut off, above and below zero; `None` leaves it as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_sample_range: Option<f64>,
    /// LCM: steps of the schedule that the network was distilled on, of which a walk takes some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_inference_steps: Option<usize>,
    /// LCM: what a timestep is multiplied by before it weighs latents against the predicted picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestep_scaling: Option<f64>,
}

/// In one line, for people.
impl std::fmt::Display for SchedulerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let betas = match self.beta_schedule {
            BetaSchedule::Linear => "linear",
            BetaSchedule::ScaledLinear => "scaled_linear",
        };
        let spacing = match self.timestep_spacing {
            TimestepSpacing::Linspace => "linspace",
            TimestepSpacing::Leading => "leading",
            TimestepSpacing::Trailing => "trailing",
        };
        write!(
            f,
            "{}, {betas} betas {} to {} over {} steps, {spacing}, offset {}",
            self.class.class_name(),
            self.beta_start,
            self.beta_end,
            self.train_steps,
            self.steps_offset
        )?;
        let flags = [
            (self.use_karras_sigmas, ", Karras sigmas"),
            (self.rescale_betas_zero_snr, ", zero terminal SNR"),
        ];
        flags.iter().filter(|(on, _)| *on).try_for_each(|(_, text)| f.write_str(text))?;
        if let Some(original) = self.original_inference_steps {
            write!(f, ", some of {original} steps")?;
        }
        match self.clip_sample_range {
            Some(range) => write!(f, ", predicted images clipped to {range}"),
            None => Ok(()),
        }
    }
}

impl SchedulerConfig {
    pub(crate) fn of_options(
        options: Map<String, Value>,
        class: SchedulerClass,
    ) -> Result<Self, SchedulerError> {
        if !class.knows_zero_terminal_snr() && options.contains_key(MARKED_ZERO_SNR) {
            return Err(SchedulerError::NoZeroSnr(class.short_name()));
        }
        let mut reader = Reader { class, options };
        // Each solver reads the others' names for its own.
        if let Some(Value::String(solver)) = reader.options.get_mut("solver_type")
            && let Some((own, foreign)) = class.solver_names()
            && foreign.contains(&solver.as_str())
        {
            *solver = own.to_owned();
        }
        // DPM-Solver++ takes the name of its relative for its own as well.
        if class == SchedulerClass::DpmSolverMultistep
            && let Some(Value::String(algorithm)) = reader.options.get_mut("algorithm_type")
            && algorithm == "deis"
        {
            *algorithm = "dpmsolver++".to_owned();
        }
        let reader = reader;
        for (key, default, supported) in class.fixed_options() {
            let value = reader.options.get(key).unwrap_or(&default);
            // In Python null is no.
            let is_no = value.is_null() && supported == Value::Bool(false);
            if *value != supported && !is_no {
                return Err(reader.unsupported(key, value, &supported));
            }
        }
        let (beta_start, beta_end) = class.default_betas();
        let config = Self {
            class,
            train_steps: reader.read("num_train_timesteps", 1000, "a whole number")?,
            beta_start: reader.read("beta_start", beta_start, "a number")?,
            beta_end: reader.read("beta_end", beta_end, "a number")?,
            beta_schedule: reader.read(
                "beta_schedule",
                match class.scales_betas_unasked() {
                    true => BetaSchedule::ScaledLinear,
                    false => BetaSchedule::Linear,
                },
                "linear, scaled_linear",
            )?,
            timestep_spacing: reader.read(
                "timestep_spacing",
                class.default_spacing(),
                "linspace, leading, trailing",
            )?,
            steps_offset: reader.read("steps_offset", 0, "a whole number")?,
            prediction_type: reader.read(
                "prediction_type",
                PredictionType::Epsilon,
                "epsilon, v_prediction",
            )?,
            use_karras_sigmas: class.knows_karras_sigmas()
                && reader.truth("use_karras_sigmas", false)?,
            rescale_betas_zero_snr: class.knows_zero_terminal_snr()
                && reader.truth("rescale_betas_zero_snr", false)?,
            set_alpha_to_one: reader.truth("set_alpha_to_one", class == SchedulerClass::Ddim)?,
            clip_sample_range: match class.clips_unasked() {
                Some(default) if reader.truth("clip_sample", default)? => {
                    Some(reader.read("clip_sample_range", 1.0, "a number")?)
                }
                _ => None,
            },
            original_inference_steps: (class == SchedulerClass::Lcm)
                .then(|| reader.read("original_inference_steps", 50, "a whole number"))
                .transpose()?,
            timestep_scaling: (class == SchedulerClass::Lcm)
                .then(|| reader.read("timestep_scaling", 10.0, "a number"))
                .transpose()?,
        };
        config.check_ranges(&reader)?;
        Ok(config)
    }

    /// The same with what the user wants otherwise.
    ///
    /// # Errors
    /// Karras sigmas or a spacing for a scheduler that has none.
    pub fn overridden(self, wanted: &SchedulerOverrides) -> Result<Self, SchedulerError> {
        if wanted.karras == Some(true) && !self.class.knows_karras_sigmas() {
            return Err(SchedulerError::NoKarras {
                class: self.class.short_name(),
                known: SchedulerClass::names_with_karras_sigmas(),
            });
        }
        if wanted.spacing.is_some() && !self.class.knows_spacing() {
            return Err(SchedulerError::NoSpacing(self.class.short_name()));
        }
        Ok(Self {
            timestep_spacing: wanted.spacing.unwrap_or(self.timestep_spacing),
            prediction_type: wanted.prediction.unwrap_or(self.prediction_type),
            use_karras_sigmas: wanted.karras.unwrap_or(self.use_karras_sigmas),
            ..self
        })
    }

    fn check_ranges(&self, reader: &Reader) -> Result<(), SchedulerError> {
        let refuse = |option: &str, supported: &str| {
            let value = reader.options.get(option).cloned().unwrap_or_default();
            Err(reader.unsupported(option, &value, &supported.into()))
        };
        let is_beta = |beta: f64| beta > 0.0 && beta < 1.0;
        if !(2..=1_000_000).contains(&self.train_steps) {
            return refuse("num_train_timesteps", "2 to 1000000");
        }
        if !is_beta(self.beta_start) {
            return refuse("beta_start", "between 0 and 1");
        }
        if !is_beta(self.beta_end) {
            return refuse("beta_end", "between 0 and 1");
        }
        if self.clip_sample_range.is_some_and(|range| range < 0.0) {
            return refuse("clip_sample_range", "0 or more");
        }
        if self.steps_offset >= self.train_steps {
            return refuse("steps_offset", "less than num_train_timesteps");
        }
        if self
            .original_inference_steps
            .is_some_and(|steps| !(1..=self.train_steps).contains(&steps))
        {
            return refuse("original_inference_steps", "1 to num_train_timesteps");
        }
        Ok(())
    }

    pub(crate) fn check_steps(&self, steps: usize) -> Result<(), SchedulerError> {
        let most = self.original_inference_steps.unwrap_or(self.train_steps);
        if (1..=most).contains(&steps) {
            return Ok(());
        }
        Err(SchedulerError::TooManySteps { steps, train_steps: most })
    }

    pub(crate) fn check_prediction(&self) -> Result<(), SchedulerError> {
        let divides = self.class.takes_exact_zero_snr() && self.rescale_betas_zero_snr;
        if divides && self.prediction_type == PredictionType::Epsilon {
            return Err(SchedulerError::EpsilonOfNoiseAlone(self.class.short_name()));
        }
        Ok(())
    }
}

/// The options that a scheduler's file states.
///
/// # Errors
/// It is no JSON object.
pub fn parse(text: &str) -> Result<Map<String, Value>, SchedulerError> {
    // Python writes `-Infinity` for the default of `lambda_min_clipped`; JSON has no such number.
    let text = text.replace(": -Infinity", ": null");
    let mut options: Map<String, Value> =
        serde_json::from_str(&text).map_err(|error| SchedulerError::BadJson(error.to_string()))?;
    drop_unset(&mut options).map_err(SchedulerError::UnsetKeys)?;
    Ok(options)
}

struct Reader {
    class: SchedulerClass,
    options: Map<String, Value>,
}

impl Reader {
    fn read<T: for<'de> Deserialize<'de>>(
        &self,
        key: &str,
        default: T,
        supported: &str,
    ) -> Result<T, SchedulerError> {
        match self.options.get(key) {
            None => Ok(default),
            Some(value) => serde_json::from_value(value.clone())
                .map_err(|_| self.unsupported(key, value, &supported.into())),
        }
    }

    /// Yes or no; null is no, as in Python.
    fn truth(&self, key: &str, default: bool) -> Result<bool, SchedulerError> {
        match self.options.get(key) {
            Some(Value::Null) => Ok(false),
            _ => self.read(key, default, "true, false"),
        }
    }

    fn unsupported(&self, option: &str, value: &Value, supported: &Value) -> SchedulerError {
        let supported = match supported {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        SchedulerError::Unsupported {
            class: self.class.class_name(),
            option: option.to_owned(),
            value: value.to_string(),
            supported,
        }
    }
}

/// Key of a scheduler's file, written for single-file checkpoints: what they are marked with is no option of
/// a class that may be passed over.
pub(crate) const MARKED_ZERO_SNR: &str = "_marked_zero_snr";
