//! In: pictures and questions. Out: the answers of BLIP-VQA, computed here from a folder in the layout of
//! `Salesforce/blip-vqa-base`, as `BlipForQuestionAnswering.generate` of transformers gives them to one
//! question at a time: greedy, at most 20 word pieces, the first token of the question `[CLS]`.
//!
//! A picture is encoded once, and all questions about it are read and answered in one batch.

pub mod image_processor;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use image::RgbImage;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokenizers::Decoder;
use tokenizers::decoders::wordpiece::WordPiece as Joining;

use self::image_processor::ImageProcessor;
use super::processor_config::image_processor_config;
use super::{Answer, Judge, JudgeRequest};
use crate::checkpoint::error_words::sentence;
use crate::checkpoint::needed_tensors::NeededTensors;
use crate::checkpoint::weights::Weights;
use crate::compute::device::Place;
use crate::models::blip_vqa::{ImageStates, QuestionStates};
use crate::models::{BlipVqa, BlipVqaConfig};
use crate::results::Settings;
use crate::text::word_piece::WordPiece;

/// Word pieces of an answer, its end included: what `generate` of transformers writes unless it is told
/// otherwise.
const MAX_ANSWER_TOKENS: usize = 20;
/// The answer whose probability is recorded.
const YES: &str = "yes";

/// A BLIP-VQA model.
pub struct BlipVqaJudge {
    network: BlipVqa,
    config: BlipVqaConfig,
    rules: ImageProcessor,
    words: WordPiece,
    joining: Joining,
    yes: u32,
    place: Place,
    settings: Settings,
}

/// What stands beside the weights.
struct Files {
    config: BlipVqaConfig,
    rules: ImageProcessor,
    words: WordPiece,
    yes: u32,
    /// All that decides an answer.
    paths: Vec<PathBuf>,
}

impl Files {
    fn read(folder: &Path) -> Result<Self> {
        ensure!(
            folder.is_dir(),
            "{}: there is no such folder; it must hold config.json, preprocessor_config.json or \
             processor_config.json, vocab.txt or tokenizer.json, and model.safetensors or pytorch_model.bin",
            folder.display()
        );
        let config = BlipVqaConfig::read(folder)?;
        refuse_other_search(folder)?;
        let rules = ImageProcessor::read(folder, config.image_size)?;
        let (image_processor_config, _) = image_processor_config(folder)?;
        let words = WordPiece::of_transformers(folder)?;
        let file = words.file().unwrap_or(folder).to_owned();
        ensure!(
            words.len() <= config.vocabulary,
            "{}: it has {} word pieces, config.json only {}; do the two files belong together?",
            file.display(),
            words.len(),
            config.vocabulary
        );
        let yes = words.id(YES).with_context(|| {
            format!("{}: it lacks `{YES}`, so nothing can be scored", file.display())
        })?;
        let paths = vec![folder.join("config.json"), image_processor_config, file];
        Ok(Self { config, rules, words, yes, paths })
    }
}

/// An answer as the network wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// Word pieces between start and end.
    pub ids: Vec<u32>,
    /// Scores of every word piece of the vocabulary to come first.
    pub first_logits: Vec<f32>,
}

impl BlipVqaJudge {
    /// Whether the folder holds a whole model. Tensors are looked up but not read.
    ///
    /// # Errors
    /// A file is missing, broken or of another model.
    pub fn check(folder: &Path) -> Result<()> {
        let files = Files::read(folder)?;
        find_weights(folder, &files.config).map(|_| ())
    }

    /// Loads the folder.
    ///
    /// # Errors
    /// A file is missing, broken or of another model.
    pub fn load(folder: &Path, place: Place) -> Result<Self> {
        let Files { config, rules, words, yes, paths } = Files::read(folder)?;
        let weights = find_weights(folder, &config)?.weights(place.dtype, &place.device)?;
        let network = BlipVqa::load(&config, &weights)?;
        let settings = settings(&paths, &weights)?;
        let joining = Joining::new("##".to_owned(), true);
        Ok(Self { network, config, rules, words, joining, yes, place, settings })
    }

