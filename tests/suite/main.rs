//! The one integration-test binary: every further one would link candle and polars again.

mod forensics;
mod import_log;
mod layers;
mod reference_parity;
mod scoring;
mod seeded_answers;
mod tables;
