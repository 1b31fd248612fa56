//! In: a server's reply. Out: the JSON or the image in it, or why there is none: the server's own words, refusals of a
//! content filter told from other errors by documented fields alone.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::talk::{HttpReply, Step};

/// Characters of a server's words that are kept.
const LONGEST_WORDS: usize = 300;

/// Values of `error.code` and `error.type` that stand for a content filter: OpenAI's API reference and help pages
/// (`content_policy_violation`, `moderation_blocked`), Azure OpenAI's (`content_filter`, `contentFilter` and
/// `ResponsibleAIPolicyViolation`).
const FILTER_CODES: &[&str] = &[
    "content_policy_violation",
    "moderation_blocked",
    "content_filter",
    "contentFilter",
    "ResponsibleAIPolicyViolation",
];

/// Fields that say, by `true` or a list with it, that a filter took the image: `nsfw_content_detected` of diffusers'
/// output, `has_nsfw_concept` of its safety checker, the others of services built on it.
const FILTER_FLAGS: &[&str] =
    &["nsfw", "has_nsfw_concept", "has_nsfw_concepts", "nsfw_content_detected"];

/// Values of `finish_reason` and `finishReason` for it: Stability AI's API and NVIDIA's image microservices.
const FILTER_FINISHES: &[&str] = &["CONTENT_FILTERED", "content_filter"];

/// The JSON of a reply with a status of success, unless a content filter speaks in it.
pub(super) fn json(reply: &HttpReply) -> Result<Value, Step> {
    accepted(reply)?;
    let value: Value =
        serde_json::from_slice(reply.body).map_err(|_| Step::failed(no_json(reply)))?;
    match filtered(&value) {
        Some(words) => Err(Step::Filtered(words)),
        None => Ok(value),
    }
}

/// Nothing for a status of success; what another status means otherwise.
pub(super) fn accepted(reply: &HttpReply) -> Result<(), Step> {
    let status = reply.status;
    if (200..300).contains(&status) {
        return Ok(());
    }
    let value = serde_json::from_slice::<Value>(reply.body).ok();
    if let Some(words) = value.as_ref().and_then(filtered) {
        return Err(Step::Filtered(words));
    }
    let words = words(reply.body);
    let told = if words.is_empty() { String::new() } else { format!(": {words}") };
    let advice = match status {
        401 | 403 => " (does --server-key-env name the variable with this server's key?)",
        404 | 405 if value.is_none() => {
            " (is --server-url the address of this API, and --server-api the right one?)"
        }
        300..=399 => {
            " (it sends elsewhere, which is not followed: give the final address as --server-url)"
        }
        _ => "",
    };
    let reason = format!("the server answers {status}{told}{advice}");
    let spent = value.as_ref().is_some_and(|value| {
        // OpenAI's error codes page: 429 for a used-up account as well, which waiting does not mend.
        value["error"]["code"] == "insufficient_quota"
            || value["error"]["type"] == "insufficient_quota"
    });
    let may_pass = matches!(status, 408 | 409 | 425 | 429) || (500..600).contains(&status);
    Err(if may_pass && !spent { Step::try_again(reason) } else { Step::failed(reason) })
}

/// Nothing, unless JSON with a status of success stands where an image's bytes were awaited.
pub(super) fn no_refusal(reply: &HttpReply) -> Result<(), Step> {
    if !reply.content_type.to_ascii_lowercase().contains("json") {
        return Ok(());
    }
    let value = serde_json::from_slice::<Value>(reply.body).unwrap_or_default();
    if let Some(words) = filtered(&value) {
        return Err(Step::Filtered(words));
    }
    let words = words(reply.body);
    Err(Step::failed(format!("the server answers with JSON in place of an image: {words}")))
}

/// What is said of a body that is no JSON.
fn no_json(reply: &HttpReply) -> String {
    if reply.body.is_empty() {
        return "the server's reply is empty: is --server-url the address of this API?".to_owned();
    }
    if is_html(reply.body) {
        return "the server answers with a web page in place of JSON: is --server-url the address of its API?".to_owned();
    }
    if has_image_magic(reply.body) {
        return "the server answers with an image in place of JSON: give --server-api for what it speaks, such as hf"
            .to_owned();
    }
    format!("the server's reply is no JSON: {}", words(reply.body))
}

/// A field that a reply must have.
pub(super) fn missing(field: &str, value: &Value) -> Step {
    let told = words_of(value);
    let told = if told.is_empty() { String::new() } else { format!(": {told}") };
    Step::failed(format!(
        "the server's reply has no `{field}`{told} (is --server-api the one that it speaks?)"
    ))
}

/// The image in a text of base64, with or without `data:image/...;base64,` before it.
pub(super) fn decoded(text: &str) -> Result<Vec<u8>, Step> {
    let text = match text.strip_prefix("data:") {
        Some(rest) => rest.split_once(";base64,").map_or(rest, |(_, data)| data),
        None => text,
    };
    let bytes = STANDARD.decode(text).or_else(|error| {
        // Some encoders break lines.
        let joined: String = text.split_ascii_whitespace().collect();
        if joined.len() == text.len() { Err(error) } else { STANDARD.decode(joined) }
    });
    image(bytes.map_err(|_| Step::failed("the image in the server's reply is no valid base64"))?)
}

