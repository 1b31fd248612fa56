//! In: what a server sends as JSON. Out: its value. Python's writers put `-Infinity`, `Infinity` and `NaN` where
//! JSON has no word for a number; they are read as `null`, so that one of them does not lose the whole reply.

use serde_json::Value;

/// Numbers that Python writes and JSON does not know; the longest first.
const NO_NUMBERS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// Reads a body.
///
/// # Errors
/// It is no JSON, even with such numbers taken for `null`.
pub(super) fn read(text: &str) -> serde_json::Result<Value> {
    serde_json::from_str(text).or_else(|error| {
        let plain = without_no_numbers(text);
        if plain == text { Err(error) } else { serde_json::from_str(&plain) }
    })
}

fn without_no_numbers(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let (mut rest, mut in_string) = (text, false);
    while let Some(c) = rest.chars().next() {
        let found = NO_NUMBERS.iter().find(|word| !in_string && rest.starts_with(**word));
        let length = match found {
            Some(word) => {
                plain.push_str("null");
                word.len()
            }
            None => {
                in_string ^= c == '"';
                // An escaped quote does not end a string.
                let escaped = (in_string && c == '\\').then(|| rest[1..].chars().next()).flatten();
                let length = c.len_utf8() + escaped.map_or(0, char::len_utf8);
                plain.push_str(&rest[..length]);
                length
            }
        };
        rest = &rest[length..];
    }
    plain
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_that_python_writes_are_null_and_texts_are_left() {
        let text = r#"{"logprob": -Infinity, "all": [NaN, Infinity, -1.5], "token": "-Infinity \" NaN", "é\\": NaN}"#;
        let expected = json!({
            "logprob": null, "all": [null, null, -1.5], "token": "-Infinity \" NaN", "é\\": null
        });
        assert_eq!(read(text).unwrap(), expected);
        for bad in ["", "-Infinit", "{\"a\": Infinity", "<html>NaN", "\"\\"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
