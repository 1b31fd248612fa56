//! In: a workflow, a prompt and a seed. Out: what ComfyUI is given, how its history is polled, and where the bytes of the
//! image lie. Read in its `server.py` and `execution.py` (2026): `POST /prompt`, `GET /history/{id}`, `GET /view`.

use anyhow::{Context, Result};
use serde_json::Value;

use super::comfy_workflow::{Role, Workflow};
use super::reply::{cut, json, missing, words_of};
use super::settings::WireSettings;
use super::talk::{HttpReply, HttpRequest, Step};
use crate::http::percent_encoded;

/// Below the base URL, which is the server's root.
pub(super) const PATH: &str = "/prompt";

/// Refuses settings for which the workflow has no place.
pub(super) fn check(settings: &WireSettings) -> Result<()> {
    let workflow = workflow(settings)?;
    for (role, value) in stated(settings) {
        if !value.is_null() {
            workflow.need(role)?;
        }
    }
    Ok(())
}

fn workflow(settings: &WireSettings) -> Result<&Workflow> {
    settings.workflow.as_ref().context("the comfyui API needs a workflow: give --server-workflow")
}

fn stated(settings: &WireSettings) -> [(Role, Value); 5] {
    [
        (Role::NegativePrompt, serde_json::json!(settings.negative_prompt)),
        (Role::Width, serde_json::json!(settings.width)),
        (Role::Height, serde_json::json!(settings.height)),
        (Role::Steps, serde_json::json!(settings.steps)),
        (Role::Guidance, serde_json::json!(settings.guidance)),
    ]
}

/// The workflow with the prompt, the seed and the stated settings in it.
pub(super) fn body(settings: &WireSettings, prompt: &str, seed: Option<u64>) -> Result<Value> {
    let workflow = workflow(settings)?;
    let mut graph = workflow.graph().clone();
    workflow.set(&mut graph, Role::Prompt, &serde_json::json!(prompt))?;
    workflow.set(&mut graph, Role::Seed, &serde_json::json!(seed))?;
    for (role, value) in stated(settings) {
        if !value.is_null() {
            workflow.set(&mut graph, role, &value)?;
        }
    }
    Ok(serde_json::json!({ "prompt": graph }))
}

/// What the reply to the workflow means: 400 names the nodes that are wrong. A workflow of which only some outputs can be
/// made is taken all the same, with 200.
pub(super) fn queued(settings: &WireSettings, reply: &HttpReply) -> Result<HttpRequest, Step> {
    let value: Value = serde_json::from_slice(reply.body).unwrap_or_default();
    let wanted = settings.workflow.as_ref().and_then(Workflow::image);
    let wanted = wanted.filter(|_| (200..300).contains(&reply.status));
    if let Some(errors) = node_errors(&value["node_errors"], wanted) {
        return Err(Step::failed(format!("ComfyUI refuses the workflow: {errors}")));
    }
    let value = json(reply)?;
    let id = value["prompt_id"].as_str().ok_or_else(|| missing("prompt_id", &value))?;
    Ok(HttpRequest::get(format!("/history/{}", percent_encoded(id))))
}

/// `{node: {"errors": [{"message", "details"}], "dependent_outputs": [node], "class_type"}}` in words, where `wanted` is
/// given those that node `wanted` depends on; `None` where there are none.
fn node_errors(errors: &Value, wanted: Option<&str>) -> Option<String> {
    let mut told = Vec::new();
    for (node, entry) in errors.as_object()? {
        let class = entry["class_type"].as_str().unwrap_or("?");
        let outputs = entry["dependent_outputs"].as_array();
        if let (Some(wanted), Some(outputs)) = (wanted, outputs)
            && !outputs.iter().any(|output| output == wanted)
        {
            continue;
        }
        for error in entry["errors"].as_array().into_iter().flatten() {
            let message = error["message"].as_str().unwrap_or_default();
            let details = error["details"].as_str().unwrap_or_default();
            told.push(format!("node {node} ({class}): {message} {details}"));
        }
    }
    (!told.is_empty()).then(|| cut(&told.join("; ")))
}