    /// Records the weights' revision, as their publisher names it, beside their digest.
    pub(crate) fn with_revision(mut self, revision: Option<&str>) -> Self {
        if let Some(revision) = revision {
            self.settings.insert("revision".to_owned(), json!(revision));
        }
        self
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.place.device
    }

    /// Pixels [1, 3, side, side] of a picture as the network takes them.
    ///
    /// # Errors
    /// The picture has no pixels.
    pub fn pixels(&self, picture: &RgbImage) -> Result<Tensor> {
        self.rules.pixels(picture)
    }

    /// The ids of a question.
    ///
    /// # Errors
    /// It has more word pieces than the network takes.
    pub fn question_ids(&self, question: &str) -> Result<Vec<u32>> {
        let ids = self.words.encode(question, None)?.ids;
        let most = self.config.max_positions;
        ensure!(
            ids.len() <= most,
            "the question has {} word pieces, of which this network takes {most}",
            ids.len()
        );
        Ok(ids)
    }

    /// The network.
    pub fn network(&self) -> &BlipVqa {
        &self.network
    }

    /// The most likely answers to `questions`, piece by piece.
    ///
    /// # Errors
    /// The tensor library refuses, which it has no reason to.
    pub fn replies(&self, questions: &QuestionStates) -> Result<Vec<Reply>> {
        let count = questions.count();
        let mut replies = vec![Reply { ids: Vec::new(), first_logits: Vec::new() }; count];
        let mut decoding = self.network.decoding(questions);
        let mut unfinished: Vec<usize> = (0..count).collect();
        let mut parents = unfinished.clone();
        let mut tokens = vec![self.config.answer_start; count];
        for step in 0..MAX_ANSWER_TOKENS {
            let logits = decoding.step(&parents, &tokens)?.to_vec2::<f32>()?;
            let mut going_on = Vec::new();
            (parents, tokens) = (Vec::new(), Vec::new());
            for (row, (question, logits)) in unfinished.iter().zip(logits).enumerate() {
                let best = argmax(&logits);
                if best != self.config.answer_end {
                    replies[*question].ids.push(best);
                    going_on.push(*question);
                    parents.push(row);
                    tokens.push(best);
                }
                if step == 0 {
                    replies[*question].first_logits = logits;
                }
            }
            unfinished = going_on;
            if unfinished.is_empty() {
                break;
            }
        }
        Ok(replies)
    }

    /// Word pieces as a text, without the special ones.
    ///
    /// # Errors
    /// The library refuses them, which it has no reason to.
    pub fn text(&self, ids: &[u32]) -> Result<String> {
        let written = ids.iter().filter(|id| !self.words.is_special(**id));
        let pieces = written.filter_map(|id| self.words.piece(*id).map(str::to_owned)).collect();
        self.joining.decode(pieces).map_err(|error| anyhow::anyhow!("no text: {error}"))
    }

    /// Probability that the answer begins with `yes`, among all word pieces, given picture and question.
    pub fn yes_probability(&self, reply: &Reply) -> f64 {
        let logits = &reply.first_logits;
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |logit: &f32| (f64::from(*logit) - f64::from(largest)).exp();
        let sum: f64 = logits.iter().map(weight).sum();
        logits.get(self.yes as usize).map_or(0.0, |logit| weight(logit) / sum)
    }

