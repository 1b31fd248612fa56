//! In: a prompt and a seed. Out: the body of `POST /sdapi/v1/txt2img`, and the image in the reply. Read in AUTOMATIC1111's
//! web UI 1.10, which Forge and SD.Next follow, and in stable-diffusion.cpp's server (2026), which knows fewer fields.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::reply::{decoded, missing};
use super::settings::WireSettings;
use super::talk::{ServerImage, Step};

/// Below the base URL, which is the server's root.
pub(super) const PATH: &str = "/sdapi/v1/txt2img";

/// The body for one image. `seed` is always there: -1, which is what a server takes without one, means a random seed.
///
/// # Errors
/// The prompt holds stable-diffusion.cpp's tag for settings, which could change the seed.
pub(super) fn body(settings: &WireSettings, prompt: &str, seed: Option<u64>) -> Result<Value> {
    ensure!(
        !prompt.contains("<sd_cpp_extra_args>"),
        "this prompt holds `<sd_cpp_extra_args>`, which stable-diffusion.cpp takes as settings: it cannot be sent"
    );
    let mut body = json!({"prompt": prompt, "seed": seed, "batch_size": 1});
    let mut set = |name: &str, value: Value| {
        if !value.is_null() {
            body[name] = value;
        }
    };
    set("negative_prompt", json!(settings.negative_prompt));
    set("width", json!(settings.width));
    set("height", json!(settings.height));
    set("steps", json!(settings.steps));
    set("cfg_scale", json!(settings.guidance));
    if let Some(model) = &settings.model {
        set("override_settings", json!({"sd_model_checkpoint": model}));
        // Else the model of before is loaded again after each image.
        set("override_settings_restore_afterwards", json!(false));
    }
    Ok(body)
}

/// Reads `{"images": [base64], "parameters", "info"}`; `info` is a text of JSON with the seed that was used, empty in older
/// servers of stable-diffusion.cpp.
pub(super) fn read(reply: &Value) -> Result<ServerImage, Step> {
    let images = reply["images"].as_array().ok_or_else(|| missing("images", reply))?;
    let [image] = images.as_slice() else {
        return Err(Step::failed(format!(
            "the server sends {} images, where one was asked for (is `return_grid` or a script switched on in its settings?)",
            images.len()
        )));
    };
    let text = image.as_str().ok_or_else(|| missing("images[0]", reply))?;
    let info = reply["info"].as_str().and_then(|info| serde_json::from_str::<Value>(info).ok());
    let seed_told =
        info.and_then(|info| info["all_seeds"][0].as_u64().or_else(|| info["seed"].as_u64()));
    Ok(ServerImage { bytes: decoded(text)?, revised_prompt: None, seed_told })
}

#[cfg(test)]
mod tests {
    use super::super::Conversation;
    use super::super::settings::ServerApi;
    use super::super::test_talk::*;
    use super::*;

    const SEED_31: u64 = SEED & 0x7fff_ffff;

    #[test]
    fn the_body_always_has_a_seed() {
        assert_eq!(
            asked(&settings(ServerApi::SdApi, &[])),
            (PATH.to_owned(), json!({"prompt": PROMPT, "seed": SEED_31, "batch_size": 1}))
        );
        let (_, all) =
            asked(&settings(ServerApi::SdApi, &["model", "negative", "size", "steps", "guidance"]));
        assert_eq!(
            all,
            json!({"prompt": PROMPT, "seed": SEED_31, "batch_size": 1, "negative_prompt": "blur", "width": 640,
                "height": 512, "steps": 20, "cfg_scale": 3.5, "override_settings": {"sd_model_checkpoint": "a/model"},
                "override_settings_restore_afterwards": false})
        );
    }

    #[test]
    fn a_users_own_settings_are_merged_and_images_stay_one() {
        let mut forge = settings(ServerApi::SdApi, &["model"]);
        forge.body =
            json!({"sampler_name": "Euler", "override_settings": {"CLIP_stop_at_last_layers": 2}})
                .as_object()
                .unwrap()
                .clone();
        assert_eq!(
            asked(&forge).1["override_settings"],
            json!({"sd_model_checkpoint": "a/model", "CLIP_stop_at_last_layers": 2})
        );
        for name in ["n_iter", "batch_size", "styles", "subseed"] {
            forge.body.clear();
            forge.body.insert(name.to_owned(), json!(2));
            assert!(forge.check().is_err(), "{name}");
        }
        assert!(
            Conversation::start(
                &forge,
                "x <sd_cpp_extra_args>{\"seed\": 1}</sd_cpp_extra_args>",
                1
            )
            .is_err()
        );
    }

    #[test]
    fn images_come_with_or_without_the_seed_that_was_used() {
        let sdapi = settings(ServerApi::SdApi, &[]);
        // stable-diffusion.cpp's `info` was empty at first; now it and the web UIs write JSON into it.
        for (info, told) in [
            (json!(""), None),
            (json!(r#"{"seed": 77, "all_seeds": [78], "infotexts": []}"#), Some(78)),
            (json!(r#"{"seed": 77}"#), Some(77)),
            (json!(null), None),
        ] {
            let reply = json!({"images": [png_text()], "parameters": {}, "info": info});
            assert_eq!(answered_json(&sdapi, &reply), done(None, told));
        }
        for (reply, words) in [
            (json!({"info": ""}), "no `images`"),
            (json!({"images": [], "info": ""}), "0 images"),
            (json!({"images": [png_text(), png_text()]}), "return_grid"),
            (json!({"images": [null]}), "no `images[0]`"),
        ] {
            assert_failed(answered_json(&sdapi, &reply), words);
        }
        let error = answered(&sdapi, 500, br#"{"error": "generate_image returned no results"}"#);
        assert!(failed(error).0.contains("generate_image returned no results"));
    }
}
