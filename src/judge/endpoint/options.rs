//! In: nothing. Out: how a server is asked, with the defaults, and the fields of a request that this makes.

use std::time::Duration;

use serde_json::{Map, Value};

use super::Address;
use crate::http::ApiKey;

/// Where the question goes in a prompt template.
pub const QUESTION_PLACEHOLDER: &str = "{question}";
/// The prompt template where none is given.
pub const DEFAULT_PROMPT: &str = "{question}\nAnswer with one word, yes or no.";
/// Largest share of unparsable answers under which asking goes on, unless another is set.
pub const DEFAULT_MAX_UNPARSABLE: f64 = 0.2;

/// How the endpoint is asked.
#[derive(Debug, Clone)]
pub struct EndpointOptions {
    /// Where the server is.
    pub address: Address,
    /// Name of the model, as the server knows it.
    pub model: String,
    /// Key for the `Authorization` header.
    pub key: Option<ApiKey>,
    /// Template of the user's message; [`QUESTION_PLACEHOLDER`] stands for the question.
    pub prompt: String,
    /// System message.
    pub system_prompt: Option<String>,
    /// Sampling temperature.
    pub temperature: f64,
    /// Most tokens of a reply.
    pub max_tokens: u32,
    /// Seed of the server's sampling; it also decides the jitter of the waits.
    pub seed: u64,
    /// Whether to ask for the alternatives of each token, from which P(yes) is taken.
    pub logprobs: bool,
    /// Further fields of the request body; `null` takes a field of ours out.
    pub body: Map<String, Value>,
    /// Most requests at one time.
    pub concurrency: usize,
    /// For one whole request, reply included.
    pub timeout: Duration,
    /// Further tries after a failure that may pass.
    pub retries: u32,
    /// Wait before the first further try; it doubles with each.
    pub first_wait: Duration,
    /// Failed questions in a row that stop the run; 0 for no such limit.
    pub max_failures: u32,
    /// Whether the first question is also asked without its picture, to be sure that the model sees it.
    pub probe: bool,
    /// Share of unparsable answers beyond which the run stops, in 0..=1.
    pub max_unparsable: f64,
}

impl EndpointOptions {
    /// The defaults for a server and one of its models.
    pub fn new(address: Address, model: &str) -> Self {
        Self {
            address,
            model: model.to_owned(),
            key: None,
            prompt: DEFAULT_PROMPT.to_owned(),
            system_prompt: None,
            temperature: 0.0,
            max_tokens: 32,
            seed: 0,
            logprobs: true,
            body: Map::new(),
            concurrency: 8,
            timeout: Duration::from_secs(120),
            retries: 5,
            first_wait: Duration::from_secs(1),
            max_failures: 64,
            probe: true,
            max_unparsable: DEFAULT_MAX_UNPARSABLE,
        }
    }
}

impl EndpointOptions {
    /// The fields of a request body other than model and messages.
    pub(super) fn parameters(&self) -> Map<String, Value> {
        let mut parameters = Map::new();
        parameters.insert("temperature".to_owned(), self.temperature.into());
        parameters.insert("max_tokens".to_owned(), self.max_tokens.into());
        parameters.insert("seed".to_owned(), self.seed.into());
        if self.logprobs {
            parameters.insert("logprobs".to_owned(), true.into());
            parameters.insert("top_logprobs".to_owned(), 20.into());
        }
        for (name, value) in &self.body {
            match value {
                Value::Null => parameters.remove(name),
                value => parameters.insert(name.clone(), value.clone()),
            };
        }
        parameters
    }

    /// Checks what can be checked without a server.
    ///
    /// # Errors
    /// One sentence: a template without [`QUESTION_PLACEHOLDER`], no model, a number out of its range, or a
    /// body field that is not the user's to set.
    pub(super) fn check(&self) -> Result<(), String> {
        if !self.prompt.contains(QUESTION_PLACEHOLDER) {
            return Err(format!(
                "the judge's prompt must hold `{QUESTION_PLACEHOLDER}` once or more"
            ));
        }
        if self.model.is_empty() {
            return Err("the judge's model has no name".to_owned());
        }
        if !(0.0..=2.0).contains(&self.temperature) {
            return Err(format!("the temperature {} is not in 0..=2", self.temperature));
        }
        if self.concurrency == 0 || self.timeout.is_zero() {
            return Err("the judge's concurrency and time-out must be above 0".to_owned());
        }
        for name in ["model", "messages", "stream", "n"] {
            if self.body.contains_key(name) {
                return Err(format!("`{name}` cannot be set through the extra body fields"));
            }
        }
        check_share(self.max_unparsable)
    }

    /// Whether the requests ask for logprobs, whatever field does it.
    pub(super) fn asks_for_logprobs(&self) -> bool {
        self.parameters().get("logprobs") == Some(&Value::Bool(true))
    }
}

/// Whether a share of unparsable answers can be tolerated.
///
/// # Errors
/// It is no share.
pub fn check_share(share: f64) -> Result<(), String> {
    if (0.0..=1.0).contains(&share) {
        return Ok(());
    }
    Err(format!("--judge-max-unparsable {share} is no share; it must be from 0 to 1"))
}
