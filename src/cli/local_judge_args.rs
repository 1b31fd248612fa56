//! In: the flags of the judges that compute here. Out: where their weights are and where they run, or
//! a sentence on the flag that is missing or wrong.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};

use crate::models::device::Place;

/// Weights and device of a judge that computes here.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LocalJudgeArgs {
    /// local judges: folder of the judge's model, as published, or a file that `convert` wrote
    #[arg(long, value_name = "PATH")]
    pub judge_weights: Option<PathBuf>,
    /// local judges: where it computes: `auto`, `cpu` or `cuda[:INDEX]` [default: cpu]
    #[arg(long, value_name = "DEVICE")]
    pub judge_device: Option<String>,
    /// local judges: number format of its networks: `f32`, `f16` or `bf16` [default: that of the judge's
    /// original]
    #[arg(long, value_name = "DTYPE")]
    pub judge_dtype: Option<String>,
    /// local judges: pictures that are looked at together; changes the speed and the memory, never an answer
    /// [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub judge_batch: Option<u32>,
}

impl LocalJudgeArgs {
    /// Each flag, and whether it was given.
    pub fn given(&self) -> [(&'static str, bool); 4] {
        [
            ("--judge-weights", self.judge_weights.is_some()),
            ("--judge-device", self.judge_device.is_some()),
            ("--judge-dtype", self.judge_dtype.is_some()),
            ("--judge-batch", self.judge_batch.is_some()),
        ]
    }

    /// The weights of the judge `judge`; `what` says what they are.
    ///
    /// # Errors
    /// None were named.
    pub fn weights(&self, judge: &str, what: &str) -> anyhow::Result<&Path> {
        let named = self.judge_weights.as_deref();
        named.ok_or_else(|| anyhow!("the judge `{judge}` needs --judge-weights, {what}"))
    }

    /// Where the judge computes; in the format `dtype` unless the user names another.
    ///
    /// # Errors
    /// A name means nothing, or there is no such device.
    pub fn place(&self, dtype: &str) -> anyhow::Result<Place> {
        let device = self.judge_device.as_deref().unwrap_or("cpu");
        let dtype = self.judge_dtype.as_deref().unwrap_or(dtype);
        Place::parse(device, dtype).context("the judge cannot be placed")
    }
}
