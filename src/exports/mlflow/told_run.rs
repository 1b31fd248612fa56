//! In: a summary. Out: what MLflow is told of a run: metrics, parameters, tags, and by which digests it is known again.

use serde_json::{Value, json};

use super::names::Names;
use crate::aggregate::Protocol;
use crate::exports::hugging_face::notes;
use crate::exports::run_facts::{RunFacts, plain, sha256};
use crate::exports::scalars::numbers;

/// Characters of the longest value of a parameter and of a tag that MLflow takes.
const LONGEST_VALUE: usize = 6000;

/// What MLflow is told of a run.
#[derive(Debug)]
pub(crate) struct MlflowRun {
    /// What lists call it.
    pub name: String,
    /// When the run began, in milliseconds since 1970.
    pub start: i64,
    /// When it ended; all metrics are of that time.
    pub end: i64,
    /// The training step of all metrics.
    pub step: u64,
    /// Names and numbers; scores are in percent.
    pub metrics: Vec<(String, f64)>,
    /// Names and values.
    pub params: Vec<(String, String)>,
    /// Names and values.
    pub tags: Vec<(String, String)>,
    /// The same for every export of this run directory, judge, protocols and step.
    pub source: String,
    /// The same for the same metrics and parameters.
    pub content: String,
}

impl MlflowRun {
    /// Everything that is known and finite; what is not has no metric.
    pub(crate) fn new(facts: &RunFacts<'_>, step: u64) -> Self {
        let summary = facts.summary;
        let source = facts.digest(&format!("mlflow {step}"));
        // What is made of P(yes) follows from the same answers.
        let named: Vec<Protocol> = facts.named().collect();
        let known = RunFacts { protocols: &named, ..*facts };
        let content = sha256(&json!([named_metrics(&known), named_params(&known)]).to_string());
        let (metrics, params) = (named_metrics(facts), named_params(facts));
        Self {
            name: format!("{}, {}", facts.model(), summary.judge.name),
            start: facts.created.as_millisecond(),
            end: facts.finished.as_millisecond(),
            step,
            tags: tags(facts),
            metrics,
            params,
            source,
            content,
        }
    }
}

/// The numbers under names that MLflow takes.
fn named_metrics(facts: &RunFacts<'_>) -> Vec<(String, f64)> {
    let mut names = Names::default();
    let numbers = numbers(facts.summary, facts.protocols).into_iter();
    numbers
        .filter(|number| number.value.is_finite())
        .map(|number| (names.give(&number.group, &number.name), number.value))
        .collect()
}

/// The parameters under names that MLflow takes.
fn named_params(facts: &RunFacts<'_>) -> Vec<(String, String)> {
    let mut names = Names::default();
    let params = params(facts).into_iter();
    params.map(|(name, value)| (names.give("", &name), cut(&value))).collect()
}

/// What the numbers were made with: by name, what each run has, then the settings of its generation and of its judge.
fn params(facts: &RunFacts<'_>) -> Vec<(String, String)> {
    let run = &facts.summary.run;
    let names: Vec<&str> = facts.protocols.iter().map(|protocol| protocol.name()).collect();
    let mut found = vec![
        ("model".to_owned(), facts.model().to_owned()),
        ("judge".to_owned(), facts.summary.judge.name.clone()),
        ("protocol".to_owned(), names.join(", ")),
        ("images_per_item".to_owned(), run.images_per_item.to_string()),
        ("benchmark.digest".to_owned(), run.benchmark.digest.clone()),
        ("benchmark.official".to_owned(), run.benchmark.official.to_string()),
        ("benchmark.items".to_owned(), run.benchmark.items.to_string()),
        ("benchmark.questions".to_owned(), run.benchmark.questions.to_string()),
    ];
    for (name, value) in &run.selection {
        if !value.is_null() {
            found.push((format!("selection.{name}"), plain(value)));
        }
    }
    found.extend(facts.settings().iter().map(|(name, value)| (name.clone(), plain(value))));
    found
}

fn tags(facts: &RunFacts<'_>) -> Vec<(String, String)> {
    let mut found = vec![
        ("mlflow.source.name".to_owned(), "dpg-bench".to_owned()),
        ("dpg_bench.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ];
    for protocol in facts.protocols {
        found.push((
            format!("dpg_bench.notes.{}", protocol.name()),
            cut(&notes(facts.summary, *protocol)),
        ));
        if let Some(gap) = &facts.summary.protocol(*protocol).gap {
            found.push((format!("dpg_bench.incomplete.{}", protocol.name()), cut(gap)));
        }
    }
    found
}

/// A value at most as long as MLflow takes it.
fn cut(value: &str) -> String {
    match value.chars().count() {
        length if length <= LONGEST_VALUE => value.to_owned(),
        _ => value.chars().take(LONGEST_VALUE - 4).collect::<String>() + " ...",
    }
}

/// `{"key": ..., "value": ...}`, as the API has parameters and tags.
pub(super) fn entry((key, value): &(String, String)) -> Value {
    json!({"key": key, "value": value})
}
