//! In: pictures with their questions, and the published folder of an mPLUG model. Out: the answers that
//! ModelScope's pipeline gives, and P(yes). This is the judge of the published DPG-Bench numbers.
//!
//! Preprocessing and search follow the original to the letter (docs/judges.md); the networks are in
//! `models::mplug`. All questions about the pictures at hand are answered together.

mod answer_text;
mod beam_search;
mod conversion;
mod files;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use image::RgbImage;
use serde_json::json;

use super::pillow_resize::{Filter, Order, resize};
use super::{Answer, Judge, JudgeRequest, QuestionCut};
use crate::benchmark::Question;
use crate::checkpoint::error_words::sentence;
use crate::compute::device::Place;
use crate::models::made_up;
use crate::models::mplug::{Decoding, ImageStates, Mplug, MplugConfig};
use crate::results::Settings;
use crate::text::word_piece::{QuestionIds, WordPiece};

pub use beam_search::{BeamSettings, Found, Hypothesis, LENGTH_PENALTY, NextTokenScores, search};
pub use conversion::{Converted, convert};
pub(crate) use files::MplugFiles;

/// The preprocessor keeps so many tokens of a question, `[CLS]` and `[SEP]` among them.
pub(crate) const QUESTION_TOKENS: usize = 25;

/// Raised whenever the same weights would give other answers than before.
const METHOD: u32 = 1;

/// CLIP's mean and standard deviation of red, green and blue.
const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const DEVIATION: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// mPLUG as a judge.
pub struct MplugJudge {
    network: Mplug,
    words: WordPiece,
    beam: BeamSettings,
    image_res: u32,
    together: usize,
    question_tokens: usize,
    order: Order,
    device: Device,
    settings: Settings,
    /// The ids of questions that were asked before: each is asked about several pictures.
    known_ids: Mutex<HashMap<String, QuestionIds>>,
}

/// How the judge is set up.
#[derive(Debug, Clone)]
pub struct MplugOptions {
    /// Device and number format of the networks; the original computes in f32.
    pub place: Place,
    /// Pictures looked at together.
    pub together: usize,
    /// The weights' revision, as their publisher names it.
    pub revision: Option<String>,
    /// Tokens of a question: `QUESTION_TOKENS`, but for checks.
    pub question_tokens: usize,
    /// Order of Pillow's passes; the published numbers are older than version 13.
    pub order: Order,
    /// Width of the beam where it is not the model's own: for checks.
    pub beam_width: Option<usize>,
    /// Exponent of the length penalty: [`LENGTH_PENALTY`], but for checks.
    pub alpha: f64,
    /// Whether a question is left as soon as its answer is certain; it changes no answer.
    pub early_stopping: bool,
}

impl MplugOptions {
    /// The original's, computed at `place`.
    pub fn new(place: Place) -> Self {
        Self {
            place,
            together: 1,
            revision: None,
            question_tokens: QUESTION_TOKENS,
            order: Order::RowsFirst,
            beam_width: None,
            alpha: LENGTH_PENALTY,
            early_stopping: true,
        }
    }
}

impl MplugJudge {
    /// Whether the folder or file `path` holds a whole model. Tensors are looked up but not read.
    ///
    /// # Errors
    /// A file is missing or broken, or a tensor is missing or of another shape; it is named.
    pub fn check(path: &Path) -> Result<()> {
        let files = MplugFiles::find(path)?;
        let config = MplugConfig::read(&files.folder)?;
        words(&files, &config)?;
        files.needed(&config)?;
        Ok(())
    }

    /// Loads the model in the folder `path`, or the weights `path` with the files beside them.
    ///
    /// # Errors
    /// As [`MplugJudge::check`], or a tensor cannot be read.
    pub fn load(path: &Path, options: MplugOptions) -> Result<Self> {
        let files = MplugFiles::find(path)?;
        let config = MplugConfig::read(&files.folder)?;
        let Place { device, dtype } = &options.place;
        let weights = files.needed(&config)?.weights(*dtype, device)?;
        let network = Mplug::load(&config, &weights)?;
        Self::assemble(&files, &config, (network, weights.sha256()), options)
    }

    /// A judge whose weights are made up, of a folder that holds everything else: to measure its speed.
    ///
    /// # Errors
    /// As [`MplugJudge::load`].
    pub(crate) fn made_up(folder: &Path, options: MplugOptions) -> Result<Self> {
        let files = MplugFiles { folder: folder.to_owned(), weights: folder.to_owned() };
        let config = MplugConfig::read(folder)?;
        let network = made_up::mplug(&config, options.place.dtype, &options.place.device)?;
        Self::assemble(&files, &config, (network, "made up"), options)
    }

