//! In: the betas that a network was trained with and a number of steps. Out: the table of cumulative
//! alphas, the sigmas between them, and the timesteps of each spacing, rounded as NumPy and PyTorch
//! round them inside diffusers.

use super::config::{BetaSchedule, SchedulerClass, SchedulerConfig, Spacing};

/// How much of the picture is left at each training timestep.
#[derive(Debug, Clone)]
pub struct NoiseSchedule {
    /// Cumulative product of `1 - beta`, one per training timestep; f32 values.
    alphas: Vec<f64>,
}

impl NoiseSchedule {
    /// The training schedule of a checkpoint, bit for bit `alphas_cumprod` of diffusers on PyTorch.
    pub fn new(config: &SchedulerConfig) -> Self {
        let count = config.train_steps;
        let betas = match config.beta_schedule {
            BetaSchedule::Linear => torch_linspace(config.beta_start, config.beta_end, count),
            BetaSchedule::ScaledLinear => {
                let roots = torch_linspace(config.beta_start.sqrt(), config.beta_end.sqrt(), count);
                roots.iter().map(|root| root * root).collect()
            }
        };
        let mut alphas = cumulative_alphas(&betas);
        if config.rescale_betas_zero_snr {
            alphas = cumulative_alphas(&with_zero_terminal_snr(&alphas));
            // Those that divide by it have the smallest number of half precision in its place.
            if let (Some(last), true) = (alphas.last_mut(), config.class != SchedulerClass::Ddim) {
                *last = 2.0_f32.powi(-24);
            }
        }
        Self { alphas: alphas.into_iter().map(f64::from).collect() }
    }

    /// How far `alphas`, a table of another program, is from this one: the largest difference, or `None`
    /// where it has another length.
    pub fn difference(&self, alphas: &[f32]) -> Option<f64> {
        let apart = |(own, other): (&f64, &f32)| (own - f64::from(*other)).abs();
        (alphas.len() == self.alphas.len())
            .then(|| self.alphas.iter().zip(alphas).map(apart).fold(0.0, f64::max))
    }

    /// Cumulative alpha at a training timestep, or `before_start` for a negative one.
    pub fn alpha(&self, timestep: i64, before_start: f64) -> f64 {
        usize::try_from(timestep)
            .ok()
            .and_then(|timestep| self.alphas.get(timestep).copied())
            .unwrap_or(before_start)
    }

    /// Sigma = sqrt((1 - alpha) / alpha), between training timesteps by linear interpolation, as an
    /// f32 value.
    pub fn sigma(&self, timestep: f64) -> f64 {
        let last = self.alphas.len() - 1;
        let at = |index: usize| {
            let alpha = self.alphas[index] as f32;
            f64::from(((1.0 - alpha) / alpha).sqrt())
        };
        let below = (timestep.max(0.0).floor() as usize).min(last);
        if below == last {
            return at(last);
        }
        let (low, high) = (at(below), at(below + 1));
        f64::from(((high - low) * (timestep - below as f64) + low) as f32)
    }

    /// The timesteps at which the training schedule has these sigmas, between training timesteps by
    /// linear interpolation of the logarithm.
    fn timesteps_at(&self, sigmas: &[f64]) -> Vec<f64> {
        let logs: Vec<f32> =
            (0..self.alphas.len()).map(|step| self.sigma(step as f64).ln() as f32).collect();
        let at = |sigma: &f64| {
            let log = sigma.max(1e-10).ln();
            // The logarithms ascend.
            let not_above = logs.partition_point(|&one| f64::from(one) <= log);
            let below = not_above.saturating_sub(1).min(logs.len() - 2);
            let (low, high) = (logs[below], logs[below + 1]);
            let share = (f64::from(low) - log) / f64::from(low - high);
            let share = share.clamp(0.0, 1.0);
            (1.0 - share) * below as f64 + share * (below + 1) as f64
        };
        sigmas.iter().map(at).collect()
    }
}

/// `torch.cumprod(1 - betas)`: PyTorch multiplies in f64 and stores f32.
fn cumulative_alphas(betas: &[f32]) -> Vec<f32> {
    let mut product = 1.0_f64;
    betas
        .iter()
        .map(|beta| {
            product *= f64::from(1.0 - beta);
            product as f32
        })
        .collect()
}

/// Betas under which the root of the cumulative alphas falls from the same first value to 0 (arXiv
/// 2305.08891, algorithm 1).
fn with_zero_terminal_snr(alphas: &[f32]) -> Vec<f32> {
    let roots: Vec<f32> = alphas.iter().map(|alpha| alpha.sqrt()).collect();
    let (first, last) = (roots[0], roots[roots.len() - 1]);
    let stretch = first / (first - last);
    let rescaled: Vec<f32> = roots.iter().map(|root| ((root - last) * stretch).powi(2)).collect();
    let before = std::iter::once(1.0).chain(rescaled.iter().copied());
    rescaled.iter().zip(before).map(|(alpha, before)| 1.0 - alpha / before).collect()
}

/// Timesteps and sigmas of one walk, for the schedulers that step from sigma to sigma.
#[derive(Debug)]
pub(super) struct SigmaWalk {
    /// What the network is told.
    pub(super) timesteps: Vec<f64>,
    /// One more than timesteps, f32 values; the last is 0.
    pub(super) sigmas: Vec<f64>,
}

impl SigmaWalk {
    /// As `EulerDiscreteScheduler` and its ancestral sibling lay it out: timesteps may lie between
    /// training timesteps.
    pub(super) fn of_euler(config: &SchedulerConfig, steps: usize) -> Self {
        let mut timesteps = match config.timestep_spacing {
            // Not rounded to whole numbers, but to f32.
            Spacing::Linspace => numpy_linspace((config.train_steps - 1) as f64, steps)
                .iter()
                .map(|&step| f64::from(step as f32))
                .collect(),
            Spacing::Leading => leading(config, steps, steps),
            Spacing::Trailing => trailing(config, steps),
        };
        if config.timestep_spacing != Spacing::Trailing {
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
            Spacing::Trailing => trailing(config, steps),
            spacing => {
                let mut ascending = if spacing == Spacing::Leading {
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

/// `torch.linspace` in f32 on a CPU: counted from the nearer end, product and sum fused.
fn torch_linspace(start: f64, end: f64, count: usize) -> Vec<f32> {
    let (start, end) = (start as f32, end as f32);
    let step = (end - start) / (count.max(2) - 1) as f32;
    let from_start = |index: usize| step.mul_add(index as f32, start);
    let from_end = |index: usize| (-step).mul_add((count - 1 - index) as f32, end);
    (0..count).map(|i| if i < count / 2 { from_start(i) } else { from_end(i) }).collect()
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
        Spacing::Linspace => {
            let mut ascending = numpy_linspace((config.train_steps - 1) as f64, steps);
            ascending.iter_mut().for_each(|step| *step = step.round_ties_even());
            ascending
        }
        Spacing::Leading => leading(config, steps, steps),
        Spacing::Trailing => trailing(config, steps),
    };
    if config.timestep_spacing != Spacing::Trailing {
        timesteps.reverse();
    }
    timesteps.iter().map(|&step| step as i64).collect()
}
