//! In: items. Out: images, four to a prompt, in the run directory. Judging them is left to `judge`.

pub mod catalog;
pub mod control_images;
pub mod generate_run;
mod image_keeper;
pub mod image_ledger;
mod image_texts;
pub mod import;
pub mod model_file;
pub mod noise;
pub mod pipelines;
pub mod program;
pub mod recognised;
pub mod sampling_choice;
pub mod schedulers;
pub mod served_counts;
pub mod server;

use std::time::Duration;

use image::RgbImage;

use self::control_images::ControlImages;
use crate::checkpoint::load_report::LoadReport;
use crate::results::png_data::PngData;
use crate::results::{Served, Settings};
use crate::stage_observer::StageObserver;

/// One generated picture with what the record of it needs.
#[derive(Debug, Clone)]
pub struct GeneratedImage {
    /// The picture.
    pub pixels: RgbImage,
    /// Seed of its initial noise.
    pub seed: u64,
    /// Tokens of the whole prompt, start and end included, before truncation; `None` where the generator cannot tell.
    pub prompt_tokens: Option<u32>,
    /// Whether the text encoder saw only the beginning of the prompt; `None` where the generator cannot tell.
    pub truncated: Option<bool>,
    /// What the server that made it sent and said; `None` where no server did.
    pub served: Option<FromServer>,
}

/// What is known of an image that a server made.
#[derive(Debug, Clone, PartialEq)]
pub struct FromServer {
    /// The seed that it was sent; `None` where it takes none.
    pub seed: Option<u64>,
    /// What it sent and said.
    pub told: Served,
    /// The image's own compressed data, which is kept where there is any.
    pub png: Option<PngData>,
}

/// A content filter refused the prompt: an error of [`ImageGenerator::generate`] that is a state of its own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a content filter refused the prompt: {0}")]
pub struct Filtered(pub String);

/// Further images would fail like this one: an error of [`ImageGenerator::generate`] that stops the run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Hopeless(pub String);

/// How long the parts of a picture take, by the clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImageTimes {
    /// Encoding a prompt; once for all images of an item.
    pub text: Duration,
    /// One call of the denoising network, both halves of guidance included.
    pub call: Duration,
    /// Calls that a whole picture takes.
    pub calls: usize,
    /// Decoding the picture.
    pub decode: Duration,
    /// Height and width in pixels.
    pub size: (usize, usize),
}

impl ImageTimes {
    /// Of an image that was made elsewhere, of which only the whole time is known.
    fn of_whole(call: Duration, image: &GeneratedImage) -> Self {
        let (width, height) = image.pixels.dimensions();
        Self {
            text: Duration::ZERO,
            call,
            calls: 1,
            decode: Duration::ZERO,
            size: (height as usize, width as usize),
        }
    }
}

/// What a run asks a generator for: images of one item.
pub struct ImageRequest<'a> {
    /// Id of the item.
    pub item: &'a str,
    /// Index of each image within the item.
    pub images: &'a [u32],
    /// The item's prompt.
    pub prompt: &'a str,
    /// One seed an image.
    pub seeds: &'a [u64],
    /// Called as soon as what is left to do is this process's own work, such as decoding: the next images may then be
    /// asked for. Need not be called.
    pub came: &'a dyn Fn(),
}

/// A text-to-image model with fixed settings.
pub trait ImageGenerator: Send {
    /// Every setting that can change a pixel, for the manifest: model, weights digest, size, steps,
    /// scheduler, guidance and so on.
    fn settings(&self) -> Settings;

    /// What was understood of the model's files, for people: nothing that the settings need.
    fn understood(&self) -> LoadReport {
        LoadReport::default()
    }

    /// Told once before a run is noted, with the settings that it was begun with if it was, and the first prompts, each
    /// with two seeds: a chance to find out what [`Self::settings`] is to say. Of generators that share the work one is
    /// told. Returns what was found out, for people.
    ///
    /// # Errors
    /// No image can be made.
    fn begin(
        &mut self,
        recorded: Option<&Settings>,
        prompts: &[(&str, [u64; 2])],
    ) -> anyhow::Result<Option<String>> {
        let _ = (recorded, prompts);
        Ok(None)
    }

    /// Told once before a run, with every prompt that lacks an image, in order: a chance to encode
    /// texts ahead, each of which `observer` hears of. It changes no pixel.
    ///
    /// # Errors
    /// A network could not be loaded, which stops the run. A prompt that cannot be encoded is no
    /// error here but one of [`Self::generate`].
    fn prepare(&mut self, prompts: &[&str], observer: &dyn StageObserver) -> anyhow::Result<()> {
        let _ = (prompts, observer);
        Ok(())
    }

    /// Whether pictures are made on a device of its own, so that the processor can write one while the
    /// next is made. It changes no pixel and no order; a kill then costs one group of pictures more.
    fn runs_on_gpu(&self) -> bool {
        false
    }

    /// The control images that its pictures are made under; `None` where they are made of texts alone. A generator that has them
    /// is asked by [`Self::generate_asked`], and each record of an image says which one it was.
    fn control_images(&self) -> Option<&ControlImages> {
        None
    }

    /// Whether prompts that a content filter refused before are asked again.
    fn retries_filtered(&self) -> bool {
        false
    }

    /// How long each image took that was made since this was asked last, where another process makes them: what a run
    /// tells its user. Of generators that share a server any may tell all.
    fn take_times(&mut self) -> Vec<Duration> {
        Vec::new()
    }

    /// Makes a picture of `prompt` with no more than `calls` of the denoising network's calls, throws it
    /// away, and tells how long its parts took; `None` where the generator cannot tell.
    ///
    /// # Errors
    /// The model failed.
    fn measure(&mut self, prompt: &str, calls: usize) -> anyhow::Result<Option<ImageTimes>> {
        let _ = (prompt, calls);
        Ok(None)
    }

    /// One image per seed, in order. An image depends on the prompt, its seed and the settings, and
    /// on nothing else: not on the other seeds, the batch or the device count.
    ///
    /// # Errors
    /// The model failed on this prompt; the run records that and goes on.
    fn generate(&mut self, prompt: &str, seeds: &[u64]) -> anyhow::Result<Vec<GeneratedImage>>;

    /// Of generators that share the work, how many are asked at a time; the others meanwhile end what
    /// [`ImageRequest::came`] told of. `None` for all of them.
    fn asked_at_a_time(&self) -> Option<usize> {
        None
    }

    /// As [`Self::generate`], for a generator that wants to know more of what is asked. No pixel may depend on that, but on the
    /// item's control image.
    ///
    /// # Errors
    /// As there.
    fn generate_asked(&mut self, request: ImageRequest<'_>) -> anyhow::Result<Vec<GeneratedImage>> {
        self.generate(request.prompt, request.seeds)
    }
}
