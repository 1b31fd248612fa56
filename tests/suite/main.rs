//! The one integration-test binary: every further one would link candle and polars again.

// Clippy's own exception for tests covers test functions, not the functions that they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

mod addons;
mod addons_sdxl;
mod agreement;
mod benchmark;
mod benchmark_commands;
mod blip_vqa;
mod blip_vqa_command;
mod checkpoints;
mod clip_tokenizer;
mod compare;
mod cuda_noise;
mod doors;
mod ella_models;
mod ella_pipeline;
mod ella_tokenizer;
mod end_to_end;
mod endpoint;
mod faults;
mod forensics;
mod fuzz_corpus;
mod generate_command;
mod generate_run;
mod hostile;
mod import;
mod import_log;
mod judge_command;
mod judge_run;
mod layers;
mod loopback;
mod models_sd15;
mod mplug_judge;
mod mplug_models;
mod noise;
mod pickle_files;
mod pillow_resize;
mod qwen3_vl;
mod reference_parity;
mod report;
mod report_runs;
mod schedulers;
mod scoring;
mod sd15_pipeline;
mod sdxl_models;
mod sdxl_pipeline;
mod seeded_answers;
mod several_judges;
mod small_run;
mod statistics;
mod tables;
mod tiny_checkpoint;
mod word_piece;
