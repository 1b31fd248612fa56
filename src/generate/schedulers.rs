//! In: a checkpoint's `scheduler_config.json`, a number of steps and, step by step, what the network
//! predicts. Out: the timesteps to ask the network at, and the latents after each step. The network,
//! guidance and random numbers are left to the callers.
//!
//! Equal to the classes of the same name in diffusers: tables in f32 as PyTorch makes them, the
//! scalars of a step in f64, tensors in the caller's format (f32 in the pipelines).

use std::ops::Not;

use candle_core::Tensor;

mod ddim;
mod dpm_solver;
mod euler;
mod euler_ancestral;
mod pndm;
mod timesteps;
mod unipc;

pub use crate::checkpoint::scheduler_config::MARKED_ZERO_SNR;
use crate::checkpoint::scheduler_config::Prediction;
pub use crate::checkpoint::scheduler_config::pipeline_rules::PipelineRules;
pub use crate::checkpoint::scheduler_config::pipeline_rules::ReadScheduler;
pub use crate::checkpoint::scheduler_config::{
    SchedulerClass, SchedulerConfig, SchedulerError, SchedulerOverrides,
};

/// Walks latents from noise to a picture, one step per call of the network.
pub trait Scheduler {
    /// The timestep that the network is told at each step, in order. A timestep may come twice.
    fn timesteps(&self) -> &[f64];

    /// Standard deviation that the initial noise must have.
    fn initial_noise_scale(&self) -> f64 {
        1.0
    }

    /// What the network is shown at step `index` in place of `latents`.
    ///
    /// # Errors
    /// The tensor operation failed.
    fn network_input(&self, index: usize, latents: &Tensor) -> candle_core::Result<Tensor> {
        let _ = index;
        Ok(latents.clone())
    }

    /// Whether step `index` adds fresh noise.
    fn wants_noise(&self, index: usize) -> bool {
        let _ = index;
        false
    }

    /// The latents after step `index`, from those before it and the network's `prediction`, both of
    /// one shape. `noise` is standard normal noise of that shape where [`Self::wants_noise`] asks for
    /// it. Steps are taken in order; step 0 starts a new picture and forgets the one before.
    ///
    /// # Errors
    /// A step out of order, or the tensor operation failed.
    fn step(
        &mut self,
        index: usize,
        latents: &Tensor,
        prediction: &Tensor,
        noise: Option<&Tensor>,
    ) -> candle_core::Result<Tensor>;
}

impl SchedulerConfig {
    /// The scheduler for a walk of `steps` steps.
    ///
    /// # Errors
    /// No step at all, or more than the training schedule has.
    pub fn scheduler(&self, steps: usize) -> Result<Box<dyn Scheduler>, SchedulerError> {
        self.check_steps(steps)?;
        self.check_prediction()?;
        let scheduler: Box<dyn Scheduler> = match self.class {
            SchedulerClass::Pndm => Box::new(pndm::Pndm::new(self, steps)),
            SchedulerClass::Ddim => Box::new(ddim::Ddim::new(self, steps)),
            SchedulerClass::DpmSolverMultistep => Box::new(dpm_solver::DpmSolver::new(self, steps)),
            SchedulerClass::EulerDiscrete => Box::new(euler::Euler::new(self, steps)),
            SchedulerClass::EulerAncestral => {
                Box::new(euler_ancestral::EulerAncestral::new(self, steps))
            }
            SchedulerClass::UniPc => Box::new(unipc::UniPc::new(self, steps)),
        };
        let timesteps = scheduler.timesteps();
        // An offset can push the first timestep past the end of the training schedule, and rounding
        // can push two together, which a multistep method divides by. Karras sigmas stay apart; there
        // diffusers only misses its start where the first two timesteps are one.
        let leaves = timesteps.iter().any(|&step| step > (self.train_steps - 1) as f64);
        let compared =
            if self.use_karras_sigmas { timesteps.len().min(2) } else { timesteps.len() };
        let stands =
            matches!(self.class, SchedulerClass::DpmSolverMultistep | SchedulerClass::UniPc)
                && timesteps[..compared].is_sorted_by(|before, after| before > after).not();
        if leaves || stands {
            return Err(SchedulerError::TooManySteps { steps, train_steps: self.train_steps });
        }
        Ok(scheduler)
    }
}

/// Refuses a step whose history is not there.
fn check_order(index: usize, expected: usize, steps: usize) -> candle_core::Result<()> {
    if index >= steps {
        candle_core::bail!("scheduler step {index} was asked for, but the walk has {steps} steps");
    }
    if index != 0 && index != expected {
        candle_core::bail!("scheduler step {index} was asked for where step {expected} comes next");
    }
    Ok(())
}

/// `a * x + b * y`.
fn combine(a: f64, x: &Tensor, b: f64, y: &Tensor) -> candle_core::Result<Tensor> {
    x.affine(a, 0.0)? + y.affine(b, 0.0)?
}

/// Shares of picture and noise at a sigma: `1 / sqrt(sigma^2 + 1)` and that times sigma.
fn shares(sigma: f64) -> (f64, f64) {
    let signal = 1.0 / (sigma * sigma + 1.0).sqrt();
    (signal, sigma * signal)
}

/// The picture without noise that a prediction implies, with the shares of picture and noise in
/// `latents`.
fn clean_picture(
    kind: Prediction,
    (signal, noise): (f64, f64),
    latents: &Tensor,
    prediction: &Tensor,
) -> candle_core::Result<Tensor> {
    match kind {
        Prediction::Epsilon => combine(1.0 / signal, latents, -noise / signal, prediction),
        Prediction::VPrediction => combine(signal, latents, -noise, prediction),
    }
}
