//! In: the JSON of a flow-matching checkpoint's `scheduler_config.json`. Out: every value that decides the arithmetic, or an
//! error that names the option which is not supported. The arithmetic is left to `schedulers`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{SchedulerError, parse};

/// Its class in diffusers.
const CLASS: &str = "FlowMatchEulerDiscreteScheduler";

/// Options that change the arithmetic, with the one value that is written here.
const FIXED: &[(&str, Value)] = &[
    ("invert_sigmas", Value::Bool(false)),
    ("shift_terminal", Value::Null),
    ("stochastic_sampling", Value::Bool(false)),
    ("use_beta_sigmas", Value::Bool(false)),
    ("use_dynamic_shifting", Value::Bool(false)),
    ("use_exponential_sigmas", Value::Bool(false)),
    ("use_karras_sigmas", Value::Bool(false)),
];

/// Options that are read, or that say something about dynamic shifting alone.
const KNOWN: &[&str] = &[
    "base_image_seq_len",
    "base_shift",
    "max_image_seq_len",
    "max_shift",
    "num_train_timesteps",
    "shift",
    "time_shift_type",
];

/// Resolved settings of `FlowMatchEulerDiscreteScheduler`; they stand in the manifest of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlowMatchConfig {
    /// Its class in diffusers.
    pub class: String,
    /// Steps of the training schedule.
    pub train_steps: usize,
    /// How far the schedule is moved towards noise.
    pub shift: f64,
}

/// In one line, for people.
impl std::fmt::Display for FlowMatchConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{CLASS}, shift {} over {} steps", self.shift, self.train_steps)
    }
}

impl FlowMatchConfig {
    /// Reads a `scheduler_config.json`; `class` is what `model_index.json` names. With the keys that are unknown here.
    ///
    /// # Errors
    /// Not JSON, another class, or an option whose value is not supported.
    pub(crate) fn from_json(
        text: &str,
        class: Option<&str>,
    ) -> Result<(Self, Vec<String>), SchedulerError> {
        let options = parse(text)?;
        let stated = options.get("_class_name").and_then(Value::as_str);
        let unsupported = |option: &str, value: &Value, supported: &str| {
            let (option, value, supported) =
                (option.to_owned(), value.to_string(), supported.to_owned());
            SchedulerError::OnlyOne { class: CLASS, option, value, supported }
        };
        let found = class.or(stated).unwrap_or(CLASS);
        if found != CLASS {
            return Err(unsupported("_class_name", &found.into(), CLASS));
        }
        for (key, supported) in FIXED {
            let value = options.get(*key).unwrap_or(supported);
            // In Python null is no.
            if value != supported && !value.is_null() {
                return Err(unsupported(key, value, &supported.to_string()));
            }
        }
        let train_steps = match options.get("num_train_timesteps") {
            None => 1000,
            Some(value) => value
                .as_u64()
                .filter(|steps| (2..=1_000_000).contains(steps))
                .ok_or_else(|| unsupported("num_train_timesteps", value, "2 to 1000000"))?,
        };
        let shift = match options.get("shift") {
            None => 1.0,
            Some(value) => value
                .as_f64()
                .filter(|shift| *shift > 0.0)
                .ok_or_else(|| unsupported("shift", value, "a number above 0"))?,
        };
        let is_known = |key: &str| {
            key.starts_with('_')
                || KNOWN.contains(&key)
                || FIXED.iter().any(|(name, _)| *name == key)
        };
        let unknown = options.iter().filter(|(key, value)| !is_known(key) && !value.is_null());
        let unknown = unknown.map(|(key, value)| format!("{key} = {value}")).collect();
        Ok((Self { class: CLASS.to_owned(), train_steps: train_steps as usize, shift }, unknown))
    }
}
