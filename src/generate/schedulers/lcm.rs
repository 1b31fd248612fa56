//! In: predictions at descending timesteps of those that the network was distilled on. Out: at each step the clean picture
//! that latents and prediction imply, with fresh noise up to the next timestep, as `LCMScheduler` (arXiv 2310.04378).

use candle_core::Tensor;

use super::scheduler::{Scheduler, check_order, combine, predict_original_sample};
use crate::checkpoint::scheduler_config::noise_schedule::NoiseSchedule;
use crate::checkpoint::scheduler_config::{PredictionType, SchedulerConfig};

/// Spread of the latents that the weights of the boundary condition are made for.
const SIGMA_DATA: f64 = 0.5;

#[derive(Debug)]
pub(super) struct Lcm {
    schedule: NoiseSchedule,
    timesteps: Vec<f64>,
    timestep_scaling: f64,
    prediction: PredictionType,
    /// See [`SchedulerConfig::clip_sample_range`].
    clip: Option<f64>,
}

impl Lcm {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Self {
        let original = config.original_inference_steps.unwrap_or(50);
        Self {
            schedule: NoiseSchedule::new(config),
            timesteps: timesteps(config.train_steps, original, steps),
            timestep_scaling: config.timestep_scaling.unwrap_or(10.0),
            prediction: config.prediction_type,
            clip: config.clip_sample_range,
        }
    }

    /// Shares of the predicted picture and of the latents: all and nothing but for the last timesteps.
    fn boundary(&self, timestep: f64) -> (f64, f64) {
        let scaled = timestep * self.timestep_scaling;
        let square = scaled * scaled + SIGMA_DATA * SIGMA_DATA;
        (scaled / square.sqrt(), SIGMA_DATA * SIGMA_DATA / square)
    }
}

/// `steps` of the `original` timesteps, from the last of the training schedule down.
fn timesteps(train_steps: usize, original: usize, steps: usize) -> Vec<f64> {
    let stride = train_steps / original;
    // As `numpy.linspace` without its end point, rounded down.
    let apart = original as f64 / steps as f64;
    (0..steps)
        .map(|index| (index as f64 * apart).floor() as usize)
        .map(|below| ((original - below) * stride - 1) as f64)
        .collect()
}

impl Scheduler for Lcm {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    /// At every step but the last, which ends in the clean picture.
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
        let timestep = self.timesteps[index];
        let alpha = self.schedule.alpha(timestep as i64, 1.0);
        let shares = (alpha.sqrt(), (1.0 - alpha).sqrt());
        let clean = predict_original_sample(self.prediction, shares, latents, prediction)?;
        let clean = match self.clip {
            Some(range) => clean.clamp(-range, range)?,
            None => clean,
        };
        let (of_clean, of_latents) = self.boundary(timestep);
        let denoised = combine(of_clean, &clean, of_latents, latents)?;
        let Some(&next) = self.timesteps.get(index + 1) else { return Ok(denoised) };
        let Some(noise) = noise else {
            candle_core::bail!("scheduler step {index} needs fresh noise")
        };
        let alpha = self.schedule.alpha(next as i64, 1.0);
        combine(alpha.sqrt(), &denoised, (1.0 - alpha).sqrt(), noise)
    }
}
