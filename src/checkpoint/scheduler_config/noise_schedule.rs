//! In: the betas that a network was trained with. Out: the table of cumulative alphas and the sigmas between them,
//! rounded as PyTorch rounds them inside diffusers.

use super::{BetaSchedule, SchedulerConfig};

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
            if let (Some(last), false) = (alphas.last_mut(), config.class.takes_exact_zero_snr()) {
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
    pub(crate) fn timesteps_at(&self, sigmas: &[f64]) -> Vec<f64> {
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

/// `torch.linspace` in f32 on a CPU: counted from the nearer end, product and sum fused.
pub(crate) fn torch_linspace(start: f64, end: f64, count: usize) -> Vec<f32> {
    let (start, end) = (start as f32, end as f32);
    let step = (end - start) / (count.max(2) - 1) as f32;
    let from_start = |index: usize| step.mul_add(index as f32, start);
    let from_end = |index: usize| (-step).mul_add((count - 1 - index) as f32, end);
    (0..count).map(|i| if i < count / 2 { from_start(i) } else { from_end(i) }).collect()
}
