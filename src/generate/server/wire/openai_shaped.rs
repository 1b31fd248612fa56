//! In: a prompt and a seed. Out: the body of `POST /images/generations` for each server of that shape, and the image,
//! or the URL of one, in the reply. Read in openai-python 3.57.0, vllm-omni 0.30.0, sglang 0.5.23 and LocalAI (2026).

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::address::Address;
use super::reply::{decoded, missing};
use super::settings::{ServerApi, WireSettings};
use super::talk::{HttpRequest, Method, ServerImage, Step};

/// Below the base URL, which ends in `/v1` for these servers.
pub(super) const PATH: &str = "/images/generations";

/// What separates the negative prompt in LocalAI's `prompt`.
const LOCALAI_SEPARATOR: char = '|';

/// The body for one image.
///
/// OpenAI's own models answer 400 to a `seed` or a `response_format`, and always send base64, PNG unless told
/// otherwise. SGLang sends a URL and JPEG unless told otherwise, vLLM-Omni takes no `url`; LocalAI calls steps `step`.
pub(super) fn body(settings: &WireSettings, prompt: &str, seed: Option<u64>) -> Result<Value> {
    let mut body = json!({"prompt": prompt, "n": 1});
    let mut set = |name: &str, value: Value| {
        if !value.is_null() {
            body[name] = value;
        }
    };
    set("model", json!(settings.model));
    set("size", json!(settings.size()));
    set("seed", json!(seed));
    match settings.api {
        ServerApi::VllmOmni | ServerApi::Sglang => {
            set("response_format", json!("b64_json"));
            set("output_format", json!("png"));
            set("negative_prompt", json!(settings.negative_prompt));
            set("num_inference_steps", json!(settings.steps));
            set("guidance_scale", json!(settings.guidance));
        }
        ServerApi::LocalAi => {
            ensure!(
                !prompt.contains(LOCALAI_SEPARATOR),
                "LocalAI takes what follows `|` in a prompt as the negative prompt, and this prompt has one: it cannot be sent"
            );
            if let Some(negative) = &settings.negative_prompt {
                set("prompt", json!(format!("{prompt}{LOCALAI_SEPARATOR}{negative}")));
            }
            set("response_format", json!("b64_json"));
            set("step", json!(settings.steps));
        }
        _ => {}
    }
    Ok(body)
}

/// Refuses what these servers would refuse, or read as something else.
pub(super) fn check(settings: &WireSettings) -> Result<()> {
    match settings.api {
        ServerApi::VllmOmni => {
            ensure!(
                settings.steps.is_none_or(|steps| (1..=200).contains(&steps)),
                "vLLM-Omni takes 1 to 200 steps"
            );
            ensure!(
                settings.guidance.is_none_or(|guidance| (0.0..=20.0).contains(&guidance)),
                "vLLM-Omni takes a guidance of 0 to 20"
            );
        }
        ServerApi::LocalAi => {
            let negative = settings.negative_prompt.as_deref().unwrap_or_default();
            ensure!(
                !negative.contains(LOCALAI_SEPARATOR),
                "LocalAI takes `|` as the start of the negative prompt: it cannot stand within one"
            );
        }
        _ => {}
    }
    Ok(())
}

/// What is in a reply's `data`.
pub(super) enum Found {
    /// The image, or why there is none.
    Step(Step),
    /// It lies at an address, which is asked next; with the prompt that was used, where it is another.
    Elsewhere(HttpRequest, Option<String>),
}

/// Reads `{"data": [{"b64_json" or "url", "revised_prompt"}]}`.
pub(super) fn read(reply: &Value, prompt: &str) -> Found {
    match look(reply, prompt) {
        Ok(found) => found,
        Err(step) => Found::Step(step),
    }
}

fn look(reply: &Value, prompt: &str) -> Result<Found, Step> {
    let data = reply["data"].as_array().ok_or_else(|| missing("data", reply))?;
    let [image] = data.as_slice() else {
        return Err(Step::failed(format!(
            "the server sends {} images, where one was asked for",
            data.len()
        )));
    };
    let revised = image["revised_prompt"].as_str();
    let revised_prompt =
        revised.filter(|revised| !revised.is_empty() && *revised != prompt).map(str::to_owned);
    if let Some(text) = image["b64_json"].as_str() {
        let bytes = decoded(text)?;
        return Ok(Found::Step(Step::Done(ServerImage { bytes, revised_prompt, seed_told: None })));
    }
    let Some(url) = image["url"].as_str() else {
        return Err(missing("data[0].b64_json", reply));
    };
    if url.starts_with("data:") {
        let bytes = decoded(url)?;
        return Ok(Found::Step(Step::Done(ServerImage { bytes, revised_prompt, seed_told: None })));
    }
    let request =
        HttpRequest { method: Method::Get, address: Address::Url(url.to_owned()), body: None };
    Ok(Found::Elsewhere(request, revised_prompt))
}
