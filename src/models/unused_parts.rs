//! In: a component's configuration and weights, once a network took what it needs. Out: what of them changed nothing.
//! Telling it is left to the pipelines.

use crate::checkpoint::config::Config;
use crate::checkpoint::weights::Weights;

/// What of a component's files changed nothing, though somebody may think that it does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UnusedParts {
    /// Keys of `config.json` that are unknown here, with their values.
    pub keys: Vec<String>,
    /// Tensors of the weight files that are in no part of the network.
    pub tensors: Vec<String>,
}

impl UnusedParts {
    /// Of a network that is loaded: keys that are in none of `keys`, and tensors that it did not ask for and that
    /// begin with none of `tensors`.
    pub(super) fn of(
        (config, keys): (&Config, &[&[&str]]),
        (weights, tensors): (&Weights, &[&str]),
    ) -> Self {
        Self { keys: config.unknown_keys(keys), tensors: weights.not_taken(tensors) }
    }
}
