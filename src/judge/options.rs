//! In: nothing. Out: what a user can say of a judge, as plain data, and which judges take what of it. Making a judge of
//! it is left to the judge's own file.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use serde_json::{Map, Value};

use super::answer_rule::Rule;
use crate::compute::device::Place;
use crate::compute::products::Products;

/// Options that some judges take and others do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionGroup {
    /// [`ScriptedOptions`].
    Scripted,
    /// [`ChatOptions`].
    Chat,
    /// [`EndpointChoice`].
    Endpoint,
    /// [`LocalJudgeOptions`] without [`LocalJudgeOptions::batch`].
    Local,
    /// [`LocalJudgeOptions::batch`].
    Batch,
    /// [`JudgeOptions::seed`].
    Seed,
    /// [`JudgeOptions::force`].
    Force,
}

/// Which judge, and how it is asked. What is `None` is the judge's own default.
#[derive(Debug, Clone, Default)]
pub struct JudgeOptions {
    /// The judge, as `dpg-bench list` names it.
    pub judge: String,
    /// Name that its answers are filed under; where it is `None`, the judge's.
    pub name: Option<String>,
    /// Seed of `hash` and `category` rules, and of the endpoint's sampling.
    pub seed: Option<u64>,
    /// Ask a judge also about what it was not made for.
    pub force: bool,
    /// Of the judge `scripted`.
    pub scripted: ScriptedOptions,
    /// Of the judges that are asked in words.
    pub chat: ChatOptions,
    /// Of the judge `endpoint`.
    pub endpoint: EndpointChoice,
    /// Of the judges that compute here.
    pub local: LocalJudgeOptions,
}

/// What the judge `scripted` says: one of the two.
#[derive(Debug, Clone, Default)]
pub struct ScriptedOptions {
    /// A rule.
    pub rule: Option<Rule>,
    /// A CSV or JSONL file of answers.
    pub answers: Option<PathBuf>,
}

/// How a question is put in words.
#[derive(Debug, Clone, Default)]
pub struct ChatOptions {
    /// Prompt; `{question}` stands for the question.
    pub prompt: Option<String>,
    /// System prompt.
    pub system_prompt: Option<String>,
    /// Maximum of tokens in a reply.
    pub max_tokens: Option<u32>,
    /// Share of answers that are neither yes nor no beyond which the run stops, in 0..=1.
    pub max_unparsable: Option<f64>,
}

/// How a server is asked.
#[derive(Debug, Clone, Default)]
pub struct EndpointChoice {
    /// Base URL, e.g. `http://localhost:8000/v1`.
    pub url: Option<String>,
    /// The model's name on that server.
    pub model: Option<String>,
    /// Environment variable that holds the key; an empty name sends none.
    pub key_variable: Option<String>,
    /// Sampling temperature.
    pub temperature: Option<f64>,
    /// Do not ask for logprobs.
    pub no_logprobs: bool,
    /// Further fields of each request; `null` takes a field out.
    pub body: Option<Map<String, Value>>,
    /// Requests at one time.
    pub concurrency: Option<usize>,
    /// Seconds for one whole request.
    pub timeout: Option<f64>,
    /// Further tries of a request.
    pub retries: Option<u32>,
    /// Failed questions in a row that stop the run; 0 never stops.
    pub max_failures: Option<u32>,
    /// Do not ask the first question without its image.
    pub no_probe: bool,
}

/// Weights and devices of a judge that computes here.
#[derive(Debug, Clone, Default)]
pub struct LocalJudgeOptions {
    /// Folder of the judge's model, as published, or a file that `convert` wrote; where it is `None`, what
    /// `fetch` got.
    pub weights: Option<PathBuf>,
    /// Devices, `auto`, `cpu` or `cuda[:INDEX]`, with the judge on each; none means `auto`.
    pub devices: Vec<String>,
    /// Number format of its networks: `f32`, `f16` or `bf16`.
    pub dtype: Option<String>,
    /// How the factors of products are rounded on the processor; where it is `None`, not at all.
    pub products: Option<Products>,
    /// Images of an item that mPLUG looks at together.
    pub batch: Option<u32>,
    /// Revision of the weights as their publisher names it, for the record.
    pub revision: Option<String>,
}

impl JudgeOptions {
    /// The judge `judge` with its own defaults.
    pub fn new(judge: &str) -> Self {
        Self { judge: judge.to_owned(), ..Self::default() }
    }

