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

#[cfg(test)]
mod tests {
    use super::super::Conversation;
    use super::super::test_talk::*;
    use super::*;

    /// `SEED` without its highest bit, and its lowest 31 bits.
    const SEED_63: u64 = SEED & (u64::MAX >> 1);
    const SEED_31: u64 = SEED & 0x7fff_ffff;

    #[test]
    fn each_server_is_sent_what_it_takes() {
        for (api, stated, expected) in [
            (ServerApi::OpenAi, &[][..], json!({"prompt": PROMPT, "n": 1})),
            (
                ServerApi::OpenAi,
                &["model", "size"],
                json!({"prompt": PROMPT, "n": 1, "model": "a/model", "size": "640x512"}),
            ),
            (
                ServerApi::VllmOmni,
                &[],
                json!({"prompt": PROMPT, "n": 1, "seed": SEED_63, "response_format": "b64_json", "output_format": "png"}),
            ),
            (
                ServerApi::Sglang,
                &["model", "negative", "size", "steps", "guidance"],
                json!({"prompt": PROMPT, "n": 1, "seed": SEED_63, "response_format": "b64_json", "output_format": "png",
                    "model": "a/model", "size": "640x512", "negative_prompt": "blur", "num_inference_steps": 20,
                    "guidance_scale": 3.5}),
            ),
            (
                ServerApi::LocalAi,
                &["model", "negative", "steps"],
                json!({"prompt": "a red fox|blur", "n": 1, "seed": SEED_31, "response_format": "b64_json",
                    "model": "a/model", "step": 20}),
            ),
        ] {
            let (path, body) = asked(&settings(api, stated));
            assert_eq!(path, "/images/generations");
            assert_eq!(body, expected, "{api:?}");
        }
    }

    #[test]
    fn what_a_server_has_no_field_for_is_refused() {
        for (api, stated, words) in [
            (ServerApi::OpenAi, &["negative"][..], "--negative-prompt"),
            (ServerApi::OpenAi, &["steps"], "--steps"),
            (ServerApi::OpenAi, &["guidance"], "--guidance"),
            (ServerApi::LocalAi, &[], "--server-model"),
            (ServerApi::LocalAi, &["model", "guidance"], "--guidance"),
        ] {
            let error = settings(api, stated).check().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let mut omni = settings(ServerApi::VllmOmni, &[]);
        omni.width = Some(512);
        assert!(omni.check().unwrap_err().to_string().contains("--height"));
        omni = settings(ServerApi::VllmOmni, &[]);
        omni.steps = Some(201);
        assert!(omni.check().unwrap_err().to_string().contains("1 to 200"));
        omni = settings(ServerApi::VllmOmni, &[]);
        omni.guidance = Some(20.5);
        assert!(omni.check().unwrap_err().to_string().contains("0 to 20"));
    }

    #[test]
    fn localai_would_split_a_prompt_at_a_bar() {
        let plain = settings(ServerApi::LocalAi, &["model"]);
        assert!(Conversation::start(&plain, "a | b", 1).unwrap_err().to_string().contains('|'));
        let mut negative = settings(ServerApi::LocalAi, &["model"]);
        negative.negative_prompt = Some("a|b".to_owned());
        assert!(negative.check().is_err());
        let other = settings(ServerApi::Sglang, &[]);
        assert!(Conversation::start(&other, "a | b", 1).is_ok());
    }

    #[test]
    fn fields_of_the_user_lie_on_top() {
        let mut omni = settings(ServerApi::VllmOmni, &["steps"]);
        let add = |omni: &mut WireSettings, name: &str, value: Value| {
            omni.body.clear();
            omni.body.insert(name.to_owned(), value);
        };
        add(&mut omni, "true_cfg_scale", json!(4.0));
        assert_eq!(asked(&omni).1["true_cfg_scale"], 4.0);
        add(&mut omni, "output_format", json!("webp"));
        assert_eq!(asked(&omni).1["output_format"], "webp");
        add(&mut omni, "extra_params", json!({"shift": 3}));
        assert_eq!(asked(&omni).1["extra_params"], json!({"shift": 3}));
        for (name, words) in [
            ("seed", "the seed"),
            ("n", "the number of images"),
            ("prompt", "the prompt"),
            ("num_inference_steps", "set by a flag"),
        ] {
            add(&mut omni, name, json!(1));
            let error = omni.check().unwrap_err().to_string();
            assert!(error.contains(words), "{name}: {error}");
        }
    }

    #[test]
    fn an_image_comes_as_base64_or_lies_at_a_url() {
        let omni = settings(ServerApi::VllmOmni, &[]);
        assert_eq!(answered_json(&omni, &one_image()), done(None, None));
        let as_data = json!({"data": [{"url": format!("data:image/png;base64,{}", png_text())}]});
        assert_eq!(answered_json(&omni, &as_data), done(None, None));
        let broken_lines = png_text().replace('z', "z\n");
        let wrapped = json!({"data": [{"b64_json": format!("{broken_lines}\n")}]});
        assert_eq!(answered_json(&omni, &wrapped), done(None, None));

        let elsewhere = json!({"data": [{"b64_json": null, "url": "/files/1.png", "revised_prompt": "a fox, red"}]});
        let (mut talk, _) = Conversation::start(&omni, PROMPT, SEED).unwrap();
        let next = receive(&mut talk, 200, elsewhere.to_string().as_bytes());
        let address = Address::Url("/files/1.png".to_owned());
        assert_eq!(next, Step::Send(HttpRequest { method: Method::Get, address, body: None }));
        assert_eq!(receive(&mut talk, 200, PNG), done(Some("a fox, red"), None));
    }

    #[test]
    fn a_prompt_that_was_used_as_sent_is_not_revised() {
        let sglang = settings(ServerApi::Sglang, &[]);
        for (told, revised) in [
            (json!(PROMPT), None),
            (json!(null), None),
            (json!(""), None),
            (json!("a red fox."), Some("a red fox.")),
        ] {
            let mut reply = one_image();
            reply["data"][0]["revised_prompt"] = told;
            assert_eq!(answered_json(&sglang, &reply), done(revised, None));
        }
    }

    #[test]
    fn replies_without_one_image_say_what_is_wrong() {
        let omni = settings(ServerApi::VllmOmni, &[]);
        for (reply, words) in [
            (json!({}), "no `data`"),
            (json!({"data": []}), "0 images"),
            (json!({"data": [{"b64_json": png_text()}, {"b64_json": png_text()}]}), "2 images"),
            (json!({"data": [{}]}), "no `data[0].b64_json`"),
            (json!({"data": [{"b64_json": "%%%"}]}), "no valid base64"),
            (
                json!({"data": [{"b64_json": "aGVsbG8="}]}),
                "no PNG, JPEG or WebP: it begins with hello",
            ),
            (json!({"data": [{"b64_json": ""}]}), "is empty"),
            (json!([1]), "no `data`"),
        ] {
            assert_failed(answered_json(&omni, &reply), words);
        }
        let (mut talk, _) = Conversation::start(&omni, PROMPT, SEED).unwrap();
        receive(&mut talk, 200, br#"{"data": [{"url": "/x.png"}]}"#);
        assert_failed(receive(&mut talk.clone(), 404, b"gone"), "404: gone");
        assert_failed(receive(&mut talk.clone(), 200, b"<!DOCTYPE html><p>"), "web page");
        assert_failed(
            receive(&mut talk, 200, br#"{"detail": "no file"}"#),
            "JSON in place of an image: no file",
        );
    }
}
