//! In: what a stage did with one image. Out: the line that says so. The records carry no time and no
//! machine, so that an interrupted and resumed run ends in the same bytes.

use serde::{Deserialize, Serialize};

use super::journal::JournalRecord;

/// One line of `images.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Item identifier.
    pub item: String,
    /// Index of the image among the item's images, from 0. In a 2x2 grid: top-left, top-right,
    /// bottom-left, bottom-right.
    pub image: u32,
    /// What came of it.
    pub outcome: ImageOutcome,
}

/// How the making (or importing) of an image ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ImageOutcome {
    /// The picture is in the store.
    Done {
        /// SHA-256 of the decoded 8-bit RGB pixels, row by row, as lower-case hex.
        pixels_sha256: String,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Seed of the initial noise, as it was sent where a server made the image; `None` for an imported image, and
        /// where a server takes no seed.
        seed: Option<u64>,
        /// Tokens of the whole prompt, start and end included, before truncation; `None` where no
        /// text encoder of ours read it.
        prompt_tokens: Option<u32>,
        /// Whether the text encoder saw only the beginning of the prompt.
        truncated: Option<bool>,
        /// File that it was imported from, with the tile for a grid (`grid.png#2`).
        source: Option<String>,
        /// [`pixels_sha256`](super::image_store::pixels_sha256) of the item's control image; absent where it was made of
        /// texts alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        control_sha256: Option<String>,
        /// What the server that made it sent and said; absent where no server did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        served: Option<Served>,
    },
    /// A content filter refused the prompt; it is not asked again unless that is asked for.
    Filtered {
        /// The filter's own words.
        reason: String,
    },
    /// No picture; the run went on.
    Failed {
        /// One sentence.
        reason: String,
    },
}

/// What a server sent and said beside the pixels of an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Served {
    /// Format of the file that came: `png`, or `jpeg` or `webp`, whose artefacts a judge sees.
    pub format: String,
    /// Width and height in pixels that were asked for, where the image has others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<(u32, u32)>,
    /// The prompt that the server says it used in place of the benchmark's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revised_prompt: Option<String>,
    /// The seed that the server says it used in place of the one that it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed_told: Option<u64>,
}

impl ImageRecord {
    /// Whether the picture is there.
    pub fn is_done(&self) -> bool {
        matches!(self.outcome, ImageOutcome::Done { .. })
    }
}

impl JournalRecord for ImageRecord {
    const KIND: &'static str = "images";
}

/// One line of `answers/<judge>.jsonl`: what a judge said of one image. A later line of the same
/// image adds to an earlier one; per question the last answer counts, and a failure never replaces
/// an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerRecord {
    /// Item identifier.
    pub item: String,
    /// Index of the image among the item's images, from 0.
    pub image: u32,
    /// [`ImageOutcome::Done::pixels_sha256`] of the picture that was looked at; `None` where the
    /// answers were imported without pictures.
    pub pixels_sha256: Option<String>,
    /// One entry per question asked, in the order of the question file.
    pub answers: Vec<QuestionAnswer>,
}

impl JournalRecord for AnswerRecord {
    const KIND: &'static str = "answers";
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuestionAnswer {
    /// Number of the question inside the item.
    pub question: u32,
    /// Tokens of the question that the judge did not read, where it reads only the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_cut: Option<u32>,
    /// Whether the limit on the tokens of a reply cut it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reply_cut: bool,
    /// What came of asking.
    pub outcome: AnswerOutcome,
}

impl QuestionAnswer {
    /// The outcome of a question that was read as a whole.
    pub fn new(question: u32, outcome: AnswerOutcome) -> Self {
        Self { question, tokens_cut: None, reply_cut: false, outcome }
    }
}

/// How the asking of a question ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum AnswerOutcome {
    /// The judge answered.
    Answered {
        /// The answer that is scored. `yes` and `no` count; anything else is unparsable.
        text: String,
        /// The judge's own words, where `text` is only a reading of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        raw: Option<String>,
        /// Probability of `yes`, where the judge states one, in 0..=1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        yes_probability: Option<f64>,
    },
    /// The judge could not be asked, or broke.
    Failed {
        /// One sentence, free of secrets.
        reason: String,
    },
}

impl AnswerOutcome {
    /// Whether there is an answer, of whatever kind.
    pub fn is_answered(&self) -> bool {
        matches!(self, Self::Answered { .. })
    }
}
