//! In: predictions at descending noise levels. Out: latents after each Euler step in the EDM formulation (arXiv 2206.00364,
//! algorithm 1 without churn), as `EDMEulerScheduler` of diffusers.

use candle_core::Tensor;

use super::edm::Edm;
use super::scheduler::{Scheduler, check_order, combine};
use crate::checkpoint::scheduler_config::SchedulerError;
use crate::checkpoint::scheduler_config::edm::EdmConfig;

#[derive(Debug)]
pub(super) struct EdmEuler(Edm);

impl EdmEuler {
    pub(super) fn new(config: &EdmConfig, steps: usize) -> Result<Self, SchedulerError> {
        Ok(Self(Edm::new(config, steps)?))
    }
}

impl Scheduler for EdmEuler {
    fn timesteps(&self) -> &[f64] {
        &self.0.timesteps
    }

    fn init_noise_sigma(&self) -> f64 {
        self.0.init_noise_sigma
    }

    fn scale_model_input(&self, index: usize, latents: &Tensor) -> candle_core::Result<Tensor> {
        check_order(index, index, self.0.timesteps.len())?;
        self.0.shown(index, latents)
    }

    fn step(
        &mut self,
        index: usize,
        latents: &Tensor,
        prediction: &Tensor,
        _: Option<&Tensor>,
    ) -> candle_core::Result<Tensor> {
        // No history: any order will do.
        check_order(index, index, self.0.timesteps.len())?;
        let clean = self.0.clean(index, latents, prediction)?;
        let shrink = self.0.sigmas[index + 1] / self.0.sigmas[index];
        combine(shrink, latents, 1.0 - shrink, &clean)
    }
}
