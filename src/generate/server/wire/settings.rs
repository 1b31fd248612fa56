//! In: what the user stated of an image server. Out: which API it speaks, what that API can be told, and the seed that
//! it is sent.

use anyhow::{Result, ensure};
use serde_json::{Map, Value};

use super::comfy_workflow::Workflow;

/// Which HTTP API an image server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerApi {
    /// `POST /images/generations` as OpenAI documents it (openai-python 3.57.0), and whatever else takes only that.
    OpenAi,
    /// vLLM-Omni 0.30.0's image endpoint.
    VllmOmni,
    /// SGLang 0.5.23's image endpoint.
    Sglang,
    /// LocalAI's image endpoint (snapshot of 2026).
    LocalAi,
    /// `POST /sdapi/v1/txt2img`: AUTOMATIC1111's web UI, Forge, SD.Next, and stable-diffusion.cpp's server.
    SdApi,
    /// stable-diffusion.cpp's own API, whose jobs are polled.
    SdCpp,
    /// ComfyUI with a workflow of the user's.
    ComfyUi,
    /// xDiT's HTTP service, `POST /generate`.
    Xdit,
    /// Hugging Face's inference API for text to image.
    HuggingFace,
}

/// What an API can be told besides prompt and seed.
struct Takes {
    model: Model,
    negative_prompt: bool,
    steps: bool,
    guidance: bool,
}

#[derive(PartialEq)]
enum Model {
    Required,
    Optional,
    Never,
}

impl ServerApi {
    /// Every API, in the order that help lists them.
    pub fn all() -> [Self; 9] {
        [
            Self::OpenAi,
            Self::VllmOmni,
            Self::Sglang,
            Self::LocalAi,
            Self::SdApi,
            Self::SdCpp,
            Self::ComfyUi,
            Self::Xdit,
            Self::HuggingFace,
        ]
    }

    /// Its name on the command line and in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::VllmOmni => "vllm-omni",
            Self::Sglang => "sglang",
            Self::LocalAi => "localai",
            Self::SdApi => "sdapi",
            Self::SdCpp => "sdcpp",
            Self::ComfyUi => "comfyui",
            Self::Xdit => "xdit",
            Self::HuggingFace => "hf",
        }
    }

    /// The API of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|api| api.name() == name)
    }

    fn takes(self) -> Takes {
        let (model, negative_prompt, steps, guidance) = match self {
            Self::OpenAi => (Model::Optional, false, false, false),
            Self::VllmOmni | Self::Sglang | Self::SdApi | Self::HuggingFace => {
                (Model::Optional, true, true, true)
            }
            Self::LocalAi => (Model::Required, true, true, false),
            Self::SdCpp | Self::ComfyUi => (Model::Never, true, true, true),
            Self::Xdit => (Model::Never, false, true, true),
        };
        Takes { model, negative_prompt, steps, guidance }
    }

    /// Whether the size is one text `WIDTHxHEIGHT`.
    fn has_one_size(self) -> bool {
        matches!(self, Self::OpenAi | Self::VllmOmni | Self::Sglang | Self::LocalAi)
    }
}

/// What holds for all images of a run.
#[derive(Debug, Clone)]
pub struct WireSettings {
    /// Which API the server speaks.
    pub api: ServerApi,
    /// The model that the server is asked for (`--server-model`).
    pub model: Option<String>,
    /// Fields added to the request's body, those within objects too (`--server-body`).
    pub body: Map<String, Value>,
    /// ComfyUI's workflow; needed there, and only there.
    pub workflow: Option<Workflow>,
    /// What guidance leads away from.
    pub negative_prompt: Option<String>,
    /// Width in pixels.
    pub width: Option<usize>,
    /// Height in pixels.
    pub height: Option<usize>,
    /// Denoising steps.
    pub steps: Option<usize>,
    /// Strength of classifier-free guidance.
    pub guidance: Option<f64>,
}

