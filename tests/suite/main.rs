//! The one integration-test binary: every further one would link candle and polars again.

mod endpoint;
mod judge_run;
mod layers;
mod loopback;
mod small_run;
