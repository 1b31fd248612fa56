//! In: which judge, and what the user says of it. Out: whether it can be had, or a sentence on what is missing or
//! is another judge's. Loading it is left to `loaded_judge`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use serde_json::{Map, Value};

use super::fetched;
use crate::compute::device::{Place, describe_device};
use crate::fetch::Role;
use crate::http::ApiKey;
use crate::judge::blip_vqa::BlipVqaJudge;
use crate::judge::catalog::{self, DEFAULT_KEY_VARIABLE, JudgeKind, JudgeRow};
use crate::judge::endpoint::{Address, DEFAULT_PROMPT, EndpointJudge, EndpointOptions};
use crate::judge::mplug::MplugJudge;
use crate::judge::qwen3_vl::{Qwen3VlJudge, Qwen3VlOptions};
use crate::judge::scripted::{Rule, ScriptedJudge};

/// What the weights of judges are, for the user.
const MPLUG_WEIGHTS: &str = "the folder of mplug_visual-question-answering_coco_large_en";
const BLIP_WEIGHTS: &str = "the folder of a BLIP-VQA checkpoint such as Salesforce/blip-vqa-base";
const QWEN3_VL_WEIGHTS: &str = "the folder of a Qwen3-VL Instruct checkpoint";

const SCRIPTED: &[JudgeKind] = &[JudgeKind::Scripted];
const ENDPOINT: &[JudgeKind] = &[JudgeKind::Endpoint];
const CHAT: &[JudgeKind] = &[JudgeKind::Endpoint, JudgeKind::Qwen3Vl];
const MPLUG: &[JudgeKind] = &[JudgeKind::Mplug];

/// Which judge, and how it is asked. What is `None` is the judge's own default.
#[derive(Debug, Clone, Default)]
pub struct JudgeOptions {
    /// The judge, as `dpg-bench list` names it.
    pub judge: String,
    /// Name that its answers are filed under; where it is `None`, the judge's.
    pub name: Option<String>,
    /// Seed of `hash` and `category` rules, and of the endpoint's sampling.
    pub seed: Option<u64>,
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