impl WireSettings {
    /// Settings that state nothing but the API.
    pub fn new(api: ServerApi) -> Self {
        Self {
            api,
            model: None,
            body: Map::new(),
            workflow: None,
            negative_prompt: None,
            width: None,
            height: None,
            steps: None,
            guidance: None,
        }
    }

    /// Bits of the seeds that the server takes, from the lowest on; `None` where the API has no seed.
    /// 63 where the field is a signed integer of 64 bits, of which negative ones mean "random".
    pub fn seed_bits(&self) -> Option<u32> {
        match self.api {
            ServerApi::OpenAi => None,
            // Signed integers of 32 bits: LocalAI hands it to its backends so, and stable-diffusion.cpp (97d2990) reads
            // `/sdapi` so. There 2^31 and above become negative, which means random: seen by running it.
            ServerApi::LocalAi | ServerApi::SdApi => Some(31),
            ServerApi::HuggingFace => Some(32),
            ServerApi::VllmOmni
            | ServerApi::Sglang
            | ServerApi::SdCpp
            | ServerApi::ComfyUi
            | ServerApi::Xdit => Some(63),
        }
    }

    /// The seed that is sent in place of `seed`; `None` where the API has no seed.
    pub fn sent_seed(&self, seed: u64) -> Option<u64> {
        self.seed_bits().map(|bits| seed & ((1 << bits) - 1))
    }

    /// The size as one text, where width and height are stated.
    pub(super) fn size(&self) -> Option<String> {
        Some(format!("{}x{}", self.width?, self.height?))
    }

    /// Refuses what the API has no field for.
    pub(super) fn check_fields(&self) -> Result<()> {
        let (api, takes) = (self.api, self.api.takes());
        let name = api.name();
        ensure!(
            takes.model != Model::Required || self.model.is_some(),
            "the {name} API needs the model's name: give --server-model"
        );
        ensure!(
            takes.model != Model::Never || self.model.is_none(),
            "the {name} API cannot be told a model: it takes the one that the server has loaded; leave out --server-model"
        );
        for (stated, taken, flag) in [
            (self.negative_prompt.is_some(), takes.negative_prompt, "--negative-prompt"),
            (self.steps.is_some(), takes.steps, "--steps"),
            (self.guidance.is_some(), takes.guidance, "--guidance"),
        ] {
            ensure!(
                taken || !stated,
                "the {name} API has no field for {flag}: leave it out, or name it in --server-body as this server does"
            );
        }
        ensure!(
            !api.has_one_size() || self.width.is_some() == self.height.is_some(),
            "the {name} API takes width and height together: give both --width and --height"
        );
        ensure!(
            api == ServerApi::ComfyUi || self.workflow.is_none(),
            "a workflow is for the comfyui API, not for {name}"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_api() {
        for api in ServerApi::all() {
            assert_eq!(ServerApi::from_name(api.name()), Some(api));
        }
        assert_eq!(ServerApi::from_name("OpenAI"), None);
    }

    #[test]
    fn seeds_are_folded_to_what_each_server_takes() {
        let seed = u64::MAX;
        for (api, sent) in [
            (ServerApi::OpenAi, None),
            (ServerApi::VllmOmni, Some(i64::MAX.unsigned_abs())),
            (ServerApi::Sglang, Some(i64::MAX.unsigned_abs())),
            (ServerApi::LocalAi, Some(i32::MAX.unsigned_abs().into())),
            (ServerApi::SdApi, Some(i32::MAX.unsigned_abs().into())),
            (ServerApi::SdCpp, Some(i64::MAX.unsigned_abs())),
            (ServerApi::ComfyUi, Some(i64::MAX.unsigned_abs())),
            (ServerApi::Xdit, Some(i64::MAX.unsigned_abs())),
            (ServerApi::HuggingFace, Some(u32::MAX.into())),
        ] {
            let settings = WireSettings::new(api);
            assert_eq!(settings.sent_seed(seed), sent, "{api:?}");
            assert_eq!(settings.sent_seed(7), sent.map(|_| 7), "{api:?}");
        }
    }
}
