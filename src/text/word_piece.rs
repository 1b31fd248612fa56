//! In: a question and the word pieces of a BERT model in lower case. Out: the ids that its text encoder
//! takes, and the way back from ids to words.
//!
//! The rules are those of transformers' `BertTokenizer`: text in lower case, control characters
//! dropped, ideographs set apart, accents stripped, words cut at blanks and punctuation, and each word
//! taken apart by the longest piece that fits. The `tokenizers` library does it: by itself as in transformers 5,
//! or after `str.lower` as in the slow tokenizer of earlier versions, of which mPLUG is an example. The two differ
//! in letters whose small form depends on what follows (a Greek sigma), and in that only the first knows tokens that
//! are written in a question, such as `[SEP]`.

mod saved;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use tokenizers::models::wordpiece::WordPiece as Pieces;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{AddedToken, Tokenizer};

use self::saved::{OWN_TOKENS, Saved};

/// `BertTokenizer` of a model in lower case.
pub struct WordPiece {
    tokenizer: Tokenizer,
    /// Piece of each id.
    pieces: Vec<String>,
    ids: HashMap<String, u32>,
    start: u32,
    end: u32,
    /// Ids that are no text.
    special: Vec<u32>,
    /// Whether `str.lower` comes before everything else.
    is_slow: bool,
    /// The file of the pieces, where they are from one.
    file: Option<PathBuf>,
}

/// A question as a text encoder takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuestionIds {
    /// `[CLS]`, the word pieces, `[SEP]`; without padding.
    pub ids: Vec<u32>,
    /// How many ids the whole question has, both ends included, before it is cut.
    pub full_length: usize,
}

impl QuestionIds {
    /// Whether the text encoder sees only the beginning of the question.
    pub fn truncated(&self) -> bool {
        self.ids.len() < self.full_length
    }
}

impl WordPiece {
    /// Reads a folder as `AutoTokenizer` of transformers 5 does: `tokenizer.json`, or `vocab.txt` where that is
    /// not there. Tokens that are written in a text are tokens.
    ///
    /// # Errors
    /// Neither file is there or can be read, one lacks BERT's own tokens, or the folder asks for another
    /// treatment of text.
    pub fn of_transformers(folder: &Path) -> Result<Self> {
        refuse_other_rules(&folder.join("tokenizer_config.json"))?;
        let Saved { pieces, added, file } = saved::read(folder)?;
        let name = file.display().to_string();
        let mut words =
            Self::of_pieces(pieces).with_context(|| format!("{name} cannot be used"))?;
        words.is_slow = false;
        words.file = Some(file);
        let tokens: Vec<AddedToken> = added
            .iter()
            .map(|token| {
                AddedToken::from(token.content.as_str(), token.special)
                    .single_word(token.single_word)
                    .lstrip(token.lstrip)
                    .rstrip(token.rstrip)
                    .normalized(token.normalized)
            })
            .collect();
        words
            .tokenizer
            .add_tokens(tokens)
            .map_err(|error| anyhow!("{name}: its added tokens cannot be used: {error}"))?;
        let special = added.iter().filter(|token| token.special).map(|token| token.id);
        words.special.extend(special);
        Ok(words)
    }

    /// Reads `vocab.txt` of `folder`, and `tokenizer_config.json` where there is one, to be sure that it
    /// asks for nothing else. The rules are those of the slow tokenizer.
    ///
    /// # Errors
    /// The vocabulary cannot be read or lacks one of BERT's own tokens; the configuration asks for
    /// another treatment of text.
    pub fn load(folder: &Path) -> Result<Self> {
        refuse_other_rules(&folder.join("tokenizer_config.json"))?;
        let path = folder.join(saved::VOCABULARY);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("{}: cannot be read", path.display()))?;
        Self::of_vocabulary(&text).with_context(|| format!("{} cannot be used", path.display()))
    }

    /// The tokenizer of a vocabulary, one piece a line; the number of a line, from 0, is the id.
    ///
    /// # Errors
    /// It lacks one of BERT's own tokens.
    pub(crate) fn of_vocabulary(text: &str) -> Result<Self> {
        Self::of_pieces(saved::pieces_of(text))
    }

    fn of_pieces(pieces: Vec<String>) -> Result<Self> {
        let mut ids: HashMap<String, u32> = HashMap::new();
        for (id, piece) in pieces.iter().enumerate() {
            ids.insert(piece.clone(), u32::try_from(id)?);
        }
        let id_of = |piece: &str| {
            ids.get(piece).copied().with_context(|| {
                format!("the vocabulary lacks {piece}; is it that of a BERT model?")
            })
        };
        let (start, end) = (id_of("[CLS]")?, id_of("[SEP]")?);
        let special = OWN_TOKENS.into_iter().map(id_of).collect::<Result<_>>()?;
        // The library's own reader trims blanks that belong to a piece; its builder names a foreign map.
        let described = serde_json::json!({
            "type": "WordPiece", "vocab": ids, "unk_token": "[UNK]",
            "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
        });
        let model: Pieces = serde_json::from_str(&described.to_string())
            .context("the vocabulary cannot be used")?;
        let mut tokenizer = Tokenizer::new(model);
        tokenizer
            .with_normalizer(Some(BertNormalizer::new(true, true, Some(true), true)))
            .map_err(|error| anyhow!("the vocabulary cannot be used: {error}"))?;
        tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
        Ok(Self { tokenizer, pieces, ids, start, end, special, is_slow: true, file: None })
    }

    /// The ids of a question. Where they are more than `most` (at least 2), both ends included, the last
    /// word pieces are left out; `[SEP]` is always there.
    ///
    /// # Errors
    /// The library refuses the text, which it has no reason to.
    pub fn encode(&self, question: &str, most: Option<usize>) -> Result<QuestionIds> {
        let text = if self.is_slow { question.to_lowercase() } else { question.to_owned() };
        let encoding = self
            .tokenizer
            .encode(text, false)
            .map_err(|error| anyhow!("the question cannot be tokenized: {error}"))?;
        let pieces = encoding.get_ids();
        let kept = most.map_or(pieces.len(), |most| pieces.len().min(most.saturating_sub(2)));
        let mut ids = Vec::with_capacity(kept + 2);
        ids.push(self.start);
        ids.extend_from_slice(&pieces[..kept]);
        ids.push(self.end);
        Ok(QuestionIds { ids, full_length: pieces.len() + 2 })
    }

    /// The id of a piece.
    pub fn id(&self, piece: &str) -> Option<u32> {
        self.ids.get(piece).copied()
    }

    /// The file of the pieces, where a folder was read as transformers 5 does.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The piece of an id.
    pub fn piece(&self, id: u32) -> Option<&str> {
        self.pieces.get(id as usize).map(String::as_str)
    }

    /// Whether an id is no text: BERT's own tokens, and those that a folder adds as such.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// How many pieces there are.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Whether there are none, which does not happen: BERT's own are always there.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }
}

/// `BertTokenizer.from_pretrained` honours this file, so a value under which it would treat text
/// otherwise is refused.
fn refuse_other_rules(path: &Path) -> Result<()> {
    if !path.is_file() {
        return Ok(());
    }
    let text =
        std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let config: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&text)
        .with_context(|| format!("{}: is no JSON object", path.display()))?;
    for key in ["do_lower_case", "do_basic_tokenize", "tokenize_chinese_chars", "strip_accents"] {
        if config.get(key).is_some_and(|value| value.as_bool() == Some(false)) {
            bail!("{}: {key} = false is not supported; only true is", path.display());
        }
    }
    Ok(())
}
