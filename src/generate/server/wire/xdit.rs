//! In: a prompt and a seed. Out: the body of `POST /generate` of xDiT's HTTP service (`entrypoints/launch.py`, 2026), and
//! the image in the reply.

use serde_json::{Value, json};

use super::reply::{decoded, missing};
use super::settings::WireSettings;
use super::talk::{ServerImage, Step};

/// Below the base URL, which is the server's root.
pub(super) const PATH: &str = "/generate";

/// The body for one image. Without a seed the service would take 42 for each.
pub(super) fn body(settings: &WireSettings, prompt: &str, seed: Option<u64>) -> Value {
    let mut body = json!({"prompt": prompt, "seed": seed});
    for (name, value) in [
        ("width", json!(settings.width)),
        ("height", json!(settings.height)),
        ("num_inference_steps", json!(settings.steps)),
        ("cfg", json!(settings.guidance)),
    ] {
        if !value.is_null() {
            body[name] = value;
        }
    }
    body
}

/// Reads `{"message", "elapsed_time", "output": base64, "save_to_disk"}`.
pub(super) fn read(reply: &Value) -> Result<ServerImage, Step> {
    if reply["save_to_disk"] == true {
        return Err(Step::failed(
            "the server keeps the image on its own disk in place of sending it",
        ));
    }
    let output = reply["output"].as_str().ok_or_else(|| missing("output", reply))?;
    Ok(ServerImage { bytes: decoded(output)?, revised_prompt: None, seed_told: None })
}
