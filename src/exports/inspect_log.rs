//! In: a scored run. Out: a log of inspect_ai in its JSON format (`EvalLog`, version 2), read by inspect-ai 0.3.285. An item
//! is a sample, its images are the epochs, each protocol is a scorer.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::run_facts::RunFacts;
use super::samples::{ImageSample, JudgedQuestion, ScoredImages, names, scored_under};
use crate::aggregate::{Estimate, Protocol, Summary};

/// The task's name. Readers take a file's name apart at `_`.
const TASK: &str = "dpg-bench";

/// The whole file. Readers that want the head alone stop before `samples`, so the order is theirs.
#[derive(Serialize)]
struct EvalLog {
    version: u32,
    status: &'static str,
    eval: Value,
    plan: Value,
    results: Value,
    stats: Value,
    invalidated: bool,
    tags: [&'static str; 0],
    metadata: Value,
    samples: Vec<Value>,
    reductions: Vec<Value>,
}

/// A log and what it is called.
#[derive(Debug)]
pub(crate) struct InspectLog {
    /// Name of the file; `inspect view` finds a log by it.
    pub name: String,
    /// The file.
    pub bytes: Vec<u8>,
    /// Images without a score, which are not in it.
    pub left_out: usize,
}

/// Writes the log. The numbers are in 0..=1, as those of other tasks.
///
/// # Errors
/// It cannot be written as JSON.
pub(crate) fn inspect_log(
    facts: &RunFacts<'_>,
    scored: &ScoredImages<'_>,
) -> serde_json::Result<InspectLog> {
    let samples = scored.samples();
    let id = |what: &str| facts.digest(what)[..22].to_owned();
    let time = |time: jiff::Timestamp| time.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string();
    let task_id = id("inspect task");
    let log = EvalLog {
        version: 2,
        status: "success",
        eval: eval(facts, scored, &task_id, &id("inspect run"), &time(facts.created)),
        plan: json!({"name": "plan", "steps": [{"solver": "dpg-bench", "params": {}}], "config": {}}),
        results: results(facts, scored, &samples),
        stats: json!({
            "started_at": time(facts.created), "completed_at": time(facts.finished), "model_usage": {},
        }),
        invalidated: false,
        tags: [],
        metadata: metadata(facts),
        samples: samples.iter().map(|sample| sample_entry(facts, scored, sample)).collect(),
        reductions: reductions(scored),
    };
    let mut bytes = serde_json::to_vec(&log)?;
    bytes.push(b'\n');
    let stamp = facts.created.strftime("%Y-%m-%dT%H-%M-%S-00-00");
    let name = format!("{stamp}_{TASK}_{task_id}.json");
    Ok(InspectLog { name, bytes, left_out: scored.expected() - samples.len() })
}

fn eval(
    facts: &RunFacts<'_>,
    scored: &ScoredImages<'_>,
    task_id: &str,
    run_id: &str,
    created: &str,
) -> Value {
    let run = &facts.summary.run;
    let scorers = names(scored.protocols);
    let ids: Vec<&str> = scored.items.iter().map(|item| item.id.as_str()).collect();
    let metrics = json!([{"name": "mean", "options": {}}, {"name": "stderr", "options": {}}]);
    let scorers: Vec<Value> = scorers
        .iter()
        .map(|name| json!({"name": name, "options": {}, "metrics": metrics, "metadata": {}}))
        .collect();
    json!({
        "eval_id": facts.digest("inspect eval")[..22],
        "run_id": run_id,
        "created": created,
        "task": TASK,
        "task_id": task_id,
        "task_version": run.benchmark.digest,
        "task_args": {
            "benchmark_digest": run.benchmark.digest,
            "official": run.benchmark.official,
            "images_per_item": run.images_per_item,
            "selection": run.selection,
        },
        "dataset": {
            "name": TASK, "samples": scored.items.len(), "sample_ids": ids, "shuffled": false,
        },
        "model": facts.model(),
        "model_generate_config": {},
        "model_args": run.generation.clone().unwrap_or_default(),
        "config": {"epochs": run.images_per_item, "epochs_reducer": ["mean"], "log_samples": true},
        "packages": {"dpg-bench": env!("CARGO_PKG_VERSION")},
        "metadata": metadata(facts),
        "scorers": scorers,
        "headline_metric": headline(facts),
    })
}

fn metadata(facts: &RunFacts<'_>) -> Value {
    let summary = facts.summary;
    let gaps: Map<String, Value> = facts
        .protocols
        .iter()
        .filter_map(|protocol| {
            let gap = summary.protocol(*protocol).gap.as_deref()?;
            Some((protocol.name().to_owned(), gap.into()))
        })
        .collect();
    json!({
        "judge": summary.judge.name,
        "judge_settings": summary.judge.settings,
        "coverage": summary.coverage,
        "incomplete": gaps,
    })
}

fn results(facts: &RunFacts<'_>, scored: &ScoredImages<'_>, samples: &[ImageSample<'_>]) -> Value {
    let mut scores = Vec::new();
    for (place, protocol) in facts.protocols.iter().enumerate() {
        let own = facts.summary.protocol(*protocol);
        scores.push(json!({
            "name": protocol.name(),
            "scorer": protocol.name(),
            "reducer": "mean",
            "scored_samples": own.items_scored,
            "unscored_samples": (scored.items.len() as u64).saturating_sub(own.items_scored),
            "params": {},
            "metrics": metrics(facts.summary, *protocol),
            "metadata": {"images_scored": scored_under(samples, place)},
        }));
    }
    json!({
        "total_samples": scored.expected(),
        "completed_samples": samples.len(),
        "scores": scores,
        "headline": headline(facts),
    })
}

/// The number that stands for the whole: that of yes and no where there is such. Readers would take the first metric else.
fn headline(facts: &RunFacts<'_>) -> Value {
    let name = facts.named().last().map(|protocol| protocol.name());
    json!({"scorer": name, "score": name, "metric": "mean", "reducer": "mean"})
}

/// Mean, its standard error and interval, and the categories. What is not known is left out.
fn metrics(summary: &Summary, protocol: Protocol) -> Value {
    let mut metrics = Map::new();
    let mut put = |key: String, name: &str, group: Option<&str>, percent: Option<f64>| {
        if let Some(value) = percent.map(|value| value / 100.0).filter(|value| value.is_finite()) {
            let mut metric = json!({"name": name, "value": value, "params": {}});
            if let Some(group) = group {
                metric["group"] = group.into();
            }
            metrics.insert(key, metric);
        }
    };
    let mut all = |prefix: &str, group: Option<&str>, estimate: &Estimate| {
        let key = |name: &str| match prefix {
            "" => name.to_owned(),
            prefix => format!("{prefix} {name}"),
        };
        for (name, value) in [
            ("mean", Some(estimate.mean)),
            ("stderr", estimate.standard_error),
            ("low", estimate.low),
            ("high", estimate.high),
        ] {
            put(key(name), name, group, value);
        }
    };
    if let Some(overall) = &summary.protocol(protocol).overall {
        all("", None, overall);
    }
    for (name, estimate) in summary.categories(protocol) {
        if let Some(estimate) = estimate {
            all(name, Some(name), &estimate);
        }
    }
    metrics.into()
}

fn sample_entry(
    facts: &RunFacts<'_>,
    scored: &ScoredImages<'_>,
    sample: &ImageSample<'_>,
) -> Value {
    let mut scores = Map::new();
    for (place, score) in sample.scores.iter().enumerate() {
        let Some(score) = score else { continue };
        let name = scored.protocols[place].protocol.name();
        scores.insert(name.to_owned(), score_entry(*score, place, &sample.questions));
    }
    let image = sample.file.as_deref().unwrap_or_default();
    let mut metadata = json!({"image": sample.image, "questions": sample.questions});
    if let Some(seed) = sample.seed {
        metadata["seed"] = seed.into();
    }
    json!({
        "id": sample.item.id,
        "epoch": sample.image + 1,
        "input": sample.item.prompt,
        "target": "yes",
        "messages": [
            {"role": "user", "source": "input", "content": sample.item.prompt},
            {"role": "assistant", "source": "generate", "model": facts.model(), "content": image},
        ],
        "output": {
            "model": facts.model(),
            "choices": [{
                "message": {
                    "role": "assistant", "source": "generate", "model": facts.model(), "content": image,
                },
                "stop_reason": "stop",
            }],
            "completion": image,
        },
        "scores": scores,
        "metadata": metadata,
        "store": {},
        "events": [],
        "model_usage": {},
        "attachments": {},
    })
}

/// The share of yes, the answers in one line, and what each question counts as.
fn score_entry(score: f64, place: usize, questions: &[JudgedQuestion<'_>]) -> Value {
    let answers: Vec<String> = questions
        .iter()
        .map(|question| format!("{} {}", question.id, question.answer.unwrap_or("-")))
        .collect();
    let lines: Vec<String> = questions
        .iter()
        .map(|question| {
            let answer = question.answer.unwrap_or("no answer");
            let counts_as = question.counts_as(place);
            format!("{}. {} {answer}: {counts_as}", question.id, question.question)
        })
        .collect();
    let verdicts: Map<String, Value> = questions
        .iter()
        .map(|question| (question.id.to_string(), question.counts_as(place).into()))
        .collect();
    json!({
        "value": score,
        "answer": answers.join(", "),
        "explanation": lines.join("\n"),
        "metadata": {"verdicts": verdicts},
        "history": [],
    })
}

/// The items' scores: the means over their epochs.
fn reductions(scored: &ScoredImages<'_>) -> Vec<Value> {
    let of = |score: &&crate::score::RunScore<'_>| {
        let samples: Vec<Value> = score
            .items
            .iter()
            .filter_map(|item| {
                let value = *item.outcome.score.as_ref().ok()?;
                Some(json!({"sample_id": item.item.id, "value": value, "history": []}))
            })
            .collect();
        json!({"scorer": score.protocol.name(), "reducer": "mean", "samples": samples})
    };
    scored.protocols.iter().map(of).collect()
}
