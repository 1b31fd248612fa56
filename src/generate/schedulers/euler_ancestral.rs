//! In: predictions at descending timesteps, and fresh noise at each. Out: latents, in units where the
//! noise has standard deviation sigma, after each ancestral step: Euler's method to below the next
//! sigma, then noise up to it, as `EulerAncestralDiscreteScheduler`.

use candle_core::Tensor;

use super::euler::{init_noise_sigma, scale_model_input, slope};
use super::scheduler::{Scheduler, check_order, combine};
use super::timesteps::SigmaSchedule;
use crate::checkpoint::scheduler_config::{PredictionType, SchedulerConfig};

#[derive(Debug)]
pub(super) struct EulerAncestral {
    timesteps: Vec<f64>,
    /// One more than timesteps; the last is 0.
    sigmas: Vec<f64>,
    prediction: PredictionType,
    init_noise_sigma: f64,
}

impl EulerAncestral {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Self {
        let SigmaSchedule { timesteps, sigmas } = SigmaSchedule::of_euler(config, steps);
        let init_noise_sigma = init_noise_sigma(config, &sigmas);
        Self { timesteps, sigmas, prediction: config.prediction_type, init_noise_sigma }
    }
}

impl Scheduler for EulerAncestral {
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

    /// At every step but the last, which ends without noise; diffusers draws there too and multiplies
    /// by zero.
    fn wants_noise(&self, index: usize) -> bool {
        index + 1 < self.timesteps.len()
    }

    fn step(
        &mut self,
        index: usize,
        latents: &Tensor,
        prediction: &Tensor,
        noise: Option<&Tensor>,
    ) -> candle_core::Result<Tensor> {
        // No history: any order will do.
        check_order(index, index, self.timesteps.len())?;
        let (sigma, sigma_after) = (self.sigmas[index], self.sigmas[index + 1]);
        let quotient = (sigma_after / sigma).powi(2);
        // Squares of the two add up to the square of the next sigma.
        let fresh = sigma_after * (1.0 - quotient).sqrt();
        let down = sigma_after * quotient.sqrt() - sigma;
        let (of_latents, of_prediction) = slope(self.prediction, sigma);
        let after = combine(1.0 + down * of_latents, latents, down * of_prediction, prediction)?;
        match noise {
            Some(noise) => after + noise.affine(fresh, 0.0)?,
            None if self.wants_noise(index) => {
                candle_core::bail!("scheduler step {index} needs fresh noise")
            }
            None => Ok(after),
        }
    }
}
