//! In: the base URL that a user gave, and a server's replies to a few GETs. Out: which API it speaks, the base URL that
//! this API wants, its models, and what it said of itself. Read in the sources of the servers (2026): vLLM-Omni's and
//! SGLang's `/v1/models` name their owner, as does stable-diffusion.cpp's.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use super::address::Address;
use super::reply::words;
use super::settings::ServerApi;
use super::talk::{HttpReply, HttpRequest, Method};

/// One question of `--server-api auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// `GET /sdcpp/v1/capabilities`: stable-diffusion.cpp.
    SdCpp,
    /// `GET /system_stats`: ComfyUI.
    ComfyUi,
    /// `GET /sdapi/v1/options`: AUTOMATIC1111, Forge, SD.Next.
    SdApi,
    /// `GET /system`: LocalAI, whose list of models names no owner.
    LocalAi,
    /// `GET /v1/models`: everything OpenAI-shaped.
    Models,
    /// `GET /models`: SGLang tells of its pipeline there.
    BareModels,
}

impl Probe {
    /// Every question, in the order of asking. The first ones are answered by one server alone.
    pub fn all() -> [Self; 6] {
        [Self::SdCpp, Self::ComfyUi, Self::SdApi, Self::LocalAi, Self::Models, Self::BareModels]
    }

    /// The path below the server's root.
    pub fn path(self) -> &'static str {
        match self {
            Self::SdCpp => "/sdcpp/v1/capabilities",
            Self::ComfyUi => "/system_stats",
            Self::SdApi => "/sdapi/v1/options",
            Self::LocalAi => "/system",
            Self::Models => "/v1/models",
            Self::BareModels => "/models",
        }
    }

    /// The request, whatever of `/v1` and `/` the base URL ends in.
    pub fn request(self, base: &str) -> HttpRequest {
        let url = format!("{}{}", root(base), self.path());
        HttpRequest { method: Method::Get, address: Address::Url(url), body: None }
    }
}

/// The base URL without `/v1` and `/` at its end.
fn root(base: &str) -> &str {
    let base = base.trim_end_matches('/');
    base.strip_suffix("/v1").unwrap_or(base).trim_end_matches('/')
}

/// What was answered to one question.
#[derive(Debug, Clone, Copy)]
pub struct ProbeReply<'a> {
    /// The question.
    pub probe: Probe,
    /// The answer.
    pub reply: HttpReply<'a>,
}

/// A server whose API was found out.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundServer {
    /// Its API.
    pub api: ServerApi,
    /// The base URL that requests of this API go below.
    pub base: String,
    /// Names of the models that it lists; the loaded one where it has one.
    pub models: Vec<String>,
    /// What it said of itself, for the manifest: by path, the JSON without what depends on time and load.
    pub said: Value,
}

/// What the replies mean. Replies that are no success or no JSON are passed over; a question that got no reply is
/// left out of `replies`.
///
/// # Errors
/// No reply is one of a known image server: with the way to name the API.
pub fn judge_probe(base: &str, replies: &[ProbeReply]) -> Result<FoundServer> {
    let understood = |probe: Probe| {
        let found = replies.iter().find(|reply| reply.probe == probe)?;
        if !(200..300).contains(&found.reply.status) {
            return None;
        }
        serde_json::from_slice::<Value>(found.reply.body).ok()
    };
    let listed = understood(Probe::Models).filter(|value| value["data"].is_array());
    let bare = understood(Probe::BareModels);
    let mut said = Map::new();
    let mut tell = |probe: Probe, value: &Value| {
        said.insert(probe.path().to_owned(), lasting(value));
    };
    let root = root(base);
    let (api, models) = if let Some(value) =
        understood(Probe::SdCpp).filter(|value| value["model"].is_object())
    {
        tell(Probe::SdCpp, &sdcpp_words(&value));
        let name = value["model"]["name"].as_str().filter(|name| !name.is_empty());
        (ServerApi::SdCpp, name.map(str::to_owned).into_iter().collect())
    } else if let Some(value) =
        understood(Probe::ComfyUi).filter(|value| value["system"].is_object())
    {
        tell(Probe::ComfyUi, &comfy_version(&value));
        (ServerApi::ComfyUi, Vec::new())
    } else if let Some(value) =
        understood(Probe::SdApi).filter(|value| value.get("sd_model_checkpoint").is_some())
    {
        let name = value["sd_model_checkpoint"].as_str().map(str::to_owned);
        tell(Probe::SdApi, &chosen(&value, SDAPI_OPTIONS));
        (ServerApi::SdApi, name.into_iter().collect())
    } else if let Some(value) = &listed {
        tell(Probe::Models, value);
        if let Some(bare) = &bare {
            tell(Probe::BareModels, bare);
        }
        let entries = value["data"].as_array().into_iter().flatten();
        let models = entries.filter_map(|entry| entry["id"].as_str()).map(str::to_owned).collect();
        let local_ai = understood(Probe::LocalAi).is_some_and(|value| {
            value["backends"].is_array() && value.get("loaded_models").is_some()
        });
        (if local_ai { ServerApi::LocalAi } else { openai_kind(value) }, models)
    } else {
        return none_found(replies);
    };
    let openai_shaped = matches!(
        api,
        ServerApi::OpenAi | ServerApi::VllmOmni | ServerApi::Sglang | ServerApi::LocalAi
    );
    let base = if openai_shaped { format!("{root}/v1") } else { root.to_owned() };
    Ok(FoundServer { api, base, models, said: Value::Object(said) })
}

