//! In: a text. Out: the ids of its tokens, as the tokenizers of transformers and SentencePiece give them. What ids
//! mean is left to `models`.

pub mod clip;
pub mod decoder;
pub(crate) mod protobuf;
pub mod sentence_piece;
pub mod t5;
pub mod word_piece;
