//! In: a checkpoint's folder, its pipeline and settings. Out: the scheduler's configuration. The arithmetic is left to
//! `schedulers`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::options::DiffusionOptions;
use crate::checkpoint::folder::{DiffusersPipeline, read};
use crate::checkpoint::scheduler_config::edm::EdmConfig;
use crate::checkpoint::scheduler_config::flow_match::FlowMatchConfig;
use crate::checkpoint::scheduler_config::pipeline_rules::ReadScheduler;
use crate::checkpoint::scheduler_config::{SchedulerConfig, SchedulerError, SchedulerOverrides};
use crate::generate::schedulers::{FlowMatchEuler, Scheduler};

/// How a walk from noise to pictures is laid out.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(crate) enum Schedule {
    /// By one of the schedulers that a user can choose among.
    Noise(SchedulerConfig),
    /// Along straight lines.
    Flow(FlowMatchConfig),
    /// In the EDM formulation.
    Edm(EdmConfig),
}

impl Schedule {
    /// The scheduler for a walk of `steps` steps.
    pub(crate) fn scheduler(&self, steps: usize) -> Result<Box<dyn Scheduler>, SchedulerError> {
        match self {
            Self::Noise(config) => config.scheduler(steps),
            Self::Flow(config) => Ok(Box::new(FlowMatchEuler::new(config, steps)?)),
            Self::Edm(config) => config.scheduler(steps),
        }
    }

    /// What the network predicts.
    pub(crate) fn prediction(&self) -> &'static str {
        match self {
            Self::Noise(config) => config.prediction_type.name(),
            Self::Flow(_) => "flow",
            Self::Edm(config) => config.prediction_type.name(),
        }
    }
}

impl std::fmt::Display for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Noise(config) => config.fmt(f),
            Self::Flow(config) => config.fmt(f),
            Self::Edm(config) => config.fmt(f),
        }
    }
}

/// A schedule, and what is worth telling about its file.
pub(crate) struct ReadSchedule {
    /// The values.
    pub(crate) schedule: Schedule,
    /// What was taken otherwise than the file has it, a sentence each.
    pub(crate) notes: Vec<String>,
    /// Keys that no scheduler here knows, with their values.
    pub(crate) unknown_keys: Vec<String>,
}

impl From<ReadScheduler> for ReadSchedule {
    fn from(ReadScheduler { config, notes, unknown_keys }: ReadScheduler) -> Self {
        Self { schedule: Schedule::Noise(config), notes, unknown_keys }
    }
}

/// `scheduler/` of the flow-matching checkpoint in `folder`, under `options`, whose steps it can walk; `tokens` are those of a
/// picture, where the pipeline hands over noise levels for them.
pub(super) fn read_flow(
    folder: &Path,
    pipeline: DiffusersPipeline,
    options: &DiffusionOptions,
    tokens: Option<usize>,
) -> Result<ReadSchedule> {
    refuse_overrides(options, &format!("{} has a flow-matching scheduler", pipeline.class()))?;
    let path = folder.join("scheduler/scheduler_config.json");
    let rules = pipeline.scheduler_rules(folder)?;
    let (config, unknown_keys) =
        FlowMatchConfig::from_json(&read(&path)?, rules.class_name.as_deref(), tokens)
            .with_context(|| path.display().to_string())?;
    let schedule = Schedule::Flow(config);
    schedule.scheduler(options.steps)?;
    ensure!(options.guidance.is_finite(), "--guidance {} is no number", options.guidance);
    Ok(ReadSchedule { schedule, notes: Vec::new(), unknown_keys })
}

/// `scheduler/` of the checkpoint in `folder`, which is in the EDM formulation, under `options`, whose steps it can walk.
fn read_edm(
    folder: &Path,
    pipeline: DiffusersPipeline,
    options: &DiffusionOptions,
) -> Result<ReadSchedule> {
    refuse_overrides(options, "Playground v2.5 has a scheduler of EDM")?;
    let path = folder.join("scheduler/scheduler_config.json");
    let rules = pipeline.scheduler_rules(folder)?;
    let (config, unknown_keys) = EdmConfig::from_json(&read(&path)?, rules.class_name.as_deref())
        .with_context(|| path.display().to_string())?;
    let schedule = Schedule::Edm(config);
    schedule.scheduler(options.steps)?;
    ensure!(options.guidance.is_finite(), "--guidance {} is no number", options.guidance);
    Ok(ReadSchedule { schedule, notes: Vec::new(), unknown_keys })
}

/// Refuses another scheduler, or other options of it, where `owner` "of its own" is the only one.
fn refuse_overrides(options: &DiffusionOptions, owner: &str) -> Result<()> {
    ensure!(
        options.scheduler.is_none() && options.overrides == SchedulerOverrides::default(),
        "{owner} of its own: leave out --scheduler, --spacing, --karras, --prediction and presets that state them"
    );
    Ok(())
}

/// `scheduler/` of the UNet's checkpoint in `folder` as `pipeline` takes it, under `options`, whose steps it can walk.
pub(super) fn read_schedule(
    folder: &Path,
    pipeline: DiffusersPipeline,
    options: &DiffusionOptions,
) -> Result<ReadSchedule> {
    match pipeline {
        DiffusersPipeline::SdxlEdm => read_edm(folder, pipeline, options),
        _ => Ok(read_scheduler(folder, pipeline, options)?.into()),
    }
}

/// `scheduler/` of the checkpoint in `folder` as `pipeline` takes it, under `options`, whose steps it can walk.
pub(super) fn read_scheduler(
    folder: &Path,
    pipeline: DiffusersPipeline,
    options: &DiffusionOptions,
) -> Result<ReadScheduler> {
    let path = folder.join("scheduler/scheduler_config.json");
    let mut rules = pipeline.scheduler_rules(folder)?;
    // The pipelines with a ControlNet take the file as it is.
    rules.fixes_outdated &= options.control.is_none();
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