    /// Its row of the catalog.
    ///
    /// # Errors
    /// There is no such judge.
    pub fn row(&self) -> anyhow::Result<&'static JudgeRow> {
        catalog::find(&self.judge).map_err(anyhow::Error::msg)
    }

    /// Name that its answers are filed under.
    pub fn filed_as(&self) -> &str {
        self.name.as_ref().unwrap_or(&self.judge)
    }

    /// Whether it computes here, from weights of its own.
    pub fn is_local(&self) -> bool {
        self.row().is_ok_and(|row| catalog::LOCAL.contains(&row.kind))
    }

    /// Has a judge that computes here use these devices, unless others were named for it.
    pub fn share_devices(&mut self, devices: &[&str]) {
        if self.local.devices.is_empty() && self.is_local() {
            self.local.devices = devices.iter().map(|device| (*device).to_owned()).collect();
        }
    }

    /// The devices that it computes on, as [`describe_device`] tells.
    ///
    /// # Errors
    /// A name means nothing, or there is no such device.
    pub fn devices(&self) -> anyhow::Result<Vec<String>> {
        let described = |name| Ok(describe_device(&self.local.place_on(name, "f32")?.device));
        self.local.device_names().into_iter().map(described).collect()
    }

    /// Whether the judge can be made from these options; nothing is loaded or asked yet.
    ///
    /// # Errors
    /// An option is missing, wrong or another judge's, or a file or variable is not there.
    pub fn check(&self) -> anyhow::Result<()> {
        let row = self.row()?;
        if let Some(flag) = self.idle_for(&[row.kind]) {
            bail!("{flag} is not for the judge `{}`; leave it out", row.name);
        }
        if row.shipped.is_some() {
            let given = [
                ("--judge-weights", self.local.weights.is_some()),
                ("--judge-revision", self.local.revision.is_some()),
            ];
            for (flag, given) in given {
                ensure!(
                    !given,
                    "the judge `{}` has its weights inside; leave out {flag}",
                    row.name
                );
            }
        }
        // Loading takes seconds and gigabytes; whether it can be done is known sooner.
        let check_devices = |dtype: &str| {
            let mut names = self.local.device_names().into_iter();
            names.try_for_each(|name| self.local.place_on(name, dtype).map(|_| ()))
        };
        match row.kind {
            JudgeKind::Scripted => self.scripted().map(|_| ()),
            JudgeKind::Endpoint => self.endpoint().map(|_| ()),
            JudgeKind::Mplug if row.shipped.is_some() => check_devices("f32"),
            JudgeKind::Mplug => {
                check_devices("f32")?;
                MplugJudge::check(&self.mplug_weights()?)
            }
            JudgeKind::BlipVqa => {
                check_devices("f32")?;
                BlipVqaJudge::check(&self.blip_weights()?)
            }
            JudgeKind::Qwen3Vl => {
                check_devices("bf16")?;
                let device = self.local.device_names()[0];
                Qwen3VlJudge::check(&self.qwen3_vl(device)?)
            }
        }
    }

    /// The first option that was given and that none of these judges takes, as the command line names it.
    pub fn idle_for(&self, kinds: &[JudgeKind]) -> Option<&'static str> {
        let given = self.given();
        let is_idle = |takes: &[JudgeKind]| !kinds.iter().any(|kind| takes.contains(kind));
        given
            .into_iter()
            .find(|(takes, _, given)| *given && is_idle(takes))
            .map(|(_, flag, _)| flag)
    }

    /// These options without those that `kind` does not take.
    pub fn only_for(&self, kind: JudgeKind) -> Self {
        let mut own = self.clone();
        if !SCRIPTED.contains(&kind) {
            own.scripted = ScriptedOptions::default();
        }
        if !CHAT.contains(&kind) {
            own.chat = ChatOptions::default();
        }
        if !ENDPOINT.contains(&kind) {
            own.endpoint = EndpointChoice::default();
        }
        if !catalog::LOCAL.contains(&kind) {
            own.local = LocalJudgeOptions::default();
        }
        if !MPLUG.contains(&kind) {
            own.local.batch = None;
        }
        own
    }

    /// Each option that only some judges take, with these, its flag, and whether it was given.
    fn given(&self) -> [(&'static [JudgeKind], &'static str, bool); 22] {
        let Self { scripted, chat, endpoint, local, .. } = self;
        const LOCAL: &[JudgeKind] = catalog::LOCAL;
        [
            (SCRIPTED, "--judge-rule", scripted.rule.is_some()),
            (SCRIPTED, "--judge-answers", scripted.answers.is_some()),
            (MPLUG, "--judge-batch", local.batch.is_some()),
            (LOCAL, "--judge-revision", local.revision.is_some()),
            (CHAT, "--judge-prompt", chat.prompt.is_some()),
            (CHAT, "--judge-system-prompt", chat.system_prompt.is_some()),
            (CHAT, "--judge-max-tokens", chat.max_tokens.is_some()),
            (CHAT, "--judge-max-unparsable", chat.max_unparsable.is_some()),
            (ENDPOINT, "--judge-url", endpoint.url.is_some()),
            (ENDPOINT, "--judge-model", endpoint.model.is_some()),
            (ENDPOINT, "--judge-key-env", endpoint.key_variable.is_some()),
            (ENDPOINT, "--judge-temperature", endpoint.temperature.is_some()),
            (ENDPOINT, "--judge-no-logprobs", endpoint.no_logprobs),
            (ENDPOINT, "--judge-body", endpoint.body.is_some()),
            (ENDPOINT, "--judge-concurrency", endpoint.concurrency.is_some()),
            (ENDPOINT, "--judge-timeout", endpoint.timeout.is_some()),
            (ENDPOINT, "--judge-retries", endpoint.retries.is_some()),
            (ENDPOINT, "--judge-max-failures", endpoint.max_failures.is_some()),
            (ENDPOINT, "--judge-no-probe", endpoint.no_probe),
            (LOCAL, "--judge-weights", local.weights.is_some()),
            (LOCAL, "--judge-device", !local.devices.is_empty()),
            (LOCAL, "--judge-dtype", local.dtype.is_some()),
        ]
    }

    /// The judge `scripted`.
    pub(super) fn scripted(&self) -> anyhow::Result<ScriptedJudge> {
        match (&self.scripted.rule, &self.scripted.answers) {
            (Some(rule), None) => {
                Ok(ScriptedJudge::by_rule(rule.clone(), self.seed.unwrap_or_default()))
            }
            (None, Some(path)) => Ok(ScriptedJudge::from_file(path)?),
            _ => bail!("the judge `scripted` needs either --judge-rule or --judge-answers"),
        }
    }

    /// The judge `endpoint`.
    pub(super) fn endpoint(&self) -> anyhow::Result<EndpointJudge> {
        let Self { chat, endpoint, .. } = self;
        let needed = |flag: &str| anyhow!("the judge `endpoint` needs {flag}");
        let url = endpoint.url.as_ref().ok_or_else(|| needed("--judge-url"))?;
        let model = endpoint.model.as_ref().ok_or_else(|| needed("--judge-model"))?;
        let address = Address::parse(url).map_err(anyhow::Error::msg)?;
        let default = EndpointOptions::new(address, model);
        let timeout = match endpoint.timeout {
            None => default.timeout,
            Some(seconds) => Duration::try_from_secs_f64(seconds)
                .with_context(|| format!("--judge-timeout {seconds} is no number of seconds"))?,
        };
        let options = EndpointOptions {
            key: endpoint.key()?,
            prompt: chat.prompt.clone().unwrap_or_else(|| DEFAULT_PROMPT.to_owned()),
            system_prompt: chat.system_prompt.clone(),
            temperature: endpoint.temperature.unwrap_or(default.temperature),
            max_tokens: chat.max_tokens.unwrap_or(default.max_tokens),
            seed: self.seed.unwrap_or(default.seed),
            logprobs: !endpoint.no_logprobs,
            body: endpoint.body.clone().unwrap_or_default(),
            concurrency: endpoint.concurrency.unwrap_or(default.concurrency),
            timeout,
            retries: endpoint.retries.unwrap_or(default.retries),
            max_failures: endpoint.max_failures.unwrap_or(default.max_failures),
            probe: !endpoint.no_probe,
            most_unparsable: chat.max_unparsable.unwrap_or(default.most_unparsable),
            ..default
        };
        EndpointJudge::new(options).map_err(anyhow::Error::msg)
    }

    /// The options of a Qwen3-VL on `device`.
    pub(super) fn qwen3_vl(&self, device: &str) -> anyhow::Result<Qwen3VlOptions> {
        let Self { chat, local, .. } = self;
        let weights = local.find_weights(&self.judge, QWEN3_VL_WEIGHTS)?;
        // As the checkpoints are published; f32 arithmetic on the processor either way.
        let default = Qwen3VlOptions::new(weights, local.place_on(device, "bf16")?);
        Ok(Qwen3VlOptions {
            prompt: chat.prompt.clone().unwrap_or(default.prompt),
            system_prompt: chat.system_prompt.clone(),
            max_tokens: chat.max_tokens.unwrap_or(default.max_tokens),
            revision: local.revision.clone(),
            most_unparsable: chat.max_unparsable.unwrap_or(default.most_unparsable),
            ..default
        })
    }

    pub(super) fn mplug_weights(&self) -> anyhow::Result<PathBuf> {
        self.local.find_weights(&self.judge, MPLUG_WEIGHTS)
    }

    pub(super) fn blip_weights(&self) -> anyhow::Result<PathBuf> {
        self.local.find_weights(&self.judge, BLIP_WEIGHTS)
    }
}

