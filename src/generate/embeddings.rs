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

/// Reads a file's word and where its rows lie; `width` is the text encoder's.
///
/// # Errors
/// The file is unreadable, for another text encoder, or none of the two known forms: one tensor named
/// after the word, or `emb_params` with the word in the file's name.
pub fn read_embedding(embedding: &EmbeddingFile, width: usize) -> Result<(TaughtWord, Rows)> {
    let path = &embedding.file;
    let found = contents(path)?;
    let mut tensors = found.shapes.iter();
    let (Some((tensor, shape)), None) = (tensors.next(), tensors.next()) else {
        bail!(
            "{} holds {} tensors; an embedding for this model has one",
            path.display(),
            found.shapes.len()
        );
    };
    let vectors = match shape.as_slice() {
        [found] if *found == width => 1,
        [vectors, found] if *found == width && *vectors > 0 => *vectors,
        _ => bail!(
            "{}: `{tensor}` has shape {shape:?}, the text encoder is {width} wide; the embedding is \
             for another model",
            path.display()
        ),
    };
    let token = match (&embedding.token, tensor.as_str()) {
        (Some(token), _) => token.clone(),
        (None, "emb_params") => stem(path)?,
        (None, token) => token.to_owned(),
    };
    ensure!(!token.trim().is_empty(), "{}: the word is empty", path.display());
    let rows = Rows { file: absolute(path)?, tensor: tensor.clone() };
    Ok((TaughtWord { token, vectors }, rows))
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
