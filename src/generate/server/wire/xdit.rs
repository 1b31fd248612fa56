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

#[cfg(test)]
mod tests {
    use super::super::settings::ServerApi;
    use super::super::test_talk::*;
    use super::*;

    #[test]
    fn the_body_always_has_a_seed() {
        let seed = SEED & (u64::MAX >> 1);
        assert_eq!(
            asked(&settings(ServerApi::Xdit, &["size", "steps", "guidance"])),
            (
                "/generate".to_owned(),
                json!({"prompt": PROMPT, "seed": seed, "width": 640, "height": 512, "num_inference_steps": 20, "cfg": 3.5})
            )
        );
        for stated in ["model", "negative"] {
            assert!(settings(ServerApi::Xdit, &[stated]).check().is_err(), "{stated}");
        }
    }

    #[test]
    fn the_image_is_in_output_unless_it_stays_on_the_servers_disk() {
        let xdit = settings(ServerApi::Xdit, &[]);
        let reply = json!({"message": "ok", "elapsed_time": "1.00 sec", "output": png_text(), "save_to_disk": false});
        assert_eq!(answered_json(&xdit, &reply), done(None, None));
        let kept = json!({"output": "/out/generated_image.png", "save_to_disk": true});
        assert_failed(answered_json(&xdit, &kept), "its own disk");
        assert_failed(answered_json(&xdit, &json!({"message": "ok"})), "no `output`: ok");
        assert_failed(
            answered(&xdit, 400, br#"{"detail": "Prompt cannot be empty"}"#),
            "Prompt cannot be empty",
        );
        let mut saved = settings(ServerApi::Xdit, &[]);
        saved.body.insert("save_disk_path".to_owned(), json!("/tmp"));
        assert!(saved.check().unwrap_err().to_string().contains("form of the reply"));
    }
}
