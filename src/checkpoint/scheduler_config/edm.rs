//! In: the JSON of a `scheduler_config.json` in the EDM formulation (arXiv 2206.00364), as Playground v2.5 has it. Out: every
//! value that decides the arithmetic, or an error that names the option which is not supported. The arithmetic is left to
//! `schedulers`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{PredictionType, SchedulerError, parse};

/// How the classes of EDM begin in diffusers.
pub(crate) const PREFIX: &str = "EDM";

/// What is walked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EdmClass {
    /// DPM-Solver++ 2M, midpoint.
    #[serde(rename = "EDMDPMSolverMultistepScheduler")]
    DpmSolver,
    /// Euler's method, without churn.
    #[serde(rename = "EDMEulerScheduler")]
    Euler,
}

/// How noise levels lie between their ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SigmaSpread {
    /// Even in their root of degree rho.
    Karras,
    /// Even in their logarithm.
    Exponential,
}

/// Resolved settings of a scheduler of EDM; they stand in the manifest of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EdmConfig {
    /// Its class in diffusers.
    pub class: EdmClass,
    /// Least noise of the walk.
    pub sigma_min: f64,
    /// Most noise, where the walk begins.
    pub sigma_max: f64,
    /// Standard deviation of pictures' latents.
    pub sigma_data: f64,
    /// What lies between.
    pub sigma_schedule: SigmaSpread,
    /// Degree of the root.
    pub rho: f64,
    /// What the network predicts.
    pub prediction_type: PredictionType,
    /// Whether the walk ends without noise, or at `sigma_min`.
    pub ends_at_zero: bool,
    /// DPM-Solver++: whether the last of fewer than 15 steps is of first order.
    pub lower_order_final: bool,
    /// DPM-Solver++: whether the last step is of first order.
    pub euler_at_final: bool,
}

impl EdmClass {
    fn name(self) -> &'static str {
        match self {
            Self::DpmSolver => "EDMDPMSolverMultistepScheduler",
            Self::Euler => "EDMEulerScheduler",
        }
    }

    fn from_name(name: &str) -> Result<Self, SchedulerError> {
        let all = [Self::DpmSolver, Self::Euler];
        all.into_iter().find(|class| class.name() == name).ok_or_else(|| {
            let supported = all.map(Self::name).join(" or ");
            let (class, option) = (Self::DpmSolver.name(), "_class_name".to_owned());
            SchedulerError::OnlyOne { class, option, value: name.to_owned(), supported }
        })
    }

    /// Options that change the arithmetic: the value where the file is silent, which is the one that is supported, and others
    /// that diffusers takes for it.
    fn fixed_options(self) -> Vec<(&'static str, Value, &'static [&'static str])> {
        match self {
            Self::DpmSolver => vec![
                ("algorithm_type", "dpmsolver++".into(), &["deis"]),
                ("solver_order", 2.into(), &[]),
                ("solver_type", "midpoint".into(), &["bh1", "bh2", "logrho"]),
                ("thresholding", false.into(), &[]),
            ],
            Self::Euler => Vec::new(),
        }
    }
}

/// Options that are read, and those that change nothing while the others have their supported values.
const KNOWN: &[&str] = &[
    "algorithm_type",
    "dynamic_thresholding_ratio",
    "euler_at_final",
    "final_sigmas_type",
    "lower_order_final",
    "num_train_timesteps",
    "prediction_type",
    "rho",
    "sample_max_value",
    "sigma_data",
    "sigma_max",
    "sigma_min",
    "sigma_schedule",
    "solver_order",
    "solver_type",
    "thresholding",
];

/// In one line, for people.
impl std::fmt::Display for EdmConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, sigmas {} to {}, ", self.class.name(), self.sigma_max, self.sigma_min)?;
        match self.sigma_schedule {
            SigmaSpread::Karras => write!(f, "rho {}", self.rho)?,
            SigmaSpread::Exponential => f.write_str("exponential")?,
        }
        if !self.ends_at_zero {
            f.write_str(", noise left at the end")?;
        }
        write!(f, ", of data {}", self.sigma_data)
    }
}

impl EdmConfig {
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
        let class = EdmClass::from_name(class.or(stated).unwrap_or_default())?;
        let reader = Reader { class, options };
        for (key, supported, aliases) in class.fixed_options() {
            let value = reader.options.get(key).unwrap_or(&supported);
            let is_alias = value.as_str().is_some_and(|value| aliases.contains(&value));
            let is_no = value.is_null() && supported == Value::Bool(false);
            if *value != supported && !is_alias && !is_no {
                return Err(reader.unsupported(key, &supported.to_string()));
            }
        }
        let config = Self {
            class,
            sigma_min: reader.above_zero("sigma_min", 0.002)?,
            sigma_max: reader.above_zero("sigma_max", 80.0)?,
            sigma_data: reader.above_zero("sigma_data", 0.5)?,
            sigma_schedule: reader.read(
                "sigma_schedule",
                SigmaSpread::Karras,
                "karras or exponential",
            )?,
            rho: reader.above_zero("rho", 7.0)?,
            prediction_type: reader.read(
                "prediction_type",
                PredictionType::Epsilon,
                "epsilon or v_prediction",
            )?,
            ends_at_zero: match reader.options.get("final_sigmas_type").map(Value::as_str) {
                None | Some(Some("zero")) => true,
                Some(Some("sigma_min")) => false,
                Some(_) => return Err(reader.unsupported("final_sigmas_type", "zero or sigma_min")),
            },
            lower_order_final: reader.truth("lower_order_final", true)?,
            euler_at_final: reader.truth("euler_at_final", false)?,
        };
        if config.sigma_min >= config.sigma_max {
            return Err(reader.unsupported("sigma_min", "less than sigma_max"));
        }
        let unknown = reader.options.iter().filter(|(key, value)| {
            !key.starts_with('_') && !value.is_null() && !KNOWN.contains(&key.as_str())
        });
        let unknown = unknown.map(|(key, value)| format!("{key} = {value}")).collect();
        Ok((config, unknown))
    }
}

struct Reader {
    class: EdmClass,
    options: Map<String, Value>,
}

impl Reader {
    fn read<T: for<'de> Deserialize<'de>>(
        &self,
        key: &str,
        absent: T,
        supported: &str,
    ) -> Result<T, SchedulerError> {
        match self.options.get(key) {
            None => Ok(absent),
            Some(value) => {
                serde_json::from_value(value.clone()).map_err(|_| self.unsupported(key, supported))
            }
        }
    }

    fn above_zero(&self, key: &str, absent: f64) -> Result<f64, SchedulerError> {
        let supported = "a number above 0";
        match self.read(key, absent, supported)? {
            number if number > 0.0 => Ok(number),
            _ => Err(self.unsupported(key, supported)),
        }
    }

    /// Yes or no; null is no, as in Python.
    fn truth(&self, key: &str, absent: bool) -> Result<bool, SchedulerError> {
        match self.options.get(key) {
            Some(Value::Null) => Ok(false),
            _ => self.read(key, absent, "true or false"),
        }
    }

    fn unsupported(&self, key: &str, supported: &str) -> SchedulerError {
        SchedulerError::OnlyOne {
            class: self.class.name(),
            option: key.to_owned(),
            value: self.options.get(key).unwrap_or(&Value::Null).to_string(),
            supported: supported.to_owned(),
        }
    }
}
