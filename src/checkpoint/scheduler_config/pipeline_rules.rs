//! In: a scheduler's file, and which pipeline of diffusers loads it. Out: the configuration that the pipeline's
//! scheduler has, and what is worth telling. Reading single options is left to `scheduler_config`.

use serde_json::{Map, Value};

use super::{SchedulerClass, SchedulerConfig, SchedulerError, parse};

/// What a pipeline of diffusers does to its scheduler when it loads one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PipelineRules {
    /// The class that `model_index.json` names, which stands above `_class_name` of the scheduler's file.
    pub class_name: Option<String>,
    /// Whether values of outdated files are mended, as `StableDiffusionPipeline` does: `steps_offset` becomes
    /// 1, and `clip_sample` false.
    pub fixes_outdated: bool,
}

/// A scheduler's configuration, and what is worth telling about its file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReadScheduler {
    /// The values.
    pub config: SchedulerConfig,
    /// What was taken otherwise than the scheduler's file has it, a sentence each.
    pub notes: Vec<String>,
    /// Keys that no scheduler here knows, with their values.
    pub unknown_keys: Vec<String>,
}

impl SchedulerConfig {
    /// Reads a `scheduler_config.json`, for its own class or, where `class` is given, for another as
    /// `Other.from_config(config)` does in diffusers: options that stand in the JSON are taken over,
    /// the others are the other class's defaults.
    ///
    /// # Errors
    /// Not JSON, an unknown class, or an option whose value is not supported.
    pub fn from_json(text: &str, class: Option<SchedulerClass>) -> Result<Self, SchedulerError> {
        Self::of_pipeline(text, &PipelineRules::default(), class).map(|read| read.config)
    }

    /// As [`SchedulerConfig::from_json`], with what a pipeline of diffusers does to the scheduler when it
    /// loads one: first `rules`, then, where `class` is given, `Other.from_config(pipeline.scheduler.config)`.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn of_pipeline(
        text: &str,
        rules: &PipelineRules,
        class: Option<SchedulerClass>,
    ) -> Result<ReadScheduler, SchedulerError> {
        let mut options = parse(text)?;
        let own = options.get("_class_name").and_then(Value::as_str).unwrap_or_default();
        let loaded = rules.class_name.as_deref().unwrap_or(own).to_owned();
        let mut notes = Vec::new();
        if loaded != own && class.is_none() {
            notes.push(match own {
                "" => format!("the class {loaded} stands in model_index.json alone"),
                own => format!(
                    "{loaded} of model_index.json stands above {own} of the scheduler's file"
                ),
            });
        }
        if rules.fixes_outdated {
            mend(&mut options, class.is_some(), &mut notes);
        }
        let class = match class {
            Some(class) => class,
            None => SchedulerClass::from_name(&loaded)?,
        };
        let config = Self::of_options(options, class)?;
        let unknown_keys = unknown_keys(&parse(text)?);
        Ok(ReadScheduler { config, notes, unknown_keys })
    }
}

/// What `StableDiffusionPipeline` mends. The mended values are the loaded scheduler's; another class that is
/// made from it takes them over only where the file states the key, else its own default.
fn mend(options: &mut Map<String, Value>, swapped: bool, notes: &mut Vec<String>) {
    let stated = |options: &Map<String, Value>, key: &str| options.get(key).cloned();
    let offset = stated(options, "steps_offset");
    if offset.as_ref().is_none_or(|offset| *offset != 1) && (offset.is_some() || !swapped) {
        let found = offset.map_or("absent".to_owned(), |offset| offset.to_string());
        notes.push(format!("steps_offset: {found} in the file, 1 in StableDiffusionPipeline"));
        options.insert("steps_offset".to_owned(), 1.into());
    }
    // Absent, it is true for DDIM and unknown to the others.
    let clip = stated(options, "clip_sample");
    if clip == Some(true.into()) || (clip.is_none() && !swapped) {
        if clip.is_some() {
            notes.push("clip_sample: true in the file, false in StableDiffusionPipeline".into());
        }
        options.insert("clip_sample".to_owned(), false.into());
    }
}

/// Keys of a scheduler's file that are no option of any scheduler here.
fn unknown_keys(options: &Map<String, Value>) -> Vec<String> {
    options
        .iter()
        .filter(|(key, value)| {
            !key.starts_with('_') && !value.is_null() && !SchedulerClass::knows_option(key)
        })
        .map(|(key, value)| format!("{key} = {value}"))
        .collect()
}
