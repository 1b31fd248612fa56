//! In: the small files of a CLIP tokenizer's folder. Out: its vocabulary, its merges and the tokens that were added
//! to them, in the order in which transformers numbers them. Splitting texts is left to `clip`.
//!
//! Follows `CLIPTokenizer.from_pretrained` of transformers 5: `tokenizer.json` stands above `vocab.json` with
//! `merges.txt`; `added_tokens_decoder` of `tokenizer_config.json` above `special_tokens_map.json`,
//! `added_tokens.json` and the `added_tokens` of `tokenizer.json`, which are read only where it is absent.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;
use tokenizers::AddedToken;
use tokenizers::models::bpe::{BPE, Merges, Vocab};

/// Context length of every published CLIP, for a folder that does not say.
const USUAL_LENGTH: usize = 77;

/// What CLIP's tokens are called where no file says otherwise.
const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

/// Tokens with a name of their own, in transformers' order, and what they usually are.
const NAMED: [(&str, Option<&str>); 7] = [
    ("bos_token", Some(START)),
    ("eos_token", Some(END)),
    ("unk_token", Some(END)),
    ("sep_token", None),
    ("pad_token", Some(END)),
    ("cls_token", None),
    ("mask_token", None),
];

/// What the files of a tokenizer say.
pub(crate) struct TokenizerFiles {
    /// Ids of the pieces.
    pub(crate) vocabulary: Vocab,
    /// Pairs of pieces that become one, first come first served.
    pub(crate) merges: Merges,
    /// Tokens found whole in a text, in the order in which those outside the vocabulary get their ids.
    pub(crate) added: Vec<AddedToken>,
    /// Ids that the files state for some of them, with the file that does.
    pub(crate) stated: Vec<(String, u32, &'static str)>,
    /// Token in front of a text.
    pub(crate) start: String,
    /// Token behind it.
    pub(crate) end: String,
    /// Token that fills up.
    pub(crate) padding: String,
    /// Token for what the vocabulary lacks.
    pub(crate) unknown: String,
    /// Ids that a text encoder takes.
    pub(crate) max_length: usize,
}

impl TokenizerFiles {
    /// Reads what `folder` holds.
    ///
    /// # Errors
    /// A file is missing or broken, or says something that is not understood.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let config = read_object(&folder.join("tokenizer_config.json"))?;
        let (vocabulary, merges, whole) = pieces(folder)?;
        let stated = Stated::read(folder, &config, &whole)?;
        let named = if stated.is_of_config {
            Value::Null
        } else {
            read_object(&folder.join("special_tokens_map.json"))?
        };
        let names = Names { config: &config, map: &named, stated: &stated };
        let take = |key: &str| {
            names.named(key).map(|token| token.content).with_context(|| {
                format!("{}: `{key}` is no token", folder.join("tokenizer_config.json").display())
            })
        };
        let max_length = match config.get("model_max_length").and_then(Value::as_u64) {
            // Tokenizers without a limit store 10^30, which is no u64.
            Some(length) if (2..=1 << 16).contains(&length) => length as usize,
            Some(length) => bail!("{}: model_max_length = {length}", folder.display()),
            None => USUAL_LENGTH,
        };
        Ok(Self {
            vocabulary,
            merges,
            added: names.in_order(),
            start: take("bos_token")?,
            end: take("eos_token")?,
            padding: take("pad_token")?,
            unknown: take("unk_token")?,
            max_length,
            stated: stated.ids(),
        })
    }
}

