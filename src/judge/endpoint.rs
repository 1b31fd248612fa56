//! In: pictures and questions. Out: the answers of a model behind an OpenAI-compatible chat API
//! (vLLM, SGLang, llama.cpp server, hosted models), one request per question.

mod address;
mod cause;
mod connection;
mod fault;
mod from_options;
mod json;
mod options;
mod probability;
mod reply;
mod sight;
mod wordings;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use anyhow::anyhow;
use base64::Engine;
use serde_json::{Value, json};

use self::connection::Connection;
use self::fault::{Fault, FaultKind, FaultReason, GaveUp};
use self::reply::{Completion, read_completion};
use self::sight::{VisionCheck, compare};
use super::draw::draw;
use super::{Answer, Judge, JudgeRequest};
use crate::benchmark::Question;
use crate::http::{LONGEST_WAIT, backoff};
use crate::results::Settings;

pub use self::address::Address;
pub use self::options::{
    DEFAULT_MAX_UNPARSABLE, DEFAULT_PROMPT, EndpointOptions, QUESTION_PLACEHOLDER, check_share,
};

/// Failed questions that stop the run while none was ever answered.
const FIRST_FAILURES: u32 = 3;

/// A model behind an OpenAI-compatible chat API.
#[derive(Debug)]
pub struct EndpointJudge {
    options: EndpointOptions,
    connection: Connection,
    has_answered: AtomicBool,
    answered_before: AtomicBool,
    failures_in_a_row: AtomicU32,
    /// Whether pictures arrive; an error is the sentence that says that they do not.
    sight: OnceLock<Result<VisionCheck, String>>,
    /// Whether any reply had logprobs, and whether any gave P(yes).
    had_logprobs: AtomicBool,
    had_probability: AtomicBool,
}

impl EndpointJudge {
    /// Checks the options. Nothing is sent yet.
    ///
    /// # Errors
    /// One sentence on the option that is out of its range.
    pub fn new(options: EndpointOptions) -> Result<Self, String> {
        options.check()?;
        let connection = Connection::new(
            options.address.clone(),
            options.key.clone(),
            options.timeout,
            options.concurrency,
            options.parameters().keys().cloned().collect(),
        );
        Ok(Self {
            options,
            connection,
            has_answered: AtomicBool::new(false),
            answered_before: AtomicBool::new(false),
            failures_in_a_row: AtomicU32::new(0),
            sight: OnceLock::new(),
            had_logprobs: AtomicBool::new(false),
            had_probability: AtomicBool::new(false),
        })
    }

    fn request_body(
        &self,
        picture_url: Option<&str>,
        question: &Question,
    ) -> Result<Vec<u8>, serde_json::Error> {
        // The picture first: servers that keep the beginnings of prompts then encode it only once for
        // all the questions about it.
        let prompt = self.options.prompt.replace(QUESTION_PLACEHOLDER, &question.text);
        let picture =
            picture_url.map(|url| json!({"type": "image_url", "image_url": {"url": url}}));
        let text = json!({"type": "text", "text": prompt});
        let parts: Vec<Value> = picture.into_iter().chain([text]).collect();
        let user = json!({"role": "user", "content": parts});
        let messages = match &self.options.system_prompt {
            Some(system) => json!([{"role": "system", "content": system}, user]),
            None => json!([user]),
        };
        let mut body = self.options.parameters();
        body.insert("model".to_owned(), self.options.model.clone().into());
        body.insert("messages".to_owned(), messages);
        serde_json::to_vec(&body)
    }

    /// Asks one question, again and again where that may help; without a picture where there is no
    /// `picture_url`.
    fn ask(
        &self,
        request: &JudgeRequest<'_>,
        picture_url: Option<&str>,
        question: &Question,
    ) -> Result<Completion, Fault> {
        let unwritable = |error| Fault::new(FaultReason::Unwritable(error), FaultKind::Refused);
        let body = self.request_body(picture_url, question).map_err(unwritable)?;
        let mut tries = 0;
        let url = self.connection.shown_url();
        let (item, image, number) = (&request.item.id, request.image_index, question.id);
        let what = format!("POST {url}: {item}, image {image}, question {number}");
        loop {
            let begun = Instant::now();
            let fault = match self.connection.post(&body) {
                Ok(text) => match read_completion(&text) {
                    Ok(completion) => {
                        log::debug!("{what}: answered in {:.2} s", begun.elapsed().as_secs_f64());
                        return Ok(completion);
                    }
                    Err(reply) => Fault::of_reply(reply, self.connection.fields()),
                },
                Err(fault) => fault,
            };
            log::debug!("{what}: {fault} (after {:.2} s)", begun.elapsed().as_secs_f64());
            let retry_after = match fault.kind {
                FaultKind::Transient { retry_after } => retry_after,
                FaultKind::Unreachable => None,
                _ => return Err(fault),
            };
            tries += 1;
            if tries > self.options.retries {
                let gave_up = (self.options.retries > 0).then_some(GaveUp::Tries(tries));
                return Err(Fault { gave_up, ..fault });
            }
            if let Some(asked) = retry_after.filter(|wait| *wait > LONGEST_WAIT) {
                let gave_up = Some(GaveUp::Wait { asked, most: LONGEST_WAIT });
                return Err(Fault { gave_up, ..fault });
            }
            let jitter = draw(
                self.options.seed.wrapping_add(u64::from(tries)),
                &request.item.id,
                request.image_index,
                question.id,
            );
            let backoff = backoff(self.options.first_wait, tries, jitter);
            let wait = retry_after.map_or(backoff, |asked| asked.max(backoff));
            log::debug!("{what}: try {} in {:.2} s", tries + 1, wait.as_secs_f64());
            std::thread::sleep(wait);
        }
    }

