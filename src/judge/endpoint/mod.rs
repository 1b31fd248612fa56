//! In: pictures and questions. Out: the answers of a model behind an OpenAI-compatible chat API
//! (vLLM, SGLang, llama.cpp server, hosted models), one request per question.

mod address;
mod connection;
mod reply;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::anyhow;
use base64::Engine;
use serde_json::{Map, Value, json};

use self::connection::{Connection, Fault, FaultKind};
use self::reply::{ReplyFault, read_completion};
use super::draw::draw;
use super::{Answer, Judge, JudgeRequest};
use crate::benchmark::Question;
use crate::http::ApiKey;
use crate::results::Settings;

pub use self::address::Address;

/// Where the question goes in a prompt template.
pub const QUESTION_MARK: &str = "{question}";
/// The prompt template where none is given.
pub const DEFAULT_PROMPT: &str = "{question}\nAnswer with one word, yes or no.";
/// No single wait is longer, whatever the server asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// The waits between tries grow up to this.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// How the endpoint is asked.
#[derive(Debug, Clone)]
pub struct EndpointOptions {
    /// Where the server is.
    pub address: Address,
    /// Name of the model, as the server knows it.
    pub model: String,
    /// Key for the `Authorization` header.
    pub key: Option<ApiKey>,
    /// Template of the user's message; [`QUESTION_MARK`] stands for the question.
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
        }
    }
}

/// A model behind an OpenAI-compatible chat API.
#[derive(Debug)]
pub struct EndpointJudge {
    options: EndpointOptions,
    connection: Connection,
    has_answered: AtomicBool,
    failures_in_a_row: AtomicU32,
}

impl EndpointJudge {
    /// Checks the options. Nothing is sent yet.
    ///
    /// # Errors
    /// One sentence: a template without [`QUESTION_MARK`], no model, a number out of its range, or a
    /// body field that is not the user's to set.
    pub fn new(options: EndpointOptions) -> Result<Self, String> {
        if !options.prompt.contains(QUESTION_MARK) {
            return Err(format!("the judge's prompt must hold `{QUESTION_MARK}` once or more"));
        }
        if options.model.is_empty() {
            return Err("the judge's model has no name".to_owned());
        }
        if !(0.0..=2.0).contains(&options.temperature) {
            return Err(format!("the temperature {} is not in 0..=2", options.temperature));
        }
        if options.concurrency == 0 || options.timeout.is_zero() {
            return Err("the judge's concurrency and time-out must be above 0".to_owned());
        }
        for name in ["model", "messages", "stream", "n"] {
            if options.body.contains_key(name) {
                return Err(format!("`{name}` cannot be set through the extra body fields"));
            }
        }
        let connection = Connection::new(
            options.address.clone(),
            options.key.clone(),
            options.timeout,
            options.concurrency,
        );
        Ok(Self {
            options,
            connection,
            has_answered: AtomicBool::new(false),
            failures_in_a_row: AtomicU32::new(0),
        })
    }

    /// The fields of a request body other than model and messages.
    fn parameters(&self) -> Map<String, Value> {
        let options = &self.options;
        let mut parameters = Map::new();
        parameters.insert("temperature".to_owned(), options.temperature.into());
        parameters.insert("max_tokens".to_owned(), options.max_tokens.into());
        parameters.insert("seed".to_owned(), options.seed.into());
        if options.logprobs {
            parameters.insert("logprobs".to_owned(), true.into());
            parameters.insert("top_logprobs".to_owned(), 20.into());
        }
        for (name, value) in &options.body {
            match value {
                Value::Null => parameters.remove(name),
                value => parameters.insert(name.clone(), value.clone()),
            };
        }
        parameters
    }

