//! In: the body of a chat completion. Out: what the model said and P(yes). No network here.

use serde_json::Value;

use super::super::Answer;
use super::super::reading::{read_cut_reply, read_reply};
use super::json;
use super::probability::yes_probability;

/// A completion as far as it was understood.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Completion {
    /// What was answered.
    pub answer: Answer,
    /// The model's whole words.
    pub said: String,
    /// Tokens of the prompt as the server counts them, those of the picture included.
    pub prompt_tokens: Option<u64>,
    /// `logprobs` of the choice as they came; null where there are none.
    pub logprobs: Value,
}

/// Why a body gives no answer. Asking again may help, but for [`Self::Withheld`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ReplyFault {
    /// It is cut or garbled; its beginning.
    #[error("the reply is no JSON: {0}")]
    NoJson(String),
    /// It is no chat completion; its beginning.
    #[error("the reply has no choices: {0}")]
    NoChoices(String),
    /// The server broke the reply off.
    #[error("the server broke the reply off (finish_reason {finish_reason}): {words}")]
    BrokenOff {
        /// The `finish_reason`.
        finish_reason: String,
        /// The beginning of the server's message, or of what was said.
        words: String,
    },
    /// An error with a status of success, in the server's words.
    #[error("the server reported: {}", beginning(.0))]
    Reported(String),
    /// A filter of the server's took the reply away.
    #[error("a filter of the server's withheld the reply (finish_reason {finish_reason})")]
    Withheld {
        /// The `finish_reason`.
        finish_reason: String,
    },
}

/// How a reply ended, by its `finish_reason`.
enum FinishReason {
    /// By itself.
    Whole,
    /// By the limit on its tokens.
    Cut,
    /// The server broke it off.
    Broken,
    /// A filter did.
    Filtered,
    /// In a way that is not known here.
    Unknown,
}

impl FinishReason {
    fn of(choice: &Value) -> Self {
        let Some(reason) = choice["finish_reason"].as_str() else { return Self::Whole };
        match reason.to_ascii_lowercase().as_str() {
            "stop" | "eos" | "eos_token" | "end_turn" | "stop_sequence" | "complete"
            | "tool_calls" | "function_call" => Self::Whole,
            "length" | "max_tokens" | "max_length" | "model_length" | "max_output_tokens" => {
                Self::Cut
            }
            "error"
            | "abort"
            | "aborted"
            | "cancel"
            | "cancelled"
            | "canceled"
            | "timeout"
            | "insufficient_system_resource" => Self::Broken,
            reason if reason.starts_with("content_filter") => Self::Filtered,
            "safety" | "recitation" | "blocklist" | "prohibited_content" | "spii" => Self::Filtered,
            _ => Self::Unknown,
        }
    }
}

/// Reads a body of the OpenAI chat-completions format.
///
/// The text is the first choice's `message.content` (a string, or a list of text parts), or its
/// `refusal`; an empty one is an answer that says neither yes nor no. See [`read_reply`] for how it is read,
/// [`read_cut_reply`] where the limit on tokens cut it, and [`yes_probability`] for P(yes).
///
/// # Errors
/// See [`ReplyFault`].
pub(crate) fn read_completion(body: &str) -> Result<Completion, ReplyFault> {
    let value = json::read(body).map_err(|_| ReplyFault::NoJson(beginning(body)))?;
    let choice = &value["choices"][0];
    if choice.is_null() || is_error(&value["error"]) {
        return Err(match error_message(&value) {
            Some(message) => ReplyFault::Reported(message),
            None => ReplyFault::NoChoices(beginning(body)),
        });
    }
    let said = said(&choice["message"]);
    let finish_reason = choice["finish_reason"].as_str().unwrap_or_default().to_owned();
    let ending = FinishReason::of(choice);
    if matches!(ending, FinishReason::Broken) || is_error(&choice["error"]) {
        let words = error_message(choice).unwrap_or_else(|| said.clone());
        return Err(ReplyFault::BrokenOff { finish_reason, words: beginning(&words) });
    }
    if matches!(ending, FinishReason::Filtered) {
        return Err(ReplyFault::Withheld { finish_reason });
    }
    let reading = match ending {
        FinishReason::Whole => read_reply(&said),
        _ => read_cut_reply(&said),
    };
    let logprobs = choice["logprobs"].clone();
    let yes_probability = yes_probability(&logprobs, &said, &reading.text);
    let usage = &value["usage"];
    Ok(Completion {
        answer: Answer {
            text: reading.text,
            raw: reading.raw,
            yes_probability,
            reply_cut: matches!(ending, FinishReason::Cut),
        },
        said,
        prompt_tokens: usage["prompt_tokens"].as_u64().or_else(|| usage["input_tokens"].as_u64()),
        logprobs,
    })
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

fn is_error(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    }
}

