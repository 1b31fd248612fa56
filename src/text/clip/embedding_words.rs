//! In: nothing. Out: the form of the file that names the words which textual-inversion embeddings add to a tokenizer.

use serde::{Deserialize, Serialize};

/// File of the tokenizer's folder that lists the taught words.
pub(crate) const WORDS_FILE: &str = "embeddings.json";

/// A word with as many vectors as its file has. It becomes the tokens `word`, `word_1`, `word_2` ...,
/// and `word` in a prompt stands for all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingWord {
    /// The word.
    pub token: String,
    /// Its vectors.
    pub vectors: usize,
}

impl EmbeddingWord {
    /// The tokens of its vectors, in order.
    pub fn tokens(&self) -> Vec<String> {
        let numbered = (1..self.vectors).map(|number| format!("{}_{number}", self.token));
        std::iter::once(self.token.clone()).chain(numbered).collect()
    }
}
