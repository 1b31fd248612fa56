//! The one integration-test binary: every further one would link candle and polars again.

mod benchmark;
mod layers;
