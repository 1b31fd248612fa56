//! In: the JSON of a flow-matching checkpoint's `scheduler_config.json`. Out: every value that decides the arithmetic, or an
//! error that names the option which is not supported. The arithmetic is left to `schedulers`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{SchedulerError, parse};

/// Its class in diffusers.
const CLASS: &str = "FlowMatchEulerDiscreteScheduler";

/// Options that change the arithmetic, with the one value that is written here.
const FIXED: &[(&str, Value)] = &[
    ("invert_sigmas", Value::Bool(false)),
    ("shift_terminal", Value::Null),
    ("stochastic_sampling", Value::Bool(false)),
    ("use_beta_sigmas", Value::Bool(false)),
    ("use_exponential_sigmas", Value::Bool(false)),
    ("use_karras_sigmas", Value::Bool(false)),
];

/// Options that are read, those of dynamic shifting where that is on.
const KNOWN: &[&str] = &[
    "base_image_seq_len",
    "base_shift",
    "max_image_seq_len",
    "max_shift",
    "num_train_timesteps",
    "shift",
    "time_shift_type",
    DYNAMIC,
];

/// Whether the shift depends on the size of the picture.
const DYNAMIC: &str = "use_dynamic_shifting";

/// Resolved settings of `FlowMatchEulerDiscreteScheduler`; they stand in the manifest of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlowMatchConfig {
    /// Its class in diffusers.
    pub class: String,
    /// Steps of the training schedule.
    pub train_steps: usize,
    /// How far the schedule is moved towards noise, where `dynamic_shift` does not say so.
    pub shift: f64,
    /// The same for the size of these pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dynamic_shift: Option<DynamicShift>,
    /// Whether the pipeline hands over the noise levels, evenly from 1 down to one over the number of steps, as FLUX's does;
    /// else the scheduler spreads its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub even_sigmas: bool,
}

/// A shift that depends on the size of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DynamicShift {
    /// `mu` of diffusers, for these pictures.
    pub mu: f64,
    /// `time_shift_type`.
    pub time_shift_type: TimeShift,
}

/// What `mu` does to a noise level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeShift {
    /// Its exponential is the shift.
    Exponential,
    /// It is the shift.
    Linear,
}

impl DynamicShift {
    /// The shift itself.
    pub fn shift(self) -> f64 {
        match self.time_shift_type {
            TimeShift::Exponential => self.mu.exp(),
            TimeShift::Linear => self.mu,
        }
    }
}

/// In one line, for people.
impl std::fmt::Display for FlowMatchConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.dynamic_shift {
            None => write!(f, "{CLASS}, shift {} over {} steps", self.shift, self.train_steps),
            Some(dynamic) => write!(
                f,
                "{CLASS}, shift {:.4} for this size (mu {:.4}) over {} steps",
                dynamic.shift(),
                dynamic.mu,
                self.train_steps
            ),
        }
    }
}

impl FlowMatchConfig {
    /// Reads a `scheduler_config.json`; `class` is what `model_index.json` names. `tokens` are those of a picture, where the
    /// pipeline hands over noise levels for them. With the keys that are unknown here.
    ///
    /// # Errors
    /// Not JSON, another class, or an option whose value is not supported.
    pub(crate) fn from_json(
        text: &str,
        class: Option<&str>,
        tokens: Option<usize>,
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
        let is_dynamic = options.get(DYNAMIC).filter(|value| !value.is_null());
        let dynamic_shift = match (is_dynamic, tokens) {
            (None | Some(Value::Bool(false)), _) => None,
            (Some(Value::Bool(true)), Some(tokens)) => Some(dynamic_shift(&options, tokens)?),
            (Some(value), None) => return Err(unsupported(DYNAMIC, value, "false")),
            (Some(value), Some(_)) => return Err(unsupported(DYNAMIC, value, "true or false")),
        };
        let is_known = |key: &str| {
            key.starts_with('_')
                || KNOWN.contains(&key)
                || FIXED.iter().any(|(name, _)| *name == key)
        };
        let unknown = options.iter().filter(|(key, value)| !is_known(key) && !value.is_null());
        let unknown = unknown.map(|(key, value)| format!("{key} = {value}")).collect();
        let config = Self {
            class: CLASS.to_owned(),
            train_steps: train_steps as usize,
            shift,
            dynamic_shift,
            even_sigmas: tokens.is_some(),
        };
        Ok((config, unknown))
    }
}

/// The shift for pictures of `tokens` tokens, on the line through two lengths; `options` is the scheduler's file.
fn dynamic_shift(
    options: &Map<String, Value>,
    tokens: usize,
) -> Result<DynamicShift, SchedulerError> {
    let refused = |option: &str, value: &Value, supported: &str| SchedulerError::OnlyOne {
        class: CLASS,
        option: option.to_owned(),
        value: value.to_string(),
        supported: supported.to_owned(),
    };
    let number = |option: &str, absent: f64| match options.get(option) {
        None => Ok(absent),
        Some(value) => value.as_f64().ok_or_else(|| refused(option, value, "a number")),
    };
    let (base, most) = (number("base_image_seq_len", 256.0)?, number("max_image_seq_len", 4096.0)?);
    let (low, high) = (number("base_shift", 0.5)?, number("max_shift", 1.15)?);
    if base == most {
        let value = Value::from(most);
        return Err(refused("max_image_seq_len", &value, "another than base_image_seq_len"));
    }
    let slope = (high - low) / (most - base);
    let mu = tokens as f64 * slope + (low - slope * base);
    let option = "time_shift_type";
    let time_shift_type = match options.get(option) {
        None => TimeShift::Exponential,
        Some(Value::String(name)) if name == "exponential" => TimeShift::Exponential,
        Some(Value::String(name)) if name == "linear" => TimeShift::Linear,
        Some(value) => return Err(refused(option, value, "exponential or linear")),
    };
    let shift = DynamicShift { mu, time_shift_type };
    let is_usable = shift.shift().is_finite() && shift.shift() > 0.0;
    if !is_usable {
        let value = Value::from(high);
        let supported =
            format!("a shift above 0 for {tokens} tokens, which here is {}", shift.shift());
        return Err(refused("max_shift", &value, &supported));
    }
    Ok(shift)
}
