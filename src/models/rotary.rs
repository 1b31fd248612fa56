//! In: angles. Out: heads that are turned by them (rotary position embeddings, arXiv 2104.09864), as transformers does
//! it: number i of a head with number i + head / 2. Which token has which angles is left to the networks.

use candle_core::{DType, Device, Result, Tensor};

/// Cosines and sines of angles, [places, frequencies] each, f32.
#[derive(Debug)]
pub(super) struct RotaryEmbedding {
    pub(super) cosines: Tensor,
    pub(super) sines: Tensor,
}

impl RotaryEmbedding {
    /// Of `count` places, whose angles follow one another.
    pub(super) fn new(angles: Vec<f32>, count: usize, device: &Device) -> Result<Self> {
        let shape = (count, angles.len() / count.max(1));
        let sines = angles.iter().map(|angle| angle.sin()).collect();
        let cosines = angles.into_iter().map(f32::cos).collect();
        Ok(Self {
            cosines: Tensor::from_vec(cosines, shape, device)?,
            sines: Tensor::from_vec(sines, shape, device)?,
        })
    }

    /// Of tokens of text at the places `0..count`, of `rows` texts one after the other.
    pub(super) fn of_rows(
        rows: usize,
        count: usize,
        frequencies: &[f32],
        device: &Device,
    ) -> Result<Self> {
        let places = (0..rows).flat_map(|_| 0..count);
        let angles = places
            .flat_map(|place| frequencies.iter().map(move |frequency| place as f32 * frequency));
        Self::new(angles.collect(), rows * count, device)
    }

    /// `x` [places, heads, head] turned.
    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let exact = x.to_dtype(DType::F32)?.contiguous()?.unsqueeze(0)?;
        candle_nn::rotary_emb::rope_thd(&exact, &self.cosines, &self.sines)?
            .squeeze(0)?
            .to_dtype(x.dtype())
    }
}

/// `theta^(-2 i / size)` for i in 0..size / 2.
pub(super) fn frequencies(size: usize, theta: f32) -> Vec<f32> {
    (0..size).step_by(2).map(|number| 1.0 / theta.powf(number as f32 / size as f32)).collect()
}