/// Which server lists its models so: by the owner that it names.
fn openai_kind(models: &Value) -> ServerApi {
    let owner = models["data"][0]["owned_by"].as_str();
    match owner {
        Some("vllm" | "vllm-omni") => ServerApi::VllmOmni,
        Some("sglang") => ServerApi::Sglang,
        // stable-diffusion.cpp before it had an API of its own.
        Some("local") if models["data"][0]["id"] == "sd-cpp-local" => ServerApi::SdApi,
        _ => ServerApi::OpenAi,
    }
}

/// Options of the web UIs that can change an image. All others are left out: among SD.Next's are tokens of its owner.
const SDAPI_OPTIONS: &[&str] = &[
    "sd_model_checkpoint",
    "sd_checkpoint_hash",
    "sd_vae",
    "samples_format",
    "CLIP_stop_at_last_layers",
    "eta_noise_seed_delta",
    "randn_source",
];

/// Those fields of `value` that `names` has.
fn chosen(value: &Value, names: &[&str]) -> Value {
    let kept = names.iter().filter_map(|name| Some(((*name).to_owned(), value.get(name)?.clone())));
    Value::Object(kept.collect())
}

/// The model and what is done where a request says nothing, without the paths of that machine and the seed of the moment.
fn sdcpp_words(value: &Value) -> Value {
    let mut defaults = value["defaults"].clone();
    if let Some(defaults) = defaults.as_object_mut() {
        defaults.remove("seed");
    }
    json!({"model": chosen(&value["model"], &["name", "stem"]), "defaults": defaults})
}

/// ComfyUI's versions and devices, without the free memory of the moment.
fn comfy_version(value: &Value) -> Value {
    let versions = ["comfyui_version", "pytorch_version", "python_version"];
    let devices = value["devices"].as_array().into_iter().flatten();
    let names: Vec<&Value> = devices.map(|device| &device["name"]).collect();
    json!({"system": chosen(&value["system"], &versions), "devices": names})
}

/// `value` without the fields that change from one moment to the next.
fn lasting(value: &Value) -> Value {
    const PASSING: &[&str] = &["created", "permission", "queue_position", "uptime"];
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| !PASSING.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), lasting(value)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(list) => list.iter().map(lasting).collect(),
        other => other.clone(),
    }
}

