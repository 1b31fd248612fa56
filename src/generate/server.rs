//! In: an image server and what each image is asked with. Out: an image generator that asks it over HTTP. What is sent and
//! what replies mean, for each kind of server, is `server/wire.rs`, which has no input and no output; the requests are
//! `server/client.rs`, what the server is `server/probe.rs`, what it makes of seeds `server/seeds.rs`.

mod client;
mod probe;
mod seeds;
mod sent;
pub mod wire;

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use self::client::{Client, Fault, FaultKind, Made};
use self::probe::Found;
use self::seeds::Seeds;
use self::sent::sent;
use self::wire::{ServerApi, ServerImage, WireSettings};
use super::{
    Filtered, FromServer, GeneratedImage, Hopeless, ImageGenerator, ImageRequest, ImageTimes,
};
use crate::benchmark::digest::hex;
use crate::checkpoint::load_report::LoadReport;
use crate::results::image_store::{pixels_sha256, read_image};
use crate::results::png_data::read_png_data;
use crate::results::{Served, Settings};

pub use self::client::Asking;
pub(crate) use self::seeds::PROMPTS;

/// Generators beyond twice those that are asked at a time: they decode and write what came meanwhile, which takes a disk as
/// long as a quick server takes for an image.
const WRITERS: usize = 2;

/// Images in a row without success that stop the run: before the first success, and after it.
const FAILURES: (u32, u32) = (3, 16);

/// Which server makes the images, and what it is told.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Its URL, such as `http://localhost:8000/v1`.
    pub url: String,
    /// Which API it speaks; found out where it is `None`.
    pub api: Option<ServerApi>,
    /// What holds for all images; its `api` is that of the server.
    pub settings: WireSettings,
    /// How it is asked.
    pub asking: Asking,
    /// Whether prompts that a content filter refused before are asked again.
    pub retry_filtered: bool,
}

/// A server, as one of several that ask it at a time.
pub struct ServerGenerator {
    shared: Arc<Shared>,
}

/// What those share that ask one server.
struct Shared {
    client: Client,
    settings: WireSettings,
    found: Found,
    seeds: OnceLock<Seeds>,
    /// Images that were made to try the seeds, until the run asks for them.
    ready: Mutex<BTreeMap<(String, u64), GeneratedImage>>,
    retry_filtered: bool,
    /// How long each image took, waits and further tries included, until that is told.
    times: Mutex<Vec<Duration>>,
    has_made: AtomicBool,
    failures_in_a_row: AtomicU32,
}

impl ServerGenerator {
    /// Finds out what the server is, and returns one generator for each image that it is asked for at a time, and some that
    /// decode and write meanwhile.
    ///
    /// # Errors
    /// There is no server, it is none of the API, lacks the model, or the API cannot be told a setting.
    pub fn connect(options: ServerOptions) -> Result<Vec<Self>> {
        let ServerOptions { url, api, mut settings, asking, retry_filtered } = options;
        let concurrency = asking.concurrency.max(1);
        let client = Client::new(url, asking);
        let found = probe::find(&client, api, &settings)?;
        settings.api = found.api;
        if settings.model.is_none() && found.takes_model() {
            // A list of one, which some servers want to be named all the same.
            settings.model =
                found.models.first().cloned().filter(|_| !settings.body.contains_key("model"));
        }
        settings.check()?;
        let client = client.with(found.base.clone(), client.asking().timeout);
        let shared = Arc::new(Shared {
            client,
            settings,
            found,
            seeds: OnceLock::new(),
            ready: Mutex::default(),
            retry_filtered,
            times: Mutex::default(),
            has_made: AtomicBool::new(false),
            failures_in_a_row: AtomicU32::new(0),
        });
        let generators = 0..2 * concurrency + WRITERS;
        Ok(generators.map(|_| Self { shared: Arc::clone(&shared) }).collect())
    }

    /// What was found, for people: where, which API, which models.
    pub(crate) fn described(&self) -> String {
        let Found { api, base, models, .. } = &self.shared.found;
        let models = match (&self.shared.settings.model, models.as_slice()) {
            (Some(model), _) => format!(", model {model}"),
            (None, []) => String::new(),
            (None, [one]) => format!(", model {one}"),
            (None, several) => format!(", models {}", several.join(", ")),
        };
        format!("{base} speaks {}{models}", api.name())
    }

    /// The URL that requests go below.
    pub(crate) fn url(&self) -> &str {
        self.shared.client.base()
    }
}

