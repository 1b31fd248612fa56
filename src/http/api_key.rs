//! In: the text of an environment variable. Out: a key that goes into request headers and nowhere else.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Keys shorter than this are place holders (`EMPTY`, `none`): taking them out of a server's words
/// would only garble those.
const SHORTEST_SECRET: usize = 8;

/// A character in a key that no HTTP header can carry; the sentence does not repeat the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key holds a blank or a character that no HTTP header can carry")]
pub struct BadKey;

/// A secret that no `Debug`, message or file shows.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    secret: String,
    /// The `Authorization` header's scheme and what follows it.
    scheme: &'static str,
    credentials: String,
}

impl ApiKey {
    /// Takes the value of an environment variable; blanks and line ends around it are taken off.
    /// `None` for an empty one.
    ///
    /// # Errors
    /// See [`BadKey`].
    pub fn new(value: &str) -> Result<Option<Self>, BadKey> {
        let value = value.trim();
        if value.is_empty() {
            return Ok(None);
        }
        if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BadKey);
        }
        let secret = value.to_owned();
        Ok(Some(Self { credentials: secret.clone(), secret, scheme: "Bearer" }))
    }

    /// A user's password, which goes out as RFC 7617 has it (`Basic`).
    pub(crate) fn of_user(user: &str, password: &str) -> Self {
        let credentials = STANDARD.encode(format!("{user}:{password}"));
        Self { secret: password.to_owned(), scheme: "Basic", credentials }
    }

    /// The key in the environment variable `variable`; an empty name stands for no key. `named_by` is the flag that
    /// named the variable, which must then be set.
    ///
    /// # Errors
    /// A sentence without the key: the variable holds no key, or none where one was named.
    pub(crate) fn from_environment(
        variable: &str,
        named_by: Option<&str>,
    ) -> Result<Option<Self>, String> {
        if variable.is_empty() {
            return Ok(None);
        }
        let key = match std::env::var_os(variable) {
            None => None,
            Some(value) => {
                let value = value.to_str().ok_or_else(|| format!("{variable} is no UTF-8 text"))?;
                Self::new(value).map_err(|reason| format!("{variable}: {reason}"))?
            }
        };
        match (&key, named_by) {
            (None, Some(flag)) => {
                Err(format!("the environment variable {variable} that {flag} names is not set"))
            }
            _ => Ok(key),
        }
    }

    /// The value of the `Authorization` header.
    pub fn authorization(&self) -> String {
        format!("{} {}", self.scheme, self.credentials)
    }

    /// `text` with every occurrence of the key replaced: some servers repeat it in their errors.
    pub(crate) fn scrub(&self, text: &str) -> String {
        [&self.credentials, &self.secret]
            .into_iter()
            .filter(|secret| secret.len() >= SHORTEST_SECRET)
            .fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiKey(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_sent_and_never_shown() {
        let key = ApiKey::new(" sk-hush-hush\n").unwrap().unwrap();
        assert_eq!(key.authorization(), "Bearer sk-hush-hush");
        assert!(!format!("{key:?}").contains("hush"));
        assert_eq!(key.scrub("bad key sk-hush-hush!"), "bad key ***!");
        assert_eq!(ApiKey::new("no").unwrap().unwrap().scrub("nothing, no"), "nothing, no");
        assert_eq!(ApiKey::new(" ").unwrap(), None);
        for bad in ["sk hush", "sk-hüsh", "sk-\u{7f}hush", "sk-hush\nsk-hush"] {
            assert!(!ApiKey::new(bad).unwrap_err().to_string().contains("hush"));
        }
    }

    #[test]
    fn a_password_goes_out_as_basic_and_is_never_shown() {
        let key = ApiKey::of_user("Aladdin", "open sesame");
        // The example of RFC 7617.
        assert_eq!(key.authorization(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(!format!("{key:?}").contains("sesame"));
        assert_eq!(key.scrub("open sesame, QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), "***, ***");
    }
}
