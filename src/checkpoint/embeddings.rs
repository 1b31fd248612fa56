//! In: textual-inversion files (arXiv 2208.01618), safetensors or PyTorch's. Out: the words that they teach, for
//! the tokenizer, and the rows that they add to the text encoder's table. Looking them up is left to both.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::addon_file::addon_file;
use super::recipe::{ADDON, Rows, absolute};
use super::safetensors_file::contents_of_any;
use crate::text::clip::embedding_words::EmbeddingWord;

/// An embedding file and the word that stands for it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingFile {
    /// Its file, safetensors or PyTorch's, or the folder that it was saved to.
    pub file: PathBuf,
    /// The word; `None` takes the file's own.
    pub token: Option<String>,
}

/// `FILE` or `FILE:TOKEN`.
impl std::str::FromStr for EmbeddingFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let behind_file = [".safetensors:", ".pt:", ".bin:"]
            .iter()
            .filter_map(|end| Some(text.rfind(end)? + end.len() - 1))
            .max();
        let behind_folder = || {
            let mut colons = text.match_indices(':').map(|(place, _)| place);
            colons.find(|place| Path::new(&text[..*place]).is_dir())
        };
        let (file, token) = match behind_file.or_else(behind_folder) {
            Some(place) => text.split_at(place),
            None => (text, ""),
        };
        let token = token.strip_prefix(':').map(str::to_owned);
        if file.is_empty() || token.as_ref().is_some_and(String::is_empty) {
            return Err(format!("`{text}` is no embedding; use FILE or FILE:TOKEN"));
        }
        Ok(Self { file: file.into(), token })
    }
}

/// What the tensors of a file for several text encoders are called, in the encoders' order: today, and by older
/// versions of diffusers' training scripts.
const ENCODERS: [[&str; 2]; 2] = [["clip_l", "clip_g"], ["text_encoders_0", "text_encoders_1"]];

/// Names of a tensor that are no words.
const NO_WORDS: [&str; 2] = ["emb_params", "*"];

/// Reads a file's word and where its rows lie; `widths` are those of the text encoders, and the rows are
/// in their order.
///
/// # Errors
/// The file is unreadable, for other text encoders, or of none of the known forms. For one text encoder
/// these are one tensor named after the word, or with a name that many files have (`emb_params`, `clip_l`) and the
/// word in the file's name, or the Web UI's `.pt` with its `name`; for two, `clip_l` and `clip_g` with the word in
/// the file's name and as many rows in both.
pub(crate) fn read_embedding(
    embedding: &EmbeddingFile,
    widths: &[usize],
) -> Result<(EmbeddingWord, Vec<Rows>)> {
    let folder = &embedding.file;
    let found = if folder.is_dir() { addon_file(folder, &["learned_embeds"])? } else { None };
    ensure!(
        found.is_some() || !folder.is_dir(),
        "{} holds no embedding: no learned_embeds.safetensors or other file of tensors",
        folder.display()
    );
    let path = found.as_ref().unwrap_or(folder);
    let content = contents_of_any(path, ADDON)?;
    let shapes = content.shapes;
    let of_all = ENCODERS.iter().find(|names| names.iter().all(|name| shapes.contains_key(*name)));
    let tensors: Vec<&String> = match (widths, of_all) {
        ([_], _) | (_, None) => shapes.keys().collect(),
        (_, Some(names)) => {
            names.iter().filter_map(|name| Some(shapes.get_key_value(*name)?.0)).collect()
        }
    };
    if tensors.len() != widths.len()
        || shapes.len() != widths.len()
        || (widths.len() > 1 && of_all.is_none())
    {
        let names: Vec<String> = shapes.keys().take(6).map(|name| format!("`{name}`")).collect();
        bail!(
            "{} holds {} tensors ({}); an embedding for this model has {}",
            path.display(),
            shapes.len(),
            names.join(", "),
            if widths.len() == 1 { "one" } else { "two, `clip_l` and `clip_g`" }
        );
    }
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
        "{}: {} have {counts:?} vectors, where as many are due",
        path.display(),
        tensors.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ")
    );
    let is_word =
        |name: &str| !NO_WORDS.contains(&name) && !ENCODERS.iter().flatten().any(|n| *n == name);
    // The Web UI's pickles keep the word beside the tensor, which they call `*`.
    let noted = content.notes.get("name").filter(|_| shapes.contains_key("*"));
    let token = match (&embedding.token, tensors.as_slice(), noted) {
        (Some(token), ..) => token.clone(),
        (None, [one], _) if is_word(one) => (*one).clone(),
        (None, _, Some(name)) => name.clone(),
        (None, ..) => stem(path)?,
    };
    ensure!(!token.trim().is_empty(), "{}: the word is empty", path.display());
    let rows = |tensor: &&String| Ok(Rows { file: absolute(path)?, tensor: (*tensor).clone() });
    Ok((EmbeddingWord { token, vectors }, tensors.iter().map(rows).collect::<Result<_>>()?))
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
        let older = parsed("a.bin.pt:<cat>.bin");
        assert_eq!((older.file, older.token.as_deref()), ("a.bin.pt".into(), Some("<cat>.bin")));
        assert_eq!(parsed("c:/a.bin").file, PathBuf::from("c:/a.bin"));
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().to_str().unwrap();
        assert_eq!(parsed(folder).token, None);
        let named = parsed(&format!("{folder}:<cat>"));
        assert_eq!((named.file, named.token.as_deref()), (folder.into(), Some("<cat>")));
        let word = EmbeddingWord { token: "<cat>".into(), vectors: 3 };
        assert_eq!(word.tokens(), ["<cat>", "<cat>_1", "<cat>_2"]);
    }
}