fn none_found(replies: &[ProbeReply]) -> Result<FoundServer> {
    let refused = replies.iter().find(|reply| matches!(reply.reply.status, 401 | 403));
    if let Some(refused) = refused {
        bail!(
            "the server answers {} to {}: name the variable with its key by --server-key-env",
            refused.reply.status,
            refused.probe.path()
        );
    }
    let first =
        replies.first().context("the server answers none of the questions that tell its API")?;
    let told = words(first.reply.body);
    let told = if told.is_empty() { String::new() } else { format!(": {told}") };
    bail!(
        "the server is none that can be told by its replies ({} to {}{told}): name its API with --server-api",
        first.reply.status,
        first.probe.path()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found where the server answers the questions so, and 404 to all others.
    fn found(base: &str, answers: &[(Probe, Value)]) -> Result<FoundServer, String> {
        let bodies: Vec<(Probe, u16, String)> = Probe::all()
            .into_iter()
            .map(|probe| match answers.iter().find(|(of, _)| *of == probe) {
                Some((_, answer)) => (probe, 200, answer.to_string()),
                None => (probe, 404, json!({"detail": "Not Found"}).to_string()),
            })
            .collect();
        let replies: Vec<ProbeReply> = bodies
            .iter()
            .map(|(probe, status, body)| ProbeReply {
                probe: *probe,
                reply: HttpReply { status: *status, content_type: "", body: body.as_bytes() },
            })
            .collect();
        judge_probe(base, &replies).map_err(|error| error.to_string())
    }

    fn models(owner: &str) -> Value {
        json!({"object": "list", "data": [{"id": "a/model", "object": "model", "created": 5, "owned_by": owner}]})
    }

    #[test]
    fn every_server_is_told_by_what_only_it_answers() {
        let sdcpp = json!({"model": {"name": "tiny.safetensors", "stem": "tiny"}, "supported_modes": ["img_gen"]});
        let comfy = json!({"system": {"comfyui_version": "0.3.64", "ram_free": 5, "argv": ["main.py"]},
            "devices": [{"name": "cpu", "vram_free": 7}]});
        let sdapi = json!({"samples_format": "png", "sd_model_checkpoint": "tiny"});
        for (answers, api, base, names) in [
            (
                // stable-diffusion.cpp answers to three APIs.
                vec![
                    (Probe::SdCpp, sdcpp),
                    (Probe::SdApi, sdapi.clone()),
                    (Probe::Models, json!({"data": [{"id": "sd-cpp-local", "owned_by": "local"}]})),
                ],
                ServerApi::SdCpp,
                "http://gpu:1",
                vec!["tiny.safetensors"],
            ),
            (
                vec![(Probe::ComfyUi, comfy), (Probe::BareModels, json!(["vae"]))],
                ServerApi::ComfyUi,
                "http://gpu:1",
                vec![],
            ),
            (vec![(Probe::SdApi, sdapi)], ServerApi::SdApi, "http://gpu:1", vec!["tiny"]),
            (
                vec![(Probe::Models, models("vllm"))],
                ServerApi::VllmOmni,
                "http://gpu:1/v1",
                vec!["a/model"],
            ),
            (
                vec![(Probe::Models, models("sglang"))],
                ServerApi::Sglang,
                "http://gpu:1/v1",
                vec!["a/model"],
            ),
            (
                vec![(Probe::Models, models("openai"))],
                ServerApi::OpenAi,
                "http://gpu:1/v1",
                vec!["a/model"],
            ),
            (
                vec![(
                    Probe::Models,
                    json!({"data": [{"id": "sd-cpp-local", "owned_by": "local"}]}),
                )],
                ServerApi::SdApi,
                "http://gpu:1",
                vec!["sd-cpp-local"],
            ),
        ] {
            for given in ["http://gpu:1", "http://gpu:1/", "http://gpu:1/v1", "http://gpu:1/v1/"] {
                let server = found(given, &answers).unwrap();
                assert_eq!((server.api, server.base.as_str()), (api, base), "{given}");
                assert_eq!(server.models, names);
            }
        }
    }

    #[test]
    fn what_a_server_said_is_kept_without_the_moment() {
        let listed = found("http://gpu:1", &[(Probe::Models, models("vllm"))]).unwrap();
        assert_eq!(
            listed.said,
            json!({"/v1/models": {"object": "list", "data": [{"id": "a/model", "object": "model", "owned_by": "vllm"}]}})
        );
        let comfy = json!({"system": {"comfyui_version": "0.3.64", "ram_free": 5, "argv": ["main.py", "--secret"]},
            "devices": [{"name": "cpu", "vram_free": 7}]});
        let comfy = found("http://gpu:1", &[(Probe::ComfyUi, comfy)]).unwrap();
        assert_eq!(
            comfy.said,
            json!({"/system_stats": {"system": {"comfyui_version": "0.3.64"}, "devices": ["cpu"]}})
        );
    }

    #[test]
    fn nothing_secret_and_no_path_is_kept() {
        let options = json!({"sd_model_checkpoint": "tiny", "samples_format": "png", "huggingface_token": "hush"});
        let found_out = found("http://gpu:1", &[(Probe::SdApi, options)]).unwrap();
        assert_eq!(
            found_out.said,
            json!({"/sdapi/v1/options": {"sd_model_checkpoint": "tiny", "samples_format": "png"}})
        );
        let capabilities = json!({
            "model": {"name": "tiny.safetensors", "stem": "tiny", "path": "/home/me/tiny.safetensors"},
            "defaults": {"seed": 12, "sample_params": {"sample_steps": 20}},
            "loras": [{"name": "x", "path": "/home/me/x"}]
        });
        let found_out = found("http://gpu:1", &[(Probe::SdCpp, capabilities)]).unwrap();
        assert_eq!(
            found_out.said,
            json!({"/sdcpp/v1/capabilities": {"model": {"name": "tiny.safetensors", "stem": "tiny"},
                "defaults": {"sample_params": {"sample_steps": 20}}}})
        );
    }

    #[test]
    fn a_server_that_cannot_be_told_is_an_error() {
        let error = found("http://gpu:1", &[]).unwrap_err();
        assert!(
            error.contains("404 to /sdcpp/v1/capabilities: Not Found")
                && error.contains("--server-api"),
            "{error}"
        );
        let odd = [
            (Probe::Models, json!({"models": []})),
            (Probe::SdApi, json!({})),
            (Probe::ComfyUi, json!([])),
        ];
        assert!(found("http://gpu:1", &odd).is_err());
        assert!(judge_probe("http://gpu:1", &[]).is_err());
        let body = b"{}";
        let locked = ProbeReply {
            probe: Probe::Models,
            reply: HttpReply { status: 401, content_type: "", body },
        };
        let error = judge_probe("http://gpu:1", &[locked]).unwrap_err().to_string();
        assert!(error.contains("--server-key-env"), "{error}");
    }

    #[test]
    fn questions_go_to_the_servers_root() {
        for base in ["http://gpu:1/proxy/v1/", "http://gpu:1/proxy"] {
            let request = Probe::Models.request(base);
            assert_eq!(request.address, Address::Url("http://gpu:1/proxy/v1/models".to_owned()));
        }
    }
}
