//! In: predictions at descending timesteps. Out: latents after each step of UniPC (arXiv 2302.04867,
//! B2(h), order 2, predicting the clean picture), as `UniPCMultistepScheduler`: each prediction first
//! corrects the latents that it was made at, then predicts the next ones. The first and the last step
//! are of first order.

use candle_core::Tensor;

use super::scheduler::{Scheduler, check_order, combine, predict_original_sample, shares};
use super::timesteps::SigmaSchedule;
use crate::checkpoint::scheduler_config::{PredictionType, SchedulerConfig};

#[derive(Debug)]
pub(super) struct UniPc {
    timesteps: Vec<f64>,
    /// One more than timesteps; the last is 0.
    sigmas: Vec<f64>,
    prediction: PredictionType,
    next: usize,
    /// Clean pictures of the last two steps, newest first.
    history: Vec<Tensor>,
    /// Corrected latents of the step before.
    latents_before: Option<Tensor>,
}

impl UniPc {
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Self {
        let SigmaSchedule { timesteps, sigmas } = SigmaSchedule::of_solver(config, steps);
        Self {
            timesteps,
            sigmas,
            prediction: config.prediction_type,
            next: 0,
            history: Vec::new(),
            latents_before: None,
        }
    }

    /// Order of the predictor at step `index`, and of the corrector after it.
    fn order(&self, index: usize) -> usize {
        if index == 0 || index + 1 == self.timesteps.len() { 1 } else { 2 }
    }

    /// Growth of lambda = -ln(sigma) from sigma number `from` to number `to`.
    fn growth(&self, from: usize, to: usize) -> f64 {
        (self.sigmas[from] / self.sigmas[to]).ln()
    }

    /// First-order step from `latents` at sigma number `from` to the next sigma, towards `clean`; and
    /// the factor by which differences of clean pictures count there.
    fn first_order(
        &self,
        from: usize,
        latents: &Tensor,
        clean: &Tensor,
    ) -> candle_core::Result<(Tensor, f64)> {
        let (_, noise) = shares(self.sigmas[from]);
        let (signal_after, noise_after) = shares(self.sigmas[from + 1]);
        // 1 - exp(-h), which is also -B2(h).
        let rise = 1.0 - self.sigmas[from + 1] / self.sigmas[from];
        let factor = signal_after * rise;
        Ok((combine(noise_after / noise, latents, factor, clean)?, factor))
    }

    /// The latents at sigma number `index`, from the step before and the clean picture `here` that was
    /// predicted from them.
    fn corrected(
        &self,
        index: usize,
        before: &Tensor,
        here: &Tensor,
    ) -> candle_core::Result<Tensor> {
        let from = index - 1;
        let (first_order, factor) = self.first_order(from, before, &self.history[0])?;
        let newest = (here - &self.history[0])?;
        if self.order(from) == 1 {
            return combine(1.0, &first_order, 0.5 * factor, &newest);
        }
        // Weights that make the step exact for quadratics in lambda; h is the growth over the step.
        let h = self.growth(from, index);
        let ratio = -self.growth(from - 1, from) / h;
        let (phi_1, phi_2) = phis(h);
        let older_weight = (phi_2 - phi_1) / (ratio - 1.0);
        let newest_weight = phi_1 - older_weight;
        let older = (&self.history[1] - &self.history[0])?;
        let change = combine(older_weight / ratio, &older, newest_weight, &newest)?;
        combine(1.0, &first_order, factor, &change)
    }
}

/// First and second moment of the exponential weight over a step of length h, by its total weight
/// 1 - exp(-h): both tend to 1/2 and 1/3 ... as h falls.
fn phis(h: f64) -> (f64, f64) {
    let total = (-h).exp_m1();
    let first = total / -h - 1.0;
    let second = first / -h - 0.5;
    (first / total, 2.0 * second / total)
}

impl Scheduler for UniPc {
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
            self.latents_before = None;
        }
        let clean = predict_original_sample(
            self.prediction,
            shares(self.sigmas[index]),
            latents,
            prediction,
        )?;
        let latents = match self.latents_before.take() {
            Some(before) => self.corrected(index, &before, &clean)?,
            None => latents.clone(),
        };
        let (mut after, factor) = self.first_order(index, &latents, &clean)?;
        if let (2, Some(before)) = (self.order(index), self.history.first()) {
            let ratio = -self.growth(index - 1, index) / self.growth(index, index + 1);
            let slope = combine(1.0 / ratio, before, -1.0 / ratio, &clean)?;
            after = combine(1.0, &after, 0.5 * factor, &slope)?;
        }
        self.history.insert(0, clean);
        self.history.truncate(2);
        self.latents_before = Some(latents);
        self.next = index + 1;
        Ok(after)
    }
}
