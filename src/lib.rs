//! Evaluation harness for text-to-image models on DPG-Bench (ELLA, arXiv 2403.05135).
//!
//! The folders are the data flow: `benchmark` -> `generate` -> `judge` -> `score` -> `aggregate` ->
//! `reports`. Stages never import each other; they meet in `results`, as typed records on disk.
//! `docs/architecture.md` has the picture and the table of what may depend on what.

pub mod aggregate;
pub mod benchmark;
pub mod check;
pub mod checkpoint;
pub mod cli;
pub mod compare;
pub mod compute;
pub mod fetch;
pub mod forensics;
pub mod generate;
pub mod http;
pub mod judge;
pub mod machine;
pub mod measure;
pub mod models;
pub mod ordered_work;
pub mod reports;
pub mod results;
pub mod score;
pub mod stage_observer;
pub mod statistics;
pub mod text;