    fn assemble(
        files: &MplugFiles,
        config: &MplugConfig,
        (network, sha256): (Mplug, &str),
        options: MplugOptions,
    ) -> Result<Self> {
        let words = words(files, config)?;
        let Place { device, dtype } = options.place;
        let id = |piece: &str| {
            let missing = || format!("{}: vocab.txt lacks `{piece}`", files.folder.display());
            words.id(piece).with_context(missing)
        };
        let beam = BeamSettings {
            width: options.beam_width.unwrap_or(config.beam_size),
            min_length: config.min_length,
            max_length: config.max_length,
            alpha: options.alpha,
            start: id("[CLS]")?,
            end: id("[SEP]")?,
            watched: id("yes")?,
            early_stopping: options.early_stopping,
        };
        let mut about = json!({
            "judge": "mplug",
            "method": METHOD,
            "weights": {"tensors_sha256": sha256},
            "vocabulary_sha256": files.vocabulary_sha256()?,
            "network": config.numbers(),
            "beam": {
                "width": beam.width, "min_length": beam.min_length, "max_length": beam.max_length,
                "length_penalty": beam.alpha,
            },
            "question_tokens": options.question_tokens,
            "resize": match options.order {
                Order::RowsFirst => "Pillow bicubic, rows first",
                Order::Pillow13 => "Pillow bicubic, as Pillow 13",
            },
            "dtype": format_name(dtype),
        });
        if let Some(revision) = &options.revision {
            about["weights"]["revision"] = revision.as_str().into();
        }
        let settings = crate::results::manifest::to_settings(&about)?;
        ensure!(options.question_tokens > 2, "a question needs room for a word");
        Ok(Self {
            network,
            words,
            beam,
            image_res: u32::try_from(config.image_res)?,
            together: options.together.max(1),
            question_tokens: options.question_tokens,
            order: options.order,
            device,
            settings,
            known_ids: Mutex::new(HashMap::new()),
        })
    }

    /// Ids of a question, cut to [`MplugOptions::question_tokens`].
    fn ids(&self, question: &str) -> Result<QuestionIds> {
        let known = || self.known_ids.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ids) = known().get(question) {
            return Ok(ids.clone());
        }
        let ids = self.words.encode(question, Some(self.question_tokens))?;
        known().insert(question.to_owned(), ids.clone());
        Ok(ids)
    }

    /// The hypotheses for every question about every picture, as `questions` lists them.
    ///
    /// # Errors
    /// The network refused.
    pub fn hypotheses(
        &self,
        pictures: &[RgbImage],
        questions: &[Vec<&str>],
    ) -> Result<Vec<Vec<Found>>> {
        ensure!(pictures.len() == questions.len(), "each picture needs its questions");
        let pixels: Vec<Tensor> =
            pictures.iter().map(|picture| self.pixels(picture)).collect::<Result<_>>()?;
        if pixels.is_empty() {
            return Ok(Vec::new());
        }
        let states = self.network.encode_images(&Tensor::stack(&pixels, 0)?)?;
        let (mut images, mut ids): (Vec<&ImageStates>, Vec<Vec<u32>>) = (Vec::new(), Vec::new());
        for (state, questions) in states.iter().zip(questions) {
            for question in questions {
                images.push(state);
                ids.push(self.ids(question)?.ids);
            }
        }
        if ids.is_empty() {
            return Ok(questions.iter().map(|_| Vec::new()).collect());
        }
        let encoded = self.network.encode_questions(&images, &ids)?;
        let mut decoding = Rows(self.network.decoding(&encoded));
        let mut found = search(&mut decoding, ids.len(), self.beam)?.into_iter();
        Ok(questions.iter().map(|asked| found.by_ref().take(asked.len()).collect()).collect())
    }

    /// A picture as the network takes it: [3, side, side], resized as Pillow does and normalised in
    /// f32, in the order of the original's operations.
    fn pixels(&self, picture: &RgbImage) -> Result<Tensor> {
        let side = self.image_res;
        let resized = resize(picture, (side, side), Filter::Bicubic, self.order);
        let plane = (side * side) as usize;
        let mut values = vec![0.0_f32; 3 * plane];
        for (at, pixel) in resized.pixels().enumerate() {
            for (channel, &value) in pixel.0.iter().enumerate() {
                let value = f32::from(value) / 255.0;
                values[channel * plane + at] = (value - MEAN[channel]) / DEVIATION[channel];
            }
        }
        let side = side as usize;
        Ok(Tensor::from_vec(values, (3, side, side), &self.device)?)
    }

    /// Answers to the questions of requests whose pictures could be decoded.
    fn answers(&self, pictures: &[RgbImage], questions: &[Vec<&str>]) -> Result<Vec<Vec<Answer>>> {
        let of_question = |found: Found| -> Result<Answer> {
            let best = found.hypotheses.first().context("the search found nothing")?;
            Ok(Answer {
                text: answer_text::answer_text(&self.words, &best.tokens),
                yes_probability: Some(found.watched),
                ..Answer::default()
            })
        };
        let of_picture = |found: Vec<Found>| found.into_iter().map(of_question).collect();
        self.hypotheses(pictures, questions)?.into_iter().map(of_picture).collect()
    }
}

