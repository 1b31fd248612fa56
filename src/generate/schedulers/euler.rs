//! In: predictions at descending timesteps. Out: latents, in units where the noise has standard
//! deviation sigma, after each Euler step (arXiv 2206.00364, algorithm 1 without churn), as
//! `EulerDiscreteScheduler`.

use candle_core::Tensor;

use super::scheduler::{Scheduler, check_order, combine};
use super::timesteps::SigmaSchedule;
use crate::checkpoint::scheduler_config::{PredictionType, SchedulerConfig, TimestepSpacing};

#[derive(Debug)]
pub(super) struct Euler {
    timesteps: Vec<f64>,
    /// One more than timesteps; the last is 0.
    sigmas: Vec<f64>,
    prediction: PredictionType,
    init_noise_sigma: f64,
}

impl Euler {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Self {
        let SigmaSchedule { timesteps, sigmas } = SigmaSchedule::of_euler(config, steps);
        let init_noise_sigma = init_noise_sigma(config, &sigmas);
        Self { timesteps, sigmas, prediction: config.prediction_type, init_noise_sigma }
    }
}

/// Standard deviation of the first latents: the largest sigma, with the picture's own variance where
/// the walk does not start at the end of the training schedule.
pub(super) fn init_noise_sigma(config: &SchedulerConfig, sigmas: &[f64]) -> f64 {
    let largest = sigmas.iter().copied().fold(0.0, f64::max);
    match config.timestep_spacing {
        TimestepSpacing::Linspace | TimestepSpacing::Trailing => largest,
        TimestepSpacing::Leading => (largest * largest + 1.0).sqrt(),
    }
}

/// Share of latents and share of the prediction in the slope that Euler's step follows.
pub(super) fn slope(prediction: PredictionType, sigma: f64) -> (f64, f64) {
    match prediction {
        // The prediction is the slope.
        PredictionType::Epsilon => (0.0, 1.0),
        PredictionType::VPrediction => {
            let total = sigma * sigma + 1.0;
            (sigma / total, 1.0 / total.sqrt())
        }
    }
}

/// The latents at the scale that the network was trained on: unit variance at any noise level.
pub(super) fn scale_model_input(sigma: f64, latents: &Tensor) -> candle_core::Result<Tensor> {
    latents.affine(1.0 / (sigma * sigma + 1.0).sqrt(), 0.0)
}

impl Scheduler for Euler {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn init_noise_sigma(&self) -> f64 {
        self.init_noise_sigma
    }

    fn scale_model_input(&self, index: usize, latents: &Tensor) -> candle_core::Result<Tensor> {
        check_order(index, index, self.timesteps.len())?;
        scale_model_input(self.sigmas[index], latents)
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
        let (of_latents, of_prediction) = slope(self.prediction, sigma);
        combine(1.0 + down * of_latents, latents, down * of_prediction, prediction)
    }
}