    /// Name that its answers are filed under.
    pub fn filed_as(&self) -> &str {
        self.name.as_ref().unwrap_or(&self.judge)
    }

    /// The first option that was given and is in none of these groups, as the command line names it.
    pub(crate) fn given_beside(&self, groups: &[OptionGroup]) -> Option<&'static str> {
        let mut given = self.given().into_iter();
        given.find(|(group, _, given)| *given && !groups.contains(group)).map(|(_, flag, _)| flag)
    }

    /// These options without those that are in none of these groups.
    pub(crate) fn only(&self, groups: &[OptionGroup]) -> Self {
        let mut own = self.clone();
        let has = |group| groups.contains(&group);
        if !has(OptionGroup::Scripted) {
            own.scripted = ScriptedOptions::default();
        }
        if !has(OptionGroup::Chat) {
            own.chat = ChatOptions::default();
        }
        if !has(OptionGroup::Endpoint) {
            own.endpoint = EndpointChoice::default();
        }
        if !has(OptionGroup::Local) {
            own.local = LocalJudgeOptions::default();
        }
        if !has(OptionGroup::Batch) {
            own.local.batch = None;
        }
        if !has(OptionGroup::Seed) {
            own.seed = None;
        }
        if !has(OptionGroup::Force) {
            own.force = false;
        }
        own
    }

    /// Each option that only some judges take, with its group, its flag, and whether it was given.
    fn given(&self) -> [(OptionGroup, &'static str, bool); 25] {
        use OptionGroup::{Batch, Chat, Endpoint, Force, Local, Scripted, Seed};
        let Self { scripted, chat, endpoint, local, .. } = self;
        [
            (Seed, "--judge-seed", self.seed.is_some()),
            (Force, "--judge-force", self.force),
            (Scripted, "--judge-rule", scripted.rule.is_some()),
            (Scripted, "--judge-answers", scripted.answers.is_some()),
            (Batch, "--judge-batch", local.batch.is_some()),
            (Local, "--judge-revision", local.revision.is_some()),
            (Chat, "--judge-prompt", chat.prompt.is_some()),
            (Chat, "--judge-system-prompt", chat.system_prompt.is_some()),
            (Chat, "--judge-max-tokens", chat.max_tokens.is_some()),
            (Chat, "--judge-max-unparsable", chat.max_unparsable.is_some()),
            (Endpoint, "--judge-url", endpoint.url.is_some()),
            (Endpoint, "--judge-model", endpoint.model.is_some()),
            (Endpoint, "--judge-key-env", endpoint.key_variable.is_some()),
            (Endpoint, "--judge-temperature", endpoint.temperature.is_some()),
            (Endpoint, "--judge-no-logprobs", endpoint.no_logprobs),
            (Endpoint, "--judge-body", endpoint.body.is_some()),
            (Endpoint, "--judge-concurrency", endpoint.concurrency.is_some()),
            (Endpoint, "--judge-timeout", endpoint.timeout.is_some()),
            (Endpoint, "--judge-retries", endpoint.retries.is_some()),
            (Endpoint, "--judge-max-failures", endpoint.max_failures.is_some()),
            (Endpoint, "--judge-no-probe", endpoint.no_probe),
            (Local, "--judge-weights", local.weights.is_some()),
            (Local, "--judge-device", !local.devices.is_empty()),
            (Local, "--judge-dtype", local.dtype.is_some()),
            (Local, "--judge-products", local.products.is_some()),
        ]
    }
}

impl LocalJudgeOptions {
    /// The devices named, at least one.
    pub(crate) fn device_names(&self) -> Vec<&str> {
        match self.devices.as_slice() {
            [] => vec!["auto"],
            named => named.iter().map(String::as_str).collect(),
        }
    }

    /// The device of that name; in the format `dtype` unless the user names another.
    ///
    /// # Errors
    /// A name means nothing, or there is no such device.
    pub(crate) fn place_on(&self, device: &str, dtype: &str) -> anyhow::Result<Place> {
        let dtype = self.dtype.as_deref().unwrap_or(dtype);
        Place::parse(device, dtype).context("the judge cannot be placed")
    }

    /// Where the weights are, for a judge that is made.
    ///
    /// # Errors
    /// Nobody said.
    pub(crate) fn weights(&self) -> anyhow::Result<&Path> {
        self.weights.as_deref().ok_or_else(|| anyhow!("a judge that computes here needs weights"))
    }
}
