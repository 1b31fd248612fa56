//! In: a text. Out: the ids that a decoder-only language model takes, as `AutoTokenizer` of transformers makes them of
//! the model's folder: `tokenizer.json` through the tokenizer library, with the beginning and end that
//! `tokenizer_config.json` asks for.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Map, Value};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{PaddingDirection, PostProcessor, Tokenizer, TruncationDirection};

/// Files of a tokenizer's folder that are read; the first must be there.
pub(crate) const DECODER_TOKENIZER_FILES: [&str; 3] =
    ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"];

/// Classes of tokenizers that pad at the left unless their files say otherwise; others pad at the right.
const PADS_LEFT: &[&str] = &["GemmaTokenizer", "LlamaTokenizer"];

/// What transformers 5 makes of LLaMA's tokenizers beside their files.
const REBUILT: &str = "its tokens are those of tokenizer.json, as in transformers 4; transformers 5 rebuilds LLaMA's \
                       tokenizer, which puts no blank behind a special token";

/// Where padding goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaddingSide {
    /// Behind the text.
    Right,
    /// Before it.
    Left,
}

/// The tokenizer of a decoder-only language model.
pub struct DecoderTokenizer {
    tokenizer: Tokenizer,
    folder: PathBuf,
    padding: Option<u32>,
    side: PaddingSide,
    warning: Option<&'static str>,
}

/// A text as the model takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecoderPrompt {
    /// Text, special tokens and, at a fixed length, padding.
    pub ids: Vec<u32>,
    /// Which of them are no padding.
    pub text: Range<usize>,
    /// Tokens of the whole text before truncation, special ones included.
    pub full_length: usize,
}

