//! In: what ureq and a server's headers say. Out: what the judge behind a server and the downloads both
//! need of HTTP: a key that nothing shows, faults in words that hold no URL, how long a server asks to
//! wait, whether a host is this machine. Requests and retries are left to the two.

mod api_key;

use std::time::Duration;

use ureq::Error;
use ureq::http::HeaderMap;

pub use api_key::{ApiKey, BadKey};

/// Name and version that servers are told.
pub(crate) const USER_AGENT: &str = concat!("dpg-bench/", env!("CARGO_PKG_VERSION"));

/// Why no reply came. ureq's own messages may hold the URL, and with it a secret; these hold none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransportFault {
    /// No connection could be made.
    #[error("no connection to the server: {0}")]
    Unreachable(&'static str),
    /// The time set for the reply ran out.
    #[error("the server is silent")]
    TimedOut,
    /// The connection broke.
    #[error("the connection broke ({0})")]
    Broken(std::io::ErrorKind),
    /// The reply is no HTTP.
    #[error("the reply is no HTTP")]
    NoHttp,
    /// The reply is larger than so many bytes, which are taken at most.
    #[error("the reply is larger than {0} bytes")]
    TooLarge(u64),
    /// The request cannot be sent.
    #[error("the request could not be sent")]
    NotSent,
}

impl TransportFault {
    /// Whether the same request may be answered another time.
    pub(crate) fn may_pass(self) -> bool {
        !matches!(self, Self::TooLarge(_) | Self::NotSent)
    }
}

/// What `error` says, in words of our own.
pub(crate) fn transport_fault(error: &Error) -> TransportFault {
    use TransportFault::Unreachable;
    match error {
        Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
            Unreachable("it timed out")
        }
        Error::Timeout(_) => TransportFault::TimedOut,
        Error::HostNotFound => Unreachable("the host name is unknown"),
        Error::ConnectionFailed => Unreachable("it failed"),
        Error::ConnectProxyFailed(_) | Error::InvalidProxyUrl => {
            Unreachable("the proxy of the environment refused it")
        }
        Error::Tls(_) | Error::Rustls(_) | Error::Pem(_) | Error::TlsRequired => {
            Unreachable("TLS could not be agreed on")
        }
        Error::Io(error) => match error.kind() {
            std::io::ErrorKind::ConnectionRefused => Unreachable("it was refused"),
            std::io::ErrorKind::HostUnreachable | std::io::ErrorKind::NetworkUnreachable => {
                Unreachable("there is no route to it")
            }
            kind => TransportFault::Broken(kind),
        },
        Error::BodyExceedsLimit(limit) => TransportFault::TooLarge(*limit),
        Error::Protocol(_) | Error::LargeResponseHeader(..) | Error::BodyStalled => {
            TransportFault::NoHttp
        }
        _ => TransportFault::NotSent,
    }
}

/// Whether `host` is this very machine, which no proxy can reach.
pub(crate) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// An address without what may be secret in it: user, password and query.
pub(crate) fn shown_address(uri: &ureq::http::Uri) -> String {
    let port = uri.port().map_or(String::new(), |port| format!(":{port}"));
    let (scheme, host) = (uri.scheme_str().unwrap_or_default(), uri.host().unwrap_or_default());
    format!("{scheme}://{host}{port}{}", uri.path())
}

/// How long the server asks to wait, by its `Retry-After`.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let header = headers.get("retry-after").and_then(|value| value.to_str().ok());
    header.and_then(|text| parse_retry_after(text, jiff::Timestamp::now()))
}

/// Reads a `Retry-After` header: seconds, or an HTTP date (RFC 9110, 10.2.3). A date that has passed
/// means no wait; nonsense means no header.
fn parse_retry_after(text: &str, now: jiff::Timestamp) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    let seconds = date.as_second() - now.as_second();
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_has_two_forms() {
        // 784111777 is RFC 9110's example date, Sun, 06 Nov 1994 08:49:37 GMT.
        let now = jiff::Timestamp::from_second(784_111_777 - 90).unwrap();
        for (text, seconds) in [
            ("7", Some(7.0)),
            (" 0 ", Some(0.0)),
            ("1.5", Some(1.5)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(90.0)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0.0)),
            ("-3", None),
            ("soon", None),
            ("", None),
            ("NaN", None),
        ] {
            let found = parse_retry_after(text, now).map(|wait| wait.as_secs_f64());
            assert_eq!(found, seconds, "{text}");
        }
    }

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        let shown = |text: &str| shown_address(&text.parse().unwrap());
        assert_eq!(shown("https://me:hush@host:8443/a/b?token=hush"), "https://host:8443/a/b");
        assert_eq!(shown("http://[::1]/a"), "http://[::1]/a");
    }

    #[test]
    fn this_machine_is_known() {
        for (host, expected) in [
            ("localhost", true),
            ("127.0.0.2", true),
            ("[::1]", true),
            ("127.0.0.1.example.org", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }
}
