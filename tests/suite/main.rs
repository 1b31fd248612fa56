//! The one integration-test binary: every further one would link candle and polars again.

mod clip_tokenizer;
mod layers;
mod models_sd15;
