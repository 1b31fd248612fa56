//! In: a scored run. Out: a results file and a samples file in the shape of lm-evaluation-harness, read by lm_eval 0.4.13. The
//! benchmark is a group and its categories are the tasks; a protocol is a filter.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::run_facts::{RunFacts, sha256};
use super::samples::{ImageSample, ScoredImages, names};
use crate::aggregate::Estimate;

/// The group's name, with which those of the tasks begin.
const GROUP: &str = "dpg_bench";

/// The files, and what they are called.
#[derive(Debug)]
pub(crate) struct LmEvalFiles {
    /// Folder of the model, as lm_eval calls it.
    pub folder: String,
    /// Names of the results and of the samples.
    pub names: [String; 2],
    /// The results: one JSON document.
    pub results: Vec<u8>,
    /// The samples: one line an image and protocol.
    pub samples: Vec<u8>,
    /// Images without a score, which are in neither file.
    pub left_out: usize,
}

/// What a sample is about.
#[derive(Serialize)]
struct Doc<'a> {
    item: &'a str,
    image: u32,
    image_file: Option<&'a str>,
    seed: Option<u64>,
    prompt: &'a str,
    questions: Vec<AskedQuestion<'a>>,
}

/// A question as it was put.
#[derive(Serialize)]
struct AskedQuestion<'a> {
    id: u32,
    question: &'a str,
    category: &'a str,
    depends_on: &'a str,
}

/// Writes both. The numbers are in 0..=1, as those of other tasks.
///
/// # Errors
/// Something cannot be written as JSON.
pub(crate) fn lm_eval_files(
    facts: &RunFacts<'_>,
    scored: &ScoredImages<'_>,
) -> serde_json::Result<LmEvalFiles> {
    let samples = scored.samples();
    let (mut lines, mut hashes) = (Vec::new(), String::new());
    for (place, filter) in names(scored.protocols).into_iter().enumerate() {
        for sample in &samples {
            let Some(score) = sample.scores[place] else { continue };
            let line = sample_line(sample, place, filter, score)?;
            for hash in ["doc_hash", "prompt_hash", "target_hash"] {
                hashes.push_str(line[hash].as_str().unwrap_or_default());
            }
            serde_json::to_writer(&mut lines, &line)?;
            lines.push(b'\n');
        }
    }
    let results = results(facts, scored, samples.len(), &sha256(&hashes));
    let mut results = serde_json::to_vec_pretty(&results)?;
    results.push(b'\n');
    let stamp = facts.created.strftime("%Y-%m-%dT%H-%M-%S").to_string();
    Ok(LmEvalFiles {
        folder: folder_name(facts.model()),
        names: [format!("results_{stamp}.json"), format!("samples_{GROUP}_{stamp}.jsonl")],
        results,
        samples: lines,
        left_out: scored.expected() - samples.len(),
    })
}

fn sample_line(
    sample: &ImageSample<'_>,
    place: usize,
    filter: &str,
    score: f64,
) -> serde_json::Result<Value> {
    let questions = sample.questions.iter();
    let doc = Doc {
        item: &sample.item.id,
        image: sample.image,
        image_file: sample.file.as_deref(),
        seed: sample.seed,
        prompt: &sample.item.prompt,
        questions: questions
            .clone()
            .map(|question| AskedQuestion {
                id: question.id,
                question: question.question,
                category: question.category,
                depends_on: &question.depends_on,
            })
            .collect(),
    };
    let arguments: Map<String, Value> = questions
        .clone()
        .enumerate()
        .map(|(number, question)| {
            let arguments = json!({"arg_0": question.question, "arg_1": sample.file});
            (format!("gen_args_{number}"), arguments)
        })
        .collect();
    let said: Vec<[&str; 1]> = questions
        .clone()
        .map(|question| [question.said.or(question.answer).unwrap_or_default()])
        .collect();
    let counts_as: Vec<String> =
        questions.clone().map(|question| question.counts_as(place)).collect();
    // Every question is to be answered with yes.
    let target = vec!["yes"; sample.questions.len()].join(" ");
    let first = sample.questions.first().map(|question| question.question).unwrap_or_default();
    Ok(json!({
        "doc_id": sample.number,
        "doc": doc,
        "target": target,
        "arguments": arguments,
        "resps": said,
        "filtered_resps": counts_as,
        "filter": filter,
        "metrics": ["score"],
        "doc_hash": sha256(&serde_json::to_string_pretty(&serde_json::to_value(&doc)?)?),
        "prompt_hash": sha256(first),
        "target_hash": sha256(&target),
        "score": score,
    }))
}

