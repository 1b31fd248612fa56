//! What a comparison under `corrected` holds of the same runs under the protocols of P(yes).

use serde::Serialize;

use super::differences::Difference;
use crate::aggregate::{Level, Protocol};

/// Two runs compared under a protocol of P(yes), beside their comparison under `corrected`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SoftComparison {
    /// The rules.
    pub protocol: Protocol,
    /// Items with a score in both.
    pub items: usize,
    /// As those of the comparison.
    pub figures: Vec<Difference>,
    /// As that of the comparison.
    pub detectable: Option<f64>,
    /// Figures that differ in the same direction under `corrected`, with the items that it takes to find what is seen.
    pub items_needed: Vec<ItemsNeeded>,
}

/// How many items find a difference of the size seen, with a probability of 80 % at a level of 5 %.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ItemsNeeded {
    /// What the figure is about.
    pub level: Level,
    /// Category, or `DPG-Bench score`.
    pub name: String,
    /// Under `corrected`, where its own difference is the true one.
    pub corrected: u64,
    /// Under the protocol of P(yes), where its own is.
    pub soft: u64,
}
