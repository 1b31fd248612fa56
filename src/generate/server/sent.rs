//! In: what holds for all images of a server. Out: what is recorded of it as sent: a request without what differs from image to
//! image.

use serde_json::{Value, json};

use super::wire::{ServerApi, WireSettings};

/// What is sent with each image beside prompt and seed. ComfyUI is sent a workflow, recorded by itself.
pub(super) fn sent(wire: &WireSettings) -> Value {
    let stated = || {
        let all = json!({
            "negative_prompt": wire.negative_prompt,
            "width": wire.width,
            "height": wire.height,
            "steps": wire.steps,
            "guidance": wire.guidance,
        });
        let fields = all.as_object().cloned().unwrap_or_default();
        fields.into_iter().filter(|(_, value)| !value.is_null()).collect()
    };
    if wire.api == ServerApi::ComfyUi {
        return stated();
    }
    let mut body = wire.request_body("", 0).unwrap_or_else(|_| stated());
    take_out(&mut body);
    body
}

/// Takes out what differs from image to image, at any depth.
fn take_out(body: &mut Value) {
    let Value::Object(fields) = body else { return };
    // LocalAI's negative prompt stands in the prompt.
    fields.retain(|name, value| match name.as_str() {
        "inputs" | "seed" => false,
        "prompt" => value.as_str().is_some_and(|text| !text.is_empty()),
        _ => true,
    });
    fields.values_mut().for_each(take_out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_as_sent_is_the_same_for_every_image() {
        for api in ServerApi::all() {
            if api == ServerApi::ComfyUi {
                continue;
            }
            let mut wire = WireSettings::new(api);
            wire.model = Some("a/model".to_owned());
            wire.width = Some(64);
            wire.height = Some(32);
            let recorded = sent(&wire);
            let mut body = wire.request_body("a prompt", 5).unwrap();
            assert_ne!(recorded, body, "{api:?}");
            // What is left out is the prompt and the seed, wherever they stand.
            take_out(&mut body);
            let text = body.to_string().replace("\"prompt\":\"a prompt\",", "");
            let text = text.replace(",\"prompt\":\"a prompt\"", "");
            assert_eq!(text, recorded.to_string(), "{api:?}");
            assert!(recorded.to_string().contains("64"), "{api:?}");
        }
        let mut wire = WireSettings::new(ServerApi::LocalAi);
        wire.negative_prompt = Some("blurry".to_owned());
        assert_eq!(sent(&wire)["prompt"], "|blurry");
    }
}
