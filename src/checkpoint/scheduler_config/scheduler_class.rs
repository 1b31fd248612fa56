//! In: nothing. Out: the schedulers that are written here, their names, and the options of diffusers'
//! classes that have one supported value. Reading a configuration is left to `scheduler_config`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::SchedulerError;
use super::timestep_spacing::TimestepSpacing;

/// The schedulers, by their names in diffusers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SchedulerClass {
    /// SD1.5's own: pseudo linear multistep, without Runge-Kutta steps (arXiv 2202.09778).
    #[serde(rename = "PNDMScheduler")]
    Pndm,
    /// Deterministic DDIM, eta 0 (arXiv 2010.02502).
    #[serde(rename = "DDIMScheduler")]
    Ddim,
    /// DPM-Solver++ 2M, midpoint (arXiv 2211.01095).
    #[serde(rename = "DPMSolverMultistepScheduler")]
    DpmSolverMultistep,
    /// Euler's method over sigmas (arXiv 2206.00364), without churn.
    #[serde(rename = "EulerDiscreteScheduler")]
    EulerDiscrete,
    /// Euler's method with fresh noise after each step.
    #[serde(rename = "EulerAncestralDiscreteScheduler")]
    EulerAncestral,
    /// UniPC of order 2, B2(h) (arXiv 2302.04867).
    #[serde(rename = "UniPCMultistepScheduler")]
    UniPc,
    /// Latent consistency: the clean image at each step, with fresh noise between steps (arXiv 2310.04378).
    #[serde(rename = "LCMScheduler")]
    Lcm,
}

/// Options that are read, and those that change nothing while the others have their supported values.
const OTHER_OPTIONS: &[&str] = &[
    "beta_end",
    "beta_schedule",
    "beta_start",
    "clip_sample",
    "clip_sample_range",
    "dynamic_thresholding_ratio",
    "euler_at_final",
    "flow_shift",
    "lower_order_final",
    "num_train_timesteps",
    "original_inference_steps",
    "prediction_type",
    "rescale_betas_zero_snr",
    "sample_max_value",
    "set_alpha_to_one",
    "steps_offset",
    "time_shift_type",
    "timestep_scaling",
    "timestep_spacing",
    "use_karras_sigmas",
];

impl SchedulerClass {
    const ALL: [Self; 7] = [
        Self::Pndm,
        Self::Ddim,
        Self::DpmSolverMultistep,
        Self::EulerDiscrete,
        Self::EulerAncestral,
        Self::UniPc,
        Self::Lcm,
    ];

