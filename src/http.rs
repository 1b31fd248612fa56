//! In: what ureq and a server's headers say. Out: what the judge behind a server, image servers and the downloads
//! need of HTTP: a key that nothing shows, faults in words that hold no URL, how long to wait, where a URL leads,
//! whether a host is this machine. What is asked, and whether again, is left to them.

mod api_key;
mod client;
mod server_url;
mod transport_fault;
mod url_text;
mod waits;

use std::time::Duration;

use ureq::http::HeaderMap;

pub use api_key::{ApiKey, BadKey};
pub(crate) use client::{HttpClient, USER_AGENT};
pub(crate) use server_url::{parse_url, server_url, server_url_like};
pub use transport_fault::TransportFault;
pub(crate) use transport_fault::transport_fault;
pub(crate) use url_text::percent_encoded;
pub(crate) use waits::{LONGEST_WAIT, backoff};

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

/// Scheme, host and port of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    scheme: &'static str,
    /// In lower case; IPv6 addresses in brackets.
    pub(crate) host: String,
    port: u16,
}

impl Origin {
    /// The URL of its root, without a slash at the end.
    pub(crate) fn root(&self) -> String {
        format!("{}://{}:{}", self.scheme, self.host, self.port)
    }
}

/// Where `url` leads; `None` where it is no whole `http` or `https` URL.
pub(crate) fn origin(url: &str) -> Option<Origin> {
    let url: ureq::http::Uri = url.parse().ok()?;
    let (scheme, usual) = match url.scheme_str()? {
        "http" => ("http", 80),
        "https" => ("https", 443),
        _ => return None,
    };
    let host = url.host().filter(|host| !host.is_empty())?.to_ascii_lowercase();
    Some(Origin { scheme, host, port: url.port_u16().unwrap_or(usual) })
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
