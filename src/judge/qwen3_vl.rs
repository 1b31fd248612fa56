//! In: pictures and questions. Out: the answers of a Qwen3-VL model (2B, 4B, 8B Instruct and other dense
//! sizes) that computes here, from its published folder. Greedy replies, read as the endpoint's are.
//!
//! A picture is seen once; all questions about it are read in one pass after it and continued together.

pub mod chat;
pub mod image_processor;
mod template;

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor};
use image::RgbImage;
use serde_json::Value;

use self::chat::Chat;
use self::image_processor::ImageProcessor;
use super::endpoint::{DEFAULT_MAX_UNPARSABLE, DEFAULT_PROMPT, QUESTION_PLACEHOLDER, check_share};
use super::options::JudgeOptions;
use super::reading::{answer_token, read_cut_reply, read_reply, yes_share};
use super::{Answer, Judge, JudgeRequest};
use crate::checkpoint::error_words::sentence;
use crate::compute::device::Place;
use crate::models::Qwen3Vl;
use crate::models::qwen3_vl::{Beginning, Outline};
use crate::results::Settings;

/// Questions that are read at once; items have up to about eighty.
const TOGETHER: usize = 32;

/// Which model, and how it is asked.
#[derive(Debug, Clone)]
pub struct Qwen3VlOptions {
    /// The checkpoint's folder.
    pub weights: PathBuf,
    /// Where it computes, and the number format of its weights; of its arithmetic too on a GPU, while on
    /// the processor that is f32.
    pub place: Place,
    /// Template of the user's message; [`QUESTION_PLACEHOLDER`] stands for the question.
    pub prompt: String,
    /// System message.
    pub system_prompt: Option<String>,
    /// Most tokens of a reply.
    pub max_tokens: u32,
    /// Revision of the weights as their publisher names it, for the record.
    pub revision: Option<String>,
    /// Share of unparsable answers beyond which the run stops, in 0..=1.
    pub max_unparsable: f64,
}

impl Qwen3VlOptions {
    /// What the user says of it, at a place.
    ///
    /// # Errors
    /// No weights were named.
    pub(crate) fn from_options(options: &JudgeOptions, place: Place) -> Result<Self> {
        let JudgeOptions { chat, local, .. } = options;
        let default = Self::new(local.weights()?.to_owned(), place);
        Ok(Self {
            prompt: chat.prompt.clone().unwrap_or(default.prompt),
            system_prompt: chat.system_prompt.clone(),
            max_tokens: chat.max_tokens.unwrap_or(default.max_tokens),
            revision: local.revision.clone(),
            max_unparsable: chat.max_unparsable.unwrap_or(default.max_unparsable),
            ..default
        })
    }

    /// The defaults for a checkpoint.
    pub fn new(weights: PathBuf, place: Place) -> Self {
        Self {
            weights,
            place,
            prompt: DEFAULT_PROMPT.to_owned(),
            system_prompt: None,
            max_tokens: 32,
            revision: None,
            max_unparsable: DEFAULT_MAX_UNPARSABLE,
        }
    }

    fn check(&self) -> Result<()> {
        ensure!(
            self.prompt.contains(QUESTION_PLACEHOLDER),
            "the judge's prompt must hold `{QUESTION_PLACEHOLDER}` once or more"
        );
        ensure!(self.max_tokens > 0, "a reply needs at least one token");
        check_share(self.max_unparsable).map_err(anyhow::Error::msg)?;
        let folder = &self.weights;
        ensure!(folder.is_dir(), "{}: there is no such folder", folder.display());
        Ok(())
    }
}

/// A Qwen3-VL model.
#[derive(Debug)]
pub struct Qwen3VlJudge {
    options: Qwen3VlOptions,
    model: Qwen3Vl,
    rules: ImageProcessor,
    chat: Chat,
}

/// A reply as far as it has come.
#[derive(Debug, Clone, Default)]
struct Reply {
    tokens: Vec<u32>,
    /// P(yes) at each of them.
    shares: Vec<Option<f64>>,
    ended: bool,
    failure: Option<String>,
}

impl Qwen3VlJudge {
    /// Whether the checkpoint can be loaded, as far as that is seen without reading its weights.
    ///
    /// # Errors
    /// An option is out of its range, or a file is missing, broken or of another model.
    pub fn check(options: &Qwen3VlOptions) -> Result<()> {
        options.check()?;
        let folder = &options.weights;
        let outline = Outline::read(folder, options.place.dtype)?;
        ImageProcessor::read(folder, outline.layout)?;
        Chat::load(folder, options.system_prompt.as_deref(), outline)?;
        Ok(())
    }

    /// Loads the checkpoint.
    ///
    /// # Errors
    /// As [`Qwen3VlJudge::check`], or the weights do not fit.
    pub fn load(options: Qwen3VlOptions) -> Result<Self> {
        options.check()?;
        let folder = &options.weights;
        let model = Qwen3Vl::load(folder, options.place.dtype, &options.place.device)?;
        let rules = ImageProcessor::read(folder, model.outline().layout)?;
        let chat = Chat::load(folder, options.system_prompt.as_deref(), model.outline())?;
        Ok(Self { options, model, rules, chat })
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.options.place.device
    }