    fn request_body(&self, picture_url: &str, question: &Question) -> Result<Vec<u8>, String> {
        // The picture first: servers that keep the beginnings of prompts then encode it only once for
        // all the questions about it.
        let prompt = self.options.prompt.replace(QUESTION_MARK, &question.text);
        let user = json!({"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": picture_url}},
            {"type": "text", "text": prompt},
        ]});
        let messages = match &self.options.system_prompt {
            Some(system) => json!([{"role": "system", "content": system}, user]),
            None => json!([user]),
        };
        let mut body = self.parameters();
        body.insert("model".to_owned(), self.options.model.clone().into());
        body.insert("messages".to_owned(), messages);
        serde_json::to_vec(&body).map_err(|error| format!("the request cannot be written: {error}"))
    }

    /// Asks one question, again and again where that may help.
    fn ask(
        &self,
        request: &JudgeRequest<'_>,
        picture_url: &str,
        question: &Question,
    ) -> Result<Answer, Fault> {
        let refused = |reason| Fault { reason, kind: FaultKind::Refused };
        let body = self.request_body(picture_url, question).map_err(refused)?;
        let mut tries = 0;
        loop {
            let fault = match self.connection.post(&body) {
                Ok(text) => match read_completion(&text) {
                    Ok(answer) => return Ok(answer),
                    Err(ReplyFault::Empty(reason)) => return Err(refused(reason)),
                    Err(ReplyFault::Unreadable(reason)) => {
                        Fault { reason, kind: FaultKind::Transient { retry_after: None } }
                    }
                },
                Err(fault) => fault,
            };
            let retry_after = match fault.kind {
                FaultKind::Transient { retry_after } => retry_after,
                FaultKind::Unreachable => None,
                _ => return Err(fault),
            };
            tries += 1;
            if tries > self.options.retries {
                let reason = match self.options.retries {
                    0 => fault.reason,
                    _ => format!("{} ({tries} tries)", fault.reason),
                };
                return Err(Fault { reason, ..fault });
            }
            if let Some(asked) = retry_after.filter(|wait| *wait > LONGEST_WAIT) {
                let reason = format!(
                    "{}; the server asks to wait {} s, more than the {} s that we wait at most",
                    fault.reason,
                    asked.as_secs(),
                    LONGEST_WAIT.as_secs()
                );
                return Err(Fault { reason, ..fault });
            }
            let jitter = draw(
                self.options.seed.wrapping_add(u64::from(tries)),
                &request.item.id,
                request.image_index,
                question.id,
            );
            let backoff = backoff(self.options.first_wait, tries, jitter);
            std::thread::sleep(retry_after.map_or(backoff, |asked| asked.max(backoff)));
        }
    }

    /// Whether a fault means that asking on is in vain, said in a sentence.
    fn hopeless(&self, fault: &Fault) -> Option<anyhow::Error> {
        let url = self.connection.shown_url();
        let reason = &fault.reason;
        let in_a_row = self.failures_in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        let never_answered = !self.has_answered.load(Ordering::Relaxed);
        let limit = self.options.max_failures;
        match fault.kind {
            FaultKind::Unauthorized => Some(anyhow!(
                "{url} refuses the key ({reason}); put a valid one into the environment variable that \
                 --judge-key-env names"
            )),
            FaultKind::NotThere if never_answered => Some(anyhow!(
                "{url} does not answer for the model `{}` ({reason}); check --judge-url, --judge-model \
                 and the key",
                self.options.model
            )),
            FaultKind::Unreachable if never_answered => {
                Some(anyhow!("{url}: {reason}; check --judge-url and that the server runs"))
            }
            FaultKind::Refused if never_answered && reason.contains("logprobs") => {
                Some(anyhow!("{url} refuses to give logprobs ({reason}); use --judge-no-logprobs"))
            }
            _ if limit > 0 && in_a_row >= limit => Some(anyhow!(
                "{url}: {in_a_row} questions in a row failed, the last with: {reason}; what is answered \
                 is kept and the same command goes on from there (--judge-max-failures 0 never stops)"
            )),
            _ => None,
        }
    }
}

