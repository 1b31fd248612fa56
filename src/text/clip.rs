//! In: a prompt. Out: the ids that CLIP's text encoder takes, with how much of the prompt they hold.
//!
//! Follows `CLIPTokenizer` of transformers, which diffusers pipelines call with
//! `padding="max_length", truncation=True`. Its files are read by `files`.

pub(crate) mod embedding_words;
mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as NormalizerSequence};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizerSequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

use self::embedding_words::{EmbeddingWord, WORDS_FILE};
use self::files::TokenizerFiles;

/// Words, single digits and runs of signs; white space falls away.
const PIECES: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// CLIP's byte-pair tokenizer, from the `tokenizer/` folder of a diffusers checkpoint.
pub struct ClipTokenizer {
    tokenizer: Tokenizer,
    max_length: usize,
    start: u32,
    end: u32,
    padding: u32,
    /// Words that stand for several tokens: the first of them, and all.
    several: BTreeMap<u32, Vec<u32>>,
    /// Words of embeddings, with their first token.
    taught: Vec<(String, u32)>,
}

/// A prompt as the text encoder takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedPrompt {
    /// Exactly `max_length` ids: start, text, end, padding.
    pub ids: Vec<u32>,
    /// Tokens of the whole prompt before truncation, start and end included.
    pub full_length: usize,
    /// Whether the text encoder sees only the beginning of the prompt.
    pub truncated: bool,
}

impl ClipTokenizer {
    /// Reads `tokenizer.json`, or `vocab.json` and `merges.txt` where that is absent, the files of added and
    /// special tokens beside them, and the words of embeddings.
    ///
    /// # Errors
    /// A file is missing or broken, or states ids that transformers would not give.
    pub fn load(folder: &Path) -> Result<Self> {
        let files = TokenizerFiles::read(folder)?;
        let mut tokenizer = byte_pairs(files.vocabulary, files.merges, &files.unknown)
            .with_context(|| format!("{}: vocabulary or merges", folder.display()))?;
        let mut names: Vec<String> = files.added.iter().map(|t| t.content.clone()).collect();
        tokenizer
            .add_tokens(files.added)
            .map_err(|error| anyhow!("{}: added tokens: {error}", folder.display()))?;
        for (token, stated, file) in files.stated {
            let found = tokenizer.token_to_id(&token);
            ensure!(
                found == Some(stated),
                "{}: gives `{token}` the id {stated}, but transformers numbers it {}; ids of added words \
                 must follow the vocabulary without a gap",
                folder.join(file).display(),
                found.map_or_else(|| "not at all".to_owned(), |id| id.to_string())
            );
        }
        let words = embedding_words(&folder.join(WORDS_FILE))?;
        for word in &words {
            names.extend(teach(&mut tokenizer, word)?);
        }
        let id = |token: &str| {
            tokenizer.token_to_id(token).with_context(|| {
                format!("{}: special token `{token}` is not in the vocabulary", folder.display())
            })
        };
        let (start, end, padding) = (id(&files.start)?, id(&files.end)?, id(&files.padding)?);
        let taught = words.into_iter().filter_map(|word| {
            let id = tokenizer.token_to_id(&word.token)?;
            Some((word.token, id))
        });
        Ok(Self {
            taught: taught.collect(),
            several: several(&tokenizer, &names),
            max_length: files.max_length,
            tokenizer,
            start,
            end,
            padding,
        })
    }

    /// Ids of `prompt`, cut (keeping the end token) or padded to the folder's length.
    ///
    /// # Errors
    /// The tokenizer refused the text.
    pub fn encode(&self, prompt: &str) -> Result<EncodedPrompt> {
        let encoding = self
            .tokenizer
            .encode(prompt, false)
            .map_err(|error| anyhow!("prompt cannot be tokenized: {error}"))?;
        let one = |id: &u32| self.several.get(id).cloned().unwrap_or_else(|| vec![*id]);
        let text: Vec<u32> = encoding.get_ids().iter().flat_map(one).collect();
        let kept = text.len().min(self.max_length - 2);
        let mut ids = Vec::with_capacity(self.max_length);
        ids.push(self.start);
        ids.extend_from_slice(&text[..kept]);
        ids.push(self.end);
        ids.resize(self.max_length, self.padding);
        Ok(EncodedPrompt { ids, full_length: text.len() + 2, truncated: kept < text.len() })
    }

