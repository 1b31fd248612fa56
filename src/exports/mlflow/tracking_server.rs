//! In: a call of MLflow's REST API (`/api/2.0/mlflow/...`). Out: the JSON of its reply, or in one sentence what the server
//! said. What is to be called is left to `sending`.

use std::time::Duration;

use serde_json::Value;

use crate::http::{
    ApiKey, HttpClient, LONGEST_WAIT, TransportFault, backoff, is_loopback, origin, retry_after,
};

/// A reply is some ids; more than this is none of MLflow's.
const LARGEST_REPLY: u64 = 8 << 20;
/// Further tries after what may pass.
const RETRIES: u32 = 4;
/// The wait before the first of them; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Characters of the server's words that a sentence repeats.
const WORDS: usize = 300;

/// A server with MLflow's REST API.
#[derive(Debug)]
pub(crate) struct TrackingServer {
    client: HttpClient,
    base: String,
    key: Option<ApiKey>,
}

/// A call of the API.
#[derive(Debug, Clone, Copy)]
pub(super) enum Call<'a> {
    /// GET, with the query.
    Get(&'a str),
    /// POST.
    Post(&'a Value),
    /// POST of what must not be done twice: it is not sent again where the server may have done it.
    Once(&'a Value),
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrackingFault {
    /// No whole reply came.
    #[error("the MLflow server {server} does not answer {call}: {fault}")]
    Silent { server: String, call: &'static str, fault: TransportFault },
    /// A redirect.
    #[error(
        "the MLflow server {server} answers {call} with {status} and sends us on to {target}; redirects are not \
         followed: give the final URL"
    )]
    Redirect { server: String, call: &'static str, status: u16, target: String },
    /// A status that is no success, with MLflow's words.
    #[error("the MLflow server {server} refuses {call} with {status}: {words}")]
    Refused { server: String, call: &'static str, status: u16, code: Code, words: String },
    /// A reply that is none of MLflow's API.
    #[error(
        "{server} answers {call} with {status} and {what}, which is no reply of MLflow's API; is that the URL of its server?"
    )]
    NotMlflow { server: String, call: &'static str, status: u16, what: &'static str },
    /// A reply that lacks what was asked for, or tells of something else.
    #[error("the MLflow server {server} answers {call} {what}")]
    Other { server: String, call: &'static str, what: String },
}

/// What MLflow's `error_code` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// There is no such thing.
    Absent,
    /// It is there already.
    ThereAlready,
    /// Anything else.
    Other,
}

impl TrackingFault {
    /// Whether the server says that there is no such thing.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == Code::Absent)
    }

    /// Whether the server says that it is there already.
    pub(super) fn is_there_already(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == Code::ThereAlready)
    }
}

impl TrackingServer {
    /// Makes no connection yet. `base` has no slash at its end; `timeout` is for each call.
    pub(crate) fn new(base: String, key: Option<ApiKey>, timeout: Duration) -> Self {
        let is_here = origin(&base).is_some_and(|origin| is_loopback(&origin.host));
        let client = HttpClient::new(timeout, 1, !is_here);
        Self { client, base, key }
    }

    /// The URL that calls go below.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Carries out one call, such as `runs/create`. What may pass is tried again.
    ///
    /// # Errors
    /// See [`TrackingFault`].
    pub(super) fn call(&self, name: &'static str, call: Call<'_>) -> Result<Value, TrackingFault> {
        let mut tries = 0;
        loop {
            tries += 1;
            let (fault, wait) = match self.try_once(name, call) {
                Ok(value) => return Ok(value),
                Err((fault, None)) => return Err(fault),
                Err((fault, Some(wait))) => (fault, wait),
            };
            if tries > RETRIES || wait > LONGEST_WAIT {
                return Err(fault);
            }
            std::thread::sleep(wait.max(backoff(FIRST_WAIT, tries, 1.0)));
        }
    }

