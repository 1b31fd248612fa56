//! In: addresses. Out: replies, after redirects. A token goes to the server that was named and to no
//! other. One call is one try; trying again is left to `transfer`.

use std::time::Duration;

use ureq::http::{HeaderMap, Uri};
use ureq::{Agent, Body};

use super::server_fault::ServerFault;
use crate::http::{ApiKey, USER_AGENT, is_loopback, retry_after, shown_address, transport_fault};

/// Redirects followed for one request.
const MOST_REDIRECTS: usize = 8;
/// Of a list of files.
const LARGEST_JSON: u64 = 32 << 20;
/// Of an error page, to look for the server's reason.
const LARGEST_ERROR: u64 = 64 << 10;

/// How long to wait for whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    /// For a connection and for the head of a reply.
    pub head: Duration,
    /// For the next bytes of a body.
    pub read: Duration,
}

/// Connections to any server.
#[derive(Debug)]
pub(crate) struct Client {
    /// By the proxies of the environment.
    agent: Agent,
    /// To this very machine.
    direct: Agent,
}

/// What to ask for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    /// The address.
    pub url: &'a str,
    /// Sent to this address's server alone.
    pub token: Option<&'a ApiKey>,
    /// Bytes that are here already, and the entity tag under which they came.
    pub from: Option<(u64, Option<&'a str>)>,
}

/// A reply with status 200 or 206.
#[derive(Debug)]
pub(super) struct Reply {
    /// 200 or 206.
    pub status: u16,
    /// Headers of the last server.
    pub headers: HeaderMap,
    /// Headers of the server that was asked, before any redirect.
    pub first_headers: HeaderMap,
    /// The body.
    pub body: Body,
}

/// Why there is no such reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestError {
    /// What is wrong.
    pub reason: ServerFault,
    /// What it says about the next try.
    pub kind: RequestErrorKind,
}

/// What a fault says about the next try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RequestErrorKind {
    /// 401 or 403.
    Refused(u16),
    /// 404 or 410.
    NotFound,
    /// 416: there is nothing after what is here.
    NoSuchRange,
    /// It may pass; how long the server asks to wait.
    Transient(Option<Duration>),
    /// It will not.
    Permanent,
}

impl Client {
    /// Makes no connection yet.
    pub(super) fn new(patience: Timeouts, connections: usize) -> Self {
        let config = || {
            Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .timeout_connect(Some(patience.head))
                .timeout_recv_response(Some(patience.head))
                .timeout_per_read(Some(patience.read))
                .max_idle_connections_per_host(connections)
                .user_agent(USER_AGENT)
        };
        Self {
            agent: config().build().new_agent(),
            direct: config().proxy(None).build().new_agent(),
        }
    }

    /// Asks once, and goes where the server sends us on to.
    ///
    /// # Errors
    /// See [`RequestErrorKind`].
    pub(super) fn get(&self, request: Request<'_>) -> Result<Reply, RequestError> {
        let lasting = |reason| RequestError { reason, kind: RequestErrorKind::Permanent };
        let mut url = request.url.to_owned();
        let mut token = request.token;
        let mut first_headers = None;
        for _ in 0..=MOST_REDIRECTS {
            let uri: Uri = url.parse().map_err(|_| lasting(ServerFault::NoAddress))?;
            let here = uri.host().is_some_and(is_loopback);
            let mut call = if here { &self.direct } else { &self.agent }
                .get(&uri)
                .header("Accept-Encoding", "identity");
            if let Some(token) = token {
                call = call.header("Authorization", token.authorization());
            }
            if let Some((start, tag)) = request.from {
                call = call.header("Range", format!("bytes={start}-"));
                // A weak tag promises too little for parts of a file (RFC 9110, 13.1.5).
                if let Some(tag) = tag.filter(|tag| !tag.starts_with("W/")) {
                    call = call.header("If-Range", tag);
                }
            }
            let shown = shown_address(&uri);
            let response = call.call().map_err(|error| {
                let error = of_transport(&error);
                log::debug!("GET {shown}: {}", error.reason);
                error
            })?;
            let (parts, body) = response.into_parts();
            log::debug!("GET {shown}: {}", parts.status);
            let first = first_headers.get_or_insert_with(|| parts.headers.clone());
            match parts.status.as_u16() {
                status @ (200 | 206) => {
                    let first_headers = std::mem::take(first);
                    return Ok(Reply { status, headers: parts.headers, first_headers, body });
                }
                301 | 302 | 303 | 307 | 308 => {
                    let target = header(&parts.headers, "location").unwrap_or_default();
                    let target = resolve(&uri, target).map_err(lasting)?;
                    if origin(&target) != origin(&uri) {
                        token = None;
                    }
                    url = target.to_string();
                }
                status => return Err(of_status(status, &parts.headers, body, request.token)),
            }
        }
        Err(lasting(ServerFault::Circles))
    }

