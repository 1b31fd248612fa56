//! In: predictions at descending timesteps. Out: latents after each step of DPM-Solver++ 2M (arXiv
//! 2211.01095, algorithm 2, midpoint), as `DPMSolverMultistepScheduler` with order 2 and final sigma
//! zero: the first and the last step are of first order.

use candle_core::Tensor;

use super::config::{Prediction, SchedulerConfig, Spacing};
use super::noise_schedule::{NoiseSchedule, leading, numpy_linspace, trailing};
use super::{Scheduler, check_order, combine};

#[derive(Debug)]
pub(super) struct DpmSolver {
    timesteps: Vec<f64>,
    /// One more than timesteps; the last is 0.
    sigmas: Vec<f64>,
    prediction: Prediction,
    next: usize,
    /// The clean picture predicted at the step before.
    before: Option<Tensor>,
}

impl DpmSolver {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Self {
        let timesteps = timesteps(config, steps);
        let schedule = NoiseSchedule::new(config);
        let sigmas = timesteps.iter().map(|&step| schedule.sigma(step)).chain([0.0]).collect();
        Self { timesteps, sigmas, prediction: config.prediction_type, next: 0, before: None }
    }
}

/// One more timestep than asked for is laid out, and the last of them, the cleanest, left away.
fn timesteps(config: &SchedulerConfig, steps: usize) -> Vec<f64> {
    let mut ascending = match config.timestep_spacing {
        Spacing::Trailing => return trailing(config, steps),
        Spacing::Leading => leading(config, steps + 1, steps + 1),
        Spacing::Linspace => {
            let mut even = numpy_linspace((config.train_steps - 1) as f64, steps + 1);
            even.iter_mut().for_each(|step| *step = step.round_ties_even());
            even
        }
    };
    ascending.remove(0);
    ascending.reverse();
    ascending
}

/// Shares of picture and noise at a sigma: `1 / sqrt(sigma^2 + 1)` and that times sigma.
fn shares(sigma: f64) -> (f64, f64) {
    let signal = 1.0 / (sigma * sigma + 1.0).sqrt();
    (signal, sigma * signal)
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
        let clean = match self.prediction {
            Prediction::Epsilon => combine(1.0 / signal, latents, -noise / signal, prediction)?,
            Prediction::VPrediction => combine(signal, latents, -noise, prediction)?,
        };
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
