//! In: a program of the user's that makes images, and where it runs. Out: an image generator that asks it, one
//! JSON line an image. What the lines say is `program/messages.rs`, the process is `program/worker.rs`.

mod messages;
mod worker;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value, json};

use self::messages::{ImageName, PROTOCOL, Reply, Request, Started};
use self::worker::Worker;
use super::{GeneratedImage, ImageGenerator, ImageRequest, ImageTimes};
use crate::checkpoint::load_report::LoadReport;
use crate::results::Settings;
use crate::results::image_store::read_image;

/// Starts that one image may take: a program that ends is started again.
const STARTS: u32 = 3;

/// What is asked for where no run asks: `doctor` tries the program.
const NO_ITEM: ImageName<'_> = ImageName { item: "", image: 0 };

/// Which program makes the images, and what it is told.
#[derive(Debug, Clone)]
pub struct ProgramOptions {
    /// The program and its arguments; at least one word.
    pub command: Vec<String>,
    /// How long it may take to start and load.
    pub start_timeout: Duration,
    /// How long it may take for one image.
    pub image_timeout: Duration,
    /// Takes what the program writes to its standard error; none is written where it is `None`.
    pub log: Option<PathBuf>,
    /// What is sent with each image, as the user stated it; what is `None` is not sent.
    pub stated: Stated,
}

/// Settings that the user stated. The program applies them or ends with an error; they are recorded as sent.
#[derive(Debug, Clone, Default)]
pub struct Stated {
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

/// A program that makes images.
pub struct ProgramGenerator {
    options: ProgramOptions,
    device: String,
    started: Started,
    worker: Option<Worker>,
    /// Where the program writes its images; each is removed when it was read.
    out: tempfile::TempDir,
    /// Images asked for so far.
    asked: u64,
    /// How long each image took, until that is told.
    times: Vec<Duration>,
}

impl ProgramGenerator {
    /// Starts the program and waits until it has loaded. `device` is what it is told in `DPG_BENCH_DEVICE`.
    ///
    /// # Errors
    /// It cannot be started, ends, takes too long, or says something else than its first line should.
    pub fn start(options: ProgramOptions, device: &str) -> Result<Self> {
        let (worker, started) = start(&options, device)?;
        let out = tempfile::tempdir().context("no temporary folder for the program's images")?;
        Ok(Self {
            options,
            device: device.to_owned(),
            started,
            worker: Some(worker),
            out,
            asked: 0,
            times: Vec::new(),
        })
    }

    /// The worker, started again where the last one has ended.
    fn worker(&mut self) -> Result<&mut Worker> {
        if self.worker.is_none() {
            let (worker, started) = start(&self.options, &self.device)?;
            ensure!(
                started == self.started,
                "the program calls itself something else than at its first start"
            );
            self.worker = Some(worker);
        }
        self.worker.as_mut().context("the program is not running")
    }

    /// One image; a program that ends is started again, up to [`STARTS`] times.
    fn image(&mut self, of: ImageName<'_>, prompt: &str, seed: u64) -> Result<GeneratedImage> {
        // Another file for each request: a reply that comes late can be taken for no other image.
        self.asked += 1;
        let path = self.out.path().join(format!("{}.png", self.asked));
        let stated = &self.options.stated;
        let request = Request {
            of,
            prompt,
            seed,
            negative_prompt: stated.negative_prompt.as_deref(),
            width: stated.width,
            height: stated.height,
            steps: stated.steps,
            guidance: stated.guidance,
            out: &path,
        };
        let line = serde_json::to_string(&request)?;
        let start = Instant::now();
        let reply = self.reply(&line)?;
        let time = start.elapsed();
        let error = match Reply::read(&reply, of) {
            Ok(Reply::Error { error }) => bail!("the program says: {}", error.trim()),
            Ok(Reply::Image { path: named }) if named == path => {
                let image = self.taken(&path, seed)?;
                self.times.push(time);
                return Ok(image);
            }
            Ok(Reply::Image { path: named }) => anyhow!(
                "the program says that {} is made, where {} was asked for",
                named.display(),
                path.display()
            ),
            Err(error) => error,
        };
        // It said something that nobody asked for: the next reply could be of this image.
        self.worker = None;
        Err(error)
    }