    /// One exchange. An error comes with the wait that the server asks for where another try may help.
    fn try_once(
        &self,
        name: &'static str,
        call: Call<'_>,
    ) -> Result<Value, (TrackingFault, Option<Duration>)> {
        let url = format!("{}/api/2.0/mlflow/{name}", self.base);
        let key = self.key.as_ref();
        let sent = match call {
            Call::Get(query) => self.client.get(&format!("{url}?{query}"), key, LARGEST_REPLY),
            Call::Post(body) | Call::Once(body) => {
                self.client.post(&url, key, body.to_string().as_bytes(), LARGEST_REPLY)
            }
        };
        let is_once = matches!(call, Call::Once(_));
        let silent = |fault: TransportFault| {
            // Without a connection nothing was done; somebody mistook the address, more likely than not.
            let again = fault.may_pass()
                && !is_once
                && !matches!(fault, TransportFault::Unreachable(_) | TransportFault::TimedOut);
            let server = self.base.clone();
            let fault = TrackingFault::Silent { server, call: name, fault };
            (fault, again.then_some(Duration::ZERO))
        };
        let reply = sent.map_err(silent)?;
        let status = reply.status.as_u16();
        let body = match reply.body {
            Ok(body) => body,
            Err(_) if !reply.status.is_success() => Vec::new(),
            Err(fault) => return Err(silent(fault)),
        };
        log::debug!("{name}: {status}");
        if reply.status.is_redirection() {
            let target = reply.headers.get("location").and_then(|value| value.to_str().ok());
            let target = self.shown(target.unwrap_or("an unknown place").split('?').next());
            let server = self.base.clone();
            return Err((TrackingFault::Redirect { server, call: name, status, target }, None));
        }
        let value = serde_json::from_slice::<Value>(&body).ok().filter(Value::is_object);
        if let (true, Some(value)) = (reply.status.is_success(), &value) {
            return Ok(value.clone());
        }
        let wait = may_pass(status, is_once)
            .then(|| retry_after(&reply.headers).unwrap_or(Duration::ZERO));
        Err((self.refusal(name, status, &body, value), wait))
    }

    /// What a reply says that is no success, or no JSON.
    fn refusal(
        &self,
        call: &'static str,
        status: u16,
        body: &[u8],
        value: Option<Value>,
    ) -> TrackingFault {
        let server = self.base.clone();
        let text = String::from_utf8_lossy(body);
        let of = |name: &str| value.as_ref().and_then(|value| value[name].as_str());
        let words = match (of("error_code"), of("message")) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (_, Some(message)) => message.to_owned(),
            (Some(code), None) => code.to_owned(),
            (None, None) if text.trim_start().starts_with('<') => {
                return TrackingFault::NotMlflow { server, call, status, what: "a page of HTML" };
            }
            (None, None) if (200..300).contains(&status) => {
                return TrackingFault::NotMlflow { server, call, status, what: "no JSON object" };
            }
            (None, None) if text.trim().is_empty() => "no word of why".to_owned(),
            (None, None) => text.into_owned(),
        };
        let code = match of("error_code") {
            Some("RESOURCE_DOES_NOT_EXIST") => Code::Absent,
            Some("RESOURCE_ALREADY_EXISTS") => Code::ThereAlready,
            _ => Code::Other,
        };
        TrackingFault::Refused { server, call, status, code, words: self.shown(Some(&words)) }
    }

    /// A reply that is not about what was asked for; `what` goes on after the call's name.
    pub(super) fn other(&self, call: &'static str, what: impl Into<String>) -> TrackingFault {
        TrackingFault::Other {
            server: self.base.clone(),
            call,
            what: self.shown(Some(&what.into())),
        }
    }

    /// A text of the reply, as a string.
    ///
    /// # Errors
    /// It is not there.
    pub(super) fn text<'v>(
        &self,
        call: &'static str,
        value: &'v Value,
        pointer: &str,
    ) -> Result<&'v str, TrackingFault> {
        let found = value.pointer(pointer).and_then(Value::as_str);
        found.ok_or_else(|| self.other(call, format!("without {}", &pointer[1..])))
    }

    /// A server's words in one line, without the key.
    fn shown(&self, words: Option<&str>) -> String {
        let words = words.unwrap_or_default();
        let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
        let line: String = line.chars().filter(|c| !c.is_control()).collect();
        let line = self.key.as_ref().map_or_else(|| line.clone(), |key| key.scrub(&line));
        match line.char_indices().nth(WORDS) {
            Some((end, _)) => format!("{} ...", &line[..end]),
            None => line,
        }
    }
}

/// Whether the same call may be answered another time. What must not be done twice is sent again only where the server
/// has certainly done nothing.
fn may_pass(status: u16, is_once: bool) -> bool {
    match status {
        429 | 503 => true,
        408 | 502 | 504 => !is_once,
        _ => false,
    }
}