impl LocalJudgeOptions {
    /// The devices named, at least one.
    pub(super) fn device_names(&self) -> Vec<&str> {
        match self.devices.as_slice() {
            [] => vec!["auto"],
            named => named.iter().map(String::as_str).collect(),
        }
    }

    /// The device of that name; in the format `dtype` unless the user names another.
    ///
    /// # Errors
    /// A name means nothing, or there is no such device.
    pub(super) fn place_on(&self, device: &str, dtype: &str) -> anyhow::Result<Place> {
        let dtype = self.dtype.as_deref().unwrap_or(dtype);
        Place::parse(device, dtype).context("the judge cannot be placed")
    }

    /// The weights of the judge `judge`: those named, else those fetched; `what` says what they are.
    fn find_weights(&self, judge: &str, what: &str) -> anyhow::Result<PathBuf> {
        let weights = match &self.weights {
            Some(weights) => Some(Path::to_owned(weights)),
            None => fetched::part(judge, Role::Judge)?,
        };
        weights.ok_or_else(|| {
            let advice = fetched::advice(judge, Role::Judge);
            let advice = advice.map_or_else(String::new, |advice| format!("; {advice}"));
            anyhow!("the judge `{judge}` needs --judge-weights, {what}{advice}")
        })
    }
}

impl EndpointChoice {
    /// The key out of the environment. A variable that was named must be there.
    fn key(&self) -> anyhow::Result<Option<ApiKey>> {
        let variable = self.key_variable.as_deref().unwrap_or(DEFAULT_KEY_VARIABLE);
        if variable.is_empty() {
            return Ok(None);
        }
        let key = match std::env::var_os(variable) {
            None => None,
            Some(value) => {
                let value = value.to_str().ok_or_else(|| anyhow!("{variable} is no UTF-8 text"))?;
                ApiKey::new(value).map_err(|reason| anyhow!("{variable}: {reason}"))?
            }
        };
        if key.is_none() && self.key_variable.is_some() {
            bail!("the environment variable {variable} that --judge-key-env names is not set");
        }
        Ok(key)
    }
}