impl Found {
    /// Whether its requests name a model.
    fn takes_model(&self) -> bool {
        use ServerApi::{LocalAi, OpenAi, Sglang, VllmOmni};
        matches!(self.api, OpenAi | VllmOmni | Sglang | LocalAi) && self.models.len() == 1
    }
}

impl Shared {
    /// One image, and what the run is to do where there is none.
    fn image(&self, prompt: &str, seed: u64) -> Result<GeneratedImage> {
        self.image_that_came(prompt, seed, &|| {})
    }

    /// As [`Self::image`]; calls `came` when the server has nothing more to do for it.
    fn image_that_came(&self, prompt: &str, seed: u64, came: &dyn Fn()) -> Result<GeneratedImage> {
        let start = Instant::now();
        let made = self.client.image(&self.settings, prompt, seed);
        let time = start.elapsed();
        let made = made.map_err(|fault| self.hopeless(fault))?;
        came();
        let made = match made {
            Made::Filtered(words) => Err(Filtered(words).into()),
            Made::Image(image) => {
                let decoded = self.decoded(image, seed);
                let decoded =
                    decoded.map_err(|error| self.hopeless(Fault::last(format!("{error:#}"))))?;
                self.has_made.store(true, Ordering::Relaxed);
                self.times.lock().unwrap_or_else(PoisonError::into_inner).push(time);
                Ok(decoded)
            }
        };
        self.failures_in_a_row.store(0, Ordering::Relaxed);
        made
    }

    /// One image a seed; calls `came` when the last of them came.
    fn images(&self, prompt: &str, seeds: &[u64], came: &dyn Fn()) -> Result<Vec<GeneratedImage>> {
        let image = |(place, &seed): (usize, &u64)| {
            let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
            let image = ready.remove(&(prompt.to_owned(), seed));
            drop(ready);
            let is_last = place + 1 == seeds.len();
            image.map_or_else(
                || self.image_that_came(prompt, seed, if is_last { came } else { &|| {} }),
                Ok,
            )
        };
        seeds.iter().enumerate().map(image).collect()
    }

    /// The fault as an error of this image, or of the run where asking on is in vain.
    fn hopeless(&self, fault: Fault) -> anyhow::Error {
        let in_a_row = self.failures_in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        let limit = if self.has_made.load(Ordering::Relaxed) { FAILURES.1 } else { FAILURES.0 };
        let base = self.client.base();
        let goes_on = "what is made is kept, and the same command goes on";
        match fault.kind {
            FaultKind::Unreachable | FaultKind::Key => {
                Hopeless(format!("{base}: {fault}; {goes_on}")).into()
            }
            _ if in_a_row >= limit => Hopeless(format!(
                "{base}: {in_a_row} images in a row failed, the last one so: {fault}; {goes_on}"
            ))
            .into(),
            _ => anyhow::Error::msg(fault.reason),
        }
    }

    /// The pixels of the file that came, and what is told of it.
    fn decoded(&self, image: ServerImage, seed: u64) -> Result<GeneratedImage> {
        let ServerImage { bytes, revised_prompt, seed_told } = image;
        let format = match bytes.as_slice() {
            [0xff, 0xd8, ..] => "jpeg",
            [b'R', b'I', b'F', b'F', ..] => "webp",
            _ => "png",
        };
        let (pixels, png) = match read_png_data(&bytes) {
            Some((pixels, png)) => (pixels, Some(png)),
            None => {
                let pixels = read_image(Cursor::new(bytes));
                (pixels.context("the server's image cannot be read")?, None)
            }
        };
        let sent = self.settings.sent_seed(seed);
        let size = pixels.dimensions();
        let wanted = (
            self.settings.width.map_or(size.0, |width| width as u32),
            self.settings.height.map_or(size.1, |height| height as u32),
        );
        let told = Served {
            format: format.to_owned(),
            asked: (wanted != size).then_some(wanted),
            revised_prompt: revised_prompt.map(|prompt| self.client.scrub(&prompt)),
            seed_told: seed_told.filter(|told| sent.is_some_and(|sent| sent != *told)),
        };
        Ok(GeneratedImage {
            pixels,
            seed: sent.unwrap_or(seed),
            prompt_tokens: None,
            truncated: None,
            served: Some(FromServer { seed: sent, told, png }),
        })
    }

