//! In: one request body. Out: the body of a successful reply, or what went wrong and whether asking
//! again may help. Exactly one HTTP request per call; waiting and repeating are left to the judge.

use std::time::Duration;

use serde_json::Value;
use ureq::http::{HeaderMap, StatusCode};
use ureq::{Agent, Error};

use super::address::Address;
use super::cause::Cause;
use super::json;
use super::reply::{beginning, error_message};
use super::wordings::cause;
use crate::http::{ApiKey, TransportFault, USER_AGENT, retry_after, transport_fault};

/// A reply is a word or two with their logprobs; more than this is no answer.
const LARGEST_REPLY: u64 = 4 << 20;
/// Servers close idle connections after 5 seconds and more; ours are given up before that, so that a
/// request is not sent into a connection that is just being closed.
const IDLE: Duration = Duration::from_secs(4);

/// What went wrong with one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// One sentence, free of the key.
    pub reason: String,
    /// What kind of fault it is.
    pub kind: FaultKind,
}

/// What a fault says about the next request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultKind {
    /// The server says what is wrong, and asking again the same way gives the same.
    Permanent(Cause),
    /// 403, 404, 405 or a redirect, and no word that tells: probably the wrong address, model or key, but some
    /// servers refuse single pictures so.
    NotThere,
    /// Any other 4xx: this request will never be answered.
    Refused,
    /// No connection could be made.
    Unreachable,
    /// Anything that may pass: 408, 429, 5xx, time-outs, cut connections and bodies.
    Transient {
        /// How long the server asked to wait.
        retry_after: Option<Duration>,
    },
}

impl Fault {
    /// An error that came with a status of success, in the server's words.
    pub fn reported(words: &str, fields: &[String]) -> Self {
        let kind = match cause(StatusCode::OK.as_u16(), words, fields) {
            Some(cause) => FaultKind::Permanent(cause),
            None => FaultKind::Transient { retry_after: None },
        };
        Self { reason: format!("the server reported: {}", beginning(words)), kind }
    }
}

/// A pool of connections to one server.
#[derive(Debug, Clone)]
pub struct Connection {
    agent: Agent,
    address: Address,
    key: Option<ApiKey>,
    timeout: Duration,
    fields: Vec<String>,
}

impl Connection {
    /// Makes no connection yet. Proxies are taken from the environment (`HTTPS_PROXY`, `HTTP_PROXY`,
    /// `ALL_PROXY`, `NO_PROXY`), except for a server on this very machine. Redirects are not followed,
    /// so the key goes to no other host than the one that was named. `fields` are those of the requests that
    /// a server may not know.
    pub fn new(
        address: Address,
        key: Option<ApiKey>,
        timeout: Duration,
        connections: usize,
        fields: Vec<String>,
    ) -> Self {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(timeout))
            .max_idle_connections(connections)
            .max_idle_connections_per_host(connections)
            .max_idle_age(IDLE)
            .user_agent(USER_AGENT);
        if address.is_loopback() {
            config = config.proxy(None);
        }
        Self { agent: config.build().new_agent(), address, key, timeout, fields }
    }

    /// The fields of the requests that a server may not know.
    pub fn fields(&self) -> &[String] {
        &self.fields
    }

    /// Where requests go, fit to be shown.
    pub fn shown_url(&self) -> &str {
        self.address.shown()
    }

    /// Sends one request and returns the body of a reply with a status of success, the key taken out.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn post(&self, body: &[u8]) -> Result<String, Fault> {
        let mut request =
            self.agent.post(self.address.request()).header("Content-Type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("Authorization", key.bearer());
        }
        let mut response = request.send(body).map_err(|error| self.fault(&error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.body_mut().with_config().limit(LARGEST_REPLY).read_to_vec();
        if status.is_success() {
            let text = text.map_err(|error| self.fault(&error))?;
            return Ok(self.scrub_body(&String::from_utf8_lossy(&text)));
        }
        let text = self.scrub_body(&String::from_utf8_lossy(&text.unwrap_or_default()));
        let fault = status_fault(status, &headers, &text, &self.fields);
        Err(Fault { reason: self.scrub(&fault.reason), ..fault })
    }

    fn scrub(&self, text: &str) -> String {
        let text = self.address.scrub(text);
        self.key.as_ref().map_or_else(|| text.clone(), |key| key.scrub(&text))
    }

    /// Takes the key out of a body, also where JSON writes it otherwise (`\/`, `\u0073`) or control
    /// characters, which messages leave out, stand within it.
    fn scrub_body(&self, body: &str) -> String {
        let body = self.scrub_text(body);
        let Ok(mut value) = json::read(&body) else { return body };
        if self.scrub_strings(&mut value) { value.to_string() } else { body }
    }

    fn scrub_text(&self, text: &str) -> String {
        let plain: String = text.chars().filter(|c| !c.is_control()).collect();
        let clean = self.scrub(&plain);
        if clean == plain { text.to_owned() } else { clean }
    }

    /// Whether something was taken out of a string within `value`.
    fn scrub_strings(&self, value: &mut Value) -> bool {
        match value {
            Value::String(text) => {
                let clean = self.scrub_text(text);
                let differs = clean != *text;
                *text = clean;
                differs
            }
            // `any` would stop at the first one, and leave the key in those behind it.
            Value::Array(values) => {
                values.iter_mut().map(|value| self.scrub_strings(value)).filter(|out| *out).count()
                    > 0
            }
            Value::Object(entries) => {
                entries
                    .values_mut()
                    .map(|value| self.scrub_strings(value))
                    .filter(|out| *out)
                    .count()
                    > 0
            }
            _ => false,
        }
    }

    /// Says in words of our own what ureq reports: its messages may hold the URL with its query.
    fn fault(&self, error: &Error) -> Fault {
        let transient =
            |reason: String| Fault { reason, kind: FaultKind::Transient { retry_after: None } };
        let unreachable = |reason: &str| Fault {
            reason: format!("no connection to the server: {reason}"),
            kind: FaultKind::Unreachable,
        };
        let refused = |reason: String| Fault { reason, kind: FaultKind::Refused };
        match transport_fault(error) {
            TransportFault::Unreachable(reason) => unreachable(reason),
            TransportFault::TimedOut => {
                transient(format!("no whole reply within {} s", self.timeout.as_secs_f64()))
            }
            TransportFault::Broken(reason) => transient(reason),
            TransportFault::Refused(reason) => refused(reason),
        }
    }
}

