//! In: texts. Out: conditionings as a run has them, for pictures that are timed.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::generate::pipelines::conditioning::{Conditioning, TextCondition};
use crate::models::ella_connector::ProjectedText;
use crate::models::{EllaConnector, TextContext};

/// What a connector makes of the negative prompt, by the timestep's bits: all pictures of a run share it.
pub(super) type CachedContexts = RefCell<HashMap<u64, TextContext>>;

/// Any conditioning.
pub(super) struct Boxed<'a>(pub(super) Box<dyn Conditioning + 'a>);

impl Conditioning for Boxed<'_> {
    fn at(&self, timestep: f64) -> candle_core::Result<TextCondition> {
        self.0.at(timestep)
    }
}

/// ELLA's conditioning, computed at every timestep.
pub(super) struct Timed<'a> {
    pub(super) connector: &'a EllaConnector,
    pub(super) with: ProjectedText,
    pub(super) without: ProjectedText,
    pub(super) unconditional: &'a CachedContexts,
}

impl Conditioning for Timed<'_> {
    fn at(&self, timestep: f64) -> candle_core::Result<TextCondition> {
        let tokens = |text: &ProjectedText| -> candle_core::Result<TextContext> {
            Ok(TextContext::of_one_step(self.connector.forward(text, timestep)?))
        };
        let mut kept = self.unconditional.borrow_mut();
        let unconditional = match kept.get(&timestep.to_bits()) {
            Some(context) => context.clone(),
            None => {
                let context = tokens(&self.without)?;
                kept.insert(timestep.to_bits(), context.clone());
                context
            }
        };
        Ok(TextCondition { conditional: tokens(&self.with)?, unconditional: Some(unconditional) })
    }
}
