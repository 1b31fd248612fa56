//! In: settings of a scheduler of EDM and a number of steps. Out: its noise levels, and what stands before and behind the
//! network at each (arXiv 2206.00364, table 1). The walk is left to one file for each class.

use candle_core::Tensor;

use super::scheduler::combine;
use crate::checkpoint::scheduler_config::edm::{EdmClass, EdmConfig, SigmaSpread};
use crate::checkpoint::scheduler_config::noise_schedule::torch_linspace;
use crate::checkpoint::scheduler_config::{PredictionType, SchedulerError};

/// More steps than anybody takes: a typing error must not fill the memory.
const MOST_STEPS: usize = 1000;

/// Noise levels of a walk, and the network between its factors.
#[derive(Debug)]
pub(super) struct Edm {
    /// What the network is told: a quarter of the noise level's logarithm.
    pub(super) timesteps: Vec<f64>,
    /// One more than timesteps, f32 values.
    pub(super) sigmas: Vec<f64>,
    pub(super) init_noise_sigma: f64,
    data: f64,
    prediction: PredictionType,
}

impl Edm {
    /// A walk of `steps` steps.
    ///
    /// # Errors
    /// No step at all, or too many.
    pub(super) fn new(config: &EdmConfig, steps: usize) -> Result<Self, SchedulerError> {
        if !(1..=MOST_STEPS).contains(&steps) {
            return Err(SchedulerError::TooManySteps { steps, train_steps: MOST_STEPS });
        }
        let levels = levels(config, steps);
        let timesteps = levels.iter().map(|sigma| f64::from(0.25 * sigma.ln())).collect();
        let last = match (config.ends_at_zero, config.class) {
            (true, _) => 0.0,
            (false, EdmClass::DpmSolver) => config.sigma_min as f32,
            (false, EdmClass::Euler) => levels[steps - 1],
        };
        Ok(Self {
            timesteps,
            sigmas: levels.into_iter().chain([last]).map(f64::from).collect(),
            init_noise_sigma: config.sigma_max.hypot(1.0),
            data: config.sigma_data,
            prediction: config.prediction_type,
        })
    }

    /// What the network is shown at step `index`: the latents in units of their own deviation.
    pub(super) fn shown(&self, index: usize, latents: &Tensor) -> candle_core::Result<Tensor> {
        latents.affine(1.0 / self.sigmas[index].hypot(self.data), 0.0)
    }

    /// The picture without noise that the network's `prediction` for `latents` at step `index` implies.
    pub(super) fn clean(
        &self,
        index: usize,
        latents: &Tensor,
        prediction: &Tensor,
    ) -> candle_core::Result<Tensor> {
        let (sigma, total) = (self.sigmas[index], self.sigmas[index].hypot(self.data));
        let skip = (self.data / total).powi(2);
        let out = sigma * self.data / total;
        let sign = match self.prediction {
            PredictionType::Epsilon => 1.0,
            PredictionType::VPrediction => -1.0,
        };
        combine(skip, latents, sign * out, prediction)
    }
}

/// From most to least noise. As in diffusers the Euler class computes Karras's levels in f64, all else is f32; a single level
/// of the exponential spread is the least one.
fn levels(config: &EdmConfig, steps: usize) -> Vec<f32> {
    let spread = |start: f64, end: f64| match steps {
        1 => vec![start as f32],
        _ => torch_linspace(start, end, steps),
    };
    match (config.sigma_schedule, config.class) {
        (SigmaSpread::Exponential, _) => {
            let ascending = spread(config.sigma_min.ln(), config.sigma_max.ln());
            ascending.into_iter().rev().map(f32::exp).collect()
        }
        (SigmaSpread::Karras, class) => {
            let root = |sigma: f64| sigma.powf(1.0 / config.rho);
            let (low, high) = (root(config.sigma_min), root(config.sigma_max));
            let exact = |share: f64| (high + share * (low - high)).powf(config.rho) as f32;
            let rounded =
                |share: f32| (high as f32 + share * (low - high) as f32).powf(config.rho as f32);
            match class {
                EdmClass::Euler => {
                    let last = (steps.max(2) - 1) as f64;
                    (0..steps).map(|index| exact(index as f64 / last)).collect()
                }
                EdmClass::DpmSolver => spread(0.0, 1.0).into_iter().map(rounded).collect(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `findings/diffusers-edm-last-step-has-no-length.sh` prints them.
    #[test]
    fn few_steps_have_the_levels_of_diffusers() {
        let levels = |class, sigma_schedule, ends_at_zero, steps| {
            let config = EdmConfig {
                class,
                sigma_min: 0.002,
                sigma_max: 80.0,
                sigma_data: 0.5,
                sigma_schedule,
                rho: 7.0,
                prediction_type: PredictionType::Epsilon,
                ends_at_zero,
                lower_order_final: true,
                euler_at_final: false,
            };
            let sigmas = Edm::new(&config, steps).unwrap().sigmas;
            sigmas.iter().map(|sigma| (sigma * 1e4).round() / 1e4).collect::<Vec<_>>()
        };
        for (class, one) in [(EdmClass::DpmSolver, 0.002), (EdmClass::Euler, 80.0)] {
            let karras = |steps| levels(class, SigmaSpread::Karras, false, steps);
            assert_eq!(karras(3), [80.0, 2.5152, 0.002, 0.002]);
            assert_eq!(karras(1), [80.0, one]);
            assert_eq!(levels(class, SigmaSpread::Exponential, true, 1), [0.002, 0.0]);
        }
    }
}