/// The message of an error: `{"error": {"message": ...}}`, `{"error": "..."}`, `{"message": ...}`, `{"detail": ...}`
/// with a text or FastAPI's list of what is wrong with which field, or any of these in a list.
pub(crate) fn error_message(value: &Value) -> Option<String> {
    if let Value::Array(values) = value {
        return values.first().and_then(error_message);
    }
    let text = |field: &Value| field.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    [&value["error"]["message"], &value["error"], &value["message"], &value["detail"]]
        .into_iter()
        .find_map(text)
        .or_else(|| text(&value["detail"]["message"]))
        .or_else(|| text(&value["detail"]["error"]))
        .or_else(|| validation_errors(&value["detail"]))
        .or_else(|| text(&value["error"]["error"]))
        .or_else(|| text(&value["error"]["type"]))
        .or_else(|| text(&value["error"]["code"]))
}

/// `[{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]` as `seed: Extra inputs are not
/// permitted`; what was sent, which some repeat beside it, is left out.
fn validation_errors(details: &Value) -> Option<String> {
    let told = details.as_array()?.iter().filter_map(|detail| {
        let message = detail["msg"].as_str()?;
        let place = detail["loc"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let place: Vec<&str> = place.filter(|name| *name != "body").collect();
        Some(if place.is_empty() {
            message.to_owned()
        } else {
            format!("{}: {message}", place.join("."))
        })
    });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// The beginning of a server's words, on one line, fit for a message.
pub(super) fn beginning(text: &str) -> String {
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
            let found = read_completion(&completion(message, "stop")).unwrap();
            assert_eq!(found.answer.text, text);
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
        ] {
            match read_completion(body) {
                Err(fault @ (ReplyFault::NoJson(_) | ReplyFault::NoChoices(_))) => {
                    assert!(fault.to_string().contains(expected), "{fault}")
                }
                other => panic!("{body}: {other:?}"),
            }
        }
        for (body, expected) in [
            (json!({"error": {"message": "overloaded"}}), "overloaded"),
            (json!({"error": "Unexpected endpoint"}), "Unexpected endpoint"),
            (json!({"choices": [], "error": {"message": "overloaded"}}), "overloaded"),
            (json!([{"error": {"message": "API key not valid"}}]), "API key not valid"),
            (
                json!({"detail": [{"loc": ["body", "seed"], "msg": "no", "input": {"logprobs": 1}}]}),
                "seed: no",
            ),
            (
                json!({"choices": [{"message": {"content": "yes"}}], "error": {"message": "overloaded"}}),
                "overloaded",
            ),
        ] {
            let found = read_completion(&body.to_string());
            assert_eq!(found, Err(ReplyFault::Reported(expected.to_owned())), "{body}");
        }
        assert_eq!(beginning(&"é".repeat(500)).chars().count(), 203);
    }

    #[test]
    fn how_a_reply_ended_decides_what_it_says() {
        let read = |content: &str, finish: &str| {
            read_completion(&completion(json!({"content": content}), finish))
                .map(|found| (found.answer.text, found.answer.reply_cut))
        };
        let said = |text: &str, cut: bool| Ok((text.to_owned(), cut));
        for (content, finish, expected) in [
            ("", "stop", said("", false)),
            (" \n", "stop", said("", false)),
            ("", "length", said("", true)),
            ("No, wait. First I should", "stop", said("no", false)),
            ("No, wait. First I should", "length", said("No, wait. First I should", true)),
            ("No.", "length", said("no", true)),
            ("**Yes**", "max_tokens", said("yes", true)),
            ("<think>Well</think>\n\nYes", "length", said("yes", true)),
            ("<think>Yes", "length", said("<think>Yes", true)),
            ("Yes, there is", "a new reason", said("Yes, there is", false)),
            ("Yes", "a new reason", said("yes", false)),
            ("Yes, there is", "eos", said("yes", false)),
        ] {
            assert_eq!(read(content, finish), expected, "{content} {finish}");
        }
        for finish in ["error", "abort", "cancelled", "insufficient_system_resource"] {
            match read("Yes", finish) {
                Err(ReplyFault::BrokenOff { finish_reason, .. }) => {
                    assert_eq!(finish_reason, finish)
                }
                other => panic!("{finish}: {other:?}"),
            }
        }
        let body = json!({"choices": [{
            "message": {"content": "Yes"}, "finish_reason": "stop", "error": {"message": "Provider\n fell over"}
        }]});
        match read_completion(&body.to_string()) {
            Err(ReplyFault::BrokenOff { words, .. }) => assert_eq!(words, "Provider fell over"),
            other => panic!("{other:?}"),
        }
        for finish in ["content_filter", "SAFETY", "content_filter: RECITATION"] {
            assert!(matches!(read("Yes", finish), Err(ReplyFault::Withheld { .. })), "{finish}");
        }
    }

    #[test]
    fn an_infinite_logarithm_loses_no_answer() {
        let body = r#"{"choices": [{"message": {"content": "Yes"}, "finish_reason": "stop", "logprobs": {"content": [
            {"token": "Yes", "logprob": 0.0, "top_logprobs": [
                {"token": "Yes", "logprob": 0.0}, {"token": "No", "logprob": -Infinity}]}]}}]}"#;
        let answer = read_completion(body).unwrap().answer;
        assert_eq!((answer.text.as_str(), answer.yes_probability), ("yes", Some(1.0)));
    }
}