    /// Whether a fault means that asking on is in vain, said in a sentence.
    fn hopeless(&self, fault: &Fault) -> Option<anyhow::Error> {
        let url = self.connection.shown_url();
        let reason = fault.to_string();
        let in_a_row = self.failures_in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        // In this sitting, and ever: a resumed one may have nothing left but what fails.
        let never_answered = !self.has_answered.load(Ordering::Relaxed);
        let never_ever = never_answered && !self.answered_before.load(Ordering::Relaxed);
        let limit = match self.options.max_failures {
            limit if never_ever => limit.min(FIRST_FAILURES),
            limit => limit,
        };
        match &fault.kind {
            FaultKind::Permanent(cause)
                if cause.is_final() || never_ever || (never_answered && !cause.may_be_single()) =>
            {
                let (what, advice) = cause.words(&self.options.model);
                Some(anyhow!("{url} {what} ({reason}); {advice}"))
            }
            FaultKind::NotFound if never_answered => Some(anyhow!(
                "{url} does not answer for the model `{}` ({reason}); check --judge-url, --judge-model \
                 and the key",
                self.options.model
            )),
            FaultKind::Unreachable if never_answered => {
                Some(anyhow!("{url}: {reason}; check --judge-url and that the server runs"))
            }
            _ if limit > 0 && in_a_row >= limit && never_ever => Some(anyhow!(
                "{url}: the first {limit} questions in a row failed, the last with: {reason}; look into the \
                 server's log: some servers say no more of a model that they do not have (--judge-model) or an \
                 image that they cannot read (--judge-max-failures 0 asks on)"
            )),
            _ if limit > 0 && in_a_row >= limit => Some(anyhow!(
                "{url}: {in_a_row} questions in a row failed, the last with: {reason}; what is answered \
                 is kept and the same command goes on from there (--judge-max-failures 0 never stops)"
            )),
            _ => None,
        }
    }

    /// Makes sure, at the first reply of a sitting, that the picture made a difference: asks the same question
    /// without it. Others wait for that.
    ///
    /// # Errors
    /// The model did not see the picture.
    fn ensure_vision(
        &self,
        request: &JudgeRequest<'_>,
        question: &Question,
        with: &Completion,
    ) -> anyhow::Result<()> {
        if !self.options.probe {
            return Ok(());
        }
        let look = || match self.ask(request, None, question) {
            // A server that wants a picture looks at it.
            Err(fault) => {
                Ok(VisionCheck::Unknown(format!("it did not answer without one: {fault}")))
            }
            Ok(without) => match compare(with, &without) {
                VisionCheck::Blind(shown) => Err(format!(
                    "{} does not show the images to the model `{}`: {shown}. Choose a model that sees images, \
                     on a server that passes them on; if it does see them, go on with --judge-no-probe",
                    self.connection.shown_url(),
                    self.options.model
                )),
                sight => Ok(sight),
            },
        };
        let sight = self.sight.get_or_init(look);
        sight.as_ref().map(|_| ()).map_err(|blind| anyhow!("{blind}"))
    }

    fn take_note(&self, completion: &Completion) {
        self.has_answered.store(true, Ordering::Relaxed);
        self.failures_in_a_row.store(0, Ordering::Relaxed);
        self.had_logprobs.fetch_or(!completion.logprobs.is_null(), Ordering::Relaxed);
        self.had_probability
            .fetch_or(completion.answer.yes_probability.is_some(), Ordering::Relaxed);
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
            ("request", self.options.parameters().into()),
        ]
        .map(|(name, value): (&str, Value)| (name.to_owned(), value))
        .into()
    }

    /// An image's questions are put one after the other, so this is the number of requests at one time.
    fn images_in_flight(&self) -> usize {
        self.options.concurrency
    }

    fn answer(&self, request: &JudgeRequest<'_>) -> anyhow::Result<Vec<Result<Answer, String>>> {
        let encoded = base64::engine::general_purpose::STANDARD.encode(request.image.png()?);
        let picture_url = format!("data:image/png;base64,{encoded}");
        let mut results = Vec::with_capacity(request.questions.len());
        for question in request.questions {
            results.push(match self.ask(request, Some(&picture_url), question) {
                Ok(completion) => {
                    self.ensure_vision(request, question, &completion)?;
                    self.take_note(&completion);
                    Ok(completion.answer)
                }
                Err(fault) => match self.hopeless(&fault) {
                    Some(error) => return Err(error),
                    // The journal keeps it as text.
                    None => Err(fault.to_string()),
                },
            });
        }
        Ok(results)
    }

    fn on_sitting_start(&self, has_answers: bool) {
        self.answered_before.store(has_answers, Ordering::Relaxed);
    }

    fn max_unparsable(&self) -> f64 {
        self.options.max_unparsable
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if let Some(Ok(VisionCheck::Unknown(why))) = self.sight.get() {
            remarks
                .push(format!("whether the model sees the images could not be found out: {why}"));
        }
        let has = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        if self.options.asks_for_logprobs()
            && has(&self.has_answered)
            && !has(&self.had_probability)
        {
            remarks.push(if has(&self.had_logprobs) {
                "no answer has a P(yes): the logprobs of the replies hold no yes or no where the answer begins"
                    .to_owned()
            } else {
                "no answer has a P(yes): the server gave no logprobs although they were asked for".to_owned()
            });
        }
        remarks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::ApiKey;

    fn options() -> EndpointOptions {
        let address = Address::parse("https://host/v1?code=hush").unwrap();
        EndpointOptions::new(address, "some/model")
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
