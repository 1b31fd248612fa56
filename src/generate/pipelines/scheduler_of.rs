//! In: a checkpoint's folder, its pipeline and settings. Out: the scheduler's configuration. The arithmetic is left to
//! `schedulers`.

use std::path::Path;

use anyhow::{Result, ensure};

use super::options::DiffusionOptions;
use crate::checkpoint::folder::{DiffusersPipeline, read};
use crate::checkpoint::scheduler_config::pipeline_rules::ReadScheduler;
use crate::checkpoint::scheduler_config::{SchedulerConfig, SchedulerError};

/// `scheduler/` of the checkpoint in `folder` as `pipeline` takes it, under `options`, whose steps it can walk.
pub(super) fn read_scheduler(
    folder: &Path,
    pipeline: DiffusersPipeline,
    options: &DiffusionOptions,
) -> Result<ReadScheduler> {
    let path = folder.join("scheduler/scheduler_config.json");
    let rules = pipeline.scheduler_rules(folder)?;
    let read = SchedulerConfig::of_pipeline(&read(&path)?, &rules, options.scheduler).map_err(
        |error| {
            let of_index =
                matches!(error, SchedulerError::UnknownClass { .. }) && rules.class_name.is_some();
            let named_in = if of_index { folder.join("model_index.json") } else { path.clone() };
            anyhow::Error::new(error).context(named_in.display().to_string())
        },
    )?;
    let config = read.config.overridden(&options.overrides)?;
    config.scheduler(options.steps)?;
    ensure!(options.guidance.is_finite(), "--guidance {} is no number", options.guidance);
    Ok(ReadScheduler { config, ..read })
}