    /// The JSON at an address.
    ///
    /// # Errors
    /// As [`Client::get`], or it is no JSON.
    pub(super) fn json(
        &self,
        url: &str,
        token: Option<&ApiKey>,
    ) -> Result<serde_json::Value, RequestError> {
        let mut reply = self.get(Request { url, token, from: None })?;
        let bytes = reply.body.with_config().limit(LARGEST_JSON).read_to_vec();
        let bytes = bytes.map_err(|error| of_transport(&error))?;
        serde_json::from_slice(&bytes).map_err(|_| RequestError {
            reason: ServerFault::NoJson,
            kind: RequestErrorKind::Permanent,
        })
    }
}

/// A header's text.
pub(super) fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn of_transport(error: &ureq::Error) -> RequestError {
    let fault = transport_fault(error);
    let kind = if fault.may_pass() {
        RequestErrorKind::Transient(None)
    } else {
        RequestErrorKind::Permanent
    };
    RequestError { reason: ServerFault::Transport(fault), kind }
}

fn of_status(
    status: u16,
    headers: &HeaderMap,
    mut body: Body,
    token: Option<&ApiKey>,
) -> RequestError {
    let text = body.with_config().limit(LARGEST_ERROR).read_to_string().unwrap_or_default();
    // Hugging Face says it in a header, most others in JSON or a line.
    let words = header(headers, "x-error-message").map(str::to_owned).or_else(|| {
        let value: serde_json::Value = serde_json::from_str(&text).ok()?;
        let found = ["error", "Message", "message"].iter().find_map(|key| value.get(key)?.as_str());
        found.map(str::to_owned)
    });
    let words = words.unwrap_or_default();
    let words = token.map_or_else(|| words.clone(), |token| token.scrub(&words));
    let words: String = words.chars().filter(|c| !c.is_control()).take(200).collect();
    let kind = match status {
        401 | 403 => RequestErrorKind::Refused(status),
        404 | 410 => RequestErrorKind::NotFound,
        416 => RequestErrorKind::NoSuchRange,
        408 | 425 | 429 | 500..=599 => RequestErrorKind::Transient(retry_after(headers)),
        _ => RequestErrorKind::Permanent,
    };
    RequestError { reason: ServerFault::Status { status, words }, kind }
}

/// Where `location` leads from `base`.
fn resolve(base: &Uri, location: &str) -> Result<Uri, ServerFault> {
    let location = location.split('#').next().unwrap_or_default().trim();
    let scheme = base.scheme_str().unwrap_or("https");
    let authority = base.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let whole = if location.is_empty() {
        return Err(ServerFault::RedirectNowhere);
    } else if location.contains("://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    let target: Uri = whole.parse().map_err(|_| ServerFault::RedirectNoAddress)?;
    match (scheme, target.scheme_str()) {
        (_, Some("https")) | ("http", Some("http")) => Ok(target),
        ("https", Some("http")) => Err(ServerFault::RedirectUnencrypted),
        _ => Err(ServerFault::RedirectNoHttp),
    }
}

/// What decides whether two addresses are of the same server.
fn origin(uri: &Uri) -> (Option<&str>, Option<String>, Option<u16>) {
    let usual = match uri.scheme_str() {
        Some("http") => Some(80),
        Some("https") => Some(443),
        _ => None,
    };
    let host = uri.host().map(str::to_ascii_lowercase);
    (uri.scheme_str(), host, uri.port_u16().or(usual))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_where_they_say() {
        let base: Uri = "https://host:8443/a/b?c=d".parse().unwrap();
        for (location, expected) in [
            ("https://cdn/x?sign=1#part", "https://cdn/x?sign=1"),
            ("//cdn/x", "https://cdn/x"),
            ("/api/x", "https://host:8443/api/x"),
            ("x", "https://host:8443/a/x"),
        ] {
            assert_eq!(resolve(&base, location).unwrap().to_string(), expected);
        }
        for bad in ["", "http://host/x", "file:///etc/passwd", "https://"] {
            assert!(resolve(&base, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_server_is_its_scheme_host_and_port() {
        let same = |a: &str, b: &str| {
            origin(&a.parse::<Uri>().unwrap()) == origin(&b.parse::<Uri>().unwrap())
        };
        assert!(same("https://host/a", "https://HOST:443/b"));
        for other in ["https://host.example/a", "https://host:444/a", "http://host/a"] {
            assert!(!same("https://host/a", other), "{other}");
        }
    }
}
