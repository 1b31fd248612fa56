//! In: the strength of guidance. Out: what a network that was distilled with guidance adds to the sinusoids of its
//! timesteps. Follows `get_guidance_scale_embedding` of diffusers' pipelines and `time_cond_proj_dim` of its UNet.

use candle_core::{DType, Device, Module, Result, Tensor};

use crate::checkpoint::weights::Scope;
use crate::compute::layers::{Linear, LoadResult};

/// Embeds the guidance, which is the same at every timestep.
#[derive(Debug)]
pub(super) struct GuidanceEmbedding {
    projection: Linear,
    width: usize,
    /// [1, width of the timestep's sinusoid], once it was told.
    told: Option<Tensor>,
}

impl GuidanceEmbedding {
    /// `cond_proj` of `time_embedding`.
    pub(super) fn load(scope: &Scope, width: usize, sinusoid: usize) -> LoadResult<Self> {
        let projection = Linear::load_without_bias(&scope.at("cond_proj"), width, sinusoid)?;
        Ok(Self { projection, width, told: None })
    }

    /// Takes the guidance that the next calls are made with.
    pub(super) fn tell(&mut self, guidance: f64, dtype: DType, device: &Device) -> Result<()> {
        let values = sinusoid(guidance, self.width);
        let values = Tensor::from_vec(values, (1, self.width), device)?.to_dtype(dtype)?;
        self.told = Some(self.projection.forward(&values)?);
        Ok(())
    }

    /// What is added to the sinusoid of a timestep.
    pub(super) fn told(&self) -> Result<&Tensor> {
        let missing = || candle_core::Error::msg("this UNet was not told the guidance");
        self.told.as_ref().ok_or_else(missing)
    }
}

/// Sines, then cosines, and a zero where `width` is odd. In the paper guidance 1 counts as 0. Each value is rounded
/// to f32 where PyTorch rounds it: angles go up to thousands of radians.
fn sinusoid(guidance: f64, width: usize) -> Vec<f32> {
    let half = width / 2;
    let strength = (guidance - 1.0) as f32 * 1000.0;
    let step = 10_000.0_f64.ln() as f32 / (half - 1) as f32;
    let angles = (0..half).map(|index| {
        let frequency = f64::from(index as f32 * -step).exp() as f32;
        f64::from(strength * frequency)
    });
    let angles: Vec<f64> = angles.collect();
    let sines = angles.iter().map(|angle| angle.sin() as f32);
    let mut values: Vec<f32> = sines.chain(angles.iter().map(|angle| angle.cos() as f32)).collect();
    values.resize(width, 0.0);
    values
}