    /// What the server makes of seeds, tried with the first prompt that no filter refuses. What is made for it and
    /// belongs to the run is kept for it.
    fn try_seeds(&self, prompts: &[(&str, [u64; 2])]) -> Result<Seeds> {
        for (prompt, [seed, other]) in prompts {
            let mut made = Vec::new();
            // Not twice in a row: ComfyUI gives the last image again, without making it.
            for seed in [seed, other, seed] {
                match self.image(prompt, *seed) {
                    Ok(image) => made.push(image),
                    Err(error) if error.is::<Filtered>() => break,
                    Err(error) => {
                        bail!("{}: no image of the first prompt: {error:#}", self.client.base())
                    }
                }
            }
            let digests: Vec<String> =
                made.iter().map(|image| pixels_sha256(&image.pixels)).collect();
            if let [first, third, again] = digests.as_slice() {
                let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
                for (seed, image) in [seed, other].into_iter().zip(made) {
                    ready.insert(((*prompt).to_owned(), *seed), image);
                }
                return Ok(Seeds::told_by([first, again, third]));
            }
        }
        Ok(Seeds::NotKnown)
    }
}

impl ImageGenerator for ServerGenerator {
    fn settings(&self) -> Settings {
        let Shared { settings: wire, found, seeds, .. } = &*self.shared;
        let mut settings = Settings::new();
        settings.insert("model".to_owned(), "server".into());
        if let Some(name) = wire.model.as_ref().or(found.models.first()) {
            settings.insert("name".to_owned(), name.clone().into());
        }
        settings.insert("server_api".to_owned(), wire.api.name().into());
        if !found.said.is_null() {
            settings.insert("server_says".to_owned(), found.said.clone());
        }
        settings.insert("sent".to_owned(), sent(wire));
        if let Some(workflow) = &wire.workflow {
            let graph = Value::Object(workflow.graph().clone());
            let digest = hex(&<sha2::Sha256 as sha2::Digest>::digest(graph.to_string()));
            settings.insert("workflow_sha256".to_owned(), digest.into());
            settings.insert("workflow_nodes".to_owned(), workflow.paths().into());
            settings.insert("workflow".to_owned(), graph);
        }
        if let Some(seeds) = seeds.get() {
            settings.insert(seeds::SETTING.to_owned(), seeds.word().into());
        }
        settings
    }

    fn understood(&self) -> LoadReport {
        let Found { api, base, models, said } = &self.shared.found;
        let mut report = LoadReport::default();
        report.line("server", base.as_str());
        report.line("api", api.name());
        if let Some(model) = &self.shared.settings.model {
            report.line("model", model.as_str());
        }
        if !models.is_empty() {
            report.line("models", models.join(", "));
        }
        if let Some(workflow) = &self.shared.settings.workflow {
            report.line("workflow", workflow.paths().join(", "));
        }
        if said.is_null() {
            report.line("says of itself", "nothing");
        }
        report
    }

    fn runs_on_gpu(&self) -> bool {
        // Another process makes the images: this one can write one while the next is made.
        true
    }

    fn retries_filtered(&self) -> bool {
        self.shared.retry_filtered
    }

    fn measure(&mut self, prompt: &str, _calls: usize) -> Result<Option<ImageTimes>> {
        let start = Instant::now();
        let image = self.shared.image(prompt, 0)?;
        Ok(Some(ImageTimes::of_whole(start.elapsed(), &image)))
    }

    fn begin(
        &mut self,
        recorded: Option<&Settings>,
        prompts: &[(&str, [u64; 2])],
    ) -> Result<Option<String>> {
        let shared = &self.shared;
        let word = recorded.and_then(|settings| settings.get(seeds::SETTING)?.as_str());
        if let Some(known) = word.and_then(Seeds::from_word) {
            // It has made images before: what fails now may be these alone.
            shared.has_made.store(true, Ordering::Relaxed);
            let _ = shared.seeds.set(known);
            return Ok(None);
        }
        let seeds = match Seeds::of_api(&shared.settings) {
            Some(known) => known,
            None => shared.try_seeds(prompts)?,
        };
        let _ = shared.seeds.set(seeds);
        Ok(Some(seeds.sentence().to_owned()))
    }

    fn take_times(&mut self) -> Vec<Duration> {
        std::mem::take(&mut *self.shared.times.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn asked_at_a_time(&self) -> Option<usize> {
        Some(self.shared.client.asking().concurrency.max(1))
    }

    fn generate(&mut self, prompt: &str, seeds: &[u64]) -> Result<Vec<GeneratedImage>> {
        self.shared.images(prompt, seeds, &|| {})
    }

    fn generate_asked(&mut self, request: ImageRequest<'_>) -> Result<Vec<GeneratedImage>> {
        self.shared.images(request.prompt, request.seeds, request.came)
    }
}
