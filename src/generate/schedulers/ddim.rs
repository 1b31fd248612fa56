//! In: predictions at descending timesteps. Out: latents after each deterministic DDIM step (arXiv
//! 2010.02502, formula 12 with sigma 0), as `DDIMScheduler` with eta 0.

use candle_core::Tensor;

use super::scheduler::{Scheduler, check_order, combine, predict_original_sample};
use super::timesteps::whole_timesteps;
use crate::checkpoint::scheduler_config::noise_schedule::NoiseSchedule;
use crate::checkpoint::scheduler_config::{PredictionType, SchedulerConfig};

#[derive(Debug)]
pub(super) struct Ddim {
    schedule: NoiseSchedule,
    timesteps: Vec<f64>,
    /// Training timesteps between two steps.
    stride: i64,
    final_alpha: f64,
    prediction: PredictionType,
    /// See [`SchedulerConfig::clip_sample_range`].
    clip: Option<f64>,
}

impl Ddim {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Self {
        let schedule = NoiseSchedule::new(config);
        let final_alpha = if config.set_alpha_to_one { 1.0 } else { schedule.alpha(0, 1.0) };
        Self {
            final_alpha,
            schedule,
            timesteps: whole_timesteps(config, steps).iter().map(|&step| step as f64).collect(),
            stride: (config.train_steps / steps) as i64,
            prediction: config.prediction_type,
            clip: config.clip_sample_range,
        }
    }
}

impl Scheduler for Ddim {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
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
        let timestep = self.timesteps[index] as i64;
        let alpha = self.schedule.alpha(timestep, self.final_alpha);
        let alpha_after = self.schedule.alpha(timestep - self.stride, self.final_alpha);
        let (signal, noise) = (alpha.sqrt(), (1.0 - alpha).sqrt());
        let (signal_after, noise_after) = (alpha_after.sqrt(), (1.0 - alpha_after).sqrt());
        if let Some(range) = self.clip {
            // The noise stays that of the picture before it is clipped.
            let clean =
                predict_original_sample(self.prediction, (signal, noise), latents, prediction)?;
            let predicted_noise = match self.prediction {
                PredictionType::Epsilon => prediction.clone(),
                PredictionType::VPrediction => combine(signal, prediction, noise, latents)?,
            };
            return combine(
                signal_after,
                &clean.clamp(-range, range)?,
                noise_after,
                &predicted_noise,
            );
        }
        // Both the clean picture and the noise are linear in latents and prediction.
        let (of_latents, of_prediction) = match self.prediction {
            PredictionType::Epsilon => {
                (signal_after / signal, noise_after - signal_after * noise / signal)
            }
            PredictionType::VPrediction => (
                signal_after * signal + noise_after * noise,
                noise_after * signal - signal_after * noise,
            ),
        };
        combine(of_latents, latents, of_prediction, prediction)
    }
}