/// Tokens that the files number.
struct Stated {
    tokens: BTreeMap<u32, (AddedToken, &'static str)>,
    /// Whether `tokenizer_config.json` numbers them, so that the older files do not count.
    is_of_config: bool,
}

impl Stated {
    fn read(folder: &Path, config: &Value, whole: &Value) -> Result<Self> {
        let mut tokens = BTreeMap::new();
        let mut add = |file: &'static str, id: Option<u32>, token: Option<AddedToken>| {
            let entry = id.zip(token.filter(|token| !token.content.is_empty()));
            let (id, token) = entry.with_context(|| {
                format!("{}: an added token is not in the usual form", folder.join(file).display())
            })?;
            tokens.insert(id, (token, file));
            Ok::<_, anyhow::Error>(())
        };
        if let Some(decoder) = config.get("added_tokens_decoder") {
            let file = "tokenizer_config.json";
            let entries = decoder.as_object().with_context(|| {
                format!("{}: added_tokens_decoder is no object", folder.join(file).display())
            })?;
            for (id, token) in entries {
                add(file, id.parse().ok(), flagged(token))?;
            }
            return Ok(Self { tokens, is_of_config: true });
        }
        let map = read_object(&folder.join("special_tokens_map.json"))?;
        let special = Names::contents(config, &map);
        let file = "added_tokens.json";
        for (content, id) in read_object(&folder.join(file))?.as_object().into_iter().flatten() {
            let is_special = special.contains(content);
            let token = AddedToken::from(content.clone(), is_special);
            add(file, whole_number(id), Some(token))?;
        }
        for entry in whole["added_tokens"].as_array().into_iter().flatten() {
            add("tokenizer.json", whole_number(&entry["id"]), flagged(entry))?;
        }
        Ok(Self { tokens, is_of_config: false })
    }

    fn token(&self, content: &str) -> Option<&AddedToken> {
        self.tokens.values().map(|(token, _)| token).find(|token| token.content == content)
    }

    fn ids(self) -> Vec<(String, u32, &'static str)> {
        self.tokens.into_iter().map(|(id, (token, file))| (token.content, id, file)).collect()
    }
}

/// Tokens with a name, and those that are special besides.
struct Names<'f> {
    config: &'f Value,
    map: &'f Value,
    stated: &'f Stated,
}

impl Names<'_> {
    /// Contents of all special tokens.
    fn contents(config: &Value, map: &Value) -> Vec<String> {
        let none = Stated { tokens: BTreeMap::new(), is_of_config: false };
        let names = Names { config, map, stated: &none };
        let named = NAMED.iter().filter_map(|(key, _)| names.named(key));
        named.chain(names.others()).map(|token| token.content).collect()
    }

    /// A value, in the older file first where that counts.
    fn value(&self, key: &str) -> &Value {
        match &self.map[key] {
            Value::Null => &self.config[key],
            value => value,
        }
    }

    fn named(&self, key: &str) -> Option<AddedToken> {
        let usual = NAMED.iter().find(|(name, _)| *name == key).and_then(|(_, usual)| *usual);
        let token = match self.value(key) {
            Value::Null => bare(usual?),
            value => special(value)?,
        };
        Some(match self.stated.token(&token.content) {
            Some(stated) => stated.clone().special(true),
            None => token,
        })
    }

    /// Special tokens without one of the usual names.
    fn others(&self) -> Vec<AddedToken> {
        let sources = [self.config, self.map];
        let own = sources.iter().filter_map(|source| source.as_object()).flatten();
        let own = own.filter(|(key, _)| {
            key.ends_with("_token") && NAMED.iter().all(|(name, _)| *name != key.as_str())
        });
        let mut tokens: Vec<AddedToken> = own.filter_map(|(_, value)| special(value)).collect();
        let is_empty = |value: &Value| match value {
            Value::Array(list) => list.is_empty(),
            Value::Object(entries) => entries.is_empty(),
            value => value.is_null(),
        };
        let mut extra = self.value("extra_special_tokens");
        if is_empty(extra) {
            extra = self.value("additional_special_tokens");
        }
        match extra {
            Value::Array(list) => tokens.extend(list.iter().filter_map(special)),
            Value::Object(entries) => tokens.extend(entries.values().filter_map(special)),
            _ => {}
        }
        tokens
    }

    /// All added tokens, each once, in the order in which they get ids.
    fn in_order(&self) -> Vec<AddedToken> {
        let named: Vec<AddedToken> = NAMED.iter().filter_map(|(key, _)| self.named(key)).collect();
        let is_named = |token: &AddedToken| named.iter().any(|one| one.content == token.content);
        let mut tokens: Vec<AddedToken> = Vec::new();
        for (token, _) in self.stated.tokens.values() {
            let special = token.special || is_named(token);
            tokens.push(token.clone().special(special));
        }
        // A token with several names has the flags of the last that has not got them from its number.
        for token in named.iter().cloned().chain(self.others()) {
            match tokens.iter_mut().find(|known| known.content == token.content) {
                None => tokens.push(token),
                Some(known) if self.stated.token(&token.content).is_none() => *known = token,
                Some(_) => {}
            }
        }
        tokens
    }
}

