//! In: a prompt and a seed. Out: the job that stable-diffusion.cpp's own API is given, how it is polled, and the image of
//! a completed one. Read in its server's api.md (2026): `POST /sdcpp/v1/img_gen`, `GET /sdcpp/v1/jobs/{id}`.

use serde_json::{Value, json};

use super::reply::{decoded, missing, words_of};
use super::settings::WireSettings;
use super::talk::{HttpRequest, ServerImage, Step};
use super::url_text::percent_encoded;

/// Below the base URL, which is the server's root.
pub(super) const PATH: &str = "/sdcpp/v1/img_gen";

/// The job for one image. A negative seed would be a random one.
pub(super) fn body(settings: &WireSettings, prompt: &str, seed: Option<u64>) -> Value {
    let mut body =
        json!({"prompt": prompt, "seed": seed, "batch_count": 1, "output_format": "png"});
    for (name, value) in [
        ("negative_prompt", json!(settings.negative_prompt)),
        ("width", json!(settings.width)),
        ("height", json!(settings.height)),
    ] {
        if !value.is_null() {
            body[name] = value;
        }
    }
    if let Some(steps) = settings.steps {
        body["sample_params"]["sample_steps"] = json!(steps);
    }
    if let Some(guidance) = settings.guidance {
        body["sample_params"]["guidance"]["txt_cfg"] = json!(guidance);
    }
    body
}

/// The request that asks after the job which `reply` names.
///
/// # Errors
/// It names none.
pub(super) fn job(reply: &Value) -> Result<HttpRequest, Step> {
    let id = reply["id"].as_str().ok_or_else(|| missing("id", reply))?;
    Ok(HttpRequest::get(format!("/sdcpp/v1/jobs/{}", percent_encoded(id))))
}

/// What the state of a job means; `poll` asks again.
pub(super) fn state(reply: &Value, poll: &HttpRequest) -> Step {
    match reply["status"].as_str() {
        Some("queued" | "generating") => Step::Wait(poll.clone()),
        Some("completed") => match completed(reply) {
            Ok(image) => Step::Done(image),
            Err(step) => step,
        },
        Some(end @ ("failed" | "cancelled")) => {
            let words = words_of(reply);
            let told = if words.is_empty() { String::new() } else { format!(": {words}") };
            let reason = format!("the server's job {end}{told}");
            // Somebody's cancelling says nothing of the image; a failure comes again with the same seed.
            if end == "cancelled" { Step::try_again(reason) } else { Step::failed(reason) }
        }
        _ => missing("status", reply),
    }
}

fn completed(reply: &Value) -> Result<ServerImage, Step> {
    let images =
        reply["result"]["images"].as_array().ok_or_else(|| missing("result.images", reply))?;
    let [image] = images.as_slice() else {
        return Err(Step::failed(format!(
            "the server sends {} images, where one was asked for",
            images.len()
        )));
    };
    let text = image["b64_json"].as_str();
    let text = text.ok_or_else(|| missing("result.images[0].b64_json", reply))?;
    Ok(ServerImage { bytes: decoded(text)?, revised_prompt: None, seed_told: None })
}