fn results(facts: &RunFacts<'_>, scored: &ScoredImages<'_>, effective: usize, hash: &str) -> Value {
    let (summary, model) = (facts.summary, facts.model());
    let tasks = Tasks::new(facts, effective);
    let version: String = summary.run.benchmark.digest.chars().take(12).collect();
    let each = |value: Value| -> Map<String, Value> {
        tasks.results.keys().map(|name| (name.clone(), value.clone())).collect()
    };
    let settings: BTreeMap<String, Value> = facts.settings();
    let seconds = (facts.finished.as_second() - facts.created.as_second()).to_string();
    let mut config = json!({
        "model": "dpg-bench",
        "model_args": {"model": model},
        "limit": null,
        "bootstrap_iters": 0,
    });
    if let Some(seed) = settings.get("generation.seed") {
        config["random_seed"] = seed.clone();
    }
    json!({
        "results": tasks.results,
        "groups": {GROUP: tasks.results[GROUP]},
        "group_subtasks": tasks.below,
        "configs": {GROUP: {
            "task": GROUP,
            "task_alias": "DPG-Bench",
            "description": format!("DPG-Bench, judged by {}", summary.judge.name),
            "metadata": {
                "version": summary.run.benchmark.digest,
                "official": summary.run.benchmark.official,
                "images_per_item": summary.run.images_per_item,
                "selection": summary.run.selection,
                "judge": summary.judge.name,
                "coverage": summary.coverage,
                "settings": settings,
            },
        }},
        "versions": each(json!(version)),
        "n-shot": each(json!(0)),
        "higher_is_better": each(json!({"score": true})),
        "n-samples": {GROUP: {"original": scored.expected(), "effective": effective}},
        "config": config,
        "git_hash": null,
        "date": facts.created.as_second() as f64,
        "dpg_bench_version": env!("CARGO_PKG_VERSION"),
        "task_hashes": {GROUP: hash},
        "model_source": "dpg-bench",
        "model_name": model,
        "model_name_sanitized": folder_name(model),
        "total_evaluation_time_seconds": seconds,
    })
}

/// The group and the categories, each with its numbers.
#[derive(Debug, Default)]
struct Tasks {
    results: Map<String, Value>,
    below: BTreeMap<String, Vec<String>>,
    taken: HashSet<String>,
}

impl Tasks {
    fn new(facts: &RunFacts<'_>, samples: usize) -> Self {
        let mut tasks = Self::default();
        let protocols = facts.protocols.iter().copied();
        let overall: Vec<_> = protocols
            .clone()
            .filter_map(|one| Some((one.name(), facts.summary.protocol(one).overall?)))
            .collect();
        tasks.put(GROUP, GROUP, &overall);
        tasks.results[GROUP]["sample_len"] = samples.into();
        let mut by_name: BTreeMap<&str, String> = BTreeMap::new();
        for (name, _) in protocols.clone().flat_map(|one| facts.summary.categories(one)) {
            if by_name.contains_key(name) {
                continue;
            }
            let numbers: Vec<_> = protocols
                .clone()
                .filter_map(|one| {
                    let mut there = facts.summary.categories(one);
                    let (_, estimate) = there.find(|(category, _)| *category == name)?;
                    Some((one.name(), estimate?))
                })
                .collect();
            if numbers.is_empty() {
                continue;
            }
            let task = tasks.name_of(name);
            // `attribute - color` lies below `attribute`.
            let (broad, detail) = name.split_once(" - ").unwrap_or(("", name));
            let above = by_name.get(broad).map_or(GROUP, String::as_str).to_owned();
            let alias = if above == GROUP { name } else { detail };
            tasks.put(&task, alias, &numbers);
            tasks.below.entry(above).or_default().push(task.clone());
            by_name.insert(name, task);
        }
        tasks.below.entry(GROUP.to_owned()).or_default();
        tasks
    }

    fn put(&mut self, task: &str, alias: &str, numbers: &[(&str, Estimate)]) {
        let mut entry = Map::new();
        entry.insert("name".to_owned(), task.into());
        entry.insert("alias".to_owned(), alias.into());
        for (filter, estimate) in numbers {
            for (metric, percent) in [
                ("score", Some(estimate.mean)),
                ("score_stderr", estimate.standard_error),
                ("score_low", estimate.low),
                ("score_high", estimate.high),
            ] {
                let value = percent.map(|value| value / 100.0).filter(|value| value.is_finite());
                if let Some(value) = value {
                    entry.insert(format!("{metric},{filter}"), value.into());
                }
            }
        }
        self.results.insert(task.to_owned(), entry.into());
    }

    /// `dpg_bench_attribute_color`: what is neither letter nor digit becomes one `_`.
    fn name_of(&mut self, category: &str) -> String {
        let words = category.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        let plain = words.fold(GROUP.to_owned(), |name, word| name + "_" + word);
        let mut name = plain.clone();
        let mut number = 1;
        while name == GROUP || !self.taken.insert(name.clone()) {
            number += 1;
            name = format!("{plain}_{number}");
        }
        name
    }
}

/// The folder that lm_eval keeps a model's files in. One that would lead elsewhere becomes `_`.
fn folder_name(model: &str) -> String {
    let mut name = String::new();
    let is_bad = |c: char| "\"<>:/|\\?*[]".contains(c) || c.is_control();
    let mut was_bad = false;
    for c in model.chars() {
        match (is_bad(c), was_bad) {
            (true, false) => name.push_str("__"),
            (true, true) => {}
            (false, _) => name.push(c),
        }
        was_bad = is_bad(c);
    }
    if name.chars().all(|c| c == '.') { "_".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_folder_is_that_of_lm_eval_and_leads_nowhere_else() {
        for (model, expected) in [
            ("owner/name", "owner__name"),
            ("C:\\a\\b", "C__a__b"),
            ("a://b", "a__b"),
            ("..", "_"),
            ("", "_"),
            ("sd15 (ella)", "sd15 (ella)"),
        ] {
            assert_eq!(folder_name(model), expected, "{model}");
        }
    }

    #[test]
    fn no_two_categories_are_one_task() {
        let mut tasks = Tasks::default();
        let mut name = |category: &str| tasks.name_of(category);
        assert_eq!(name("attribute - color"), "dpg_bench_attribute_color");
        assert_eq!(name("attribute, color"), "dpg_bench_attribute_color_2");
        assert_eq!(name("- ?"), "dpg_bench_2");
    }
}
