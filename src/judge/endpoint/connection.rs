//! In: one request body. Out: the body of a successful reply, or what went wrong and whether asking
//! again may help. Exactly one HTTP request per call; waiting and repeating are left to the judge.

use std::time::Duration;

use serde_json::Value;
use ureq::http::{HeaderMap, StatusCode};

use super::address::Address;
use super::fault::{Fault, FaultKind, FaultReason};
use super::json;
use super::reply::{beginning, error_message};
use super::wordings::cause;
use crate::http::{ApiKey, HttpClient, TransportFault, retry_after};

/// A reply is a word or two with their logprobs; more than this is no answer.
const LARGEST_REPLY: u64 = 4 << 20;

/// A pool of connections to one server.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    client: HttpClient,
    address: Address,
    key: Option<ApiKey>,
    timeout: Duration,
    fields: Vec<String>,
}

impl Connection {
    /// Makes no connection yet. `fields` are those of the requests that a server may not know.
    pub(super) fn new(
        address: Address,
        key: Option<ApiKey>,
        timeout: Duration,
        connections: usize,
        fields: Vec<String>,
    ) -> Self {
        let client = HttpClient::new(timeout, connections, !address.is_loopback());
        Self { client, address, key, timeout, fields }
    }

    /// The fields of the requests that a server may not know.
    pub(super) fn fields(&self) -> &[String] {
        &self.fields
    }

    /// Where requests go, fit to be shown.
    pub(crate) fn shown_url(&self) -> &str {
        self.address.shown()
    }

    /// Sends one request and returns the body of a reply with a status of success, the key taken out.
    ///
    /// # Errors
    /// See [`Fault`].
    pub(crate) fn post(&self, body: &[u8]) -> Result<String, Fault> {
        let sent = self.client.post(self.address.request(), self.key.as_ref(), body, LARGEST_REPLY);
        let reply = sent.map_err(|fault| self.fault(fault))?;
        let (status, text) = (reply.status, reply.body);
        if status.is_success() {
            let text = text.map_err(|fault| self.fault(fault))?;
            return Ok(self.scrub_body(&String::from_utf8_lossy(&text)));
        }
        let text = self.scrub_body(&String::from_utf8_lossy(&text.unwrap_or_default()));
        let mut fault = status_fault(status, &reply.headers, &text, &self.fields);
        if let FaultReason::Status { words: text, .. }
        | FaultReason::Redirect { target: text, .. } = &mut fault.reason
        {
            *text = self.scrub(text);
        }
        Err(fault)
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

    /// What became of a request without a reply.
    fn fault(&self, fault: TransportFault) -> Fault {
        let transient = FaultKind::Transient { retry_after: None };
        match fault {
            TransportFault::TimedOut => Fault::new(FaultReason::TimedOut(self.timeout), transient),
            fault => {
                let kind = match fault {
                    TransportFault::Unreachable(_) => FaultKind::Unreachable,
                    fault if fault.may_pass() => transient,
                    _ => FaultKind::Refused,
                };
                Fault::new(FaultReason::Transport(fault), kind)
            }
        }
    }
}

fn status_fault(status: StatusCode, headers: &HeaderMap, text: &str, fields: &[String]) -> Fault {
    let words = json::read(text).ok().and_then(|value| error_message(&value));
    let words = words.as_deref().unwrap_or(text);
    if status.is_redirection() {
        let header = headers.get("location").and_then(|value| value.to_str().ok());
        let target = header.unwrap_or_default().split('?').next().unwrap_or_default();
        let target = if target.contains('@') { "" } else { target };
        let target = beginning(target);
        return Fault::new(FaultReason::Redirect { status, target }, FaultKind::NotFound);
    }
    let kind = match (cause(status.as_u16(), words, fields), status.as_u16()) {
        (Some(cause), _) => FaultKind::Permanent(cause),
        (None, 403..=405) => FaultKind::NotFound,
        (None, 408 | 429 | 500..=599) => FaultKind::Transient { retry_after: retry_after(headers) },
        _ => FaultKind::Refused,
    };
    Fault::new(FaultReason::Status { status, words: beginning(words) }, kind)
}

#[cfg(test)]
mod tests {
    use super::super::cause::Cause;
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
            assert_eq!(kind(status), FaultKind::NotFound, "{status}");
        }
        for status in [400, 409, 415, 422] {
            assert_eq!(kind(status), FaultKind::Refused, "{status}");
        }
    }

    #[test]
    fn a_redirect_is_shown_without_its_query() {
        let mut headers = HeaderMap::new();
        headers.insert("location", "https://other/v1?token=hush".parse().unwrap());
        let fault = status_fault(StatusCode::TEMPORARY_REDIRECT, &headers, "", &[]).to_string();
        assert!(fault.contains("`https://other/v1`"), "{fault}");
        assert!(!fault.contains("hush"), "{fault}");
    }
}
