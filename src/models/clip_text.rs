//! Signatures only for now.
use std::path::Path;

use candle_core::{DType, Device, Result, Tensor};

use super::ModelError;

/// CLIP's text encoder.
pub struct ClipText {
    sha256: String,
}

impl ClipText {
    /// Loads `text_encoder/`.
    ///
    /// # Errors
    /// See [`ModelError`].
    pub fn load(folder: &Path, _: DType, _: &Device) -> std::result::Result<Self, ModelError> {
        Err(ModelError::broken(folder, "not written yet"))
    }

    /// Hidden states.
    ///
    /// # Errors
    /// The tensor library refused.
    pub fn forward(&self, _ids: &[Vec<u32>]) -> Result<Tensor> {
        candle_core::bail!("not written yet")
    }

    /// Tokens at most.
    pub fn max_tokens(&self) -> usize {
        77
    }

    /// Digest of the weights.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}
