//! In: a checkpoint's `scheduler_config.json`, a number of steps and, step by step, what the network
//! predicts. Out: the timesteps to ask the network at, and the latents after each step. The network,
//! guidance and random numbers are left to the callers.
//!
//! Equal to the classes of the same name in diffusers: tables in f32 as PyTorch makes them, the
//! scalars of a step in f64, tensors in the caller's format (f32 in the pipelines).

use std::ops::Not;

mod ddim;
mod dpm_solver;
mod edm;
mod edm_dpm_solver;
mod edm_euler;
mod euler;
mod euler_ancestral;
mod flow_match_euler;
mod lcm;
mod pndm;
mod scheduler;
mod timesteps;
mod unipc;

pub(crate) use self::flow_match_euler::FlowMatchEuler;
pub(crate) use self::scheduler::Scheduler;
use crate::checkpoint::scheduler_config::edm::{EdmClass, EdmConfig};
pub use crate::checkpoint::scheduler_config::{
    SchedulerClass, SchedulerConfig, SchedulerError, SchedulerOverrides,
};

impl EdmConfig {
    /// The scheduler for a walk of `steps` steps.
    ///
    /// # Errors
    /// No step at all, or more than anybody takes.
    pub fn scheduler(&self, steps: usize) -> Result<Box<dyn Scheduler>, SchedulerError> {
        Ok(match self.class {
            EdmClass::DpmSolver => Box::new(edm_dpm_solver::EdmDpmSolver::new(self, steps)?),
            EdmClass::Euler => Box::new(edm_euler::EdmEuler::new(self, steps)?),
        })
    }
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
            SchedulerClass::Lcm => Box::new(lcm::Lcm::new(self, steps)),
        };
        let timesteps = scheduler.timesteps();
        // An offset can push the first timestep past the end of the training schedule, and rounding
        // can push two together, which a multistep method divides by. Karras sigmas stay apart; there
        // diffusers only misses its start where the first two timesteps are one.
        let leaves = timesteps.iter().any(|&step| step > (self.train_steps - 1) as f64);
        let compared =
            if self.use_karras_sigmas { timesteps.len().min(2) } else { timesteps.len() };
        let stands = self.class.divides_by_step_size()
            && timesteps[..compared].is_sorted_by(|before, after| before > after).not();
        if leaves || stands {
            return Err(SchedulerError::TooManySteps { steps, train_steps: self.train_steps });
        }
        Ok(scheduler)
    }
}
