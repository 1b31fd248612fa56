//! In: nothing. Out: what every scheduler does, and the arithmetic that several share.

use candle_core::Tensor;

use crate::checkpoint::scheduler_config::PredictionType;

/// Walks latents from noise to a picture, one step per call of the network.
pub trait Scheduler {
    /// The timestep that the network is told at each step, in order. A timestep may come twice.
    fn timesteps(&self) -> &[f64];

    /// Standard deviation that the initial noise must have.
    fn init_noise_sigma(&self) -> f64 {
        1.0
    }

    /// What the network is shown at step `index` in place of `latents`.
    ///
    /// # Errors
    /// The tensor operation failed.
    fn scale_model_input(&self, index: usize, latents: &Tensor) -> candle_core::Result<Tensor> {
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

/// Refuses a step whose history is not there.
pub(crate) fn check_order(index: usize, expected: usize, steps: usize) -> candle_core::Result<()> {
    if index >= steps {
        candle_core::bail!("scheduler step {index} was asked for, but the walk has {steps} steps");
    }
    if index != 0 && index != expected {
        candle_core::bail!("scheduler step {index} was asked for where step {expected} comes next");
    }
    Ok(())
}

/// `a * x + b * y`.
pub(crate) fn combine(a: f64, x: &Tensor, b: f64, y: &Tensor) -> candle_core::Result<Tensor> {
    x.affine(a, 0.0)? + y.affine(b, 0.0)?
}

/// Shares of picture and noise at a sigma: `1 / sqrt(sigma^2 + 1)` and that times sigma.
pub(crate) fn shares(sigma: f64) -> (f64, f64) {
    let signal = 1.0 / (sigma * sigma + 1.0).sqrt();
    (signal, sigma * signal)
}

/// The picture without noise that a prediction implies, with the shares of picture and noise in
/// `latents`.
pub(crate) fn predict_original_sample(
    kind: PredictionType,
    (signal, noise): (f64, f64),
    latents: &Tensor,
    prediction: &Tensor,
) -> candle_core::Result<Tensor> {
    match kind {
        PredictionType::Epsilon => combine(1.0 / signal, latents, -noise / signal, prediction),
        PredictionType::VPrediction => combine(signal, latents, -noise, prediction),
    }
}
