//! In: the folder of a BERT model in lower case as transformers saved it. Out: its word pieces and added tokens. What
//! asks for other rules than those of `word_piece` is refused.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

/// The file of transformers 5, which earlier versions write beside [`VOCABULARY`].
pub(super) const TOKENIZER: &str = "tokenizer.json";
/// The pieces alone, one a line.
pub(super) const VOCABULARY: &str = "vocab.txt";

/// What a folder says of its words.
pub(super) struct Saved {
    /// Word pieces by their ids.
    pub(super) pieces: Vec<String>,
    /// Tokens that are taken out of a text before it is cut into words, in the order of their ids.
    pub(super) added: Vec<Added>,
    /// The file that they are from.
    pub(super) file: PathBuf,
}

/// A token of `added_tokens`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Added {
    pub(super) id: u32,
    pub(super) content: String,
    #[serde(default)]
    pub(super) single_word: bool,
    #[serde(default)]
    pub(super) lstrip: bool,
    #[serde(default)]
    pub(super) rstrip: bool,
    #[serde(default)]
    pub(super) normalized: bool,
    #[serde(default)]
    pub(super) special: bool,
}

/// Reads `tokenizer.json` of a folder, or else its `vocab.txt`, to which BERT's own tokens are added as
/// transformers does.
///
/// # Errors
/// Neither is there or can be read; the files contradict each other, or ask for what is not here.
pub(super) fn read(folder: &Path) -> Result<Saved> {
    let (tokenizer, vocabulary) = (folder.join(TOKENIZER), folder.join(VOCABULARY));
    let listed = vocabulary
        .is_file()
        .then(|| -> Result<Vec<String>> {
            let text = std::fs::read_to_string(&vocabulary)
                .with_context(|| format!("{}: cannot be read", vocabulary.display()))?;
            Ok(pieces_of(&text))
        })
        .transpose()?;
    if tokenizer.is_file() {
        let name = tokenizer.display().to_string();
        let text = std::fs::read(&tokenizer).with_context(|| format!("{name}: cannot be read"))?;
        let value: Value =
            serde_json::from_slice(&text).with_context(|| format!("{name}: is no JSON"))?;
        let saved =
            of_tokenizer(&value, tokenizer).with_context(|| format!("{name} cannot be used"))?;
        let Some(listed) = listed else { return Ok(saved) };
        ensure!(
            saved.pieces.starts_with(&listed),
            "{name} has other word pieces than {VOCABULARY} beside it; take away the one that is wrong"
        );
        // The older file says as much.
        let file = if saved.pieces == listed { vocabulary } else { saved.file };
        return Ok(Saved { file, ..saved });
    }
    let pieces = listed.with_context(|| {
        format!("{} has neither {TOKENIZER} nor {VOCABULARY}", folder.display())
    })?;
    refuse_added_words(folder, &pieces)?;
    let own = |content: &str| {
        let id = pieces.iter().position(|piece| piece == content)? as u32;
        Some(Added { special: true, ..Added::plain(id, content) })
    };
    let added = OWN_TOKENS.iter().filter_map(|content| own(content)).collect();
    Ok(Saved { added, pieces, file: vocabulary })
}

impl Added {
    fn plain(id: u32, content: &str) -> Self {
        Self {
            id,
            content: content.to_owned(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special: false,
        }
    }
}

/// The lines of a `vocab.txt`.
pub(super) fn pieces_of(text: &str) -> Vec<String> {
    text.strip_suffix('\n')
        .unwrap_or(text)
        .split('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line).to_owned())
        .collect()
}

fn of_tokenizer(value: &Value, file: PathBuf) -> Result<Saved> {
    for (at, due) in [
        ("/normalizer/type", Value::from("BertNormalizer")),
        ("/normalizer/clean_text", true.into()),
        ("/normalizer/handle_chinese_chars", true.into()),
        ("/normalizer/lowercase", true.into()),
        ("/pre_tokenizer/type", "BertPreTokenizer".into()),
        ("/model/type", "WordPiece".into()),
        ("/model/unk_token", "[UNK]".into()),
        ("/model/continuing_subword_prefix", "##".into()),
        ("/model/max_input_chars_per_word", 100.into()),
    ] {
        let found = value.pointer(at).unwrap_or(&Value::Null);
        let name = at[1..].replace('/', ".");
        ensure!(*found == due, "{name} = {found} is not supported; only {due} is");
    }
    let strip = value.pointer("/normalizer/strip_accents").unwrap_or(&Value::Null);
    ensure!(
        strip.is_null() || *strip == true,
        "normalizer.strip_accents = {strip} is not supported; only true is"
    );
    let frame = &value["post_processor"]["single"];
    let token = |place: usize| frame[place]["SpecialToken"]["id"].as_str();
    let is_framed = (token(0), token(2), frame.as_array().map(Vec::len))
        == (Some("[CLS]"), Some("[SEP]"), Some(3));
    ensure!(
        is_framed || value["post_processor"]["type"] == "BertProcessing",
        "its post_processor does not put a text between [CLS] and [SEP]"
    );
    let vocabulary = value["model"]["vocab"].as_object().context("model.vocab is no object")?;
    let added: Vec<Added> = match &value["added_tokens"] {
        Value::Null => Vec::new(),
        added => serde_json::from_value(added.clone()).context("added_tokens cannot be read")?,
    };
    let mut ids: Vec<(u64, &str)> = Vec::new();
    for (piece, id) in vocabulary {
        ids.push((id.as_u64().with_context(|| format!("`{piece}` has no id"))?, piece));
    }
    for token in &added {
        if !vocabulary.contains_key(&token.content) {
            ids.push((u64::from(token.id), &token.content));
        }
        let known = vocabulary.get(&token.content).and_then(Value::as_u64);
        ensure!(
            known.is_none_or(|id| id == u64::from(token.id)),
            "the added token `{}` has another id than the word piece",
            token.content
        );
    }
    ids.sort_unstable();
    let is_whole = ids.iter().zip(0..).all(|((id, _), place)| *id == place);
    ensure!(is_whole, "its ids do not go from 0 on without a gap");
    let pieces = ids.into_iter().map(|(_, piece)| piece.to_owned()).collect();
    Ok(Saved { pieces, added, file })
}

/// Words added beside a `vocab.txt` would be tokens to transformers.
fn refuse_added_words(folder: &Path, pieces: &[String]) -> Result<()> {
    let object = |name: &str| -> Result<Map<String, Value>> {
        let path = folder.join(name);
        if !path.is_file() {
            return Ok(Map::new());
        }
        let text =
            std::fs::read(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{}: is no JSON object", path.display()))
    };
    let mut words: Vec<(&str, String)> = object("added_tokens.json")?
        .keys()
        .map(|word| ("added_tokens.json", word.clone()))
        .collect();
    let config = object("tokenizer_config.json")?;
    for token in config.get("added_tokens_decoder").and_then(Value::as_object).into_iter().flatten()
    {
        let word = token.1["content"].as_str().unwrap_or_default();
        words.push(("tokenizer_config.json", word.to_owned()));
    }
    if let Some((file, word)) = words.into_iter().find(|(_, word)| !pieces.contains(word)) {
        bail!(
            "{}: {file} adds `{word}`, which {VOCABULARY} does not have; added words are read from {TOKENIZER}, \
             which `AutoProcessor.from_pretrained(...).save_pretrained(...)` of transformers 5 writes",
            folder.display()
        );
    }
    Ok(())
}

/// BERT's own tokens, which are no text: padding, unknown, start, end, mask.
pub(crate) const OWN_TOKENS: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
