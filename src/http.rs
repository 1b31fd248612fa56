//! In: what ureq and a server's headers say. Out: what the judge behind a server and the downloads both
//! need of HTTP: a key that nothing shows, faults in words that hold no URL, how long a server asks to
//! wait, whether a host is this machine. Requests and retries are left to the two.

mod api_key;

use std::time::Duration;

use ureq::Error;
use ureq::http::HeaderMap;

pub use api_key::ApiKey;

/// Name and version that servers are told.
pub const USER_AGENT: &str = concat!("dpg-bench/", env!("CARGO_PKG_VERSION"));

/// Why no reply came. ureq's own messages may hold the URL, and with it a secret; these hold none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransportFault {
    /// No connection could be made.
    Unreachable(&'static str),
    /// The time set for the reply ran out.
    TimedOut,
    /// The connection or the reply broke; it may pass.
    Broken(String),
    /// The request cannot be sent, or the reply not be taken, however often it is tried.
    Refused(String),
}

/// What `error` says, in words of our own.
pub fn transport_fault(error: &Error) -> TransportFault {
    use TransportFault::{Broken, Refused, Unreachable};
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
            kind => Broken(format!("the connection broke ({kind})")),
        },
        Error::BodyExceedsLimit(limit) => {
            Refused(format!("the reply is larger than {limit} bytes"))
        }
        Error::Protocol(_) | Error::LargeResponseHeader(..) | Error::BodyStalled => {
            Broken("the reply is no HTTP".to_owned())
        }
        _ => Refused("the request could not be sent".to_owned()),
    }
}

/// Whether `host` is this very machine, which no proxy can reach.
pub fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// How long the server asks to wait, by its `Retry-After`.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
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
