//! In: JSON that a server would send. Out: the replies and images that the tests of this folder need.

use base64::Engine;
use serde_json::{Value, json};

use super::settings::{ServerApi, WireSettings};
use super::talk::{HttpReply, HttpRequest, Method, Retry, ServerImage, Step};
use super::{Address, Conversation};

/// Bytes that begin as a PNG does.
pub(super) const PNG: &[u8] = b"\x89PNG\r\n\x1a\nthe rest";

/// [`PNG`] in base64.
pub(super) fn png_text() -> String {
    base64::engine::general_purpose::STANDARD.encode(PNG)
}

/// The prompt of all these tests.
pub(super) const PROMPT: &str = "a red fox";
/// A seed that uses all of its 64 bits.
pub(super) const SEED: u64 = 0xfedc_ba98_8765_4321;

/// Settings of `api` with what each of `stated` names.
pub(super) fn settings(api: ServerApi, stated: &[&str]) -> WireSettings {
    let mut settings = WireSettings::new(api);
    for name in stated {
        match *name {
            "model" => settings.model = Some("a/model".to_owned()),
            "negative" => settings.negative_prompt = Some("blur".to_owned()),
            "size" => (settings.width, settings.height) = (Some(640), Some(512)),
            "steps" => settings.steps = Some(20),
            "guidance" => settings.guidance = Some(3.5),
            other => panic!("{other}"),
        }
    }
    settings
}

/// The first request's path and body.
pub(super) fn asked(settings: &WireSettings) -> (String, Value) {
    settings.check().unwrap();
    let (_, request) = Conversation::start(settings, PROMPT, SEED).unwrap();
    assert_eq!(request.method, Method::Post);
    let Address::Path(path) = request.address else { panic!("{:?}", request.address) };
    (path, request.body.unwrap())
}

/// What follows where the server answers the first request of `settings` so.
pub(super) fn answered(settings: &WireSettings, status: u16, body: &[u8]) -> Step {
    let (mut talk, _) = Conversation::start(settings, PROMPT, SEED).unwrap();
    receive(&mut talk, status, body)
}

/// As [`answered`], with JSON and status 200.
pub(super) fn answered_json(settings: &WireSettings, body: &Value) -> Step {
    answered(settings, 200, body.to_string().as_bytes())
}

/// The next step of a talk.
pub(super) fn receive(talk: &mut Conversation, status: u16, body: &[u8]) -> Step {
    let is_json = serde_json::from_slice::<Value>(body).is_ok();
    let content_type = if is_json { "application/json; charset=utf-8" } else { "image/png" };
    talk.receive(&HttpReply { status, content_type, body })
}

/// A GET below the base URL.
pub(super) fn get(path: &str) -> HttpRequest {
    HttpRequest { method: Method::Get, address: Address::Path(path.to_owned()), body: None }
}

/// A step with the image [`PNG`].
pub(super) fn done(revised_prompt: Option<&str>, seed_told: Option<u64>) -> Step {
    let revised_prompt = revised_prompt.map(str::to_owned);
    Step::Done(ServerImage { bytes: PNG.to_vec(), revised_prompt, seed_told })
}

/// The reason of a step that failed, and whether to try again.
pub(super) fn failed(step: Step) -> (String, Retry) {
    match step {
        Step::Failed { reason, retry } => (reason, retry),
        other => panic!("{other:?}"),
    }
}

/// Demands that a step failed for good and says `words`.
pub(super) fn assert_failed(step: Step, words: &str) {
    let (reason, retry) = failed(step);
    assert!(reason.contains(words), "{reason}");
    assert_eq!(retry, Retry::No, "{reason}");
}

/// A reply of the OpenAI shape with one image.
pub(super) fn one_image() -> Value {
    json!({"created": 1, "data": [{"b64_json": png_text()}]})
}
