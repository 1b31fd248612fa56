//! In: a workflow, a prompt and a seed. Out: what ComfyUI is given, how its history is polled, and where the bytes of the
//! image lie. Read in its `server.py` and `execution.py` (2026): `POST /prompt`, `GET /history/{id}`, `GET /view`.

use anyhow::{Context, Result};
use serde_json::Value;

use super::comfy_workflow::{Role, Workflow};
use super::reply::{cut, json, missing, words_of};
use super::settings::WireSettings;
use super::talk::{HttpReply, HttpRequest, Step};
use super::url_text::percent_encoded;

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
    settings.workflow.as_ref().context("the comfyui API needs a workflow: give --comfy-workflow")
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
