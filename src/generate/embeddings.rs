//! In: textual-inversion files (arXiv 2208.01618). Out: the words that they teach, for the tokenizer, and
//! the rows that they add to the text encoder's table. Looking them up is left to both.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::lora::absolute;
use crate::models::recipe::Rows;
use crate::models::safetensors_file::contents;

/// File of the tokenizer's folder that lists the taught words.
pub const WORDS_FILE: &str = "embeddings.json";

/// An embedding file and the word that stands for it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingFile {
    /// Its safetensors file.
    pub file: PathBuf,
    /// The word; `None` takes the file's own.
    pub token: Option<String>,
}

/// `FILE` or `FILE:TOKEN`.
impl std::str::FromStr for EmbeddingFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let end = ".safetensors";
        let (file, token) = match text.rfind(&format!("{end}:")) {
            Some(place) => text.split_at(place + end.len()),
            None => (text, ""),
        };
        let token = token.strip_prefix(':').map(str::to_owned);
        if file.is_empty() || token.as_ref().is_some_and(String::is_empty) {
            return Err(format!("`{text}` is no embedding; use FILE or FILE:TOKEN"));
        }
        Ok(Self { file: file.into(), token })
    }
}

/// A word with as many vectors as its file has. It becomes the tokens `word`, `word_1`, `word_2` ...,
/// and `word` in a prompt stands for all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaughtWord {
    /// The word.
    pub token: String,
    /// Its vectors.
    pub vectors: usize,
}

impl TaughtWord {
    /// The tokens of its vectors, in order.
    pub fn tokens(&self) -> Vec<String> {
        let numbered = (1..self.vectors).map(|number| format!("{}_{number}", self.token));
        std::iter::once(self.token.clone()).chain(numbered).collect()
    }
}

/// What the tensors of a file for several text encoders are called, in the encoders' order.
const ENCODERS: [&str; 2] = ["clip_l", "clip_g"];

/// Reads a file's word and where its rows lie; `widths` are those of the text encoders, and the rows are
/// in their order.
///
/// # Errors
/// The file is unreadable, for other text encoders, or of none of the known forms. For one text encoder
/// these are one tensor named after the word, or `emb_params` with the word in the file's name; for
/// two, `clip_l` and `clip_g` with the word in the file's name and as many rows in both.
pub fn read_embedding(
    embedding: &EmbeddingFile,
    widths: &[usize],
) -> Result<(TaughtWord, Vec<Rows>)> {
    let path = &embedding.file;
    let shapes = contents(path)?.shapes;
    let tensors: Vec<&String> = match widths {
        [_] => shapes.keys().collect(),
        _ => ENCODERS.iter().filter_map(|name| Some(shapes.get_key_value(*name)?.0)).collect(),
    };
    ensure!(
        tensors.len() == widths.len() && shapes.len() == widths.len(),
        "{} holds {} tensors; an embedding for this model has {}",
        path.display(),
        shapes.len(),
        if widths.len() == 1 { "one" } else { "two, `clip_l` and `clip_g`" }
    );
    let mut counts = Vec::new();
    for (tensor, width) in tensors.iter().zip(widths) {
        let shape = &shapes[*tensor];
        counts.push(match shape.as_slice() {
            [found] if found == width => 1,
            [vectors, found] if found == width && *vectors > 0 => *vectors,
            _ => bail!(
                "{}: `{tensor}` has shape {shape:?}, the text encoder is {width} wide; the embedding \
                 is for another model",
                path.display()
            ),
        });
    }
    let vectors = counts.first().copied().unwrap_or(0);
    ensure!(
        counts.iter().all(|count| *count == vectors),
        "{}: `clip_l` and `clip_g` have {counts:?} vectors, where as many are due",
        path.display()
    );
    let token = match (&embedding.token, tensors.as_slice()) {
        (Some(token), _) => token.clone(),
        (None, [one]) if one.as_str() != "emb_params" => (*one).clone(),
        (None, _) => stem(path)?,
    };
    ensure!(!token.trim().is_empty(), "{}: the word is empty", path.display());
    let rows = |tensor: &&String| Ok(Rows { file: absolute(path)?, tensor: (*tensor).clone() });
    Ok((TaughtWord { token, vectors }, tensors.iter().map(rows).collect::<Result<_>>()?))
}

fn stem(path: &Path) -> Result<String> {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    stem.map(str::to_owned).with_context(|| format!("{} has no plain name", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_behind_a_colon() {
        let parsed = |text: &str| text.parse::<EmbeddingFile>().unwrap();
        assert_eq!(parsed("a.safetensors").token, None);
        let named = parsed("c:/a.safetensors:<cat:1>");
        assert_eq!(
            (named.file, named.token.as_deref()),
            ("c:/a.safetensors".into(), Some("<cat:1>"))
        );
        assert!("a.safetensors:".parse::<EmbeddingFile>().is_err());
        let word = TaughtWord { token: "<cat>".into(), vectors: 3 };
        assert_eq!(word.tokens(), ["<cat>", "<cat>_1", "<cat>_2"]);
    }
}
