//! In: a prompt. Out: the ids that CLIP's text encoder takes, with how much of the prompt they hold.
//!
//! Follows `CLIPTokenizer` of transformers, which diffusers pipelines call with
//! `padding="max_length", truncation=True`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as NormalizerSequence};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizerSequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

use super::embeddings::{TaughtWord, WORDS_FILE};

/// Words, single digits and runs of signs; white space falls away.
const PIECES: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// Context length of every published CLIP, for a folder that does not say.
const USUAL_LENGTH: usize = 77;

/// CLIP's byte-pair tokenizer, from the `tokenizer/` folder of a diffusers checkpoint.
pub struct ClipTokenizer {
    tokenizer: Tokenizer,
    max_length: usize,
    start: u32,
    end: u32,
    padding: u32,
    /// Words of embeddings that stand for several tokens: the first of them, and all.
    taught: BTreeMap<u32, Vec<u32>>,
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
    /// Reads `vocab.json` and `merges.txt`, or `tokenizer.json` where those are absent, and
    /// `tokenizer_config.json` and `special_tokens_map.json` where present.
    ///
    /// # Errors
    /// A file is missing or broken, or a special token is not in the vocabulary.
    pub fn load(folder: &Path) -> Result<Self> {
        let config = read_object(&folder.join("tokenizer_config.json"))?;
        let named = read_object(&folder.join("special_tokens_map.json"))?;
        let special = SpecialTokens::collect(&config, &named);
        let (vocabulary, merges) = (folder.join("vocab.json"), folder.join("merges.txt"));
        let whole = folder.join("tokenizer.json");
        let mut tokenizer = if vocabulary.is_file() && merges.is_file() {
            byte_pairs(&vocabulary, &merges, &special.unknown)?
        } else if whole.is_file() {
            whole_tokenizer(&whole)?
        } else {
            bail!("{}: neither vocab.json with merges.txt nor tokenizer.json", folder.display());
        };
        tokenizer
            .add_special_tokens(special.tokens.into_values())
            .map_err(|error| anyhow!("{}: special tokens: {error}", folder.display()))?;
        let taught = teach(&mut tokenizer, &folder.join(WORDS_FILE))?;
        let id = |token: &str| {
            tokenizer.token_to_id(token).with_context(|| {
                format!("{}: special token `{token}` is not in the vocabulary", folder.display())
            })
        };
        let (start, end, padding) = (id(&special.start)?, id(&special.end)?, id(&special.padding)?);
        let max_length = match config.get("model_max_length").and_then(Value::as_u64) {
            // Tokenizers without a limit store 10^30, which is no u64.
            Some(length) if (2..=1 << 16).contains(&length) => length as usize,
            Some(length) => bail!("{}: model_max_length = {length}", folder.display()),
            None => USUAL_LENGTH,
        };
        Ok(Self { tokenizer, max_length, start, end, padding, taught })
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
        let one = |id: &u32| self.taught.get(id).cloned().unwrap_or_else(|| vec![*id]);
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
}

/// Adds the words that embeddings teach, where the folder lists any; returns what each stands for.
fn teach(tokenizer: &mut Tokenizer, path: &Path) -> Result<BTreeMap<u32, Vec<u32>>> {
    let mut taught = BTreeMap::new();
    if !path.is_file() {
        return Ok(taught);
    }
    let text =
        std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let words: Vec<TaughtWord> = serde_json::from_slice(&text)
        .with_context(|| format!("{}: is no list of words", path.display()))?;
    for word in words {
        let mut ids = Vec::new();
        for token in word.tokens() {
            let next = u32::try_from(tokenizer.get_vocab_size(true))?;
            if tokenizer.token_to_id(&token).is_some() {
                bail!(
                    "the embedding's word `{token}` is in the vocabulary already; give it another \
                     with --embedding FILE:TOKEN"
                );
            }
            tokenizer
                .add_tokens([AddedToken::from(token.clone(), false)])
                .map_err(|error| anyhow!("the embedding's word `{token}`: {error}"))?;
            // The rows of the text encoder's table follow the vocabulary in this order.
            match tokenizer.token_to_id(&token) {
                Some(id) if id == next => ids.push(id),
                id => bail!("the embedding's word `{token}` has id {id:?} where {next} is due"),
            }
        }
        if let Some(&first) = ids.first() {
            taught.insert(first, ids);
        }
    }
    Ok(taught)
}

/// Special tokens with the flags under which they are found in a text.
struct SpecialTokens {
    start: String,
    end: String,
    padding: String,
    unknown: String,
    tokens: BTreeMap<String, AddedToken>,
}

impl SpecialTokens {
    /// From `tokenizer_config.json`, else `special_tokens_map.json`, else CLIP's usual ones.
    fn collect(config: &Value, named: &Value) -> Self {
        let mut tokens = BTreeMap::new();
        let mut listed = BTreeMap::new();
        for entry in config["added_tokens_decoder"].as_object().into_iter().flatten() {
            let token = added_token(entry.1);
            if let (Some(token), Some(true)) = (token, entry.1["special"].as_bool()) {
                listed.insert(token.content.clone(), token);
            }
        }
        let mut take = |key: &str, usual: &str| {
            let usual = Value::from(usual);
            let entry = [&config[key], &named[key], &usual].into_iter().find(|v| !v.is_null());
            let entry = entry.unwrap_or(&usual);
            // A bare string stands for the strictest flags, and wins over an object.
            let token = added_token(entry)
                .unwrap_or_else(|| AddedToken::from("<|endoftext|>", true).normalized(false));
            let content = token.content.clone();
            if entry.is_string() || !tokens.contains_key(&content) {
                tokens.insert(content.clone(), token);
            }
            content
        };
        let start = take("bos_token", "<|startoftext|>");
        let end = take("eos_token", "<|endoftext|>");
        let unknown = take("unk_token", "<|endoftext|>");
        let padding = take("pad_token", "<|endoftext|>");
        tokens.extend(listed);
        Self { start, end, padding, unknown, tokens }
    }
}

/// A token written as a string or as an object with flags.
fn added_token(value: &Value) -> Option<AddedToken> {
    let flag = |key: &str, absent: bool| value[key].as_bool().unwrap_or(absent);
    if let Some(content) = value.as_str() {
        return Some(AddedToken::from(content, true).normalized(false));
    }
    let content = value["content"].as_str()?;
    Some(
        AddedToken::from(content, true)
            .single_word(flag("single_word", false))
            .lstrip(flag("lstrip", false))
            .rstrip(flag("rstrip", false))
            .normalized(flag("normalized", true)),
    )
}

/// A JSON object, or an empty one where the file is absent.
fn read_object(path: &Path) -> Result<Value> {
    if !path.is_file() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    let text =
        std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let value: Value = serde_json::from_slice(&text)
        .with_context(|| format!("{}: is not valid JSON", path.display()))?;
    if !value.is_object() {
        bail!("{}: is not a JSON object", path.display());
    }
    Ok(value)
}

/// A tokenizer that one file describes wholly. It may hold the truncation and padding of whoever
/// saved it; both are done here instead, where the whole length is still known.
fn whole_tokenizer(path: &Path) -> Result<Tokenizer> {
    let broken = |error: tokenizers::Error| anyhow!("{}: {error}", path.display());
    let mut tokenizer = Tokenizer::from_file(path).map_err(broken)?;
    tokenizer.with_truncation(None).map_err(broken)?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

/// The pipeline of normaliser, pieces and merges that makes a byte-pair vocabulary CLIP's.
fn byte_pairs(vocabulary: &Path, merges: &Path, unknown: &str) -> Result<Tokenizer> {
    let text = |path: &Path| path.to_str().map(String::from).context("file name is not UTF-8");
    let model = BPE::from_file(&text(vocabulary)?, &text(merges)?)
        .unk_token(unknown.to_owned())
        .continuing_subword_prefix(String::new())
        .end_of_word_suffix("</w>".to_owned())
        .build()
        .map_err(|e| anyhow!("{} or {}: {e}", vocabulary.display(), merges.display()))?;
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
