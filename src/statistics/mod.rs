//! In: numbers. Out: numbers. Nothing here knows what they are about.

pub mod pairwise_sum;

pub use pairwise_sum::{numpy_mean, pairwise_sum};
