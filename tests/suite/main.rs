//! The one integration-test binary: every further one would link candle and polars again.

// Clippy's own exception for tests covers test functions, not the functions that they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

mod benchmark;
mod checkpoints;
mod clip_tokenizer;
mod endpoint;
mod generate_command;
mod generate_run;
mod judge_run;
mod layers;
mod loopback;
mod models_sd15;
mod noise;
mod schedulers;
mod sd15_pipeline;
mod small_run;
mod tiny_checkpoint;
