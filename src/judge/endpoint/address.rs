//! In: the URL that a user gives. Out: where requests go, and what of it may be shown and recorded.

use crate::http::{is_loopback, parse_url};

/// The chat-completions address of a server.
#[derive(Clone)]
pub struct Address {
    request: String,
    shown: String,
    query: Option<String>,
    is_loopback: bool,
}

impl Address {
    /// Completes a base URL. Without a path it gets `/v1/chat/completions`; a path that ends in
    /// `/chat/completions` is taken as it is; any other path (`/v1`, `/api/v1`, `/v1beta/openai`) gets
    /// `/chat/completions`. A query stays in the requests but is neither shown nor recorded.
    ///
    /// # Errors
    /// A sentence, free of the URL itself (it may hold a password): no http(s) URL, or one with a user
    /// or password in it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let uri = parse_url(text, "the endpoint's URL", "--judge-key-env")?;
        let scheme = uri.scheme_str().unwrap_or_default();
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let host = uri.host().unwrap_or_default();
        let path = match uri.path().trim_end_matches('/') {
            "" => "/v1/chat/completions".to_owned(),
            whole if whole.ends_with("/chat/completions") => whole.to_owned(),
            base => format!("{base}/chat/completions"),
        };
        let shown = format!("{scheme}://{authority}{path}");
        let request = match uri.query() {
            Some(query) => format!("{shown}?{query}"),
            None => shown.clone(),
        };
        let query = uri.query().map(str::to_owned);
        Ok(Self { request, shown, query, is_loopback: is_loopback(host) })
    }

    /// The URL to send requests to. It may hold a secret in its query.
    pub fn request(&self) -> &str {
        &self.request
    }

    /// The URL without its query.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// `text` with the query of the URL taken out, should a server repeat it.
    pub(crate) fn scrub(&self, text: &str) -> String {
        match self.query.as_deref() {
            None | Some("") => text.to_owned(),
            Some(query) => text.replace(query, "***"),
        }
    }

    /// Whether the server is this very machine, which no proxy can reach.
    pub(crate) fn is_loopback(&self) -> bool {
        self.is_loopback
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Address({})", self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_are_completed() {
        for (given, expected) in [
            ("http://localhost:8000", "http://localhost:8000/v1/chat/completions"),
            ("http://localhost:8000/", "http://localhost:8000/v1/chat/completions"),
            ("http://localhost:8000/v1", "http://localhost:8000/v1/chat/completions"),
            (" http://localhost:8000/v1/ ", "http://localhost:8000/v1/chat/completions"),
            ("https://host/v1/chat/completions", "https://host/v1/chat/completions"),
            ("https://host/v1beta/openai/", "https://host/v1beta/openai/chat/completions"),
            ("http://[::1]:80/api/v1", "http://[::1]:80/api/v1/chat/completions"),
        ] {
            let address = Address::parse(given).unwrap();
            assert_eq!((address.request(), address.shown()), (expected, expected));
        }
    }

    #[test]
    fn a_query_is_sent_and_not_shown() {
        let address = Address::parse("https://host/openai?api-version=1&code=hush").unwrap();
        assert_eq!(
            address.request(),
            "https://host/openai/chat/completions?api-version=1&code=hush"
        );
        let repeated = address.scrub("no such path: /openai?api-version=1&code=hush");
        assert!(!format!("{address:?}{}{repeated}", address.shown()).contains("hush"));
    }

    #[test]
    fn what_is_no_endpoint_is_refused_without_being_repeated() {
        for bad in [
            "",
            "localhost:8000",
            "host",
            "ftp://host",
            "file:///x",
            "http://me:hush@host/v1",
            "http://",
        ] {
            let error = Address::parse(bad).unwrap_err();
            assert!(!error.contains("hush") && error.contains("URL"), "{bad}: {error}");
        }
    }

    #[test]
    fn loopback_is_known() {
        for (url, expected) in [
            ("http://localhost:1", true),
            ("http://127.0.0.2/v1", true),
            ("http://[::1]:80", true),
            ("http://127.0.0.1.example.org", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(Address::parse(url).unwrap().is_loopback(), expected, "{url}");
        }
    }
}
