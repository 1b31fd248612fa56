//! In: predictions at descending timesteps, the second one asked twice. Out: latents after each step
//! of the pseudo linear multistep method (arXiv 2202.09778, formula 9), as `PNDMScheduler` with
//! `skip_prk_steps`: one step of Euler's kind, its repetition with the mean of two predictions, then
//! Adams-Bashforth of order 2, 3 and 4.

use candle_core::Tensor;

use super::scheduler::{Scheduler, check_order, combine};
use super::timesteps::whole_timesteps;
use crate::checkpoint::scheduler_config::noise_schedule::NoiseSchedule;
use crate::checkpoint::scheduler_config::{PredictionType, SchedulerConfig};

/// Weights of the last predictions, newest first, by how many there are.
const WEIGHTS: [&[f64]; 4] = [
    &[1.0],
    &[3.0 / 2.0, -1.0 / 2.0],
    &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
    &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
];

#[derive(Debug)]
pub(super) struct Pndm {
    schedule: NoiseSchedule,
    timesteps: Vec<f64>,
    /// Training timesteps between two steps.
    stride: i64,
    final_alpha: f64,
    prediction: PredictionType,
    next: usize,
    /// The last four predictions, newest first.
    history: Vec<Tensor>,
    /// Latents before step 0, which step 1 starts from again.
    first_latents: Option<Tensor>,
}

impl Pndm {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Self {
        let schedule = NoiseSchedule::new(config);
        let final_alpha = if config.set_alpha_to_one { 1.0 } else { schedule.alpha(0, 1.0) };
        let mut timesteps: Vec<f64> =
            whole_timesteps(config, steps).iter().map(|&step| step as f64).collect();
        if let Some(&second) = timesteps.get(1) {
            timesteps.insert(1, second);
        }
        Self {
            final_alpha,
            schedule,
            timesteps,
            stride: (config.train_steps / steps) as i64,
            prediction: config.prediction_type,
            next: 0,
            history: Vec::new(),
            first_latents: None,
        }
    }

    /// Formula 9, from the alpha at `from` to that at `to`.
    fn previous_sample(
        &self,
        from: i64,
        to: i64,
        latents: &Tensor,
        prediction: &Tensor,
    ) -> candle_core::Result<Tensor> {
        let alpha = self.schedule.alpha(from, self.final_alpha);
        let alpha_after = self.schedule.alpha(to, self.final_alpha);
        let noise = 1.0 - alpha;
        let divisor = alpha * (1.0 - alpha_after).sqrt() + (alpha * noise * alpha_after).sqrt();
        let of_noise = -(alpha_after - alpha) / divisor;
        let of_latents = (alpha_after / alpha).sqrt();
        match self.prediction {
            PredictionType::Epsilon => combine(of_latents, latents, of_noise, prediction),
            PredictionType::VPrediction => combine(
                of_latents + of_noise * noise.sqrt(),
                latents,
                of_noise * alpha.sqrt(),
                prediction,
            ),
        }
    }
}

impl Scheduler for Pndm {
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
        check_order(index, self.next, self.timesteps.len())?;
        if index == 0 {
            self.history.clear();
            self.first_latents = Some(latents.clone());
        }
        let timestep = self.timesteps[index] as i64;
        let after = if index == 1 {
            // The first step again, with the mean of the predictions at its two ends.
            let first = self.first_latents.take();
            let (Some(first), Some(before)) = (first, self.history.first()) else {
                candle_core::bail!("scheduler step 1 was asked for before step 0");
            };
            let mean = combine(0.5, prediction, 0.5, before)?;
            self.previous_sample(timestep + self.stride, timestep, &first, &mean)?
        } else {
            self.history.insert(0, prediction.clone());
            self.history.truncate(WEIGHTS.len());
            let weights = WEIGHTS[self.history.len() - 1];
            let mut sum = self.history[0].affine(weights[0], 0.0)?;
            for (past, weight) in self.history.iter().zip(weights).skip(1) {
                sum = (sum + past.affine(*weight, 0.0)?)?;
            }
            self.previous_sample(timestep, timestep - self.stride, latents, &sum)?
        };
        self.next = index + 1;
        Ok(after)
    }
}