impl Judge for EndpointJudge {
    fn settings(&self) -> Settings {
        [
            ("judge", "endpoint".into()),
            ("url", self.connection.shown_url().into()),
            ("model", self.options.model.clone().into()),
            ("prompt", self.options.prompt.clone().into()),
            ("system_prompt", self.options.system_prompt.clone().into()),
            ("request", self.parameters().into()),
        ]
        .map(|(name, value): (&str, Value)| (name.to_owned(), value))
        .into()
    }

    /// An image's questions are put one after the other, so this is the number of requests at one time.
    fn images_in_flight(&self) -> usize {
        self.options.concurrency
    }

    fn answer(&self, request: &JudgeRequest<'_>) -> anyhow::Result<Vec<Result<Answer, String>>> {
        let encoded = base64::engine::general_purpose::STANDARD.encode(&request.image.png);
        let picture_url = format!("data:image/png;base64,{encoded}");
        let mut results = Vec::with_capacity(request.questions.len());
        for question in request.questions {
            results.push(match self.ask(request, &picture_url, question) {
                Ok(answer) => {
                    self.has_answered.store(true, Ordering::Relaxed);
                    self.failures_in_a_row.store(0, Ordering::Relaxed);
                    Ok(answer)
                }
                Err(fault) => match self.hopeless(&fault) {
                    Some(error) => return Err(error),
                    None => Err(fault.reason),
                },
            });
        }
        Ok(results)
    }
}

/// The wait before try `tries` + 1: doubled each time, and somewhere between half of that and all of
/// it (`jitter` in 0..1), so that threads that failed together do not come back together.
fn backoff(first_wait: Duration, tries: u32, jitter: f64) -> Duration {
    let doubled = first_wait.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1)));
    doubled.min(LONGEST_BACKOFF).mul_f64(0.5 + jitter / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> EndpointOptions {
        let address = Address::parse("https://host/v1?code=hush").unwrap();
        EndpointOptions::new(address, "some/model")
    }

    #[test]
    fn waits_grow_and_stay_below_a_minute() {
        let second = Duration::from_secs(1);
        let waits: Vec<f64> =
            (1..=9).map(|tries| backoff(second, tries, 1.0).as_secs_f64()).collect();
        assert_eq!(waits, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]);
        assert_eq!(backoff(second, 2, 0.0), second);
        assert_eq!(backoff(second, u32::MAX, 0.0), second * 30);
    }

    #[test]
    fn settings_hold_what_changes_an_answer_and_no_secret() {
        let mut options = options();
        options.key = ApiKey::new("sk-hush-hush").unwrap();
        options.body =
            serde_json::from_str(r#"{"seed": null, "top_p": 0.5, "max_tokens": 9}"#).unwrap();
        let judge = EndpointJudge::new(options).unwrap();
        let settings = serde_json::to_value(judge.settings()).unwrap();
        assert_eq!(
            settings,
            json!({
                "judge": "endpoint",
                "url": "https://host/v1/chat/completions",
                "model": "some/model",
                "prompt": DEFAULT_PROMPT,
                "system_prompt": null,
                "request": {
                    "temperature": 0.0, "max_tokens": 9, "logprobs": true, "top_logprobs": 20, "top_p": 0.5
                },
            })
        );
        assert!(!format!("{judge:?}").contains("hush"));
    }

    #[test]
    fn options_that_cannot_be_are_refused() {
        let refused = |change: &dyn Fn(&mut EndpointOptions)| {
            let mut options = options();
            change(&mut options);
            EndpointJudge::new(options).unwrap_err()
        };
        assert!(refused(&|o| o.prompt = "Is it?".into()).contains("{question}"));
        assert!(refused(&|o| o.temperature = f64::NAN).contains("temperature"));
        assert!(refused(&|o| o.concurrency = 0).contains("concurrency"));
        assert!(refused(&|o| o.model = String::new()).contains("model"));
        for name in ["model", "messages", "stream", "n"] {
            let error = refused(&|o| {
                o.body.insert(name.to_owned(), json!(1));
            });
            assert!(error.contains(name), "{error}");
        }
    }
}
