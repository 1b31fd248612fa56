//! In: a stage that begins. Out: its entry in the manifest's list of sittings, and the time that it took.
//! Writing the manifest is left to `run_directory`.

use std::time::{Duration, Instant};

use super::manifest::{Settings, SittingEntry, StageEntry, Tool, now};
use super::other_products;

/// Whose sitting it is.
#[derive(Debug, Clone)]
pub(super) enum StageName {
    Generation,
    Judge(String),
}

/// A stage in progress.
#[derive(Debug, Clone)]
pub struct Sitting {
    stage: StageName,
    index: usize,
    since: Instant,
    took: Option<Duration>,
}

impl Sitting {
    pub(super) fn begin(
        entry: &mut StageEntry,
        settings: &Settings,
        device: &str,
        stage: StageName,
    ) -> Self {
        let tool = Tool::current();
        other_products::go_on_with(entry, settings);
        let products = other_products::of_sitting(entry, settings);
        entry.sittings.push(SittingEntry {
            started: now(),
            tool: tool.version,
            git_commit: tool.git_commit,
            device: device.to_owned(),
            products,
            seconds: None,
            images_done: None,
            images_failed: None,
            merged_from: None,
        });
        Self { stage, index: entry.sittings.len() - 1, since: Instant::now(), took: None }
    }

    /// Stops its clock: for a stage whose end is noted when another one, beside which it worked, is over too.
    pub fn stop(&mut self) {
        self.took.get_or_insert(self.since.elapsed());
    }

    pub(super) fn stage(&self) -> &StageName {
        &self.stage
    }

    /// Place among the sittings of its stage.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    pub(super) fn seconds(&self) -> f64 {
        self.took.unwrap_or_else(|| self.since.elapsed()).as_secs_f64()
    }
}
