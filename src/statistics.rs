//! In: numbers. Out: numbers. Nothing here knows what they are about.

pub mod agreement;
pub mod bootstrap;
pub mod interval;
pub(crate) mod item_ratio;
pub(crate) mod paired_test;
pub mod pairwise_sum;
pub mod power;
pub mod prediction_powered;
mod resample;
pub mod sampling;
pub mod share_interval;
pub mod variance;

pub use crate::statistics::interval::Interval;
pub(crate) use agreement::TwoByTwo;
pub use bootstrap::Bootstrap;
pub use item_ratio::ItemRatio;
pub use paired_test::{Pair, PermutationResult, PermutationTest, holm};
pub use pairwise_sum::{numpy_mean, pairwise_sum};
pub use power::PowerAnalysis;
pub use variance::VarianceSplit;
