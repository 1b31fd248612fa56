//! In: a summary. Out: a file for `.eval_results/` of a model's repository on Hugging Face, or a `model-index` for the head
//! of its model card (huggingface/hub-docs, "Evaluation results"; `huggingface_hub` 2.4.0 reads both).

use serde_json::Value;

use super::run_facts::plain;
use crate::aggregate::{Protocol, Summary};
use crate::wording::counted;

/// What the files say beside the score.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CardEntry<'a> {
    /// The model, as its card calls it.
    pub model: &'a str,
    /// The repository of the benchmark, `owner/name`.
    pub dataset: &'a str,
    /// The benchmark's task that the score is of.
    pub task: &'a str,
    /// Where the report can be read.
    pub source_url: Option<&'a str>,
    /// The day of the run, `2026-11-29`.
    pub date: &'a str,
    /// Rules of the score.
    pub protocol: Protocol,
    /// The score in percent.
    pub score: f64,
    /// How it came about, in one line.
    pub notes: &'a str,
}

impl CardEntry<'_> {
    /// One file of `.eval_results/`.
    pub(crate) fn eval_results(&self) -> String {
        let mut text = format!(
            "- dataset:\n    id: {}\n    task_id: {}\n  value: {:.2}\n  date: {}\n",
            quoted(self.dataset),
            quoted(self.task),
            self.score,
            quoted(self.date)
        );
        if let Some(url) = self.source_url {
            text.push_str(&format!(
                "  source:\n    url: {}\n    name: \"dpg-bench\"\n",
                quoted(url)
            ));
        }
        text + &format!("  notes: {}\n", quoted(self.notes))
    }

    /// The `model-index` of a model card.
    pub(crate) fn model_index(&self) -> String {
        let metric = format!("DPG-Bench score ({})", self.protocol.name());
        let mut text = format!(
            "model-index:\n- name: {}\n  results:\n  - task:\n      type: text-to-image\n      name: Text-to-Image\n    \
             dataset:\n      type: {}\n      name: DPG-Bench\n    metrics:\n    - type: dpg-bench\n      value: {:.2}\n      \
             name: {}\n",
            quoted(self.model),
            quoted(self.dataset),
            self.score,
            quoted(&metric),
        );
        if let Some(url) = self.source_url {
            text.push_str(&format!(
                "    source:\n      url: {}\n      name: dpg-bench\n",
                quoted(url)
            ));
        }
        text
    }
}

/// What made the score, in one line: judge, protocol, images, interval, settings of the generation.
pub(crate) fn notes(summary: &Summary, protocol: Protocol) -> String {
    let own = summary.protocol(protocol);
    let mut parts = vec![
        format!("judge {}", summary.judge.name),
        format!("protocol {}", protocol.name()),
        counted(own.items_scored, "prompt"),
        format!("{} a prompt", counted(summary.run.images_per_item, "image")),
    ];
    if let Some((low, high)) = own.overall.and_then(|figure| figure.low.zip(figure.high)) {
        parts.push(format!("95 % interval {low:.2} to {high:.2}"));
    }
    if let Some(gap) = &own.gap {
        parts.push(format!("incomplete: {gap}"));
    }
    let settings = summary.run.generation.as_ref();
    let of = |name: &str| settings.and_then(|settings| settings.get(name));
    if let Some((width, height)) = of("width").zip(of("height")) {
        parts.push(format!("{width} x {height}"));
    }
    let scheduler = of("scheduler").and_then(|scheduler| scheduler["class"].as_str());
    parts.extend(scheduler.map(str::to_owned));
    for (name, words) in [("steps", "steps"), ("guidance", "guidance"), ("seed", "seed")] {
        let value = of(name).filter(|value| !value.is_null());
        parts.extend(value.map(|value| format!("{words} {}", plain(value))));
    }
    if !summary.run.benchmark.official {
        parts.push("not the official question file".to_owned());
    }
    parts.push(format!("dpg-bench {}", env!("CARGO_PKG_VERSION")));
    parts.join(", ")
}

/// A string of YAML in double quotes. Those of JSON are strings of YAML 1.2 as well.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
