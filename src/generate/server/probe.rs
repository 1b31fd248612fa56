//! In: a server's URL and what the user says of it. Out: that it is there, which API it speaks, its models and what it says
//! of itself; or one sentence on what is wrong, before a prompt is spent. What replies mean is `wire`'s.

use std::time::Duration;

use anyhow::{Result, anyhow, bail, ensure};
use serde_json::Value;

use super::client::{Client, Fault, FaultKind, Reply};
use super::wire::{
    Address, Conversation, FoundServer, HttpRequest, Method, Probe, ProbeReply, ServerApi,
    WireSettings, judge_probe,
};

/// No question takes longer than this.
const LONGEST: Duration = Duration::from_secs(30);
/// Models that a sentence lists.
const LISTED: usize = 12;

/// A server that is there.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) api: ServerApi,
    pub(super) base: String,
    pub(super) models: Vec<String>,
    /// What it says of itself; `null` where it says nothing.
    pub(super) said: Value,
}

/// Asks the server what it is. `api` is what the user says; where that is `None`, the server's replies decide.
pub(super) fn find(
    client: &Client,
    api: Option<ServerApi>,
    settings: &WireSettings,
) -> Result<Found> {
    let timeout = client.asking().timeout.min(LONGEST);
    let client = &client.with(client.base().to_owned(), timeout);
    let base = client.base();
    let mut replies: Vec<(Probe, Reply)> = Vec::new();
    let mut lost = None;
    for probe in Probe::all() {
        match patiently(client, &probe.request(base)) {
            Ok(reply) => replies.push((probe, reply)),
            Err(fault) if fault.kind == FaultKind::Unreachable => bail!("{base}: {fault}"),
            Err(fault) => lost = Some(fault),
        }
    }
    let read: Vec<ProbeReply<'_>> = replies
        .iter()
        .map(|(probe, reply)| ProbeReply { probe: *probe, reply: reply.as_wire() })
        .collect();
    if let (true, Some(fault)) = (read.is_empty(), lost) {
        bail!("{base}: {fault}");
    }
    let judged = judge_probe(base, &read);
    let found = match (api, judged) {
        (None, judged) => {
            let FoundServer { api, base, models, said } =
                judged.map_err(|error| anyhow!("{base}: {error:#}"))?;
            Found { api, base, models, said }
        }
        (Some(api), Ok(found))
            if found.api == api || is_openai_shaped(found.api) && is_openai_shaped(api) =>
        {
            Found { api, base: found.base, models: found.models, said: found.said }
        }
        // It speaks several, or says nothing of itself.
        (Some(api), judged) => {
            // stable-diffusion.cpp's server speaks three, and answers 404 to a GET where it takes POST alone.
            let speaks_it = judged.as_ref().is_ok_and(|found| found.api == ServerApi::SdCpp)
                && matches!(api, ServerApi::SdApi | ServerApi::OpenAi);
            let found = Found {
                api,
                base: usual_base(base, api),
                models: Vec::new(),
                said: judged.map_or(Value::Null, |found| found.said),
            };
            if !speaks_it {
                ensure_there(&client.with(found.base.clone(), timeout), api, settings, &read)?;
            }
            found
        }
    };
    let Found { api, base, models, said } = found;
    let said = client.scrub_value(only_model(said, settings.model.as_deref()));
    let found = Found { api, base, models, said };
    found.check_model(settings)?;
    Ok(found)
}

/// One question, again where the server is still loading or busy.
fn patiently(client: &Client, request: &HttpRequest) -> Result<Reply, Fault> {
    let mut tries = 0;
    loop {
        let reply = client.send(request)?;
        if !matches!(reply.status, 429 | 503) {
            return Ok(reply);
        }
        tries += 1;
        let reason = format!("the server answers {}", reply.status);
        let fault = Fault { reason, kind: FaultKind::Passing(reply.retry_after) };
        match client.wait(fault, tries, 0) {
            Ok(wait) => std::thread::sleep(wait),
            Err(_) => return Ok(reply),
        }
    }
}

fn is_openai_shaped(api: ServerApi) -> bool {
    matches!(api, ServerApi::OpenAi | ServerApi::VllmOmni | ServerApi::Sglang | ServerApi::LocalAi)
}

