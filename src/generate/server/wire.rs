//! In: settings of a server, a prompt and a seed; the server's replies. Out: the next request, an image or an error.
//! Nothing is sent here: `Conversation` is asked what to send, and told what came.
//!
//! Each API has a file: `openai_shaped` (OpenAI, vLLM-Omni, SGLang, LocalAI), `sdapi`, `sdcpp`, `comfyui`, `xdit`,
//! `hugging_face`. What they share is in `settings` (what an API can be told), `body` (a user's own fields), `reply`
//! (errors, content filters, images) and `address` (which URLs are asked). `probe` finds out what a server speaks.

mod address;
mod body;
mod comfy_search;
mod comfy_workflow;
mod comfyui;
mod hugging_face;
mod openai_shaped;
mod probe;
mod reply;
mod sdapi;
mod sdcpp;
mod settings;
mod talk;
mod xdit;

use anyhow::{Result, ensure};
use serde_json::{Map, Value};

pub use address::{Address, Target};
pub use comfy_workflow::Workflow;
pub use probe::{FoundServer, Probe, ProbeReply, judge_probe};
pub use settings::{ServerApi, WireSettings};
pub use talk::{HttpReply, HttpRequest, Method, Retry, ServerImage, Step};

use openai_shaped::Found;

impl WireSettings {
    /// Refuses what the API cannot be told, or what would change prompt, seed or the number of images.
    ///
    /// # Errors
    /// One sentence that names the flag or field.
    pub fn check(&self) -> Result<()> {
        self.check_fields()?;
        body::check_reserved(&self.body)?;
        match self.api {
            ServerApi::ComfyUi => comfyui::check(self)?,
            ServerApi::HuggingFace => ensure!(
                self.model.as_deref().is_none_or(hugging_face::is_model_name),
                "--server-model is no model's name such as black-forest-labs/FLUX.1-dev"
            ),
            _ => openai_shaped::check(self)?,
        }
        let bare =
            Self { body: Map::new(), workflow: self.workflow.clone(), ..Self::new(self.api) };
        let stated = Self { body: Map::new(), ..self.clone() };
        let (with, without) =
            (stated.request_body("a prompt", 1)?, bare.request_body("a prompt", 1)?);
        body::check_stated_once(&with, &without, &self.body)
    }

    /// The body of the first request for one image.
    ///
    /// # Errors
    /// The API cannot be told this prompt.
    pub fn request_body(&self, prompt: &str, seed: u64) -> Result<Value> {
        let seed = self.sent_seed(seed);
        let mut whole = match self.api {
            ServerApi::OpenAi | ServerApi::VllmOmni | ServerApi::Sglang | ServerApi::LocalAi => {
                openai_shaped::body(self, prompt, seed)?
            }
            ServerApi::SdApi => sdapi::body(self, prompt, seed)?,
            ServerApi::SdCpp => sdcpp::body(self, prompt, seed),
            ServerApi::ComfyUi => comfyui::body(self, prompt, seed)?,
            ServerApi::Xdit => xdit::body(self, prompt, seed),
            ServerApi::HuggingFace => hugging_face::body(self, prompt, seed),
        };
        if let Value::Object(fields) = &mut whole {
            body::merge(fields, &self.body);
        }
        Ok(whole)
    }

    /// Where the first request for an image goes, below the base URL.
    fn path(&self) -> String {
        match self.api {
            ServerApi::OpenAi | ServerApi::VllmOmni | ServerApi::Sglang | ServerApi::LocalAi => {
                openai_shaped::PATH.to_owned()
            }
            ServerApi::SdApi => sdapi::PATH.to_owned(),
            ServerApi::SdCpp => sdcpp::PATH.to_owned(),
            ServerApi::ComfyUi => comfyui::PATH.to_owned(),
            ServerApi::Xdit => xdit::PATH.to_owned(),
            ServerApi::HuggingFace => hugging_face::path(self),
        }
    }
}

/// What the next reply answers.
#[derive(Debug, Clone)]
enum Awaited {
    /// The request for the image.
    Image,
    /// A question after a job or a history; it is asked again while that goes on.
    Progress(HttpRequest),
    /// The image's bytes, with the prompt that was used where it is another.
    Bytes(Option<String>),
}

/// One image's talk with the server.
#[derive(Debug, Clone)]
pub struct Conversation<'s> {
    settings: &'s WireSettings,
    prompt: String,
    awaited: Awaited,
}

impl<'s> Conversation<'s> {
    /// The talk and its first request. `seed` is folded to what the server takes ([`WireSettings::sent_seed`]).
    ///
    /// # Errors
    /// The API cannot be told this prompt.
    pub fn start(
        settings: &'s WireSettings,
        prompt: &str,
        seed: u64,
    ) -> Result<(Self, HttpRequest)> {
        let request = HttpRequest::post(settings.path(), settings.request_body(prompt, seed)?);
        let awaited = match settings.api {
            ServerApi::HuggingFace => Awaited::Bytes(None),
            _ => Awaited::Image,
        };
        Ok((Self { settings, prompt: prompt.to_owned(), awaited }, request))
    }

    /// What follows from the reply to the last request.
    pub fn receive(&mut self, reply: &HttpReply) -> Step {
        self.step(reply).unwrap_or_else(|step| step)
    }

    /// Both sides are what follows; an error is one that ends the talk.
    fn step(&mut self, reply: &HttpReply) -> Result<Step, Step> {
        match self.awaited.clone() {
            Awaited::Image => self.first(reply),
            Awaited::Progress(poll) => self.progress(reply, &poll),
            Awaited::Bytes(revised_prompt) => {
                reply::accepted(reply)?;
                reply::no_refusal(reply)?;
                let bytes = reply::image(reply.body.to_vec())?;
                Ok(Step::Done(ServerImage { bytes, revised_prompt, seed_told: None }))
            }
        }
    }

    fn first(&mut self, reply: &HttpReply) -> Result<Step, Step> {
        let poll = match self.settings.api {
            ServerApi::SdApi => return sdapi::read(&reply::json(reply)?).map(Step::Done),
            ServerApi::Xdit => return xdit::read(&reply::json(reply)?).map(Step::Done),
            ServerApi::SdCpp => sdcpp::job(&reply::json(reply)?)?,
            ServerApi::ComfyUi => comfyui::queued(self.settings, reply)?,
            _ => match openai_shaped::read(&reply::json(reply)?, &self.prompt) {
                Found::Step(step) => return Ok(step),
                Found::Elsewhere(request, revised_prompt) => {
                    self.awaited = Awaited::Bytes(revised_prompt);
                    return Ok(Step::Send(request));
                }
            },
        };
        self.awaited = Awaited::Progress(poll.clone());
        Ok(Step::Wait(poll))
    }

    fn progress(&mut self, reply: &HttpReply, poll: &HttpRequest) -> Result<Step, Step> {
        if matches!(reply.status, 404 | 410) {
            return Err(Step::try_again(
                "the server no longer knows the job: was it started anew?",
            ));
        }
        let value = reply::json(reply)?;
        let step = match self.settings.api {
            ServerApi::ComfyUi => comfyui::history(self.settings, &value, poll),
            _ => sdcpp::state(&value, poll),
        };
        if matches!(step, Step::Send(_)) {
            self.awaited = Awaited::Bytes(None);
        }
        Ok(step)
    }
}

#[cfg(test)]
mod test_talk;