    /// What it answers to `line`. A program that ends is started again, but not one that takes too long: it would
    /// take as long once more.
    fn reply(&mut self, line: &str) -> Result<String> {
        let timeout = self.options.image_timeout;
        let mut starts = 1;
        loop {
            match self.worker()?.ask(line, timeout) {
                Ok(reply) => return Ok(reply),
                Err(error) => {
                    log::debug!("the program gave no reply: {error}");
                    // Whatever it may still say belongs to this image, not to the next.
                    self.worker = None;
                    if error.is_timeout() || starts == STARTS {
                        return Err(error.into());
                    }
                    starts += 1;
                }
            }
        }
    }

    /// The image that it wrote.
    fn taken(&self, path: &Path, seed: u64) -> Result<GeneratedImage> {
        let shown = path.display();
        let file = std::fs::File::open(path).with_context(|| {
            format!("the program says that {shown} is made, which cannot be opened")
        })?;
        let pixels = read_image(std::io::BufReader::new(file))
            .with_context(|| format!("the program's image {shown} cannot be read"))?;
        std::fs::remove_file(path).with_context(|| format!("{shown} cannot be removed"))?;
        let stated = &self.options.stated;
        for (what, wanted, came) in
            [("wide", stated.width, pixels.width()), ("high", stated.height, pixels.height())]
        {
            if let Some(wanted) = wanted {
                ensure!(
                    wanted == came as usize,
                    "the program's image is {came} pixels {what}, where {wanted} were asked for"
                );
            }
        }
        Ok(GeneratedImage { pixels, seed, prompt_tokens: None, truncated: None, served: None })
    }
}

fn start(options: &ProgramOptions, device: &str) -> Result<(Worker, Started)> {
    let mut worker = Worker::start(&options.command, device, options.log.as_deref())?;
    let line = worker.first_line(options.start_timeout)?;
    Ok((worker, Started::read(&line)?))
}

impl ImageGenerator for ProgramGenerator {
    fn settings(&self) -> Settings {
        let stated = &self.options.stated;
        let sent: serde_json::Map<String, Value> = [
            ("negative_prompt", json!(stated.negative_prompt)),
            ("width", json!(stated.width)),
            ("height", json!(stated.height)),
            ("steps", json!(stated.steps)),
            ("guidance", json!(stated.guidance)),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        let mut settings = Settings::new();
        settings.insert("model".to_owned(), "program".into());
        settings.insert("name".to_owned(), self.started.model.clone().into());
        settings.insert("program_protocol".to_owned(), PROTOCOL.into());
        settings.insert("program_settings".to_owned(), self.started.settings.clone().into());
        settings.insert("sent".to_owned(), sent.into());
        settings
    }

    fn understood(&self) -> LoadReport {
        let mut report = LoadReport::default();
        report.line("program", self.options.command.join(" "));
        report.line("calls itself", &self.started.model);
        report
    }

    fn runs_on_gpu(&self) -> bool {
        // A process of its own: this one can write an image while it makes the next.
        true
    }

    fn measure(&mut self, prompt: &str, _calls: usize) -> Result<Option<ImageTimes>> {
        let start = Instant::now();
        let image = self.image(NO_ITEM, prompt, 0)?;
        Ok(Some(ImageTimes::of_whole(start.elapsed(), &image)))
    }

    fn take_times(&mut self) -> Vec<Duration> {
        std::mem::take(&mut self.times)
    }

    fn generate(&mut self, prompt: &str, seeds: &[u64]) -> Result<Vec<GeneratedImage>> {
        seeds.iter().map(|&seed| self.image(NO_ITEM, prompt, seed)).collect()
    }

    fn generate_asked(&mut self, request: ImageRequest<'_>) -> Result<Vec<GeneratedImage>> {
        let ImageRequest { item, images, prompt, seeds, .. } = request;
        let each = images.iter().zip(seeds);
        each.map(|(&image, &seed)| self.image(ImageName { item, image }, prompt, seed)).collect()
    }
}
