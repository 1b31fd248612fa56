//! In: a prompt. Out: the ids that T5's encoder takes, ending with the end token.
//!
//! `tokenizer.json` goes through the tokenizer library, `spiece.model` alone through our own reader;
//! for plain text both give the ids of `T5Tokenizer` of transformers.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use tokenizers::Tokenizer;

use super::sentence_piece::SentencePiece;

const END: &str = "</s>";
const PADDING: &str = "<pad>";

/// T5's tokenizer, from the folder of a text encoder.
pub struct T5Tokenizer {
    model: Model,
    end: u32,
    padding: u32,
}

enum Model {
    Json(Box<Tokenizer>),
    Spiece(SentencePiece),
}

/// A prompt as the text encoder takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct T5Prompt {
    /// Text, end and, at a fixed length, padding.
    pub ids: Vec<u32>,
    /// How many of them are no padding.
    pub length: usize,
    /// Tokens of the whole prompt before truncation, the end included.
    pub full_length: usize,
}

impl T5Prompt {
    /// Whether the text encoder sees only the beginning of the prompt.
    pub fn truncated(&self) -> bool {
        self.length < self.full_length
    }
}

/// Files of which a folder needs one, the preferred one first.
pub(crate) const TOKENIZER_FILES: [&str; 2] = ["tokenizer.json", "spiece.model"];

impl T5Tokenizer {
    /// Reads `tokenizer.json` of `folder`, or `spiece.model` where that is absent.
    ///
    /// # Errors
    /// Neither is there, the file is broken, or it lacks the tokens for end and padding.
    pub fn load(folder: &Path) -> Result<Self> {
        let [json, spiece] = TOKENIZER_FILES.map(|name| folder.join(name));
        let model = if json.is_file() {
            let mut tokenizer = Tokenizer::from_file(&json)
                .map_err(|error| anyhow!("{}: {error}", json.display()))?;
            // Lengths are set here, whatever the file was saved with.
            tokenizer.with_padding(None);
            tokenizer
                .with_truncation(None)
                .map_err(|error| anyhow!("{}: {error}", json.display()))?;
            Model::Json(Box::new(tokenizer))
        } else if spiece.is_file() {
            Model::Spiece(SentencePiece::load(&spiece)?)
        } else {
            bail!("{} holds neither {}", folder.display(), TOKENIZER_FILES.join(" nor "))
        };
        let id = |token: &str| {
            let id = match &model {
                Model::Json(tokenizer) => tokenizer.token_to_id(token),
                Model::Spiece(pieces) => pieces.id(token),
            };
            id.with_context(|| {
                format!(
                    "{}: the vocabulary lacks {token}; this is no T5 tokenizer",
                    folder.display()
                )
            })
        };
        let (end, padding) = (id(END)?, id(PADDING)?);
        Ok(Self { model, end, padding })
    }

    /// Ids of `prompt` at its own length: nothing cut, nothing padded.
    ///
    /// # Errors
    /// The tokenizer refused the text.
    pub fn encode(&self, prompt: &str) -> Result<T5Prompt> {
        let mut ids = match &self.model {
            Model::Json(tokenizer) => tokenizer
                .encode(prompt, false)
                .map_err(|error| anyhow!("prompt cannot be tokenized: {error}"))?
                .get_ids()
                .to_vec(),
            Model::Spiece(pieces) => pieces.encode(prompt),
        };
        ids.push(self.end);
        let length = ids.len();
        Ok(T5Prompt { ids, length, full_length: length })
    }

    /// Ids of `prompt`, cut (keeping the end token) or padded to `length`, which is at least 1.
    ///
    /// # Errors
    /// The tokenizer refused the text.
    pub fn encode_to(&self, prompt: &str, length: usize) -> Result<T5Prompt> {
        let mut encoded = self.encode(prompt)?;
        if encoded.length > length {
            encoded.ids.truncate(length - 1);
            encoded.ids.push(self.end);
            encoded.length = length;
        }
        encoded.ids.resize(length, self.padding);
        Ok(encoded)
    }
}