impl DecoderTokenizer {
    /// Reads the tokenizer in `folder`.
    ///
    /// # Errors
    /// `tokenizer.json` is missing, a file is broken, or one names a token that the vocabulary lacks.
    pub fn load(folder: &Path) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        ensure!(
            path.is_file(),
            "{} is missing; transformers writes it: \
             AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
            path.display()
        );
        let mut tokenizer =
            Tokenizer::from_file(&path).map_err(|error| anyhow!("{}: {error}", path.display()))?;
        let (config, map) = (
            object(&folder.join("tokenizer_config.json"))?,
            object(&folder.join("special_tokens_map.json"))?,
        );
        let named = |key: &str| config.get(key).or_else(|| map.get(key)).and_then(content);
        let saved = tokenizer.get_padding().cloned();
        // Lengths are set here, whatever the file was saved with.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| anyhow!("{}: {error}", path.display()))?;
        let id = |token: &str| {
            tokenizer.token_to_id(token).with_context(|| {
                format!(
                    "{}: the vocabulary lacks {token}, which is named beside it",
                    path.display()
                )
            })
        };
        let pad =
            named("pad_token").or_else(|| saved.as_ref().map(|saved| saved.pad_token.clone()));
        let padding = pad.as_deref().map(id).transpose()?;
        let flag = |key: &str| config.get(key).and_then(Value::as_bool);
        if let (begins, ends @ Some(_)) | (begins @ Some(_), ends) =
            (flag("add_bos_token"), flag("add_eos_token"))
        {
            // What the flags say stands, whatever the file was saved with.
            let begin = named("bos_token").filter(|_| begins == Some(true));
            let end = named("eos_token").filter(|_| ends == Some(true));
            let tokens = [&begin, &end].into_iter().flatten();
            let special: Vec<(String, u32)> =
                tokens.map(|token| Ok((token.clone(), id(token)?))).collect::<Result<_>>()?;
            let text = "$A".to_owned();
            let single: Vec<String> = begin.into_iter().chain([text]).chain(end).collect();
            let template = TemplateProcessing::builder()
                .try_single(single)
                .map_err(|error| error.to_string())
                .and_then(|builder| {
                    builder.special_tokens(special).build().map_err(|error| error.to_string())
                })
                .map_err(|error| anyhow!("{}: {error}", folder.display()))?;
            tokenizer.with_post_processor(Some(template));
        }
        let class = config.get("tokenizer_class").and_then(Value::as_str).unwrap_or("");
        let class = class.strip_suffix("Fast").unwrap_or(class);
        let begin = named("bos_token").filter(|_| class == "LlamaTokenizer");
        let warning = match &begin {
            Some(begin) if puts_a_blank_behind(&tokenizer, begin) => Some(REBUILT),
            _ => None,
        };
        let side = match (config.get("padding_side").and_then(Value::as_str), saved) {
            (Some("right"), _) => PaddingSide::Right,
            (Some("left"), _) => PaddingSide::Left,
            (Some(other), _) => bail!(
                "{}: padding_side = {other:?} in tokenizer_config.json is neither right nor left",
                folder.display()
            ),
            (None, Some(saved)) => match saved.direction {
                PaddingDirection::Left => PaddingSide::Left,
                PaddingDirection::Right => PaddingSide::Right,
            },
            (None, None) if PADS_LEFT.contains(&class) => PaddingSide::Left,
            (None, None) => PaddingSide::Right,
        };
        Ok(Self { tokenizer, folder: folder.to_path_buf(), padding, side, warning })
    }

    /// Ids of `text` at its own length: nothing cut, nothing padded. The special tokens that begin and end texts are
    /// added where `adds_special`; others are those that the text spells out.
    ///
    /// # Errors
    /// The tokenizer refused the text.
    pub fn encode(&self, text: &str, adds_special: bool) -> Result<DecoderPrompt> {
        let encoding = self
            .tokenizer
            .encode(text, adds_special)
            .map_err(|error| anyhow!("prompt cannot be tokenized: {error}"))?;
        let ids = encoding.get_ids().to_vec();
        let length = ids.len();
        Ok(DecoderPrompt { ids, text: 0..length, full_length: length })
    }

    /// Ids of `text`, cut at its end (keeping the special tokens that are added) or padded to `length`.
    ///
    /// # Errors
    /// The tokenizer refused the text, or has no token for padding.
    pub fn encode_to(
        &self,
        text: &str,
        adds_special: bool,
        length: usize,
    ) -> Result<DecoderPrompt> {
        let refused = |error| anyhow!("prompt cannot be tokenized: {error}");
        let padding = self.padding.with_context(|| {
            format!(
                "{}: the tokenizer has no padding token (pad_token in tokenizer_config.json), which a \
                 fixed number of tokens needs",
                self.folder.display()
            )
        })?;
        let full_length = self.encode(text, adds_special)?.full_length;
        let mut encoding = self.tokenizer.encode(text, false).map_err(refused)?;
        let added = match (self.tokenizer.get_post_processor(), adds_special) {
            (Some(processor), true) => processor.added_tokens(false),
            _ => 0,
        };
        encoding.truncate(length.saturating_sub(added), 0, TruncationDirection::Right);
        let encoding =
            self.tokenizer.post_process(encoding, None, adds_special).map_err(refused)?;
        let own = encoding.get_ids();
        let missing = length.saturating_sub(own.len());
        let pads = std::iter::repeat_n(padding, missing);
        let (ids, text) = match self.side {
            PaddingSide::Right => (own.iter().copied().chain(pads).collect(), 0..own.len()),
            PaddingSide::Left => (pads.chain(own.iter().copied()).collect(), missing..length),
        };
        Ok(DecoderPrompt { ids, text, full_length })
    }

    /// What to tell where texts spell special tokens out.
    pub fn warning(&self) -> Option<&'static str> {
        self.warning
    }

    /// Where padding goes.
    pub fn side(&self) -> PaddingSide {
        self.side
    }
}

impl DecoderPrompt {
    /// Whether the model sees only the beginning of the text.
    pub fn truncated(&self) -> bool {
        self.text.len() < self.full_length
    }
}

/// Whether the text behind the special token `begin` begins with a blank that is not there, as at the beginning.
fn puts_a_blank_behind(tokenizer: &Tokenizer, begin: &str) -> bool {
    let ids = |text: &str| {
        let encoding = tokenizer.encode(text, false);
        encoding.map(|encoding| encoding.get_ids().to_vec()).unwrap_or_default()
    };
    let alone = ids("a");
    ids(&format!("{begin}a")).get(1..) == Some(alone.as_slice())
}

/// The object in a JSON file; nothing where there is no such file.
fn object(path: &Path) -> Result<Map<String, Value>> {
    if !path.is_file() {
        return Ok(Map::new());
    }
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no JSON object", path.display()))
}

/// A token as these files state it: its text, or an object that holds it.
fn content(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
}
