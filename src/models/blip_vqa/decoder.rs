//! In: questions that have looked at their pictures, and the tokens of answers so far. Out: the scores of
//! every word piece to stand next. A question's keys and values are made once for all steps.

use std::ops::Range;

use candle_core::{DType, Result, Tensor};

use super::config::BlipVqaConfig;
use crate::checkpoint::weights::Weights;
use crate::compute::key_groups::{CachedMask, Group};
use crate::compute::layers::LoadResult;
use crate::models::bert::{
    BertEmbeddings, BertLayer, BertWordPrediction, KeysAndValues, KvCache, rows_of_texts,
};

/// The answers' table of words under the two names that it has; transformers takes the first for both.
pub(super) const WORD_TABLES: [&str; 2] = [
    "text_decoder.bert.embeddings.word_embeddings.weight",
    "text_decoder.cls.predictions.decoder.weight",
];

#[derive(Debug)]
pub(super) struct Decoder {
    embeddings: BertEmbeddings,
    layers: Vec<BertLayer>,
    head: BertWordPrediction,
}

impl Decoder {
    pub(super) fn load(config: &BlipVqaConfig, weights: &Weights) -> LoadResult<Self> {
        let scope = weights.root().at("text_decoder");
        let (bert, predictions) = (scope.at("bert"), scope.at("cls.predictions"));
        let embeddings = bert.at("embeddings");
        let shape = [config.vocabulary, config.text.width];
        let root = weights.root();
        let [own, other] = WORD_TABLES;
        let words = root.tensor(if root.has(own) { own } else { other }, &shape)?;
        let layers = bert.at("encoder.layer");
        let (size, positions) = (config.text, config.max_positions);
        Ok(Self {
            layers: (0..config.text_layers)
                .map(|number| BertLayer::load(&layers.at(number), size, Some(size.width)))
                .collect::<LoadResult<_>>()?,
            head: BertWordPrediction::load(&predictions, size, words.clone())?,
            embeddings: BertEmbeddings::load_with_words(&embeddings, size, words, positions, None)?,
        })
    }
}

/// What the decoder needs of questions. Made by
/// [`BlipVqa::encode_questions`](super::BlipVqa::encode_questions).
#[derive(Debug)]
pub struct QuestionStates {
    /// For every layer, keys and values of the tokens of all questions.
    keys: Vec<KeysAndValues>,
    states: Tensor,
    /// The tokens of every question.
    tokens: Vec<Range<usize>>,
}

impl QuestionStates {
    /// Of the `states` [tokens of all, width] of questions of these `lengths`.
    pub(super) fn new(decoder: &Decoder, states: Tensor, lengths: &[usize]) -> Result<Self> {
        let tokens = rows_of_texts(lengths);
        let layers = decoder.layers.iter();
        let keys = layers.map(|layer| layer.cross_keys_and_values(&states));
        Ok(Self { keys: keys.collect::<Result<_>>()?, states, tokens })
    }

    /// Number of questions.
    pub fn count(&self) -> usize {
        self.tokens.len()
    }

    /// States [tokens, width] of one of the questions.
    ///
    /// # Errors
    /// There is no such question.
    pub fn states(&self, question: usize) -> Result<Tensor> {
        match self.tokens.get(question) {
            Some(tokens) => self.states.narrow(0, tokens.start, tokens.len()),
            None => candle_core::bail!("question {question} of {}", self.count()),
        }
    }
}

/// Answers in the making, token by token. Made by [`BlipVqa::decoding`](super::BlipVqa::decoding).
#[derive(Debug)]
pub struct Decoding<'a> {
    decoder: &'a Decoder,
    questions: &'a QuestionStates,
    /// The question that each row of the step before answers.
    question_of: Vec<usize>,
    /// For every layer, that of the rows of the step before.
    kv_caches: Vec<Option<KvCache>>,
    position: u32,
}

impl<'a> Decoding<'a> {
    pub(super) fn new(decoder: &'a Decoder, questions: &'a QuestionStates) -> Self {
        Self {
            decoder,
            questions,
            question_of: (0..questions.count()).collect(),
            kv_caches: vec![None; decoder.layers.len()],
            position: 0,
        }
    }

    /// One token more for every row. Row r goes on where row `parents[r]` of the step before ended - at
    /// the first step, it begins an answer to question `parents[r]` - with `tokens[r]`. Rows may be left
    /// out. Gives the logits [rows, vocabulary] of the next token, f32.
    ///
    /// # Errors
    /// A parent or a token that there is not, or more steps than positions.
    pub fn step(&mut self, parents: &[usize], tokens: &[u32]) -> Result<Tensor> {
        let before = self.question_of.len();
        let known = parents.iter().all(|parent| *parent < before);
        if parents.len() != tokens.len() || parents.is_empty() || !known {
            let tokens = tokens.len();
            candle_core::bail!("{tokens} tokens after the rows {parents:?} of {before}")
        }
        let Decoder { embeddings, layers, head } = self.decoder;
        let mut x = embeddings.forward(tokens, &vec![self.position; tokens.len()])?;
        let question_of: Vec<usize> =
            parents.iter().map(|parent| self.question_of[*parent]).collect();
        let numbers: Vec<u32> = parents.iter().map(|parent| *parent as u32).collect();
        let parents = Tensor::from_vec(numbers, tokens.len(), x.device())?;
        let rows: Vec<usize> = (0..tokens.len()).collect();
        let questions = self.questions;
        let seen: Vec<Range<usize>> =
            question_of.iter().map(|question| questions.tokens[*question].clone()).collect();
        let mask = CachedMask::default();
        for ((layer, past), keys) in layers.iter().zip(&mut self.kv_caches).zip(&questions.keys) {
            let group = Group::new(&rows, vec![keys.seen(&seen)]).with_mask(&mask);
            x = layer.forward_after(&x, past, &parents, Some(&[group]))?;
        }
        self.question_of = question_of;
        self.position += 1;
        head.forward(&x)?.to_dtype(DType::F32)
    }
}