/// With `/v1` where an OpenAI-shaped server is named by its host alone, and without it where paths are counted from the root.
fn usual_base(base: &str, api: ServerApi) -> String {
    let base = base.trim_end_matches('/');
    let has_path = base.splitn(4, '/').nth(3).is_some();
    match api {
        api if is_openai_shaped(api) && !has_path => format!("{base}/v1"),
        ServerApi::SdApi | ServerApi::SdCpp | ServerApi::ComfyUi => {
            base.strip_suffix("/v1").unwrap_or(base).to_owned()
        }
        _ => base.to_owned(),
    }
}

/// Whether something answers where images would be asked for, of a server that says nothing of itself. A GET there makes
/// no image: a server that takes POST alone answers 405.
fn ensure_there(
    client: &Client,
    api: ServerApi,
    settings: &WireSettings,
    read: &[ProbeReply<'_>],
) -> Result<()> {
    let base = client.base();
    if let Some(refused) = read.iter().find(|reply| matches!(reply.reply.status, 401)) {
        bail!(
            "{base} answers {} to {}: name the variable with its key by --server-key-env",
            refused.reply.status,
            refused.probe.path()
        );
    }
    let settings = WireSettings { api, ..settings.clone() };
    let (_, first) = Conversation::start(&settings, "a test", 0)?;
    let get = HttpRequest { method: Method::Get, body: None, ..first.clone() };
    let reply = patiently(client, &get).map_err(|fault| anyhow!("{base}: {fault}"))?;
    let path = match &first.address {
        Address::Path(path) | Address::Url(path) => path,
    };
    let name = api.name();
    ensure!(
        !matches!(reply.status, 404 | 410),
        "{base} has no {path}, which the {name} API is asked at: is --server-url the address of this API, and \
         --server-api the right one?"
    );
    let beginning: Vec<u8> =
        reply.body.trim_ascii_start().iter().take(5).map(u8::to_ascii_lowercase).collect();
    let is_page = beginning.starts_with(b"<!doc") || beginning.starts_with(b"<html");
    ensure!(
        !(is_page && (200..300).contains(&reply.status)),
        "{base}{path} is a web page: is --server-url the address of the server's API?"
    );
    Ok(())
}

/// Of a list of models the one that is asked for: others come and go on a server of many.
fn only_model(mut said: Value, model: Option<&str>) -> Value {
    if let (Some(model), Some(list)) =
        (model, said.pointer_mut("/~1v1~1models/data").and_then(Value::as_array_mut))
    {
        list.retain(|entry| entry["id"] == model);
    }
    said
}

impl Found {
    /// Whether the model that the user names is among those that the server lists.
    fn check_model(&self, settings: &WireSettings) -> Result<()> {
        if !is_openai_shaped(self.api) || self.models.is_empty() {
            return Ok(());
        }
        let mut listed = self.models.iter().take(LISTED).cloned().collect::<Vec<_>>().join(", ");
        if self.models.len() > LISTED {
            listed.push_str(&format!(" and {} more", self.models.len() - LISTED));
        }
        let base = &self.base;
        match &settings.model {
            Some(model) => ensure!(
                self.models.contains(model),
                "{base} has no model `{model}`; it lists {listed}"
            ),
            None => ensure!(
                self.models.len() == 1 || settings.body.contains_key("model"),
                "{base} has several models; name one with --server-model: {listed}"
            ),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_base_url_is_completed_where_an_api_wants_it() {
        for (base, api, expected) in [
            ("http://gpu:8000", ServerApi::OpenAi, "http://gpu:8000/v1"),
            ("http://gpu:8000/", ServerApi::LocalAi, "http://gpu:8000/v1"),
            ("http://gpu/api/v2", ServerApi::OpenAi, "http://gpu/api/v2"),
            ("http://gpu:7860/v1", ServerApi::SdApi, "http://gpu:7860"),
            ("http://gpu:6000", ServerApi::Xdit, "http://gpu:6000"),
            ("https://gpu/hf", ServerApi::HuggingFace, "https://gpu/hf"),
        ] {
            assert_eq!(usual_base(base, api), expected);
        }
    }

    #[test]
    fn of_a_list_of_models_the_one_that_is_asked_for_is_recorded() {
        let said = json!({"/v1/models": {"data": [{"id": "a"}, {"id": "b"}]}, "/models": 1});
        let one = only_model(said.clone(), Some("b"));
        assert_eq!(one, json!({"/v1/models": {"data": [{"id": "b"}]}, "/models": 1}));
        assert_eq!(only_model(said.clone(), None), said);
        assert_eq!(only_model(Value::Null, Some("b")), Value::Null);
    }
}