/// What the history of a workflow means; `poll` asks again.
pub(super) fn history(settings: &WireSettings, reply: &Value, poll: &HttpRequest) -> Step {
    // `{}` until the workflow has ended; else one entry, by its id.
    let Some(entry) = reply.as_object().and_then(|all| all.values().next()) else {
        return if reply.is_object() {
            Step::Wait(poll.clone())
        } else {
            missing("outputs", reply)
        };
    };
    let status = &entry["status"];
    if status["status_str"] == "error" {
        return failure(&status["messages"]);
    }
    if status["completed"] == false {
        return Step::Wait(poll.clone());
    }
    let wanted = settings.workflow.as_ref().and_then(Workflow::image);
    match file(&entry["outputs"], wanted) {
        Ok(request) => Step::Send(request),
        Err(step) => step,
    }
}

/// The words of `[["execution_error", {"node_id", "node_type", "exception_message"}], ...]`.
fn failure(messages: &Value) -> Step {
    for message in messages.as_array().into_iter().flatten() {
        let data = &message[1];
        let node = data["node_id"].as_str().unwrap_or("?");
        let class = data["node_type"].as_str().unwrap_or("?");
        match message[0].as_str() {
            Some("execution_error") => {
                let words = cut(data["exception_message"].as_str().unwrap_or("no message"));
                return Step::failed(format!("ComfyUI failed at node {node} ({class}): {words}"));
            }
            Some("execution_interrupted") => {
                return Step::try_again(format!(
                    "ComfyUI was interrupted at node {node} ({class})"
                ));
            }
            _ => {}
        }
    }
    let words = words_of(messages);
    Step::failed(format!(
        "ComfyUI failed and says no more{}{words}",
        if words.is_empty() { "" } else { ": " }
    ))
}

