//! In: a timestep. Out: what the network is told about the prompt there. How texts become tensors is
//! left to the pipelines.

use crate::models::{AddedCondition, TextContext};

/// What the denoiser attends to at one timestep. One prompt serves all images of a call, so the
/// batch dimension is 1.
#[derive(Debug, Clone)]
pub struct TextCondition {
    /// The prompt: `[1, tokens, width]`.
    pub conditional: TextContext,
    /// The negative prompt: `[1, tokens, width]`, where its number of tokens may differ; `None` where
    /// guidance is off.
    pub unconditional: Option<TextContext>,
}

/// Gives the condition of each timestep: the same one throughout for CLIP, another at each step for
/// an adapter that knows the time.
pub trait Conditioning {
    /// The condition at `timestep` (0 to the end of the training schedule).
    ///
    /// # Errors
    /// The network that computes it failed.
    fn at(&self, timestep: f64) -> candle_core::Result<TextCondition>;

    /// What SDXL's network is told beside that, at every timestep; `None` for a network that takes
    /// nothing else.
    fn added(&self) -> Option<&AddedConditions> {
        None
    }
}

/// Pooled texts and sizes.
#[derive(Debug, Clone)]
pub struct AddedConditions {
    /// Of the prompt.
    pub conditional: AddedCondition,
    /// Of the negative prompt; `None` where guidance is off.
    pub unconditional: Option<AddedCondition>,
}

/// Any conditioning, with what SDXL's network is told beside it.
#[derive(Debug, Clone)]
pub(crate) struct WithAdded<C> {
    /// The texts' hidden states.
    pub text: C,
    /// Pooled texts and sizes.
    pub added: AddedConditions,
}

impl<C: Conditioning> Conditioning for WithAdded<C> {
    fn at(&self, timestep: f64) -> candle_core::Result<TextCondition> {
        self.text.at(timestep)
    }

    fn added(&self) -> Option<&AddedConditions> {
        Some(&self.added)
    }
}

/// One condition for all timesteps.
#[derive(Debug, Clone)]
pub(crate) struct FixedConditioning(pub TextCondition);

impl Conditioning for FixedConditioning {
    fn at(&self, _: f64) -> candle_core::Result<TextCondition> {
        Ok(self.0.clone())
    }
}