    /// Replies to all `prompts` about one picture.
    fn replies(&self, picture: &RgbImage, prompts: &[String]) -> Result<Vec<Reply>> {
        let (patches, grid) = self.rules.patches(picture)?;
        let image = self.model.encode_image(&patches, grid)?;
        let (before, after) = self.chat.tokens_around_image();
        let beginning = self.model.begin(before, &image, after)?;
        let mut replies = Vec::with_capacity(prompts.len());
        for prompts in prompts.chunks(TOGETHER) {
            replies.extend(self.replies_after(&beginning, prompts)?);
        }
        Ok(replies)
    }

    fn replies_after(&self, beginning: &Beginning, prompts: &[String]) -> Result<Vec<Reply>> {
        let texts: Vec<Vec<u32>> =
            prompts.iter().map(|prompt| self.chat.question(prompt)).collect::<Result<_>>()?;
        let mut replies = vec![Reply::default(); texts.len()];
        let (mut going, mut logits) = self.model.read(beginning, &texts)?;
        let mut live: Vec<usize> = (0..texts.len()).collect();
        loop {
            let next = self.take(&mut replies, &live, &logits)?;
            if next.is_empty() {
                return Ok(replies);
            }
            logits = going.go_on(&next)?;
            live = next.into_iter().map(|(reply, _)| reply).collect();
        }
    }

    /// Adds the most likely token to each of the replies `live`, from logits of as many rows; gives those
    /// that go on, with it.
    fn take(
        &self,
        replies: &mut [Reply],
        live: &[usize],
        logits: &Tensor,
    ) -> Result<Vec<(usize, u32)>> {
        let mut going = Vec::new();
        for (row, number) in live.iter().enumerate() {
            let reply = &mut replies[*number];
            let logits: Vec<f32> = logits.get(row)?.to_vec1()?;
            let Some(token) = argmax(&logits) else {
                reply.failure = Some(format!(
                    "the model's numbers overflowed at token {} of its reply; use --judge-dtype bf16 \
                     or f32",
                    reply.tokens.len() + 1
                ));
                continue;
            };
            if self.chat.is_end(token) {
                reply.ended = true;
                continue;
            }
            let alternatives = self.chat.said().iter().zip(&logits);
            reply.shares.push(yes_share(
                alternatives.filter_map(|(said, logit)| Some(((*said)?, f64::from(*logit)))),
            ));
            reply.tokens.push(token);
            if reply.tokens.len() < self.options.max_tokens as usize {
                going.push((*number, token));
            }
        }
        Ok(going)
    }

    fn answer_of(&self, reply: Reply) -> Result<Answer> {
        if let Some(failure) = reply.failure {
            bail!("{failure}");
        }
        let said = self.chat.text(&reply.tokens)?;
        let reading = if reply.ended { read_reply(&said) } else { read_cut_reply(&said) };
        let tokens: Vec<String> = reply
            .tokens
            .iter()
            .map(|token| self.chat.text(std::slice::from_ref(token)))
            .collect::<Result<_>>()?;
        let first = answer_token(tokens.iter().map(String::as_str), &reading.text);
        let yes_probability = first.and_then(|first| reply.shares[first]);
        Ok(Answer {
            text: reading.text,
            raw: reading.raw,
            yes_probability,
            reply_cut: !reply.ended,
        })
    }
}

/// The first of the largest; `None` where a number is none or nothing is finite.
fn argmax(logits: &[f32]) -> Option<u32> {
    let mut best: Option<(usize, f32)> = None;
    for (token, logit) in logits.iter().enumerate() {
        if logit.is_nan() || *logit == f32::INFINITY {
            return None;
        }
        if best.is_none_or(|(_, largest)| *logit > largest) {
            best = Some((token, *logit));
        }
    }
    best.filter(|(_, largest)| largest.is_finite()).map(|(token, _)| token as u32)
}

impl Judge for Qwen3VlJudge {
    fn settings(&self) -> Settings {
        [
            ("judge", "qwen3-vl".into()),
            ("revision", self.options.revision.clone().into()),
            ("weights_sha256", self.model.sha256().into()),
            ("tokenizer_sha256", self.chat.sha256().into()),
            ("dtype", self.options.place.dtype.as_str().into()),
            ("picture", self.rules.described()),
            ("prompt", self.options.prompt.clone().into()),
            ("system_prompt", self.options.system_prompt.clone().into()),
            ("max_tokens", self.options.max_tokens.into()),
        ]
        .map(|(name, value): (&str, Value)| (name.to_owned(), value))
        .into()
    }

    fn max_unparsable(&self) -> f64 {
        self.options.max_unparsable
    }

    fn answer(&self, request: &JudgeRequest<'_>) -> Result<Vec<Result<Answer, String>>> {
        let prompts: Vec<String> = request
            .questions
            .iter()
            .map(|question| self.options.prompt.replace(QUESTION_PLACEHOLDER, &question.text))
            .collect();
        let replies = request
            .image
            .decode()
            .and_then(|picture| self.replies(&picture, &prompts))
            .context("Qwen3-VL");
        Ok(match replies {
            Ok(replies) => replies
                .into_iter()
                .map(|reply| self.answer_of(reply).map_err(|error| sentence(&error)))
                .collect(),
            // A picture or a text that the model does not take: the same at every try.
            Err(error) => vec![Err(sentence(&error)); prompts.len()],
        })
    }
}
