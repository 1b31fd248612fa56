//! A loopback server that plays image servers as they are documented, on images of 8 x 6 pixels: what each is asked and
//! what it answers. How it misbehaves is each test's own.

use std::io::Cursor;
use std::sync::Mutex;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::{ImageFormat, Rgb, RgbImage};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::loopback::{Part, Received, Reply, Then};

/// The workflow of the ComfyUI that is played.
pub const WORKFLOW: &str = r#"{
    "3": {"class_type": "KSampler", "inputs": {"seed": 1, "steps": 4, "cfg": 1.5, "sampler_name": "euler",
        "scheduler": "normal", "denoise": 1.0, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0],
        "latent_image": ["5", 0]}},
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "tiny.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 8, "height": 6, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a prompt", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["4", 1]}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "x"}}
}"#;

/// The image of a prompt and a seed.
pub fn pixels(prompt: &str, seed: u64) -> RgbImage {
    let digest = Sha256::digest(format!("{prompt}\n{seed}"));
    RgbImage::from_fn(8, 6, |x, y| Rgb([digest[x as usize], digest[y as usize + 8], digest[20]]))
}

/// An image as a file.
pub fn encoded(image: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// The PNG of a prompt and a seed.
pub fn png(prompt: &str, seed: u64) -> Vec<u8> {
    encoded(&pixels(prompt, seed), ImageFormat::Png)
}

/// An OpenAI-shaped reply with this file.
pub fn openai_reply(file: &[u8]) -> Reply {
    let image = json!({"b64_json": STANDARD.encode(file), "url": null, "revised_prompt": null});
    Reply::Json(json!({"created": 1_800_000_000, "data": [image]}))
}

/// A file as it is.
pub fn file(bytes: Vec<u8>, content_type: &str) -> Reply {
    let headers =
        vec![format!("content-type: {content_type}"), format!("content-length: {}", bytes.len())];
    Reply::Part(Part { status: 200, headers, body: bytes, then: Then::Keep })
}

/// What a request asks for: prompt and seed, in whatever API it speaks.
pub fn asked(request: &Received) -> Option<(String, Option<u64>)> {
    let body = &request.body;
    if !request.request_line.starts_with("POST") {
        return None;
    }
    let (prompt, seed) = match &body["prompt"] {
        Value::String(prompt) => (prompt.as_str(), &body["seed"]),
        Value::Object(graph) => {
            (graph["6"]["inputs"]["text"].as_str()?, &graph["3"]["inputs"]["seed"])
        }
        _ => (body["inputs"].as_str()?, &body["parameters"]["seed"]),
    };
    Some((prompt.to_owned(), seed.as_u64()))
}

/// Which server is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Whatever speaks OpenAI's images API and no more.
    OpenAi,
    /// vLLM-Omni.
    VllmOmni,
    /// SGLang.
    Sglang,
    /// LocalAI.
    LocalAi,
    /// The web UIs.
    SdApi,
    /// stable-diffusion.cpp.
    SdCpp,
    /// ComfyUI.
    ComfyUi,
    /// xDiT.
    Xdit,
    /// Hugging Face.
    HuggingFace,
}

/// A server, as it is documented.
pub struct Played {
    kind: Kind,
    /// Prompt and seed of each job.
    jobs: Mutex<Vec<(String, u64)>>,
}

impl Played {
    /// One that has answered nothing yet.
    pub fn new(kind: Kind) -> Self {
        Self { kind, jobs: Mutex::default() }
    }

    /// Its answer.
    pub fn answer(&self, request: &Received) -> Reply {
        let target = request.target().to_owned();
        match asked(request) {
            Some((prompt, seed)) => self.image(request, &target, &prompt, seed),
            None => self.told(request, &target),
        }
    }