    /// Class name in diffusers.
    pub fn class_name(self) -> &'static str {
        match self {
            Self::Pndm => "PNDMScheduler",
            Self::Ddim => "DDIMScheduler",
            Self::DpmSolverMultistep => "DPMSolverMultistepScheduler",
            Self::EulerDiscrete => "EulerDiscreteScheduler",
            Self::EulerAncestral => "EulerAncestralDiscreteScheduler",
            Self::UniPc => "UniPCMultistepScheduler",
            Self::Lcm => "LCMScheduler",
        }
    }

    /// Short name for the command line.
    pub(crate) fn short_name(self) -> &'static str {
        match self {
            Self::Pndm => "pndm",
            Self::Ddim => "ddim",
            Self::DpmSolverMultistep => "dpm++",
            Self::EulerDiscrete => "euler",
            Self::EulerAncestral => "euler-a",
            Self::UniPc => "unipc",
            Self::Lcm => "lcm",
        }
    }

    /// Finds a scheduler by its short name or its class name.
    ///
    /// # Errors
    /// [`SchedulerError::UnknownClass`].
    pub fn from_name(name: &str) -> Result<Self, SchedulerError> {
        Self::ALL
            .into_iter()
            .find(|class| {
                class.short_name().eq_ignore_ascii_case(name) || class.class_name() == name
            })
            .ok_or_else(|| SchedulerError::UnknownClass {
                name: name.to_owned(),
                known: Self::names(),
            })
    }

    /// `pndm, ddim, ...`.
    pub fn names() -> String {
        Self::ALL.map(Self::short_name).join(", ")
    }

    /// As [`Self::names`], those alone that have Karras sigmas.
    pub(crate) fn names_with_karras_sigmas() -> String {
        let having = Self::ALL.into_iter().filter(|class| class.knows_karras_sigmas());
        having.map(Self::short_name).collect::<Vec<_>>().join(", ")
    }

    /// The `solver_type` that is written here, and those of other classes that diffusers takes for it.
    pub(crate) fn solver_names(self) -> Option<(&'static str, &'static [&'static str])> {
        match self {
            Self::DpmSolverMultistep => Some(("midpoint", &["logrho", "bh1", "bh2"])),
            Self::UniPc => Some(("bh2", &["midpoint", "heun", "logrho"])),
            Self::Pndm | Self::Ddim | Self::EulerDiscrete | Self::EulerAncestral | Self::Lcm => {
                None
            }
        }
    }

    /// The spread of timesteps where the configuration does not say.
    pub(crate) fn default_spacing(self) -> TimestepSpacing {
        match self {
            Self::Pndm | Self::Ddim | Self::Lcm => TimestepSpacing::Leading,
            Self::DpmSolverMultistep | Self::EulerDiscrete | Self::EulerAncestral | Self::UniPc => {
                TimestepSpacing::Linspace
            }
        }
    }

    /// First and last beta where the configuration does not say.
    pub(crate) fn default_betas(self) -> (f64, f64) {
        match self {
            Self::Pndm
            | Self::Ddim
            | Self::DpmSolverMultistep
            | Self::EulerDiscrete
            | Self::EulerAncestral
            | Self::UniPc => (1e-4, 0.02),
            Self::Lcm => (0.00085, 0.012),
        }
    }

    /// Whether the roots of the betas run in equal steps, not they themselves, where the configuration does not say.
    pub(crate) fn scales_betas_unasked(self) -> bool {
        match self {
            Self::Pndm
            | Self::Ddim
            | Self::DpmSolverMultistep
            | Self::EulerDiscrete
            | Self::EulerAncestral
            | Self::UniPc => false,
            Self::Lcm => true,
        }
    }

    /// Whether `clip_sample` is an option of this scheduler, and its value where the configuration does not say.
    pub(crate) fn clips_unasked(self) -> Option<bool> {
        match self {
            Self::Ddim => Some(true),
            Self::Lcm => Some(false),
            Self::Pndm
            | Self::DpmSolverMultistep
            | Self::EulerDiscrete
            | Self::EulerAncestral
            | Self::UniPc => None,
        }
    }

    /// Whether a step divides by the share of the picture, which zero terminal SNR then makes zero: the others have a
    /// small number in its place.
    pub(crate) fn takes_exact_zero_snr(self) -> bool {
        match self {
            Self::Ddim | Self::Lcm => true,
            Self::Pndm
            | Self::DpmSolverMultistep
            | Self::EulerDiscrete
            | Self::EulerAncestral
            | Self::UniPc => false,
        }
    }

    /// Whether the timesteps are spread as the configuration says.
    pub(crate) fn knows_spacing(self) -> bool {
        match self {
            Self::Pndm
            | Self::Ddim
            | Self::DpmSolverMultistep
            | Self::EulerDiscrete
            | Self::EulerAncestral
            | Self::UniPc => true,
            Self::Lcm => false,
        }
    }

    /// Whether `rescale_betas_zero_snr` is an option of this scheduler.
    pub(crate) fn knows_zero_terminal_snr(self) -> bool {
        match self {
            Self::Pndm => false,
            Self::Ddim
            | Self::DpmSolverMultistep
            | Self::EulerDiscrete
            | Self::EulerAncestral
            | Self::UniPc
            | Self::Lcm => true,
        }
    }

    /// Whether Karras sigmas are an option of this scheduler. In diffusers the others ignore it.
    pub(crate) fn knows_karras_sigmas(self) -> bool {
        match self {
            Self::DpmSolverMultistep | Self::EulerDiscrete | Self::UniPc => true,
            Self::Pndm | Self::Ddim | Self::EulerAncestral | Self::Lcm => false,
        }
    }

    /// Whether a step divides by the distance of two timesteps, which then must differ.
    pub(crate) fn divides_by_step_size(self) -> bool {
        match self {
            Self::DpmSolverMultistep | Self::UniPc => true,
            Self::Pndm | Self::Ddim | Self::EulerDiscrete | Self::EulerAncestral | Self::Lcm => {
                false
            }
        }
    }

    /// Whether a scheduler here, or a training script that writes the same file, has an option of this name.
    pub(crate) fn knows_option(key: &str) -> bool {
        OTHER_OPTIONS.contains(&key)
            || Self::ALL.iter().any(|class| class.fixed_options().iter().any(|one| one.0 == key))
    }

    /// Options that change the arithmetic and have one supported value: key, what diffusers takes
    /// where the JSON is silent, what is supported (`null` = not set).
    pub(crate) fn fixed_options(self) -> Vec<(&'static str, Value, Value)> {
        let off = |keys: &[&'static str]| -> Vec<_> {
            keys.iter().map(|&key| (key, Value::from(false), Value::from(false))).collect()
        };
        let mut options = vec![("trained_betas", Value::Null, Value::Null)];
        match self {
            Self::Pndm => options.push(("skip_prk_steps", false.into(), true.into())),
            Self::Ddim | Self::Lcm => options.extend(off(&["thresholding"])),
            Self::DpmSolverMultistep => {
                options.extend(off(&[
                    "thresholding",
                    "use_exponential_sigmas",
                    "use_beta_sigmas",
                    "use_lu_lambdas",
                    "use_flow_sigmas",
                    "use_dynamic_shifting",
                ]));
                options.extend([
                    ("solver_order", 2.into(), 2.into()),
                    ("algorithm_type", "dpmsolver++".into(), "dpmsolver++".into()),
                    ("solver_type", "midpoint".into(), "midpoint".into()),
                    ("final_sigmas_type", "zero".into(), "zero".into()),
                    ("lambda_min_clipped", Value::Null, Value::Null),
                    ("variance_type", Value::Null, Value::Null),
                ]);
            }
            Self::EulerDiscrete => {
                options.extend(off(&["use_exponential_sigmas", "use_beta_sigmas"]));
                options.extend([
                    ("interpolation_type", "linear".into(), "linear".into()),
                    ("timestep_type", "discrete".into(), "discrete".into()),
                    ("final_sigmas_type", "zero".into(), "zero".into()),
                    ("sigma_min", Value::Null, Value::Null),
                    ("sigma_max", Value::Null, Value::Null),
                ]);
            }
            Self::EulerAncestral => {}
            Self::UniPc => {
                options.extend(off(&[
                    "thresholding",
                    "use_exponential_sigmas",
                    "use_beta_sigmas",
                    "use_flow_sigmas",
                    "use_dynamic_shifting",
                ]));
                options.extend([
                    ("solver_order", 2.into(), 2.into()),
                    ("solver_type", "bh2".into(), "bh2".into()),
                    ("predict_x0", true.into(), true.into()),
                    ("lower_order_final", true.into(), true.into()),
                    ("disable_corrector", Value::Array(vec![]), Value::Array(vec![])),
                    ("solver_p", Value::Null, Value::Null),
                    ("final_sigmas_type", "zero".into(), "zero".into()),
                    ("sigma_min", Value::Null, Value::Null),
                    ("sigma_max", Value::Null, Value::Null),
                    ("shift_terminal", Value::Null, Value::Null),
                ]);
            }
        }
        options
    }
}
