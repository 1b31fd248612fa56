//! In: the text of an environment variable. Out: a key that goes into request headers and nowhere else.

/// Keys shorter than this are place holders (`EMPTY`, `none`): taking them out of a server's words
/// would only garble those.
const SHORTEST_SECRET: usize = 8;

/// A character in a key that no HTTP header can carry; the sentence does not repeat the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key holds a blank or a character that no HTTP header can carry")]
pub struct BadKey;

/// A secret that no `Debug`, message or file shows.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

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
        Ok(Some(Self(value.to_owned())))
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
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// `text` with every occurrence of the key replaced: some servers repeat it in their errors.
    pub(crate) fn scrub(&self, text: &str) -> String {
        if self.0.len() < SHORTEST_SECRET { text.to_owned() } else { text.replace(&self.0, "***") }
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
        assert_eq!(key.bearer(), "Bearer sk-hush-hush");
        assert!(!format!("{key:?}").contains("hush"));
        assert_eq!(key.scrub("bad key sk-hush-hush!"), "bad key ***!");
        assert_eq!(ApiKey::new("no").unwrap().unwrap().scrub("nothing, no"), "nothing, no");
        assert_eq!(ApiKey::new(" ").unwrap(), None);
        for bad in ["sk hush", "sk-hüsh", "sk-\u{7f}hush", "sk-hush\nsk-hush"] {
            assert!(!ApiKey::new(bad).unwrap_err().to_string().contains("hush"));
        }
    }
}