/// `bytes`, where they begin as an image does.
pub(super) fn image(bytes: Vec<u8>) -> Result<Vec<u8>, Step> {
    if has_image_magic(&bytes) {
        return Ok(bytes);
    }
    let reason = if bytes.is_empty() {
        "the server's image is empty".to_owned()
    } else if is_html(&bytes) {
        "the server sends a web page in place of an image".to_owned()
    } else {
        let words = words(&bytes);
        let told =
            if words.is_empty() { String::new() } else { format!(": it begins with {words}") };
        format!("the server's image is no PNG, JPEG or WebP{told}")
    };
    Err(Step::failed(reason))
}

/// Whether the first bytes are those of a PNG, JPEG or WebP.
fn has_image_magic(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x89PNG\r\n\x1a\n")
        || bytes.starts_with(b"\xff\xd8\xff")
        || (bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP"))
}

fn is_html(bytes: &[u8]) -> bool {
    let start = bytes.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(bytes.len());
    let beginning = bytes[start..].iter().take(14).map(u8::to_ascii_lowercase).collect::<Vec<_>>();
    beginning.starts_with(b"<!doctype html") || beginning.starts_with(b"<html")
}

/// The words of a body: of the errors that JSON holds in the usual places, else the text itself; on one line, cut.
/// Empty where there are none.
pub(super) fn words(body: &[u8]) -> String {
    if let Ok(value) = serde_json::from_slice::<Value>(body) {
        let told = words_of(&value);
        return if told.is_empty() { cut(&value.to_string()) } else { told };
    }
    if is_html(body) {
        return "a web page".to_owned();
    }
    match std::str::from_utf8(body) {
        Ok(text) => cut(text),
        // A text of which the last character is cut counts as text, anything else as bytes.
        Err(_) => String::new(),
    }
}

/// The words of an error in JSON: `{"error": {"message"}}`, `{"error": "..."}`, `{"detail"}` as FastAPI sends it,
/// `{"message"}`, `{"errors"}`; cut. Empty where there are none.
pub(super) fn words_of(value: &Value) -> String {
    let mut told: Vec<String> = Vec::new();
    let mut tell = |text: Option<&str>| {
        if let Some(text) = text.map(str::trim).filter(|text| !text.is_empty())
            && !told.iter().any(|before| before.contains(text))
        {
            told.push(text.to_owned());
        }
    };
    if let Some(text) = value.as_str() {
        tell(Some(text));
    }
    for place in [&value["error"], &value["detail"], &value["message"], &value["errors"]] {
        match place {
            Value::String(text) => tell(Some(text)),
            Value::Object(_) => {
                for name in ["message", "error", "details"] {
                    tell(place[name].as_str());
                }
            }
            Value::Array(list) => {
                for entry in list {
                    let said = entry.as_str().or_else(|| entry["msg"].as_str());
                    let at: Vec<String> = entry["loc"].as_array().map_or_else(Vec::new, |places| {
                        places.iter().filter(|place| **place != "body").map(plain).collect()
                    });
                    let said = said.map(|said| {
                        if at.is_empty() {
                            said.to_owned()
                        } else {
                            format!("{}: {said}", at.join("."))
                        }
                    });
                    tell(said.as_deref());
                }
            }
            _ => {}
        }
    }
    cut(&told.join(": "))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `text` on one line, without control characters, cut at [`LONGEST_WORDS`] characters.
pub(super) fn cut(text: &str) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty())
    {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > 4 * LONGEST_WORDS {
            break;
        }
    }
    match line.char_indices().nth(LONGEST_WORDS) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

/// The words of a content filter, where `value` holds one of the fields that are documented for it.
fn filtered(value: &Value) -> Option<String> {
    let error = &value["error"];
    let inner = [&error["inner_error"], &error["innererror"]];
    let codes = [&error["code"], &error["type"], &inner[0]["code"], &inner[1]["code"]];
    let by_code =
        codes.into_iter().filter_map(Value::as_str).find(|code| FILTER_CODES.contains(code));
    if let Some(code) = by_code {
        let told = words_of(value);
        return Some(if told.is_empty() { code.to_owned() } else { told });
    }
    let lists = ["data", "images", "artifacts"].map(|name| value[name].as_array());
    let mut places = vec![value];
    places.extend(lists.into_iter().flatten().flatten());
    for place in places {
        for name in FILTER_FLAGS {
            let flag = &place[*name];
            let list = flag.as_array().is_some_and(|list| list.contains(&Value::Bool(true)));
            if *flag == Value::Bool(true) || list {
                return Some(format!("the server's reply says `{name}`"));
            }
        }
        for name in ["finish_reason", "finishReason"] {
            if let Some(reason) =
                place[name].as_str().filter(|reason| FILTER_FINISHES.contains(reason))
            {
                return Some(format!("the server's reply says `{name}`: {reason}"));
            }
        }
    }
    None
}
