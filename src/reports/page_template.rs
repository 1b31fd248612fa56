//! In: a page with names in it, and what stands for them. Out: the page, and the digests by which its content security policy knows
//! its script and its style sheet.

use base64::Engine;
use sha2::{Digest, Sha256};

/// A script or style sheet as a content security policy names it: `'sha256-...'` without the quotes.
pub(super) fn source_digest(text: &str) -> String {
    format!("sha256-{}", base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text)))
}

/// Puts values for `{{name}}`; values are not looked through again.
pub(super) fn filled(template: &str, value: impl Fn(&str) -> String) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").unwrap_or((after, ""));
        text.push_str(before);
        text.push_str(&value(name));
        rest = after;
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_not_looked_through_again() {
        let value = |name: &str| if name == "a" { "{{b}}".to_owned() } else { "gone".to_owned() };
        assert_eq!(filled("x{{a}}y{{b}}z", value), "x{{b}}ygonez");
    }
}