    fn answers(&self, request: &JudgeRequest<'_>) -> Result<Vec<Result<Answer, String>>> {
        let asked: Vec<Result<Vec<u32>>> =
            request.questions.iter().map(|question| self.question_ids(&question.text)).collect();
        let ids: Vec<Vec<u32>> =
            asked.iter().filter_map(|asked| asked.as_ref().ok().cloned()).collect();
        let mut replies = if ids.is_empty() {
            Vec::new()
        } else {
            let pixels = self.pixels(&request.image.decode()?)?.to_device(self.device())?;
            let images: Vec<ImageStates> = self.network.encode_images(&pixels)?;
            let image_of = vec![0; ids.len()];
            self.replies(&self.network.encode_questions(&images, &image_of, &ids)?)?
        }
        .into_iter();
        let answer = |asked: Result<Vec<u32>>| {
            asked.map_err(|error| sentence(&error))?;
            let reply = replies.next().ok_or("the network gave no answer")?;
            let text = self.text(&reply.ids).map_err(|error| sentence(&error))?;
            let yes_probability = Some(self.yes_probability(&reply));
            Ok(Answer { text, yes_probability, ..Answer::default() })
        };
        Ok(asked.into_iter().map(answer).collect())
    }
}

impl Judge for BlipVqaJudge {
    fn settings(&self) -> Settings {
        self.settings.clone()
    }

    fn answer(&self, request: &JudgeRequest<'_>) -> Result<Vec<Result<Answer, String>>> {
        self.answers(request)
    }
}

/// Weights that a folder may hold, the preferred ones first.
const WEIGHT_FILES: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];

fn find_weights(folder: &Path, config: &BlipVqaConfig) -> Result<NeededTensors> {
    let mut files = WEIGHT_FILES.iter().map(|name| folder.join(name));
    let [first, second] = WEIGHT_FILES;
    let path = files
        .find(|path| path.is_file())
        .with_context(|| format!("{} holds neither {first} nor {second}", folder.display()))?;
    Ok(BlipVqa::find_tensors(config, &path)?)
}

/// What decides the answers: the weights, the files beside them, and how they are used.
fn settings(paths: &[PathBuf], weights: &Weights) -> Result<Settings> {
    let digest = |path: &PathBuf| -> Result<(String, String)> {
        let bytes =
            std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
        let digest = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((name, digest))
    };
    let files: BTreeMap<String, String> = paths.iter().map(digest).collect::<Result<_>>()?;
    Ok([
        ("judge", json!("blip-vqa")),
        ("tensors_sha256", json!(weights.sha256())),
        ("files_sha256", json!(files)),
        ("dtype", json!(weights.dtype().as_str())),
        ("search", json!({"greedy": true, "most_pieces": MAX_ANSWER_TOKENS})),
        ("resize", json!("as Pillow up to 12")),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect())
}

/// `generate` follows a saved `generation_config.json`, so a value under which it would search otherwise is
/// refused.
fn refuse_other_search(folder: &Path) -> Result<()> {
    let path = folder.join("generation_config.json");
    if !path.is_file() {
        return Ok(());
    }
    let text =
        std::fs::read(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let config: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&text)
        .with_context(|| format!("{}: is no JSON object", path.display()))?;
    for (key, due) in [
        ("do_sample", json!(false)),
        ("num_beams", json!(1)),
        ("max_length", json!(MAX_ANSWER_TOKENS)),
        ("max_new_tokens", json!(MAX_ANSWER_TOKENS)),
        ("min_length", json!(0)),
        ("min_new_tokens", json!(0)),
        ("repetition_penalty", json!(1.0)),
        ("encoder_repetition_penalty", json!(1.0)),
        ("no_repeat_ngram_size", json!(0)),
        ("encoder_no_repeat_ngram_size", json!(0)),
        ("bad_words_ids", json!([])),
        ("suppress_tokens", json!([])),
        ("begin_suppress_tokens", json!([])),
        ("sequence_bias", json!({})),
        ("forced_bos_token_id", json!(null)),
        ("forced_eos_token_id", json!(null)),
        ("exponential_decay_length_penalty", json!(null)),
        ("guidance_scale", json!(1.0)),
    ] {
        let found = config.get(key).unwrap_or(&serde_json::Value::Null);
        let is_same = *found == due || found.as_f64().is_some_and(|one| Some(one) == due.as_f64());
        ensure!(
            found.is_null() || is_same,
            "{}: {key} = {found} is not supported; only {due} is, as without the file",
            path.display()
        );
    }
    Ok(())
}

/// The first of the largest.
fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as u32
}
