//! In: the tokens of an answer. Out: the text that transformers' `BertTokenizer.decode` makes of them:
//! without BERT's own tokens, pieces joined, blanks before punctuation taken out.

use crate::text::word_piece::WordPiece;

/// What loses the blank before it, in the order of the original's replacements.
const CLOSE_UP: [(&str, &str); 10] = [
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
];

/// The answer that `tokens` spell. A token outside the vocabulary is left out.
pub(crate) fn answer_text(words: &WordPiece, tokens: &[u32]) -> String {
    let pieces: Vec<&str> = tokens
        .iter()
        .filter(|&&token| !words.is_special(token))
        .filter_map(|&token| words.piece(token))
        .collect();
    let joined = pieces.join(" ").replace(" ##", "").trim().to_owned();
    CLOSE_UP.iter().fold(joined, |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// `tests/fixtures/make_beam_search.py` let transformers decode them.
    #[test]
    fn texts_equal_those_of_transformers() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let words = WordPiece::load(&fixtures.join("word_piece")).unwrap();
        let golden = std::fs::read(fixtures.join("mplug-judge/answer_texts.json")).unwrap();
        let golden: Vec<(Vec<u32>, String)> = serde_json::from_slice(&golden).unwrap();
        assert!(golden.len() > 200);
        let mut plainly_joined = 0;
        for (tokens, text) in golden {
            assert_eq!(answer_text(&words, &tokens), text, "{tokens:?}");
            let pieces: Vec<&str> = tokens.iter().filter_map(|&id| words.piece(id)).collect();
            plainly_joined += usize::from(pieces.join(" ") == text);
        }
        assert!(plainly_joined < 60, "{plainly_joined} texts need no rule");
    }
}
