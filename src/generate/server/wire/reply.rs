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
    // A path that a server does not know: no JSON, or FastAPI's {"detail": "Not Found"}.
    let says_nothing = value.as_ref().is_none_or(|value| {
        matches!(value["detail"].as_str(), Some("Not Found" | "Method Not Allowed"))
    });
    let advice = match status {
        401 | 403 => " (does --server-key-env name the variable with this server's key?)",
        404 | 405 if says_nothing => {
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
    let sentences = told.iter().map(|words| words.trim_end_matches(['.', ':']));
    let line = sentences.collect::<Vec<_>>().join(": ");
    cut(if told.len() == 1 { &told[0] } else { &line })
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::talk::Retry;
    use super::super::test_talk::failed;
    use super::*;

    fn reply<'a>(status: u16, body: &'a [u8]) -> HttpReply<'a> {
        HttpReply { status, content_type: "", body }
    }

    fn refusal(status: u16, body: &str) -> Step {
        json(&reply(status, body.as_bytes())).unwrap_err()
    }

    #[test]
    fn errors_of_every_server_are_read() {
        for (body, words) in [
            (r#"{"error": {"message": "bad size", "code": null}}"#, "400: bad size"),
            (r#"{"error": "no prompt"}"#, "400: no prompt"),
            (r#"{"detail": "Model x does not exist"}"#, "400: Model x does not exist"),
            (
                r#"{"detail": [{"type": "less_than_equal", "loc": ["body", "n"], "msg": "at most 10"}]}"#,
                "400: n: at most 10",
            ),
            (
                r#"{"error": "server_error", "message": "out of memory"}"#,
                "400: server_error: out of memory",
            ),
            (
                r#"{"error": "HTTPException", "detail": "", "body": "", "errors": "no such sampler"}"#,
                "no such sampler",
            ),
            (r#"{"odd": 1}"#, r#"400: {"odd":1}"#),
            ("plain\n  text", "400: plain text"),
            ("<html><body>nginx", "400: a web page"),
        ] {
            let (reason, retry) = failed(refusal(400, body));
            assert!(reason.contains(words), "{reason}");
            assert_eq!(retry, Retry::No);
        }
        let (long, _) = failed(refusal(400, &"ü".repeat(5000)));
        assert_eq!(long.matches('ü').count(), 300);
        assert!(long.ends_with("..."));
    }

    #[test]
    fn some_errors_may_pass() {
        for (status, retry) in [
            (400, Retry::No),
            (401, Retry::No),
            (403, Retry::No),
            (404, Retry::No),
            (408, Retry::Yes),
            (409, Retry::Yes),
            (422, Retry::No),
            (429, Retry::Yes),
            (500, Retry::Yes),
            (503, Retry::Yes),
            (301, Retry::No),
        ] {
            assert_eq!(failed(refusal(status, "{}")).1, retry, "{status}");
        }
        let spent = r#"{"error": {"message": "quota", "type": "insufficient_quota", "code": "insufficient_quota"}}"#;
        assert_eq!(failed(refusal(429, spent)).1, Retry::No);
    }

    #[test]
    fn the_sentence_says_what_to_do() {
        for (status, body, words) in [
            (401, "{}", "--server-key-env"),
            (404, "404 page not found", "--server-url"),
            (404, r#"{"detail": "Not Found"}"#, "--server-url"),
            (302, "", "final address"),
            (200, "", "empty"),
            (200, "  <!doctype HTML><title>", "web page"),
            (200, "no json", "no JSON: no json"),
        ] {
            let (reason, _) = failed(refusal(status, body));
            assert!(reason.contains(words), "{reason}");
        }
        let model =
            failed(refusal(404, r#"{"error": {"message": "The model x does not exist"}}"#)).0;
        assert_eq!(model, "the server answers 404: The model x does not exist");
        let image = json(&reply(200, b"\x89PNG\r\n\x1a\n")).unwrap_err();
        assert!(failed(image).0.contains("such as hf"));
    }

    #[test]
    fn a_content_filter_is_told_by_documented_fields_alone() {
        for (status, body, words) in [
            (
                400,
                json!({"error": {"code": "moderation_blocked", "message": "Your request was rejected",
                    "type": "image_generation_user_error"}}),
                "Your request was rejected",
            ),
            (
                400,
                json!({"error": {"code": "content_policy_violation", "message": ""}}),
                "content_policy_violation",
            ),
            (
                400,
                json!({"error": {"code": "x", "message": "filtered", "inner_error": {"code": "ResponsibleAIPolicyViolation"}}}),
                "filtered",
            ),
            (200, json!({"data": [{"b64_json": "", "nsfw": true}]}), "nsfw"),
            (200, json!({"images": ["x"], "has_nsfw_concepts": [true]}), "has_nsfw_concepts"),
            (200, json!({"nsfw_content_detected": [false, true]}), "nsfw_content_detected"),
            (200, json!({"artifacts": [{"finishReason": "CONTENT_FILTERED"}]}), "CONTENT_FILTERED"),
        ] {
            match refusal(status, &body.to_string()) {
                Step::Filtered(told) => assert!(told.contains(words), "{told}"),
                other => panic!("{body}: {other:?}"),
            }
        }
        for body in [
            json!({"error": {"message": "nsfw content policy violation moderation_blocked"}}),
            json!({"error": "content_policy_violation"}),
            json!({"detail": "the safety checker refused it"}),
        ] {
            failed(refusal(400, &body.to_string()));
        }
        for body in [
            json!({"has_nsfw_concepts": [false]}),
            json!({"nsfw": false}),
            json!({"finish_reason": "SUCCESS"}),
        ] {
            assert!(json(&reply(200, body.to_string().as_bytes())).is_ok(), "{body}");
        }
    }

    #[test]
    fn images_are_told_by_their_first_bytes() {
        for bytes in
            [&b"\x89PNG\r\n\x1a\n..."[..], b"\xff\xd8\xff\xe0", b"RIFF\x01\x02\x03\x04WEBPVP8 "]
        {
            assert_eq!(image(bytes.to_vec()).unwrap(), bytes);
        }
        for bytes in
            [&b"GIF89a"[..], b"RIFF\x01\x02\x03\x04WAVE", b"\x89PNG", b"", b"\0\0\0\x1cftypavif"]
        {
            assert_eq!(failed(image(bytes.to_vec()).unwrap_err()).1, Retry::No);
        }
    }
}
