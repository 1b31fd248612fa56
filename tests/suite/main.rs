//! The one integration-test binary: every further one would link candle and polars again.

// Clippy's own exception for tests covers test functions, not the functions that they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

mod clip_tokenizer;
mod generate_run;
mod layers;
mod models_sd15;
mod noise;
mod schedulers;
mod sd15_pipeline;
