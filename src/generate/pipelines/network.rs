//! In: nothing. Out: what a denoising network tells of itself to the way from noise to pictures. Its arithmetic is left to
//! `models`.

use candle_core::Tensor;

use super::denoise::Denoiser;
use super::guidance::GuidanceUse;
use crate::models::{
    AddedCondition, FluxTransformer, PixArtTransformer, Sd3Transformer, TextContext, UNet,
    UnusedParts,
};

/// A denoising network of a checkpoint.
pub(crate) trait Network: Denoiser + Send {
    /// What it is called: also its folder in the checkpoint.
    fn component(&self) -> &'static str;

    /// Channels of the latents.
    fn in_channels(&self) -> usize;

    /// Width of the text's hidden states.
    fn context_width(&self) -> usize;

    /// Width of the pooled text that it takes as well, where it takes one.
    fn pooled_width(&self) -> Option<usize> {
        None
    }

    /// What becomes of the guidance.
    fn guidance_use(&self) -> GuidanceUse {
        GuidanceUse::Halves
    }

    /// Itself, where it is a network that a ControlNet may stand beside.
    fn as_unet(&self) -> Option<&UNet> {
        None
    }

    /// What of its files changed nothing.
    fn unused_parts(&self) -> &UnusedParts;

    /// Digest of its weights.
    fn sha256(&self) -> &str;
}

impl Denoiser for UNet {
    fn predict(
        &self,
        latents: &Tensor,
        timestep: f64,
        texts: &[&TextContext],
        added: Option<&AddedCondition>,
    ) -> candle_core::Result<Tensor> {
        self.forward_contexts(latents, timestep, texts, added)
    }
}

impl Network for UNet {
    fn component(&self) -> &'static str {
        "unet"
    }

    fn in_channels(&self) -> usize {
        self.in_channels()
    }

    fn context_width(&self) -> usize {
        self.context_width()
    }

    fn pooled_width(&self) -> Option<usize> {
        self.pooled_width()
    }

    fn guidance_use(&self) -> GuidanceUse {
        match self.takes_guidance() {
            true => GuidanceUse::Told("time_cond_proj_dim"),
            false => GuidanceUse::Halves,
        }
    }

    fn as_unet(&self) -> Option<&UNet> {
        Some(self)
    }

    fn unused_parts(&self) -> &UnusedParts {
        self.unused_parts()
    }

    fn sha256(&self) -> &str {
        self.sha256()
    }
}

impl Denoiser for PixArtTransformer {
    fn predict(
        &self,
        latents: &Tensor,
        timestep: f64,
        texts: &[&TextContext],
        added: Option<&AddedCondition>,
    ) -> candle_core::Result<Tensor> {
        if added.is_some() {
            candle_core::bail!("this transformer takes no pooled text")
        }
        self.forward_contexts(latents, timestep, texts)
    }
}

impl Network for PixArtTransformer {
    fn component(&self) -> &'static str {
        "transformer"
    }

    fn in_channels(&self) -> usize {
        self.in_channels()
    }

    fn context_width(&self) -> usize {
        self.context_width()
    }

    fn unused_parts(&self) -> &UnusedParts {
        self.unused_parts()
    }

    fn sha256(&self) -> &str {
        self.sha256()
    }
}

/// One call `forward` with latents, states and pooled text for each text: time and text together decide what every layer makes
/// of the tokens.
fn text_by_text(
    latents: &Tensor,
    texts: &[&TextContext],
    added: Option<&AddedCondition>,
    forward: impl Fn(&Tensor, &Tensor, &Tensor) -> candle_core::Result<Tensor>,
) -> candle_core::Result<Tensor> {
    let Some(added) = added else {
        candle_core::bail!("this transformer needs pooled text as well")
    };
    let (batch, rows) = (latents.dim(0)?, added.pooled.dim(0)?);
    let count = texts.len().max(1);
    if !batch.is_multiple_of(count) || !rows.is_multiple_of(count) {
        candle_core::bail!("{batch} latents and {rows} pooled texts for {count} texts")
    }
    let halves = texts.iter().enumerate().map(|(number, text)| {
        let latents = latents.narrow(0, number * (batch / count), batch / count)?;
        let pooled = added.pooled.narrow(0, number * (rows / count), 1)?;
        forward(&latents, text.states(), &pooled)
    });
    Tensor::cat(&halves.collect::<candle_core::Result<Vec<_>>>()?, 0)
}

impl Denoiser for Sd3Transformer {
    fn predict(
        &self,
        latents: &Tensor,
        timestep: f64,
        texts: &[&TextContext],
        added: Option<&AddedCondition>,
    ) -> candle_core::Result<Tensor> {
        text_by_text(latents, texts, added, |latents, states, pooled| {
            self.forward(latents, timestep, states, pooled)
        })
    }
}

impl Denoiser for FluxTransformer {
    fn predict(
        &self,
        latents: &Tensor,
        timestep: f64,
        texts: &[&TextContext],
        added: Option<&AddedCondition>,
    ) -> candle_core::Result<Tensor> {
        text_by_text(latents, texts, added, |latents, states, pooled| {
            self.forward(latents, timestep, states, pooled)
        })
    }
}

impl Network for FluxTransformer {
    fn component(&self) -> &'static str {
        "transformer"
    }

    fn in_channels(&self) -> usize {
        self.in_channels()
    }

    fn context_width(&self) -> usize {
        self.context_width()
    }

    fn pooled_width(&self) -> Option<usize> {
        Some(self.pooled_width())
    }

    fn guidance_use(&self) -> GuidanceUse {
        match self.takes_guidance() {
            true => GuidanceUse::Told("guidance_embeds"),
            false => GuidanceUse::Without("guidance_embeds"),
        }
    }

    fn unused_parts(&self) -> &UnusedParts {
        self.unused_parts()
    }

    fn sha256(&self) -> &str {
        self.sha256()
    }
}

impl Network for Sd3Transformer {
    fn component(&self) -> &'static str {
        "transformer"
    }

    fn in_channels(&self) -> usize {
        self.in_channels()
    }

    fn context_width(&self) -> usize {
        self.context_width()
    }

    fn pooled_width(&self) -> Option<usize> {
        Some(self.pooled_width())
    }

    fn unused_parts(&self) -> &UnusedParts {
        self.unused_parts()
    }

    fn sha256(&self) -> &str {
        self.sha256()
    }
}