    fn image(&self, request: &Received, target: &str, prompt: &str, seed: Option<u64>) -> Reply {
        let body = &request.body;
        let kind = match (self.kind, target) {
            // It speaks several.
            (Kind::SdCpp, "/sdapi/v1/txt2img") => Kind::SdApi,
            (kind, _) => kind,
        };
        let wanted = match kind {
            Kind::OpenAi | Kind::VllmOmni | Kind::Sglang | Kind::LocalAi => {
                "/v1/images/generations"
            }
            Kind::SdApi => "/sdapi/v1/txt2img",
            Kind::SdCpp => "/sdcpp/v1/img_gen",
            Kind::ComfyUi => "/prompt",
            Kind::Xdit => "/generate",
            Kind::HuggingFace => "/models/tiny/model",
        };
        if target != wanted {
            return not_found();
        }
        let bad = |what: &str| {
            Reply::Status(400, vec![], json!({"error": {"message": what}}).to_string())
        };
        match kind {
            // OpenAI's own models refuse both.
            Kind::OpenAi if seed.is_some() || !body["response_format"].is_null() => {
                return bad("Unknown parameter");
            }
            Kind::VllmOmni | Kind::Sglang
                if body["response_format"] != "b64_json" || body["output_format"] != "png" =>
            {
                return bad("it would send a URL or a JPEG");
            }
            Kind::LocalAi if body["response_format"] != "b64_json" => {
                return bad("it would send a URL");
            }
            _ => {}
        }
        // A server without seeds draws one for each request.
        let seed = seed.unwrap_or(request.index as u64);
        let file_of = png(prompt, seed);
        match kind {
            Kind::OpenAi | Kind::VllmOmni | Kind::Sglang | Kind::LocalAi => openai_reply(&file_of),
            Kind::SdApi => {
                let info = json!({"seed": seed, "all_seeds": [seed]}).to_string();
                Reply::Json(
                    json!({"images": [STANDARD.encode(file_of)], "parameters": {}, "info": info}),
                )
            }
            Kind::Xdit => Reply::Json(json!({
                "message": "done", "elapsed_time": "0.10 sec", "output": STANDARD.encode(file_of),
                "save_to_disk": false
            })),
            Kind::HuggingFace => file(file_of, "image/png"),
            Kind::SdCpp | Kind::ComfyUi => {
                let mut jobs = self.jobs.lock().unwrap();
                jobs.push((prompt.to_owned(), seed));
                let id = (jobs.len() - 1).to_string();
                if kind == Kind::SdCpp {
                    let reply = json!({"id": id, "poll_url": format!("/sdcpp/v1/jobs/{id}")});
                    return Reply::Status(202, vec![], reply.to_string());
                }
                Reply::Json(json!({"prompt_id": id, "number": 1, "node_errors": {}}))
            }
        }
    }

    /// What it answers to a GET.
    fn told(&self, request: &Received, target: &str) -> Reply {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let last = path.rsplit('/').next().unwrap_or_default();
        let job = |id: &str| -> Option<(String, u64)> {
            self.jobs.lock().unwrap().get(id.parse::<usize>().ok()?).cloned()
        };
        match (self.kind, path) {
            (Kind::OpenAi | Kind::LocalAi, "/v1/models") => models("somebody", request.index),
            (Kind::VllmOmni, "/v1/models") => models("vllm", request.index),
            (Kind::Sglang, "/v1/models") => models("sglang", request.index),
            (Kind::SdApi, "/sdapi/v1/options") => Reply::Json(
                json!({"sd_model_checkpoint": "tiny/model", "CLIP_stop_at_last_layers": 1}),
            ),
            (Kind::SdCpp, "/sdcpp/v1/capabilities") => {
                Reply::Json(json!({"model": {"name": "tiny/model"}, "samplers": ["euler"]}))
            }
            (Kind::SdCpp, _) if path.starts_with("/sdcpp/v1/jobs/") => match job(last) {
                None => not_found(),
                // Every other question finds it at work.
                Some(_) if request.index.is_multiple_of(2) => {
                    Reply::Json(json!({"id": last, "status": "generating"}))
                }
                Some((prompt, seed)) => {
                    let image =
                        json!({"b64_json": STANDARD.encode(png(&prompt, seed)), "index": 0});
                    let result = json!({"images": [image], "output_format": "png"});
                    Reply::Json(json!({"id": last, "status": "completed", "result": result}))
                }
            },
            (Kind::ComfyUi, "/system_stats") => Reply::Json(json!({
                "system": {"comfyui_version": "0.3.60", "ram_free": request.index},
                "devices": [{"name": "cpu", "vram_free": request.index}]
            })),
            (Kind::ComfyUi, _) if path.starts_with("/history/") => match job(last) {
                None => Reply::Json(json!({})),
                Some(_) if request.index.is_multiple_of(2) => Reply::Json(json!({})),
                Some(_) => {
                    let image = json!({"filename": format!("{last}.png"), "subfolder": "", "type": "output"});
                    let status =
                        json!({"status_str": "success", "completed": true, "messages": []});
                    let mut history = json!({});
                    history[last] =
                        json!({"outputs": {"9": {"images": [image]}}, "status": status});
                    Reply::Json(history)
                }
            },
            (Kind::ComfyUi, "/view") => {
                let name = query.split('&').find_map(|part| part.strip_prefix("filename="));
                match name.and_then(|name| job(name.trim_end_matches(".png"))) {
                    Some((prompt, seed)) => file(png(&prompt, seed), "image/png"),
                    None => not_found(),
                }
            }
            // Those that take POST alone.
            (Kind::Xdit, "/generate") | (Kind::HuggingFace, "/models/tiny/model") => {
                Reply::Status(405, vec![], json!({"detail": "Method Not Allowed"}).to_string())
            }
            _ => not_found(),
        }
    }
}

/// A list of one model; when it was made is told differently each time.
fn models(owner: &str, time: usize) -> Reply {
    let model = json!({"id": "tiny/model", "object": "model", "created": time, "owned_by": owner});
    Reply::Json(json!({"object": "list", "data": [model]}))
}

/// What FastAPI answers to an unknown path.
pub fn not_found() -> Reply {
    Reply::Status(404, vec![], json!({"detail": "Not Found"}).to_string())
}
