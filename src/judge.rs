//! In: an image with all its questions. Out: answers. Verdicts and scores are made elsewhere.

mod answer_rule;
mod asking;
pub mod blip_vqa;
pub mod catalog;
pub mod draw;
pub mod endpoint;
pub mod judge_counts;
pub mod judge_run;
pub mod mplug;
mod open_questions;
pub mod options;
pub mod pool;
pub mod processor_config;
pub mod qwen3_vl;
pub mod reading;
pub mod scripted;
mod scripted_file;
mod unparsable_guard;

use std::borrow::Cow;
use std::io::{self, Cursor};
use std::path::PathBuf;

use image::RgbImage;

use crate::benchmark::{Item, Question};
use crate::results::Settings;
use crate::results::image_store::{png_bytes, read_image};
pub use crate::results::pillow_resize;

/// The environment variable that holds the endpoint's key unless another is named.
pub const DEFAULT_KEY_VARIABLE: &str = "OPENAI_API_KEY";

/// What a judge said to one question.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// The answer that is scored: `yes`, `no`, or whatever else was said.
    pub text: String,
    /// The judge's own words where `text` is only a reading of them (`Yes, there is.` -> `yes`).
    pub raw: Option<String>,
    /// Probability of `yes`, where the judge states one, in 0..=1.
    pub yes_probability: Option<f64>,
    /// Whether the limit on tokens cut the reply.
    pub reply_cut: bool,
}

/// One image with the questions to put to it.
pub struct JudgeRequest<'a> {
    /// The item that the image was made for.
    pub item: &'a Item,
    /// Index of the image among the item's images, from 0.
    pub image_index: u32,
    /// The picture.
    pub image: &'a JudgedImage,
    /// The questions, in file order; all of the item's, or those still without an answer.
    pub questions: &'a [&'a Question],
}

/// A picture, decoded or encoded only for the judges that need it so.
#[derive(Debug, Clone)]
pub struct JudgedImage {
    /// For messages.
    name: PathBuf,
    held: Held,
}

#[derive(Debug, Clone)]
enum Held {
    /// The bytes of a PNG file.
    Png(Vec<u8>),
    Pixels(RgbImage),
}

impl JudgedImage {
    /// The image of the PNG file `path`, which has the bytes `png`.
    pub fn stored(path: PathBuf, png: Vec<u8>) -> Self {
        Self { name: path, held: Held::Png(png) }
    }

    /// An image that is in no file.
    ///
    /// # Errors
    /// It has no width or no height.
    pub(crate) fn of(image: &RgbImage) -> anyhow::Result<Self> {
        let (width, height) = image.dimensions();
        anyhow::ensure!(width > 0 && height > 0, "the image has {width} x {height} pixels");
        Ok(Self { name: "the image".into(), held: Held::Pixels(image.clone()) })
    }

    /// The picture as 8-bit RGB.
    ///
    /// # Errors
    /// Its file is no readable PNG.
    pub fn decode(&self) -> anyhow::Result<RgbImage> {
        let png = match &self.held {
            Held::Png(png) => png,
            Held::Pixels(pixels) => return Ok(pixels.clone()),
        };
        let name = self.name.display();
        anyhow::ensure!(png.starts_with(b"\x89PNG"), "{name} is no readable PNG");
        read_image(Cursor::new(png))
            .map_err(|reason| anyhow::anyhow!("{name} is no readable PNG: {reason}"))
    }

    /// The picture as the bytes of a PNG file: those of its own where it has one.
    ///
    /// # Errors
    /// It cannot be encoded.
    pub fn png(&self) -> io::Result<Cow<'_, [u8]>> {
        match &self.held {
            Held::Png(png) => Ok(Cow::Borrowed(png)),
            Held::Pixels(pixels) => Ok(Cow::Owned(png_bytes(pixels)?)),
        }
    }
}

/// How much of a question a judge reads, in its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuestionCut {
    /// Tokens that it reads.
    pub seen: u32,
    /// Tokens of the whole question.
    pub of: u32,
}

/// A visual question answering model.
pub trait Judge: Send + Sync {
    /// Every setting that can change an answer, for the manifest. No secrets.
    fn settings(&self) -> Settings;

    /// How many images it is worth to have in hand at once; answers are written in order all the same.
    fn images_in_flight(&self) -> usize {
        1
    }

    /// How many images it is worth to hand over together (see [`Judge::answer_batch`]).
    fn image_batch_size(&self) -> usize {
        1
    }

    /// Whether the judge reads only the beginning of a question; `None` where it reads all of it, or
    /// cannot tell.
    fn question_cut(&self, question: &Question) -> Option<QuestionCut> {
        let _ = question;
        None
    }

    /// Hears, before the first question of a sitting, whether earlier ones left any answer.
    fn on_sitting_start(&self, has_answers: bool) {
        let _ = has_answers;
    }

    /// Share of unparsable answers beyond which asking on is in vain, in 0..=1.
    fn max_unparsable(&self) -> f64 {
        1.0
    }

    /// What is to be said of the judge before it is asked.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// What is to be said of a sitting when it is over.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }

    /// Answers `request.questions` about one image, one result per question in the same order. A
    /// failed question is recorded with its reason and asked again when the run is resumed.
    ///
    /// # Errors
    /// Asking on would be in vain (a refused key, a server that is not there): nothing is recorded of
    /// this image and the run stops with this error. It must hold no secret.
    fn answer(&self, request: &JudgeRequest<'_>) -> anyhow::Result<Vec<Result<Answer, String>>>;

    /// Answers several requests at once, as [`Judge::answer`] answers each: what is handed over together
    /// may change the time that it takes, and nothing else.
    ///
    /// # Errors
    /// As there; nothing is recorded of any of these images.
    fn answer_batch(
        &self,
        requests: &[JudgeRequest<'_>],
    ) -> anyhow::Result<Vec<Vec<Result<Answer, String>>>> {
        requests.iter().map(|request| self.answer(request)).collect()
    }
}
