//! In: predictions at descending timesteps. Out: latents, in units where the noise has standard
//! deviation sigma, after each Euler step (arXiv 2206.00364, algorithm 1 without churn), as
//! `EulerDiscreteScheduler`.

use candle_core::Tensor;

use super::config::{Prediction, SchedulerConfig, Spacing};
use super::noise_schedule::{NoiseSchedule, leading, numpy_linspace, trailing};
use super::{Scheduler, check_order, combine};

#[derive(Debug)]
pub(super) struct Euler {
    timesteps: Vec<f64>,
    /// One more than timesteps; the last is 0.
    sigmas: Vec<f64>,
    prediction: Prediction,
    initial_noise_scale: f64,
}

impl Euler {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Self {
        let mut timesteps = match config.timestep_spacing {
            // Not rounded to whole numbers, but to f32.
            Spacing::Linspace => numpy_linspace((config.train_steps - 1) as f64, steps)
                .iter()
                .map(|&step| f64::from(step as f32))
                .collect(),
            Spacing::Leading => leading(config, steps, steps),
            Spacing::Trailing => trailing(config, steps),
        };
        if config.timestep_spacing != Spacing::Trailing {
            timesteps.reverse();
        }
        let schedule = NoiseSchedule::new(config);
        let sigmas: Vec<f64> =
            timesteps.iter().map(|&step| schedule.sigma(step)).chain([0.0]).collect();
        let largest = sigmas.iter().copied().fold(0.0, f64::max);
        let initial_noise_scale = match config.timestep_spacing {
            Spacing::Linspace | Spacing::Trailing => largest,
            Spacing::Leading => (largest * largest + 1.0).sqrt(),
        };
        Self { timesteps, sigmas, prediction: config.prediction_type, initial_noise_scale }
    }
}

impl Scheduler for Euler {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn initial_noise_scale(&self) -> f64 {
        self.initial_noise_scale
    }

    fn network_input(&self, index: usize, latents: &Tensor) -> candle_core::Result<Tensor> {
        check_order(index, index, self.timesteps.len())?;
        latents.affine(1.0 / (self.sigmas[index].powi(2) + 1.0).sqrt(), 0.0)
    }

    fn step(
        &mut self,
        index: usize,
        latents: &Tensor,
        prediction: &Tensor,
        _: Option<&Tensor>,
    ) -> candle_core::Result<Tensor> {
        // No history: any order will do.
        check_order(index, index, self.timesteps.len())?;
        let sigma = self.sigmas[index];
        let down = self.sigmas[index + 1] - sigma;
        match self.prediction {
            // The prediction is the slope.
            Prediction::Epsilon => combine(1.0, latents, down, prediction),
            Prediction::VPrediction => {
                let total = sigma * sigma + 1.0;
                combine(1.0 + down * sigma / total, latents, down / total.sqrt(), prediction)
            }
        }
    }
}
