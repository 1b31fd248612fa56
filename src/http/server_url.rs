//! In: the URL of a server, as a user gives it. Out: the same, if it may be asked and shown; or a sentence that does not
//! repeat it, since it may hold a password.

use ureq::http::Uri;

/// The URL in its parts. `whose` begins the sentences, and `key_flag` names the flag for a key.
///
/// # Errors
/// It is no http(s) URL, or holds a user or password.
pub(crate) fn parse_url(text: &str, whose: &str, key_flag: &str) -> Result<Uri, String> {
    parse(text, whose, &instead(key_flag), EXAMPLE)
}

/// The URL of a server with OpenAI's API.
const EXAMPLE: &str = "http://localhost:8000/v1";

/// What to do with a key in place of putting it into the URL.
fn instead(key_flag: &str) -> String {
    format!("put the key into the environment variable that {key_flag} names")
}

fn parse(text: &str, whose: &str, instead: &str, example: &str) -> Result<Uri, String> {
    let example = format!("it reads like {example}");
    let uri: Uri =
        text.trim().parse().map_err(|error| format!("{whose} is no URL ({error}); {example}"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(format!("{whose} must begin with http:// or https://; {example}"));
    }
    if uri.host().unwrap_or_default().is_empty() {
        return Err(format!("{whose} names no host; {example}"));
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(format!("{whose} holds a user or password; leave that out and {instead}"));
    }
    Ok(uri)
}

/// The URL that further paths are put behind, without a slash at its end.
///
/// # Errors
/// As [`parse_url`]; or it has a query.
pub(crate) fn server_url(text: &str, flag: &str, key_flag: &str) -> Result<String, String> {
    server_url_like(text, flag, &instead(key_flag), EXAMPLE)
}

/// As [`server_url`], of a server whose URLs read like `example`; `instead` says what to do with a password that stands in it.
///
/// # Errors
/// As there.
pub(crate) fn server_url_like(
    text: &str,
    flag: &str,
    instead: &str,
    example: &str,
) -> Result<String, String> {
    let uri = parse(text, &format!("the URL of {flag}"), instead, example)?;
    match uri.query() {
        Some(_) => Err(format!("the URL of {flag} has a query (what follows `?`); leave that out")),
        None => Ok(text.trim().trim_end_matches('/').to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_url_is_told_from_what_cannot_be_asked() {
        let url = |text: &str| server_url(text, "--x-url", "--x-key-env");
        assert_eq!(url(" http://gpu:8000/v1/ ").unwrap(), "http://gpu:8000/v1");
        assert_eq!(url("https://host").unwrap(), "https://host");
        for bad in
            ["", "gpu:8000", "ftp://gpu", "http://", "http://me:hush@gpu", "http://gpu/?k=hush"]
        {
            let error = url(bad).unwrap_err();
            assert!(error.contains("--x-url") && !error.contains("hush"), "{bad}: {error}");
        }
    }
}
