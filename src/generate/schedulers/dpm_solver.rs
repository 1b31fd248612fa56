//! In: predictions at descending timesteps. Out: latents after each step of DPM-Solver++ 2M (arXiv
//! 2211.01095, algorithm 2, midpoint), as `DPMSolverMultistepScheduler` with order 2 and final sigma
//! zero: the first and the last step are of first order.

use candle_core::Tensor;

use super::scheduler::{Scheduler, check_order, combine, predict_original_sample, shares};
use super::timesteps::SigmaSchedule;
use crate::checkpoint::scheduler_config::{PredictionType, SchedulerConfig};

#[derive(Debug)]
pub(super) struct DpmSolver {
    timesteps: Vec<f64>,
    /// One more than timesteps; the last is 0.
    sigmas: Vec<f64>,
    prediction: PredictionType,
    next: usize,
    /// The clean picture predicted at the step before.
    before: Option<Tensor>,
}

impl DpmSolver {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Self {
        let SigmaSchedule { timesteps, sigmas } = SigmaSchedule::of_solver(config, steps);
        Self { timesteps, sigmas, prediction: config.prediction_type, next: 0, before: None }
    }
}

impl Scheduler for DpmSolver {
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
            self.before = None;
        }
        let (signal, noise) = shares(self.sigmas[index]);
        let clean = predict_original_sample(self.prediction, (signal, noise), latents, prediction)?;
        let (signal_after, noise_after) = shares(self.sigmas[index + 1]);
        // lambda = ln(signal / noise) = -ln sigma; h is its growth over the step, so that exp(-h) is
        // the quotient of the sigmas, and 0 at the last step.
        let shrink = self.sigmas[index + 1] / self.sigmas[index];
        let of_clean = signal_after * (1.0 - shrink);
        let is_last = index + 1 == self.timesteps.len();
        let direction = match self.before.take() {
            Some(before) if !is_last => {
                let h = -shrink.ln();
                let h_before = (self.sigmas[index - 1] / self.sigmas[index]).ln();
                let slope = 0.5 * h / h_before;
                combine(1.0 + slope, &clean, -slope, &before)?
            }
            _ => clean.clone(),
        };
        let after = combine(noise_after / noise, latents, of_clean, &direction)?;
        self.before = Some(clean);
        self.next = index + 1;
        Ok(after)
    }
}
