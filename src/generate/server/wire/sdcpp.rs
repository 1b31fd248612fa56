//! In: a prompt and a seed. Out: the job that stable-diffusion.cpp's own API is given, how it is polled, and the image of
//! a completed one. Read in its server's api.md (2026): `POST /sdcpp/v1/img_gen`, `GET /sdcpp/v1/jobs/{id}`.

use serde_json::{Value, json};

use super::reply::{decoded, missing, words_of};
use super::settings::WireSettings;
use super::talk::{HttpRequest, ServerImage, Step};
use crate::http::percent_encoded;

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

#[cfg(test)]
mod tests {
    use super::super::Conversation;
    use super::super::settings::ServerApi;
    use super::super::talk::Retry;
    use super::super::test_talk::*;
    use super::*;

    const SEED_63: u64 = SEED & (u64::MAX >> 1);

    #[test]
    fn a_job_holds_one_image() {
        assert_eq!(
            asked(&settings(ServerApi::SdCpp, &[])),
            (
                PATH.to_owned(),
                json!({"prompt": PROMPT, "seed": SEED_63, "batch_count": 1, "output_format": "png"})
            )
        );
        let mut all = settings(ServerApi::SdCpp, &["negative", "size", "steps", "guidance"]);
        all.body = json!({"sample_params": {"sample_method": "euler", "guidance": {"distilled_guidance": 3.0}}})
            .as_object()
            .unwrap()
            .clone();
        assert_eq!(
            asked(&all).1,
            json!({"prompt": PROMPT, "seed": SEED_63, "batch_count": 1, "output_format": "png", "negative_prompt": "blur",
                "width": 640, "height": 512, "sample_params": {"sample_steps": 20, "sample_method": "euler",
                "guidance": {"txt_cfg": 3.5, "distilled_guidance": 3.0}}})
        );
        all.body =
            json!({"sample_params": {"guidance": {"txt_cfg": 1.0}}}).as_object().unwrap().clone();
        assert!(all.check().unwrap_err().to_string().contains("`txt_cfg`"));
        all.body = json!({"sample_params": {"eta": 1, "seed": 2}}).as_object().unwrap().clone();
        assert!(all.check().unwrap_err().to_string().contains("the seed"));
        let model = settings(ServerApi::SdCpp, &["model"]).check().unwrap_err().to_string();
        assert!(model.contains("--server-model"), "{model}");
    }

    #[test]
    fn a_job_is_polled_until_it_ends() {
        let sdcpp = settings(ServerApi::SdCpp, &[]);
        let (mut talk, _) = Conversation::start(&sdcpp, PROMPT, SEED).unwrap();
        let poll = get("/sdcpp/v1/jobs/job_01%2F..");
        let queued = json!({"id": "job_01/..", "kind": "img_gen", "status": "queued", "poll_url": "http://evil.net/"});
        assert_eq!(
            receive(&mut talk, 202, queued.to_string().as_bytes()),
            Step::Wait(poll.clone())
        );
        for status in ["queued", "generating"] {
            let reply = json!({"id": "job_01", "status": status, "result": null, "error": null});
            assert_eq!(
                receive(&mut talk, 200, reply.to_string().as_bytes()),
                Step::Wait(poll.clone())
            );
        }
        let ended = json!({"status": "completed", "error": null,
            "result": {"output_format": "png", "images": [{"index": 0, "b64_json": png_text()}]}});
        assert_eq!(receive(&mut talk, 200, ended.to_string().as_bytes()), done(None, None));
    }

    #[test]
    fn a_job_may_end_without_an_image() {
        let sdcpp = settings(ServerApi::SdCpp, &[]);
        let ended = |status: u16, reply: &Value| {
            let (mut talk, _) = Conversation::start(&sdcpp, PROMPT, SEED).unwrap();
            receive(&mut talk, 202, br#"{"id": "1", "status": "queued"}"#);
            failed(receive(&mut talk, status, reply.to_string().as_bytes()))
        };
        let error = json!({"code": "generation_failed", "message": "generate_image returned empty results"});
        for (status, reply, words, retry) in [
            (
                200,
                json!({"status": "failed", "error": error}),
                "failed: generate_image returned empty",
                Retry::No,
            ),
            (
                200,
                json!({"status": "cancelled", "error": {"message": "by client"}}),
                "cancelled: by client",
                Retry::Yes,
            ),
            (200, json!({"status": "completed", "result": null}), "no `result.images`", Retry::No),
            (200, json!({"status": "completed", "result": {"images": []}}), "0 images", Retry::No),
            (200, json!({"status": "asleep"}), "no `status`", Retry::No),
            (404, json!({"error": "not found"}), "no longer knows the job", Retry::Yes),
            (410, json!({}), "no longer knows the job", Retry::Yes),
        ] {
            let (reason, found) = ended(status, &reply);
            assert!(reason.contains(words), "{reason}");
            assert_eq!(found, retry, "{reason}");
        }
        assert_eq!(failed(answered(&sdcpp, 429, br#"{"error": "queue full"}"#)).1, Retry::Yes);
        assert_failed(answered_json(&sdcpp, &json!({"status": "queued"})), "no `id`");
    }
}
