//! In: predictions at descending noise levels. Out: latents after each step of DPM-Solver++ 2M, midpoint (arXiv 2211.01095), in
//! the EDM formulation, as `EDMDPMSolverMultistepScheduler` of diffusers with order 2.

use candle_core::Tensor;

use super::edm::Edm;
use super::scheduler::{Scheduler, check_order, combine};
use crate::checkpoint::scheduler_config::SchedulerError;
use crate::checkpoint::scheduler_config::edm::EdmConfig;

/// Fewer steps than these end with a step of first order where `lower_order_final` says so.
const MANY_STEPS: usize = 15;

#[derive(Debug)]
pub(super) struct EdmDpmSolver {
    edm: Edm,
    /// Whether the last step is of first order.
    ends_low: bool,
    next: usize,
    /// The clean picture predicted at the step before.
    before: Option<Tensor>,
}

impl EdmDpmSolver {
    pub(super) fn new(config: &EdmConfig, steps: usize) -> Result<Self, SchedulerError> {
        let ends_low = config.ends_at_zero
            || config.euler_at_final
            || (config.lower_order_final && steps < MANY_STEPS);
        Ok(Self { edm: Edm::new(config, steps)?, ends_low, next: 0, before: None })
    }
}

impl Scheduler for EdmDpmSolver {
    fn timesteps(&self) -> &[f64] {
        &self.edm.timesteps
    }

    fn init_noise_sigma(&self) -> f64 {
        self.edm.init_noise_sigma
    }

    fn scale_model_input(&self, index: usize, latents: &Tensor) -> candle_core::Result<Tensor> {
        check_order(index, index, self.edm.timesteps.len())?;
        self.edm.shown(index, latents)
    }

    fn step(
        &mut self,
        index: usize,
        latents: &Tensor,
        prediction: &Tensor,
        _: Option<&Tensor>,
    ) -> candle_core::Result<Tensor> {
        let (count, sigmas) = (self.edm.timesteps.len(), &self.edm.sigmas);
        check_order(index, self.next, count)?;
        if index == 0 {
            self.before = None;
        }
        let clean = self.edm.clean(index, latents, prediction)?;
        // The picture has share 1 at any noise level, so that the step's length is the logarithm of this.
        let shrink = sigmas[index + 1] / sigmas[index];
        let is_low = self.ends_low && index + 1 == count;
        let direction = match self.before.take() {
            Some(before) if !is_low => {
                let h = -shrink.ln();
                let h_before = (sigmas[index - 1] / sigmas[index]).ln();
                let slope = 0.5 * h / h_before;
                combine(1.0 + slope, &clean, -slope, &before)?
            }
            _ => clean.clone(),
        };
        let after = combine(shrink, latents, 1.0 - shrink, &direction)?;
        self.before = Some(clean);
        self.next = index + 1;
        Ok(after)
    }
}
