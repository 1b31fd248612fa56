//! In: a prompt and a seed. Out: the body for Hugging Face's text-to-image task (`tasks/text-to-image/spec/input.json`,
//! 2026). Its reply is the image itself.

use serde_json::{Value, json};

use super::settings::WireSettings;

/// Below the base URL: the model's endpoint, or the base URL itself where no model is named.
pub(super) fn path(settings: &WireSettings) -> String {
    settings.model.as_ref().map_or_else(String::new, |model| format!("/models/{model}"))
}

/// Whether `name` can stand in a path: letters, digits, `-`, `_`, `.` and slashes, no step upwards.
pub(super) fn is_model_name(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    name.split('/').all(part)
}

/// The body for one image.
pub(super) fn body(settings: &WireSettings, prompt: &str, seed: Option<u64>) -> Value {
    let mut parameters = json!({"seed": seed});
    for (name, value) in [
        ("negative_prompt", json!(settings.negative_prompt)),
        ("width", json!(settings.width)),
        ("height", json!(settings.height)),
        ("num_inference_steps", json!(settings.steps)),
        ("guidance_scale", json!(settings.guidance)),
    ] {
        if !value.is_null() {
            parameters[name] = value;
        }
    }
    json!({"inputs": prompt, "parameters": parameters})
}

#[cfg(test)]
mod tests {
    use super::super::settings::ServerApi;
    use super::super::talk::Retry;
    use super::super::test_talk::*;
    use super::*;

    #[test]
    fn parameters_hold_the_seed_and_the_path_the_model() {
        let seed = SEED & 0xffff_ffff;
        assert_eq!(
            asked(&settings(ServerApi::HuggingFace, &[])),
            (String::new(), json!({"inputs": PROMPT, "parameters": {"seed": seed}}))
        );
        let mut all =
            settings(ServerApi::HuggingFace, &["model", "negative", "size", "steps", "guidance"]);
        all.body =
            json!({"parameters": {"scheduler": "DDIMScheduler"}}).as_object().unwrap().clone();
        assert_eq!(
            asked(&all),
            (
                "/models/a/model".to_owned(),
                json!({"inputs": PROMPT, "parameters": {"seed": seed, "negative_prompt": "blur", "width": 640,
                    "height": 512, "num_inference_steps": 20, "guidance_scale": 3.5, "scheduler": "DDIMScheduler"}})
            )
        );
        all.body = json!({"parameters": {"seed": 1}}).as_object().unwrap().clone();
        assert!(all.check().unwrap_err().to_string().contains("the seed"));
        all.body.clear();
        for name in ["../admin", "a//b", "a b", "a?b", "", "a/.."] {
            all.model = Some(name.to_owned());
            assert!(all.check().is_err(), "{name}");
        }
    }

    #[test]
    fn the_reply_is_the_image() {
        let hf = settings(ServerApi::HuggingFace, &[]);
        assert_eq!(answered(&hf, 200, PNG), done(None, None));
        assert_failed(
            answered(&hf, 200, br#"{"error": "no such task"}"#),
            "JSON in place of an image: no such task",
        );
        assert_failed(answered(&hf, 200, b"<html>"), "web page");
        assert_failed(answered(&hf, 200, b""), "is empty");
        let loading = br#"{"error": "Model a/model is currently loading", "estimated_time": 20.0}"#;
        let (reason, retry) = failed(answered(&hf, 503, loading));
        assert!(reason.contains("currently loading"), "{reason}");
        assert_eq!(retry, Retry::Yes);
    }
}
