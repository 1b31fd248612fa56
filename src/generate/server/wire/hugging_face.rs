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