/// The request for the bytes of the image of node `wanted`, or of the only image.
fn file(outputs: &Value, wanted: Option<&str>) -> Result<HttpRequest, Step> {
    let by_node = outputs.as_object().ok_or_else(|| missing("outputs", outputs))?;
    let mut images = Vec::new();
    for (node, output) in by_node {
        if wanted.is_none_or(|wanted| wanted == node) {
            images.extend(
                output["images"].as_array().into_iter().flatten().map(|image| (node, image)),
            );
        }
    }
    // A preview beside a saved image is not what was asked for.
    if wanted.is_none() && images.iter().any(|(_, image)| image["type"] == "output") {
        images.retain(|(_, image)| image["type"] == "output");
    }
    match images.as_slice() {
        [] => Err(Step::failed(match wanted {
            Some(node) => format!(
                "ComfyUI ended without an image of node {node}: give --comfy-node image=NODE"
            ),
            None => "ComfyUI ended without an image: does the workflow end in a SaveImage node?"
                .to_owned(),
        })),
        [(_, image)] => {
            let name = image["filename"].as_str().ok_or_else(|| missing("filename", image))?;
            let part = |name: &str| percent_encoded(image[name].as_str().unwrap_or_default());
            Ok(HttpRequest::get(format!(
                "/view?filename={}&subfolder={}&type={}",
                percent_encoded(name),
                part("subfolder"),
                part("type")
            )))
        }
        several => {
            let mut nodes: Vec<&str> = several.iter().map(|(node, _)| node.as_str()).collect();
            nodes.dedup();
            Err(Step::failed(if nodes.len() > 1 {
                format!(
                    "ComfyUI gives images of the nodes {}: choose one with --comfy-node image=NODE",
                    nodes.join(", ")
                )
            } else {
                format!(
                    "ComfyUI gives {} images of node {}, where one was asked for",
                    several.len(),
                    nodes[0]
                )
            }))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Conversation;
    use super::super::settings::ServerApi;
    use super::super::talk::Retry;
    use super::super::test_talk::*;
    use super::*;

    fn graph() -> Value {
        json!({
            "3": {"class_type": "KSampler", "inputs": {"seed": 1, "steps": 20, "positive": ["6", 0],
                "latent_image": ["5", 0]}},
            "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512, "batch_size": 1}},
            "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["4", 1]}},
            "9": {"class_type": "SaveImage", "inputs": {"images": ["3", 0]}}
        })
    }

    fn comfy(stated: &[&str]) -> WireSettings {
        let workflow = Workflow::new(&graph(), &[]).unwrap();
        WireSettings { workflow: Some(workflow), ..settings(ServerApi::ComfyUi, stated) }
    }

    #[test]
    fn the_workflow_is_sent_with_prompt_seed_and_settings_in_it() {
        let mut comfy = comfy(&["size", "steps"]);
        comfy.body = json!({"client_id": "x", "extra_data": {"a": 1}}).as_object().unwrap().clone();
        let (path, body) = asked(&comfy);
        let mut expected = graph();
        expected["3"]["inputs"]["seed"] = json!(SEED & (u64::MAX >> 1));
        expected["3"]["inputs"]["steps"] = json!(20);
        expected["5"]["inputs"]["width"] = json!(640);
        expected["6"]["inputs"]["text"] = json!(PROMPT);
        assert_eq!(path, "/prompt");
        assert_eq!(body, json!({"prompt": expected, "client_id": "x", "extra_data": {"a": 1}}));
    }

    #[test]
    fn what_the_workflow_has_no_place_for_is_refused() {
        for (stated, words) in [
            (&["negative"][..], "negative=NODE.INPUT"),
            (&["guidance"], "guidance=NODE.INPUT"),
            (&["model"], "--server-model"),
        ] {
            let error = comfy(stated).check().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let bare = settings(ServerApi::ComfyUi, &[]);
        assert!(bare.check().unwrap_err().to_string().contains("workflow"));
        for name in ["prompt", "prompt_id"] {
            let mut own = comfy(&[]);
            own.body.insert(name.to_owned(), json!({}));
            assert!(own.check().is_err(), "{name}");
        }
        let mut other = comfy(&[]);
        other.api = ServerApi::SdApi;
        assert!(other.check().is_err());
    }

    /// What follows from this history of a workflow that was taken.
    fn after(history: &Value) -> Step {
        let comfy = comfy(&[]);
        let (mut talk, _) = Conversation::start(&comfy, PROMPT, SEED).unwrap();
        let queued = json!({"prompt_id": "ab-1", "number": 2, "node_errors": {}});
        let poll = Step::Wait(get("/history/ab-1"));
        assert_eq!(receive(&mut talk, 200, queued.to_string().as_bytes()), poll);
        assert_eq!(receive(&mut talk, 200, b"{}"), poll);
        receive(&mut talk, 200, history.to_string().as_bytes())
    }

    #[test]
    fn the_history_leads_to_the_bytes() {
        let comfy = comfy(&[]);
        let (mut talk, _) = Conversation::start(&comfy, PROMPT, SEED).unwrap();
        receive(&mut talk, 200, br#"{"prompt_id": "ab-1", "number": 2, "node_errors": {}}"#);
        let ended = json!({"ab-1": {
            "prompt": [1, "ab-1", {}, {}, ["9"]],
            "outputs": {
                "9": {"images": [{"filename": "a b&c_00001_.png", "subfolder": "x/y", "type": "output"}]},
                "12": {"images": [{"filename": "preview.png", "subfolder": "", "type": "temp"}]}
            },
            "status": {"status_str": "success", "completed": true, "messages": []}
        }});
        let view = get("/view?filename=a%20b%26c_00001_.png&subfolder=x%2Fy&type=output");
        assert_eq!(receive(&mut talk, 200, ended.to_string().as_bytes()), Step::Send(view));
        assert_eq!(receive(&mut talk, 200, PNG), done(None, None));
    }

    #[test]
    fn an_error_is_looked_at_before_completed() {
        let entry =
            |status: Value, outputs: Value| json!({"ab-1": {"outputs": outputs, "status": status}});
        let error = |name: &str, completed: bool| {
            json!({"status_str": "error", "completed": completed, "messages": [
                ["execution_start", {"prompt_id": "ab-1"}],
                [name, {"node_id": "3", "node_type": "KSampler", "exception_message": "CUDA out\nof memory"}]]})
        };
        let images =
            json!({"9": {"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]}});
        for completed in [false, true] {
            let history = entry(error("execution_error", completed), images.clone());
            assert_failed(after(&history), "node 3 (KSampler): CUDA out of memory");
        }
        let (reason, retry) =
            failed(after(&entry(error("execution_interrupted", false), json!({}))));
        assert!(reason.contains("interrupted"), "{reason}");
        assert_eq!(retry, Retry::Yes);
        assert_failed(
            after(&entry(json!({"status_str": "error", "messages": []}), json!({}))),
            "says no more",
        );
    }

    #[test]
    fn one_image_is_taken() {
        let image =
            |name: &str, kind: &str| json!({"filename": name, "subfolder": "", "type": kind});
        let history = |outputs: Value| json!({"x": {"outputs": outputs, "status": {"status_str": "success", "completed": true}}});
        let two = json!({"9": {"images": [image("a.png", "output"), image("b.png", "output")]}});
        assert_failed(after(&history(two)), "2 images of node 9");
        let other = json!({"10": {"images": [image("a.png", "output")]}});
        assert_failed(after(&history(other)), "without an image of node 9");
        assert_failed(after(&history(json!({}))), "without an image of node 9");
        assert_failed(after(&json!([])), "no `outputs`");
        let running =
            json!({"x": {"outputs": {}, "status": {"status_str": "success", "completed": false}}});
        assert!(matches!(after(&running), Step::Wait(_)));

        // No node is known beforehand: the only saved image, previews aside.
        let saved = json!({"1": {"images": [image("a.png", "temp")]}, "2": {"images": [image("b.png", "output")]}});
        let found = file(&saved, None).unwrap();
        assert_eq!(found, get("/view?filename=b.png&subfolder=&type=output"));
        let both = json!({"1": {"images": [image("a.png", "output")]}, "2": {"images": [image("b.png", "output")]}});
        assert_failed(file(&both, None).unwrap_err(), "the nodes 1, 2");
        assert_failed(file(&json!({}), None).unwrap_err(), "SaveImage");
    }

    #[test]
    fn a_workflow_may_be_refused() {
        let comfy = comfy(&[]);
        let errors = |outputs: &[&str]| {
            json!({"error": {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation",
                "details": "", "extra_info": {}},
                "node_errors": {"4": {"class_type": "CheckpointLoaderSimple", "dependent_outputs": outputs, "errors": [
                    {"type": "value_not_in_list", "message": "Value not in list", "details": "ckpt_name: 'a' not in []"}]}}})
        };
        let refused = "node 4 (CheckpointLoaderSimple): Value not in list ckpt_name: 'a' not in []";
        assert_failed(answered(&comfy, 400, errors(&["9"]).to_string().as_bytes()), refused);
        // 200, where another output can be made: it matters only where the image depends on it.
        let mut taken = errors(&["9"]);
        taken["prompt_id"] = json!("1");
        assert_failed(answered_json(&comfy, &taken), refused);
        taken["node_errors"]["4"]["dependent_outputs"] = json!(["20"]);
        assert_eq!(answered_json(&comfy, &taken), Step::Wait(get("/history/1")));
        let unknown = json!({"error": {"type": "invalid_prompt", "extra_info": {}, "details": "Node ID '#10'",
            "message": "Cannot execute because node NoSuchNode does not exist."}, "node_errors": {}});
        assert_failed(
            answered(&comfy, 400, unknown.to_string().as_bytes()),
            "400: Cannot execute because node NoSuchNode does not exist: Node ID '#10'",
        );
        let none = json!({"error": {"type": "no_prompt", "message": "No prompt provided"}, "node_errors": {}});
        assert_failed(
            answered(&comfy, 400, none.to_string().as_bytes()),
            "400: No prompt provided",
        );
    }
}