    /// Ids that [`ClipTokenizer::encode`] gives for every prompt.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// How many tokens there are, added ones included; a new word gets this id.
    pub fn size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// Refuses a text encoder whose table has no row for some token, and tells of one that has more rows than
    /// there are tokens. `rows` are its rows; `encoder` is what it is called.
    ///
    /// # Errors
    /// The table is too small.
    pub(crate) fn check_rows(&self, rows: usize, encoder: &str) -> Result<Option<String>> {
        let vocabulary = self.tokenizer.get_vocab(true);
        let last = vocabulary.iter().max_by_key(|(_, id)| **id);
        if let Some((token, id)) = last {
            ensure!(
                (*id as usize) < rows,
                "the tokenizer has `{token}` with id {id}, but the table of the {encoder} has {rows} rows; \
                 they are of different models, or a word was added to the tokenizer alone"
            );
        }
        let spare = rows - last.map_or(0, |(_, id)| *id as usize + 1);
        Ok((spare > 0).then(|| {
            format!(
                "the table of the {encoder} has {rows} rows, {spare} more than the tokenizer has tokens: if \
                 words were added to the model, the tokenizer's added_tokens.json is missing"
            )
        }))
    }

    /// Words of embeddings that none of `prompts` holds within what the text encoder reads.
    ///
    /// # Errors
    /// The tokenizer refused a text.
    pub fn words_in_none<'p>(
        &self,
        prompts: impl IntoIterator<Item = &'p str>,
    ) -> Result<Vec<String>> {
        let mut missing = self.taught.clone();
        for prompt in prompts {
            if missing.is_empty() {
                break;
            }
            let ids = self.encode(prompt)?.ids;
            missing.retain(|(_, id)| !ids.contains(id));
        }
        Ok(missing.into_iter().map(|(word, _)| word).collect())
    }
}

/// The words that embeddings teach, where the folder lists any.
fn embedding_words(path: &Path) -> Result<Vec<EmbeddingWord>> {
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let text =
        std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    serde_json::from_slice(&text)
        .with_context(|| format!("{}: is no list of words", path.display()))
}

/// Adds a word of an embedding; returns its tokens.
fn teach(tokenizer: &mut Tokenizer, word: &EmbeddingWord) -> Result<Vec<String>> {
    let tokens = word.tokens();
    // diffusers takes `word_1` for the second vector of `word`, whoever added it.
    let second = format!("{}_1", word.token);
    for token in tokens.iter().chain([&second]) {
        if tokenizer.token_to_id(token).is_some() {
            bail!(
                "the embedding's word `{}` cannot be taught: `{token}` is in the vocabulary already; give it \
                 another with --embedding FILE:TOKEN",
                word.token
            );
        }
    }
    for token in &tokens {
        let next = u32::try_from(tokenizer.get_vocab_size(true))?;
        tokenizer
            .add_tokens([AddedToken::from(token.clone(), false)])
            .map_err(|error| anyhow!("the embedding's word `{token}`: {error}"))?;
        // The rows of the text encoder's table follow the vocabulary in this order.
        match tokenizer.token_to_id(token) {
            Some(id) if id == next => {}
            id => bail!("the embedding's word `{token}` has id {id:?} where {next} is due"),
        }
    }
    Ok(tokens)
}

/// Added words that stand for several tokens, as diffusers takes them: `word` for `word`, `word_1`, `word_2` and
/// so on, as far as they were added.
fn several(tokenizer: &Tokenizer, names: &[String]) -> BTreeMap<u32, Vec<u32>> {
    let known: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let id = |name: &str| known.contains(name).then(|| tokenizer.token_to_id(name)).flatten();
    known
        .iter()
        .filter_map(|name| {
            let first = id(name)?;
            let others = (1..).map_while(|number| id(&format!("{name}_{number}")));
            let ids: Vec<u32> = std::iter::once(first).chain(others).collect();
            (ids.len() > 1).then_some((first, ids))
        })
        .collect()
}

/// The pipeline of normaliser, pieces and merges that makes a byte-pair vocabulary CLIP's.
fn byte_pairs(vocabulary: Vocab, merges: Merges, unknown: &str) -> Result<Tokenizer> {
    let model = BPE::builder()
        .vocab_and_merges(vocabulary, merges)
        .unk_token(unknown.to_owned())
        .continuing_subword_prefix(String::new())
        .end_of_word_suffix("</w>".to_owned())
        .build()
        .map_err(|error| anyhow!("{error}"))?;
    let pattern = |text: &str| SplitPattern::Regex(text.to_owned());
    let broken = |error: tokenizers::Error| anyhow!("tokenizer pattern: {error}");
    let spaces = tokenizers::normalizers::replace::ReplacePattern::Regex(r"\s+".to_owned());
    let mut tokenizer = Tokenizer::new(model);
    tokenizer
        .with_normalizer(Some(NormalizerSequence::new(vec![
            NFC.into(),
            Replace::new(spaces, " ").map_err(broken)?.into(),
            Lowercase.into(),
        ])))
        .map_err(broken)?;
    tokenizer.with_pre_tokenizer(Some(PreTokenizerSequence::new(vec![
        Split::new(pattern(PIECES), SplitDelimiterBehavior::Removed, true).map_err(broken)?.into(),
        ByteLevel::new(false, true, true).into(),
    ])));
    Ok(tokenizer)
}