impl Judge for MplugJudge {
    fn settings(&self) -> Settings {
        self.settings.clone()
    }

    fn image_batch_size(&self) -> usize {
        self.together
    }

    fn warnings(&self) -> Vec<String> {
        let differ = self.network.word_tables_differ().then_some(
            "the weights hold two different tables for the decoder's words, which are one in the \
             original; as there, text_decoder.cls.predictions.decoder.weight is used for both",
        );
        differ.map(str::to_owned).into_iter().collect()
    }

    fn question_cut(&self, question: &Question) -> Option<QuestionCut> {
        let ids = self.ids(&question.text).ok()?;
        let cut = QuestionCut { seen: ids.ids.len() as u32, of: ids.full_length as u32 };
        ids.truncated().then_some(cut)
    }

    fn answer(
        &self,
        request: &JudgeRequest<'_>,
    ) -> Result<Vec<std::result::Result<Answer, String>>> {
        let answers = self.answer_batch(std::slice::from_ref(request))?;
        Ok(answers.into_iter().next().unwrap_or_default())
    }

    fn answer_batch(
        &self,
        requests: &[JudgeRequest<'_>],
    ) -> Result<Vec<Vec<std::result::Result<Answer, String>>>> {
        let decoded: Vec<Result<RgbImage>> =
            requests.iter().map(|request| request.image.decode()).collect();
        let mut pictures = Vec::new();
        let mut questions = Vec::new();
        for (request, picture) in requests.iter().zip(&decoded) {
            if let Ok(picture) = picture {
                pictures.push(picture.clone());
                questions.push(request.questions.iter().map(|q| q.text.as_str()).collect());
            }
        }
        let (mut answers, broken) = match self.answers(&pictures, &questions) {
            Ok(answers) => (answers.into_iter(), None),
            Err(error) => (Vec::new().into_iter(), Some(sentence(&error))),
        };
        let failed = |request: &JudgeRequest<'_>, reason: &str| {
            request.questions.iter().map(|_| Err(reason.to_owned())).collect()
        };
        Ok(requests
            .iter()
            .zip(decoded)
            .map(|(request, picture)| match (picture, &broken) {
                (Err(error), _) => failed(request, &sentence(&error)),
                (Ok(_), Some(reason)) => failed(request, reason),
                (Ok(_), None) => answers.next().unwrap_or_default().into_iter().map(Ok).collect(),
            })
            .collect())
    }
}

/// The decoder, as the search asks it.
struct Rows<'a>(Decoding<'a>);

impl NextTokenScores for Rows<'_> {
    fn step(&mut self, parents: &[usize], tokens: &[u32]) -> Result<Vec<Vec<f32>>> {
        Ok(self.0.step(parents, tokens)?.to_device(&Device::Cpu)?.to_vec2()?)
    }
}

/// The tokenizer, whose vocabulary must be that of the network.
fn words(files: &MplugFiles, config: &MplugConfig) -> Result<WordPiece> {
    let words = WordPiece::load(&files.folder)?;
    ensure!(
        words.len() == config.vocab_size,
        "{}: vocab.txt has {} lines where the network knows {} word pieces (vocab_size)",
        files.folder.display(),
        words.len(),
        config.vocab_size
    );
    Ok(words)
}

fn format_name(dtype: DType) -> &'static str {
    dtype.as_str()
}
