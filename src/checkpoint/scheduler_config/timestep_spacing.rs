//! In: nothing. Out: the ways in which timesteps are spread, as diffusers names them.

use serde::{Deserialize, Serialize};

/// How the timesteps are spread over the training schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestepSpacing {
    /// From the last training step to the first, evenly.
    Linspace,
    /// Multiples of a whole step from the low end, plus an offset.
    Leading,
    /// Multiples of a step from the high end.
    Trailing,
}
