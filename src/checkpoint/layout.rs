//! Models whose single files are read.

/// Whose tensors a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Stable Diffusion 1.x.
    Sd1,
    /// Stable Diffusion 2.x.
    Sd2,
    /// Stable Diffusion XL.
    Sdxl,
    /// Stable Diffusion 3 and 3.5.
    Sd3,
    /// FLUX.1.
    Flux,
}

impl Layout {
    /// What it is, in a sentence.
    pub(crate) fn described(self) -> &'static str {
        match self {
            Self::Sd1 => "Stable Diffusion 1.x",
            Self::Sd2 => "Stable Diffusion 2.x",
            Self::Sdxl => "Stable Diffusion XL",
            Self::Sd3 => "Stable Diffusion 3",
            Self::Flux => "FLUX.1",
        }
    }

    /// The class of its transformer in diffusers, where it has one.
    pub(super) fn transformer_class(self) -> Option<&'static str> {
        match self {
            Self::Sd3 => Some("SD3Transformer2DModel"),
            Self::Flux => Some("FluxTransformer2DModel"),
            Self::Sd1 | Self::Sd2 | Self::Sdxl => None,
        }
    }

    /// Whether its network is a transformer: then text encoders and autoencoder may be elsewhere.
    pub(crate) fn has_transformer(self) -> bool {
        self.transformer_class().is_some()
    }

    /// Whether its text encoder `component` is a T5.
    pub(super) fn is_t5(self, component: &str) -> bool {
        matches!((self, component), (Self::Flux, "text_encoder_2") | (Self::Sd3, "text_encoder_3"))
    }
}
