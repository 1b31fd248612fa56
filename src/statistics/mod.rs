//! In: numbers. Out: numbers. Nothing here knows what they are about.

pub mod agreement;
pub mod pairwise_sum;

pub use agreement::TwoByTwo;
pub use pairwise_sum::{numpy_mean, pairwise_sum};
