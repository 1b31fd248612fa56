//! Signatures only for now.
use std::path::Path;

use candle_core::{DType, Device, Result, Tensor};

use super::ModelError;

/// The denoiser.
pub struct UNet {
    sha256: String,
}

impl UNet {
    /// Loads `unet/`.
    ///
    /// # Errors
    /// See [`ModelError`].
    pub fn load(folder: &Path, _: DType, _: &Device) -> std::result::Result<Self, ModelError> {
        Err(ModelError::broken(folder, "not written yet"))
    }

    /// Predicted noise.
    ///
    /// # Errors
    /// The tensor library refused.
    pub fn forward(&self, _latents: &Tensor, _timestep: f64, _context: &Tensor) -> Result<Tensor> {
        candle_core::bail!("not written yet")
    }

    /// Latent channels.
    pub fn in_channels(&self) -> usize {
        4
    }

    /// Latent side length.
    pub fn sample_size(&self) -> usize {
        64
    }

    /// Context width.
    pub fn context_width(&self) -> usize {
        768
    }

    /// Digest of the weights.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}
