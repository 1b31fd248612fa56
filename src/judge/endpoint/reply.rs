//! In: the body of a chat completion. Out: what the model said and P(yes). No network here.

use serde_json::Value;

use super::super::Answer;
use super::super::reading::{answer_token, polarity, read_reply, yes_share};

/// Why a body gives no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyFault {
    /// It is no chat completion: cut, garbled, or an error with a status of success. Asking again may
    /// help.
    Unreadable(String),
    /// A whole completion in which nothing is said. Asking again gives the same.
    Empty(String),
}

/// Reads a body of the OpenAI chat-completions format.
///
/// The text is the first choice's `message.content` (a string, or a list of text parts), or its
/// `refusal`. See [`read_reply`] for how it is read and [`yes_probability`] for P(yes).
///
/// # Errors
/// See [`ReplyFault`].
pub fn read_completion(body: &str) -> Result<Answer, ReplyFault> {
    let value: Value = serde_json::from_str(body).map_err(|_| {
        ReplyFault::Unreadable(format!("the reply is no JSON: {}", beginning(body)))
    })?;
    let choice = &value["choices"][0];
    if choice.is_null() {
        return Err(ReplyFault::Unreadable(match error_message(&value) {
            Some(message) => format!("the server reported: {}", beginning(&message)),
            None => format!("the reply has no choices: {}", beginning(body)),
        }));
    }
    let said = said(&choice["message"]);
    if said.trim().is_empty() {
        let why = match choice["finish_reason"].as_str() {
            Some("length") => "cut by the token limit; raise --judge-max-tokens".to_owned(),
            Some(reason) => format!("finish_reason {reason}"),
            None => "no finish_reason".to_owned(),
        };
        return Err(ReplyFault::Empty(format!("the reply is empty ({why})")));
    }
    let reading = read_reply(&said);
    let yes_probability = yes_probability(&choice["logprobs"], &reading.text);
    Ok(Answer { text: reading.text, raw: reading.raw, yes_probability })
}

fn said(message: &Value) -> String {
    let content = match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    };
    if content.is_empty() {
        message["refusal"].as_str().unwrap_or_default().to_owned()
    } else {
        content
    }
}

/// P(yes) out of a choice's `logprobs`: at the first token that holds a letter or digit (thinking left
/// out), the probability of all alternatives that are `yes` over that of all that are `yes` or `no`,
/// whatever their case, blanks and punctuation.
///
/// `None` where the server gave no alternatives, none of them is yes or no, or the answer that was read
/// (`read`) does not begin there (`Answer: yes`, `{"answer": "yes"}`).
pub fn yes_probability(logprobs: &Value, read: &str) -> Option<f64> {
    let tokens = logprobs["content"].as_array()?;
    let texts = tokens.iter().map(|token| token["token"].as_str().unwrap_or_default());
    let first = &tokens[answer_token(texts, read)?];
    let alternatives: Vec<(bool, f64)> = first["top_logprobs"]
        .as_array()?
        .iter()
        .filter_map(|entry| Some((polarity(entry["token"].as_str()?)?, entry["logprob"].as_f64()?)))
        .collect();
    yes_share(alternatives.into_iter())
}

/// The message of an error object: `{"error": {"message": ...}}`, `{"error": "..."}`,
/// `{"message": ...}` or `{"detail": ...}`.
pub fn error_message(value: &Value) -> Option<String> {
    [&value["error"]["message"], &value["error"], &value["message"], &value["detail"]]
        .into_iter()
        .find_map(|field| field.as_str().map(str::to_owned))
}

/// The beginning of a server's words, on one line, fit for a message.
pub fn beginning(text: &str) -> String {
    const SHOWN: usize = 200;
    let line: Vec<&str> = text.split_whitespace().collect();
    let line: String = line.join(" ").chars().filter(|c| !c.is_control()).collect();
    match line.char_indices().nth(SHOWN) {
        _ if line.is_empty() => "(nothing)".to_owned(),
        Some((at, _)) => format!("{}...", &line[..at]),
        None => line,
    }
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
        assert!(close(yes_probability(&logprobs, "yes"), 0.6 / 0.8));
        // Neither the bare mass of yes, nor that of the words as they are spelt most often.
        assert!(!close(yes_probability(&logprobs, "yes"), 0.6));
        assert!(!close(yes_probability(&logprobs, "yes"), 0.5 / 0.7));
        let only_no =
            json!({"content": [token("\n", &[("Yes", 1.0)]), token("no", &[("no", 0.4)])]});
        assert!(close(yes_probability(&only_no, "no"), 0.0));
        let tiny = json!({"content": [token("I", &[("I", 1.0), ("yes", 1e-300), ("no", 3e-300)])]});
        assert!(close(yes_probability(&tiny, "I cannot say"), 0.25));
    }

    #[test]
    fn thinking_is_no_answer() {
        let logprobs = json!({"content": [
            token("<think>", &[]), token("yes", &[("yes", 1.0)]), token("</th", &[]), token("ink>", &[]),
            token("\n\n", &[]), token("No", &[("No", 0.9), ("Yes", 0.1)]),
        ]});
        assert!(close(yes_probability(&logprobs, "no"), 0.1));
    }

    #[test]
    fn there_is_none_where_nothing_can_be_said() {
        let label = json!({"content": [token("Answer", &[("Answer", 0.9), ("yes", 0.1)]), token("yes", &[("yes", 1.0)])]});
        let neither = json!({"content": [token("I", &[("I", 0.9), ("Perhaps", 0.1)])]});
        for (logprobs, read) in [
            (label, "yes"),
            (neither, "I cannot say"),
            (json!(null), "yes"),
            (json!({"content": []}), "yes"),
            (json!({"content": [{"token": "yes", "logprob": 0.0}]}), "yes"),
            (json!({"content": [token("yes", &[("yes", 0.0)])]}), "yes"),
        ] {
            assert_eq!(yes_probability(&logprobs, read), None, "{logprobs}");
        }
    }

    fn completion(message: Value, finish: &str) -> String {
        json!({"choices": [{"message": message, "finish_reason": finish}]}).to_string()
    }

    #[test]
    fn completions_of_several_makers_are_read() {
        for (message, text) in [
            (json!({"content": "Yes."}), "yes"),
            (
                json!({"content": [{"type": "text", "text": "N"}, {"type": "text", "text": "o"}]}),
                "no",
            ),
            (json!({"content": null, "refusal": "I cannot help."}), "I cannot help."),
            (json!({"content": "no", "reasoning_content": "yes"}), "no"),
        ] {
            assert_eq!(read_completion(&completion(message, "stop")).unwrap().text, text);
        }
    }

    #[test]
    fn what_is_no_completion_is_told_apart() {
        for (body, expected) in [
            ("<html>\n oops", "no JSON: <html> oops"),
            ("", "no JSON: (nothing)"),
            ("{\"choices\":[{\"mess", "no JSON"),
            ("{\"choices\":[]}", "no choices"),
            ("[1]", "no choices"),
            ("{\"error\":{\"message\":\"overloaded\"}}", "reported: overloaded"),
        ] {
            match read_completion(body) {
                Err(ReplyFault::Unreadable(reason)) => {
                    assert!(reason.contains(expected), "{reason}")
                }
                other => panic!("{body}: {other:?}"),
            }
        }
        match read_completion(&completion(json!({"content": " "}), "length")) {
            Err(ReplyFault::Empty(reason)) => {
                assert!(reason.contains("--judge-max-tokens"), "{reason}")
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(beginning(&"é".repeat(500)).chars().count(), 203);
    }
}