/// A special token that is written as a bare string.
fn bare(content: &str) -> AddedToken {
    AddedToken::from(content, true)
}

/// A special token, written as a string or as an object with flags.
fn special(value: &Value) -> Option<AddedToken> {
    match value.as_str() {
        Some("") => None,
        Some(content) => Some(bare(content)),
        None => Some(flagged(value)?.special(true)),
    }
}

/// A token written as an object with flags.
fn flagged(value: &Value) -> Option<AddedToken> {
    let flag = |key: &str, absent: bool| value[key].as_bool().unwrap_or(absent);
    let special = flag("special", false);
    Some(
        AddedToken::from(value["content"].as_str()?, special)
            .single_word(flag("single_word", false))
            .lstrip(flag("lstrip", false))
            .rstrip(flag("rstrip", false))
            .normalized(flag("normalized", !special)),
    )
}

/// Vocabulary and merges, with the content of `tokenizer.json` where they are from there.
fn pieces(folder: &Path) -> Result<(Vocab, Merges, Value)> {
    let whole = folder.join("tokenizer.json");
    if whole.is_file() {
        let content = read_object(&whole)?;
        let (vocabulary, merges) = pieces_of_whole(&content["model"])
            .with_context(|| format!("{}: is no byte-pair tokenizer", whole.display()))?;
        return Ok((vocabulary, merges, content));
    }
    let (vocabulary, merges) = (folder.join("vocab.json"), folder.join("merges.txt"));
    ensure!(
        vocabulary.is_file() && merges.is_file(),
        "{}: neither vocab.json with merges.txt nor tokenizer.json",
        folder.display()
    );
    let text = |path: &Path| path.to_str().map(String::from).context("file name is not UTF-8");
    let (vocabulary, merges) = BPE::read_file(&text(&vocabulary)?, &text(&merges)?)
        .map_err(|e| anyhow!("{} or {}: {e}", vocabulary.display(), merges.display()))?;
    Ok((vocabulary, merges, Value::Null))
}

fn pieces_of_whole(model: &Value) -> Result<(Vocab, Merges)> {
    ensure!(matches!(model["type"].as_str(), None | Some("BPE")), "its type is {}", model["type"]);
    let vocabulary = model["vocab"].as_object().context("it has no vocabulary")?;
    let vocabulary = vocabulary
        .iter()
        .map(|(piece, id)| {
            let id = whole_number(id).with_context(|| format!("`{piece}` has no id"))?;
            Ok((piece.clone(), id))
        })
        .collect::<Result<Vocab>>()?;
    let pair = |merge: &Value| match merge {
        Value::String(text) => {
            let (left, right) = text.split_once(' ')?;
            Some((left.to_owned(), right.to_owned()))
        }
        Value::Array(pair) => match pair.as_slice() {
            [left, right] => Some((left.as_str()?.to_owned(), right.as_str()?.to_owned())),
            _ => None,
        },
        _ => None,
    };
    let merges = model["merges"].as_array().context("it has no merges")?;
    let merges = merges
        .iter()
        .map(|merge| pair(merge).with_context(|| format!("merge {merge} is no pair")))
        .collect::<Result<Merges>>()?;
    Ok((vocabulary, merges))
}

fn whole_number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok())
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
