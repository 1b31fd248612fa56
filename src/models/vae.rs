//! Signatures only for now.
use std::path::Path;

use candle_core::{DType, Device, Result, Tensor};

use super::ModelError;

/// The image decoder.
pub struct VaeDecoder {
    sha256: String,
}

impl VaeDecoder {
    /// Loads `vae/`.
    ///
    /// # Errors
    /// See [`ModelError`].
    pub fn load(folder: &Path, _: DType, _: &Device) -> std::result::Result<Self, ModelError> {
        Err(ModelError::broken(folder, "not written yet"))
    }

    /// Pixels.
    ///
    /// # Errors
    /// The tensor library refused.
    pub fn decode(&self, _latents: &Tensor) -> Result<Tensor> {
        candle_core::bail!("not written yet")
    }

    /// What latents are divided by before.
    pub fn scaling_factor(&self) -> f64 {
        0.18215
    }

    /// Pixels per latent.
    pub fn spatial_factor(&self) -> usize {
        8
    }

    /// Digest of the weights.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}
