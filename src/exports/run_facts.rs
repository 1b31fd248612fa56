//! In: a summary and a run's manifest. Out: what logs and trackers are told of the run beside its numbers: names, times,
//! settings, and by which digest the run is known again.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::aggregate::{Protocol, Summary};
use crate::benchmark::digest::hex;
use crate::results::Manifest;
use crate::results::manifest::SittingEntry;

/// A run that is exported.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunFacts<'a> {
    /// Its numbers.
    pub summary: &'a Summary,
    /// The protocols that are exported.
    pub protocols: &'a [Protocol],
    /// When the run directory was made.
    pub created: Timestamp,
    /// When the last image was made or judged, as far as the manifest tells.
    pub finished: Timestamp,
}

impl<'a> RunFacts<'a> {
    /// Of the run that `manifest` is of.
    ///
    /// # Errors
    /// `created` in the manifest is no time.
    pub(crate) fn new(
        summary: &'a Summary,
        manifest: &Manifest,
        protocols: &'a [Protocol],
    ) -> Result<Self, jiff::Error> {
        let created: Timestamp = manifest.created.parse()?;
        let judge = manifest.judges.get(&summary.judge.name);
        let stages = manifest.generation.iter().chain(judge);
        let ends = stages.flat_map(|stage| &stage.sittings).filter_map(end);
        let finished = ends.fold(created, Timestamp::max);
        Ok(Self { summary, protocols, created, finished })
    }

    /// The model, as the settings of the generation name it.
    pub(crate) fn model(&self) -> &'a str {
        self.summary.run.model.as_deref().unwrap_or("not stated")
    }

    /// The settings of the generation and of the judge, each setting by its dotted name.
    pub(crate) fn settings(&self) -> BTreeMap<String, Value> {
        let mut found = BTreeMap::new();
        for (name, value) in self.summary.run.generation.iter().flatten() {
            put(&format!("generation.{name}"), value, &mut found);
        }
        for (name, value) in &self.summary.judge.settings {
            put(&format!("judge.{name}"), value, &mut found);
        }
        found
    }

    /// The exported protocols by which the export is known: those of yes and no, where they are exported.
    pub(crate) fn named(&self) -> impl Iterator<Item = Protocol> {
        let has_plain = self.protocols.iter().any(|protocol| !protocol.is_soft());
        self.protocols.iter().copied().filter(move |one| !(has_plain && one.is_soft()))
    }

    /// The same for the same run directory, judge and protocols, whatever was added to the run meanwhile; `more` is what
    /// else tells two exports apart. In lower-case hex.
    pub(crate) fn digest(&self, more: &str) -> String {
        let run = &self.summary.run;
        let names: Vec<&str> = self.named().map(Protocol::name).collect();
        let told = serde_json::json!([
            "dpg-bench export 1",
            self.created.as_second(),
            run.benchmark.digest,
            run.generation,
            self.summary.judge.name,
            names,
            more
        ]);
        sha256(&told.to_string())
    }
}

/// When a sitting ended; when it started where it was killed.
fn end(sitting: &SittingEntry) -> Option<Timestamp> {
    let started: Timestamp = sitting.started.parse().ok()?;
    let length = SignedDuration::try_from_secs_f64(sitting.seconds.unwrap_or_default()).ok()?;
    started.checked_add(length).ok()
}

fn put(name: &str, value: &Value, found: &mut BTreeMap<String, Value>) {
    match value {
        Value::Null => {}
        Value::Object(parts) => {
            parts.iter().for_each(|(part, value)| put(&format!("{name}.{part}"), value, found));
        }
        value => {
            found.insert(name.to_owned(), value.clone());
        }
    }
}

/// A value as a person reads it: strings without their quotes.
pub(crate) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The digest of a text, in lower-case hex.
pub(crate) fn sha256(text: &str) -> String {
    hex(&Sha256::digest(text))
}
