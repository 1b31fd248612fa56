//! In: a text as encoders made it, for a transformer in which text and picture attend to one another. Out: what a walk is told of it
//! and of the negative prompt. Which encoders these are is left to `sd3_prompts` and `flux_prompts`.

use candle_core::Tensor;

use super::conditioning::{AddedConditions, FixedConditioning, TextCondition, WithAdded};
use crate::models::{AddedCondition, TextContext};

/// A text as the transformer takes it.
#[derive(Debug, Clone)]
pub(crate) struct JointText {
    /// Hidden states, [1, tokens, width].
    pub(crate) states: Tensor,
    /// Pooled output, [1, width].
    pub(crate) pooled: Tensor,
    /// Tokens of the whole text, T5's where it is there.
    pub(crate) full_length: usize,
    /// Whether only its beginning was read: by T5 where it is there, else by CLIP.
    pub(crate) truncated: bool,
}

impl JointText {
    /// What a walk is told: this text, and `negative` where there is an unconditional half.
    pub(crate) fn conditioning(&self, negative: Option<&Self>) -> WithAdded<FixedConditioning> {
        let context = |text: &Self| TextContext::new(text.states.clone());
        // No sizes are told.
        let pooled = |text: &Self| AddedCondition::new(text.pooled.clone(), Vec::new());
        WithAdded {
            added: AddedConditions {
                conditional: pooled(self),
                unconditional: negative.map(pooled),
            },
            text: FixedConditioning(TextCondition {
                conditional: context(self),
                unconditional: negative.map(context),
            }),
        }
    }
}
