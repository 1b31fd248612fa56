//! In: the `logprobs` of a chat completion and what was read of its text. Out: P(yes).

use serde_json::Value;

use crate::judge::reading::{answer_token, polarity, tokens_spell, yes_share};

/// P(yes) out of a choice's `logprobs`: at the first token that holds a letter or digit (thinking left
/// out), the probability of all alternatives that are `yes` over that of all that are `yes` or `no`,
/// whatever their case, blanks and punctuation.
///
/// `None` where the server gave no alternatives, the tokens are not those of what was `said`, none of the
/// alternatives is yes or no, or the answer that was read (`read`) does not begin there (`Answer: yes`,
/// `{"answer": "yes"}`).
pub(super) fn yes_probability(logprobs: &Value, said: &str, read: &str) -> Option<f64> {
    let tokens = logprobs["content"].as_array()?;
    let texts: Vec<Option<String>> = tokens.iter().map(token_text).collect();
    if !tokens_spell(&texts, said) {
        return None;
    }
    let texts = texts.iter().map(|text| text.as_deref().unwrap_or_default());
    let first = &tokens[answer_token(texts, read)?];
    let alternatives: Vec<(bool, f64)> = first["top_logprobs"]
        .as_array()?
        .iter()
        .filter_map(|entry| Some((polarity(&token_text(entry)?)?, entry["logprob"].as_f64()?)))
        .collect();
    yes_share(alternatives.into_iter())
}

/// What a token of `logprobs` adds to the reply; `None` where it is only a part of a character, or nothing. Its
/// `bytes` say it more exactly than its name.
fn token_text(entry: &Value) -> Option<String> {
    let bytes = entry["bytes"].as_array().filter(|bytes| !bytes.is_empty());
    let text = match bytes {
        Some(bytes) => {
            let bytes: Option<Vec<u8>> =
                bytes.iter().map(|byte| byte.as_u64()?.try_into().ok()).collect();
            String::from_utf8(bytes?).ok()
        }
        None => entry["token"].as_str().map(str::to_owned),
    };
    text.filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn token(text: &str, alternatives: &[(&str, f64)]) -> Value {
        let alternatives: Vec<Value> = alternatives
            .iter()
            .map(|(token, p)| json!({"token": token, "logprob": p.ln()}))
            .collect();
        json!({"token": text, "logprob": -0.1, "top_logprobs": alternatives})
    }

    fn close(found: Option<f64>, expected: f64) -> bool {
        found.is_some_and(|found| (found - expected).abs() < 1e-12)
    }

    #[test]
    fn the_mass_of_yes_is_taken_over_yes_and_no() {
        let first = [("Yes", 0.5), (" yes", 0.1), ("No", 0.2), ("Maybe", 0.15), ("NO.", 0.0)];
        let logprobs = json!({"content": [token("Yes", &first), token(".", &[("no", 1.0)])]});
        let found = yes_probability(&logprobs, "Yes.", "yes");
        assert!(close(found, 0.6 / 0.8));
        // Neither the bare mass of yes, nor that of the words as they are spelt most often.
        assert!(!close(found, 0.6) && !close(found, 0.5 / 0.7));
        let only_no =
            json!({"content": [token("\n", &[("Yes", 1.0)]), token("no", &[("no", 0.4)])]});
        let none = yes_probability(&only_no, "\nno", "no").unwrap();
        assert!(none == 0.0 && none.is_sign_positive(), "{none:?}");
        let tiny = json!({"content": [token("I", &[("I", 1.0), ("yes", 1e-300), ("no", 3e-300)])]});
        assert!(close(yes_probability(&tiny, "I", "I"), 0.25));
    }

    #[test]
    fn thinking_is_no_answer_whether_the_text_has_it_or_not() {
        let logprobs = json!({"content": [
            token("<think>", &[]), token("yes", &[("yes", 1.0)]), token("</th", &[]), token("ink>", &[]),
            token("\n\n", &[]), token("No", &[("No", 0.9), ("Yes", 0.1)]), token("<|im_end|>", &[]),
        ]});
        for said in ["<think>yes</think>\n\nNo", "No", "\n\nNo"] {
            assert!(close(yes_probability(&logprobs, said, "no"), 0.1), "{said}");
        }
        // Nothing shows where the thinking ended.
        let unmarked = json!({"content": [
            token("Yes", &[("Yes", 1.0)]), token("?", &[]), token("No", &[("No", 0.9), ("Yes", 0.1)]),
        ]});
        assert_eq!(yes_probability(&unmarked, "No", "no"), None);
        let channels = json!({"content": [
            token("<|channel|>", &[]), token("analysis", &[]), token("<|message|>", &[]), token("No", &[]),
            token("<|end|>", &[]), token("<|channel|>", &[]), token("final", &[]), token("<|message|>", &[]),
            token("Yes", &[("Yes", 0.75), ("No", 0.25)]), token("<|return|>", &[]),
        ]});
        assert!(close(yes_probability(&channels, "Yes", "yes"), 0.75));
    }

    #[test]
    fn marks_and_parts_of_characters_do_not_hide_the_answer() {
        let boxed = json!({"content": [
            token("<|begin_of_box|>", &[]), token("Yes", &[("Yes", 0.75), ("No", 0.25)]), token("<|end_of_box|>", &[]),
        ]});
        for said in ["<|begin_of_box|>Yes<|end_of_box|>", "Yes"] {
            assert!(close(yes_probability(&boxed, said, "yes"), 0.75), "{said}");
        }
        let part = |bytes: &[u8]| json!({"token": "\u{fffd}", "bytes": bytes, "logprob": 0.0, "top_logprobs": []});
        let nothing = json!({"token": "", "bytes": [], "logprob": 0.0, "top_logprobs": []});
        let first = token("Yes", &[("Yes", 0.75), ("No", 0.25)]);
        let parts = json!({"content": [first, nothing, part(&[240, 159]), part(&[153, 130])]});
        assert!(close(yes_probability(&parts, "Yes 🙂", "yes"), 0.75));
        assert_eq!(yes_probability(&parts, "Well, Yes 🙂", "yes"), None);
    }

    #[test]
    fn there_is_none_where_nothing_can_be_said() {
        let label = json!({"content": [
            token("Answer", &[("Answer", 0.9), ("yes", 0.1)]), token(": yes", &[("yes", 1.0)])
        ]});
        let neither = json!({"content": [token("I", &[("I", 0.9), ("Perhaps", 0.1)])]});
        for (logprobs, said, read) in [
            (label, "Answer: yes", "yes"),
            (neither, "I", "I"),
            (json!(null), "yes", "yes"),
            (json!({"content": []}), "yes", "yes"),
            (json!({"content": [{"token": "yes", "logprob": 0.0}]}), "yes", "yes"),
            (json!({"content": [token("yes", &[("yes", 0.0)])]}), "yes", "yes"),
            (json!({"content": [token("yes", &[("yes", 1.0)])]}), "no", "no"),
        ] {
            assert_eq!(yes_probability(&logprobs, said, read), None, "{logprobs}");
        }
    }
}
