//! In: a scheduler's configuration and a number of steps. Out: the timesteps of each spacing and the sigmas there,
//! rounded as NumPy and PyTorch round them inside diffusers.

use crate::checkpoint::scheduler_config::noise_schedule::NoiseSchedule;
use crate::checkpoint::scheduler_config::{SchedulerConfig, TimestepSpacing};

/// Timesteps and sigmas of one walk, for the schedulers that step from sigma to sigma.
#[derive(Debug)]
pub(super) struct SigmaSchedule {
    /// What the network is told.
    pub(super) timesteps: Vec<f64>,
    /// One more than timesteps, f32 values; the last is 0.
    pub(super) sigmas: Vec<f64>,
}

impl SigmaSchedule {
    /// As `EulerDiscreteScheduler` and its ancestral sibling lay it out: timesteps may lie between
    /// training timesteps.
    pub(super) fn of_euler(config: &SchedulerConfig, steps: usize) -> Self {
        let mut timesteps = match config.timestep_spacing {
            // Not rounded to whole numbers, but to f32.
            TimestepSpacing::Linspace => numpy_linspace((config.train_steps - 1) as f64, steps)
                .iter()
                .map(|&step| f64::from(step as f32))
                .collect(),
            TimestepSpacing::Leading => leading(config, steps, steps),
            TimestepSpacing::Trailing => trailing(config, steps),
        };
        if config.timestep_spacing != TimestepSpacing::Trailing {
            timesteps.reverse();
        }
        let schedule = NoiseSchedule::new(config);
        let ends = timesteps.first().zip(timesteps.last());
        if let (true, Some((&first, &last))) = (config.use_karras_sigmas, ends) {
            // Between the ends of this very walk, so that the spacing still matters.
            let sigmas = karras(schedule.sigma(first), schedule.sigma(last), steps);
            let timesteps =
                schedule.timesteps_at(&sigmas).iter().map(|&t| f64::from(t as f32)).collect();
            return Self::new(timesteps, &sigmas);
        }
        let sigmas: Vec<f64> = timesteps.iter().map(|&step| schedule.sigma(step)).collect();
        Self::new(timesteps, &sigmas)
    }

    /// As `DPMSolverMultistepScheduler` and `UniPCMultistepScheduler` lay it out: timesteps are whole,
    /// and one more than asked for is laid out, of which the cleanest is left away.
    pub(super) fn of_solver(config: &SchedulerConfig, steps: usize) -> Self {
        let schedule = NoiseSchedule::new(config);
        if config.use_karras_sigmas {
            // Between the ends of the training schedule, whatever the spacing.
            let (largest, smallest) =
                (schedule.sigma((config.train_steps - 1) as f64), schedule.sigma(0.0));
            let sigmas = karras(largest, smallest, steps);
            let timesteps =
                schedule.timesteps_at(&sigmas).iter().map(|t| t.round_ties_even()).collect();
            return Self::new(timesteps, &sigmas);
        }
        let timesteps = match config.timestep_spacing {
            TimestepSpacing::Trailing => trailing(config, steps),
            spacing => {
                let mut ascending = if spacing == TimestepSpacing::Leading {
                    leading(config, steps + 1, steps + 1)
                } else {
                    let mut even = numpy_linspace((config.train_steps - 1) as f64, steps + 1);
                    even.iter_mut().for_each(|step| *step = step.round_ties_even());
                    even
                };
                ascending.remove(0);
                ascending.reverse();
                ascending
            }
        };
        let sigmas: Vec<f64> = timesteps.iter().map(|&step| schedule.sigma(step)).collect();
        Self::new(timesteps, &sigmas)
    }

    fn new(timesteps: Vec<f64>, sigmas: &[f64]) -> Self {
        let sigmas = sigmas.iter().map(|&sigma| f64::from(sigma as f32)).chain([0.0]).collect();
        Self { timesteps, sigmas }
    }
}

/// Sigmas from `largest` to `smallest`, even in their seventh root (arXiv 2206.00364, formula 5).
fn karras(largest: f64, smallest: f64, steps: usize) -> Vec<f64> {
    const RHO: f64 = 7.0;
    let (high, low) = (largest.powf(1.0 / RHO), smallest.powf(1.0 / RHO));
    let at = |share: f64| (high + share * (low - high)).powf(RHO);
    numpy_linspace(1.0, steps).into_iter().map(at).collect()
}

/// `numpy.linspace(0, last, count)` in f64, ascending.
pub(super) fn numpy_linspace(last: f64, count: usize) -> Vec<f64> {
    if count < 2 {
        return vec![0.0; count];
    }
    let step = last / (count - 1) as f64;
    (0..count).map(|i| if i + 1 == count { last } else { i as f64 * step }).collect()
}

/// Ascending timesteps `k * floor(train_steps / divisor) + offset`.
pub(super) fn leading(config: &SchedulerConfig, divisor: usize, count: usize) -> Vec<f64> {
    let ratio = config.train_steps / divisor;
    (0..count).map(|k| (k * ratio) as f64 + config.steps_offset as f64).collect()
}

/// Descending timesteps `train_steps - k * train_steps / steps - 1`, rounded half to even. NumPy's
/// `arange` decides their number, which rounding can make one more than asked for.
pub(super) fn trailing(config: &SchedulerConfig, steps: usize) -> Vec<f64> {
    let start = config.train_steps as f64;
    let ratio = start / steps as f64;
    let count = (start / ratio).ceil() as usize;
    let difference = (start - ratio) - start;
    (0..count).map(|k| (start + k as f64 * difference).round_ties_even() - 1.0).collect()
}

/// Descending timesteps of DDIM and, before its extra step, PNDM; all whole numbers.
pub(super) fn whole_timesteps(config: &SchedulerConfig, steps: usize) -> Vec<i64> {
    let mut timesteps = match config.timestep_spacing {
        TimestepSpacing::Linspace => {
            let mut ascending = numpy_linspace((config.train_steps - 1) as f64, steps);
            ascending.iter_mut().for_each(|step| *step = step.round_ties_even());
            ascending
        }
        TimestepSpacing::Leading => leading(config, steps, steps),
        TimestepSpacing::Trailing => trailing(config, steps),
    };
    if config.timestep_spacing != TimestepSpacing::Trailing {
        timesteps.reverse();
    }
    timesteps.iter().map(|&step| step as i64).collect()
}