fn status_fault(status: StatusCode, headers: &HeaderMap, text: &str, fields: &[String]) -> Fault {
    let words = json::read(text).ok().and_then(|value| error_message(&value));
    let words = words.as_deref().unwrap_or(text);
    let name = status.canonical_reason().unwrap_or("unknown status");
    let reason = format!("{} {name}: {}", status.as_u16(), beginning(words));
    if status.is_redirection() {
        let header = headers.get("location").and_then(|value| value.to_str().ok());
        let target = header.unwrap_or_default().split('?').next().unwrap_or_default();
        let target = if target.contains('@') { "" } else { target };
        let reason = format!(
            "{} {name}: the server sends us on to `{}`; redirects are not followed, so that the \
             key stays with the server that was named: give the final URL",
            status.as_u16(),
            beginning(target)
        );
        return Fault { reason, kind: FaultKind::NotThere };
    }
    let kind = match (cause(status.as_u16(), words, fields), status.as_u16()) {
        (Some(cause), _) => FaultKind::Permanent(cause),
        (None, 403..=405) => FaultKind::NotThere,
        (None, 408 | 429 | 500..=599) => FaultKind::Transient { retry_after: retry_after(headers) },
        _ => FaultKind::Refused,
    };
    Fault { reason, kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_fall_into_their_kinds() {
        let kind = |status: u16| {
            status_fault(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), "{}", &[]).kind
        };
        let transient = FaultKind::Transient { retry_after: None };
        for status in [408, 429, 500, 502, 503, 504, 529] {
            assert_eq!(kind(status), transient, "{status}");
        }
        assert_eq!(kind(401), FaultKind::Permanent(Cause::Key));
        assert_eq!(kind(402), FaultKind::Permanent(Cause::Quota));
        assert_eq!(kind(413), FaultKind::Permanent(Cause::Picture));
        for status in [301, 307, 308, 403, 404, 405] {
            assert_eq!(kind(status), FaultKind::NotThere, "{status}");
        }
        for status in [400, 409, 415, 422] {
            assert_eq!(kind(status), FaultKind::Refused, "{status}");
        }
    }

    #[test]
    fn a_redirect_is_shown_without_its_query() {
        let mut headers = HeaderMap::new();
        headers.insert("location", "https://other/v1?token=hush".parse().unwrap());
        let fault = status_fault(StatusCode::TEMPORARY_REDIRECT, &headers, "", &[]);
        assert!(fault.reason.contains("`https://other/v1`"), "{}", fault.reason);
        assert!(!fault.reason.contains("hush"), "{}", fault.reason);
    }
}
