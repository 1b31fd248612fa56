//! In: questions with their images, and the tokens of answers so far. Out: the scores of every word
//! piece to stand next.
//!
//! A row is one answer in the making. An image's keys and values are shared by all rows about it, and a
//! question's by all of its own: nothing is copied for a row but its own past.

use std::ops::Range;

use candle_core::{DType, Result, Tensor};

use super::config::MplugConfig;
use super::fusion::{Fused, rows_of};
use crate::checkpoint::weights::Weights;
use crate::compute::key_groups::{CachedMask, Group};
use crate::compute::layers::LoadResult;
use crate::models::bert::{
    BertEmbeddings, BertLayer, BertWordPrediction, FusedKeysAndValues, KeysAndValues, KvCache,
    rows_of_texts,
};

#[derive(Debug)]
pub(super) struct Decoder {
    embeddings: BertEmbeddings,
    layers: Vec<BertLayer>,
    head: BertWordPrediction,
    joined_keys: Option<FusedKeysAndValues>,
    /// Whether the files hold two different tables of words.
    pub(super) tables_differ: bool,
}

impl Decoder {
    pub(super) fn load(config: &MplugConfig, weights: &Weights) -> LoadResult<Self> {
        let scope = weights.root().at("text_decoder");
        let (bert, predictions) = (scope.at("bert"), scope.at("cls.predictions"));
        let shape = [config.vocab_size, config.bert.width];
        let embeddings = bert.at("embeddings");
        let own = embeddings.tensor("word_embeddings.weight", &shape)?;
        // One parameter in the original, which copies this name's content last.
        let words = predictions.tensor("decoder.weight", &shape)?;
        let tables_differ = own
            .ne(&words)
            .and_then(|differ| differ.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>())
            .map_err(|source| predictions.refused("decoder.weight", source))?
            > 0.0;
        let layers = bert.at("encoder.layer");
        let (size, positions) = (config.bert, config.max_positions);
        let mut layers: Vec<BertLayer> = (0..config.decoder_layers)
            .map(|number| BertLayer::load(&layers.at(number), size, Some(size.width)))
            .collect::<LoadResult<_>>()?;
        Ok(Self {
            joined_keys: FusedKeysAndValues::new(layers.iter_mut()),
            layers,
            head: BertWordPrediction::load(&predictions, size, words.clone())?,
            embeddings: BertEmbeddings::load_with_words(
                &embeddings,
                size,
                words,
                positions,
                Some(config.segments),
            )?,
            tables_differ,
        })
    }

    /// Keys and values of `states` [m, width] for every layer.
    pub(super) fn keys(&self, states: &Tensor) -> Result<Vec<KeysAndValues>> {
        if let Some(joined) = &self.joined_keys {
            return joined.of(states);
        }
        self.layers.iter().map(|layer| layer.cross_keys_and_values(states)).collect()
    }
}

impl Decoder {
    /// Whether keys and values of all layers are one product, so that those of an image and its questions are best
    /// made together.
    pub(super) fn joins_keys(&self) -> bool {
        self.joined_keys.is_some()
    }
}

/// What the decoder needs of questions and their images. Made by
/// [`Mplug::encode_questions`](super::Mplug::encode_questions).
#[derive(Debug)]
pub struct QuestionStates {
    /// Every image's, or every question's own: for every layer, keys and values.
    image_keys: Vec<Vec<KeysAndValues>>,
    images: Vec<Tensor>,
    image_of: Vec<usize>,
    /// For every layer, those of the tokens of all questions.
    text_keys: Vec<KeysAndValues>,
    /// Both, an image's and then the questions', where they were made together; those above are parts of these.
    joined_keys: Vec<Vec<KeysAndValues>>,
    text: Tensor,
    /// The tokens of every question.
    tokens: Vec<Range<usize>>,
}

impl QuestionStates {
    /// Of questions that have been through the fusion, with the keys and values of their images where
    /// those have been left as they were.
    pub(super) fn new(
        decoder: &Decoder,
        fused: Fused,
        image_keys: Option<Vec<Vec<KeysAndValues>>>,
    ) -> Result<Self> {
        let Fused { text, images, image_of, lengths } = fused;
        let tokens = rows_of_texts(&lengths);
        let mut joined_keys = Vec::new();
        let (image_keys, text_keys) = match image_keys {
            Some(keys) => (keys, decoder.keys(&text)?),
            None if decoder.joins_keys() => {
                let keys = |image: &Tensor| decoder.keys(&Tensor::cat(&[image, &text], 0)?);
                joined_keys = images.iter().map(keys).collect::<Result<Vec<_>>>()?;
                parts(&joined_keys, &images, &text)?
            }
            None => {
                let keys = images.iter().map(|states| decoder.keys(states));
                (keys.collect::<Result<_>>()?, decoder.keys(&text)?)
            }
        };
        Ok(Self { image_keys, images, image_of, text_keys, joined_keys, text, tokens })
    }

    /// Number of questions.
    pub fn count(&self) -> usize {
        self.tokens.len()
    }

    /// What the decoder attends to for one of the questions, [1 + patches + tokens, width]: the image's
    /// states and then the question's.
    ///
    /// # Errors
    /// There is no such question.
    pub fn states(&self, question: usize) -> Result<Tensor> {
        let (Some(tokens), Some(image)) = (self.tokens.get(question), self.image_of.get(question))
        else {
            candle_core::bail!("question {question} of {}", self.count())
        };
        let text = self.text.narrow(0, tokens.start, tokens.len())?;
        Tensor::cat(&[&self.images[*image], &text], 0)
    }
}

/// The keys and values of every image, and those of the text, of what was made of both together.
fn parts(
    joined: &[Vec<KeysAndValues>],
    images: &[Tensor],
    text: &Tensor,
) -> Result<(Vec<Vec<KeysAndValues>>, Vec<KeysAndValues>)> {
    let tokens = text.dim(0)?;
    let rows = |layers: &Vec<KeysAndValues>, first: usize, count: usize| {
        layers.iter().map(|layer| layer.rows(first, count)).collect::<Result<Vec<_>>>()
    };
    let pairs = || joined.iter().zip(images);
    let of_images = pairs().map(|(layers, image)| rows(layers, 0, image.dim(0)?));
    // All images' products hold the same.
    let of_text = pairs().next().map(|(layers, image)| rows(layers, image.dim(0)?, tokens));
    Ok((of_images.collect::<Result<_>>()?, of_text.transpose()?.unwrap_or_default()))
}

/// Answers in the making, token by token. Made by [`Mplug::decoding`](super::Mplug::decoding).
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
    /// the first step, it begins an answer to question `parents[r]` - with `tokens[r]`. Rows may be
    /// left out, doubled and reordered. Gives the logits [rows, vocabulary] of the next token, f32.
    ///
    /// # Errors
    /// A parent or a token that there is not, or more steps than positions.
    pub fn step(&mut self, parents: &[usize], tokens: &[u32]) -> Result<Tensor> {
        let before = self.question_of.len();
        if parents.len() != tokens.len() || parents.is_empty() {
            let (parents, tokens) = (parents.len(), tokens.len());
            candle_core::bail!("{tokens} tokens for {parents} rows, of which there must be some")
        }
        if let Some(parent) = parents.iter().find(|parent| **parent >= before) {
            candle_core::bail!("row {parent} of {before} cannot be continued")
        }
        let Decoder { embeddings, layers, head, .. } = self.decoder;
        let positions = vec![self.position; tokens.len()];
        let mut x = embeddings.forward(tokens, &positions)?;
        let question_of: Vec<usize> =
            parents.iter().map(|parent| self.question_of[*parent]).collect();
        let parents: Vec<u32> = parents.iter().map(|parent| *parent as u32).collect();
        let parents = Tensor::from_vec(parents, tokens.len(), x.device())?;
        let questions = self.questions;
        let image_of_row = question_of.iter().map(|question| questions.image_of[*question]);
        let rows = rows_of(image_of_row, questions.image_keys.len());
        let tokens_of = |row: &usize| questions.tokens[question_of[*row]].clone();
        let seen: Vec<Vec<Range<usize>>> =
            rows.iter().map(|rows| rows.iter().map(tokens_of).collect()).collect();
        let masks: Vec<CachedMask> = rows.iter().map(|_| CachedMask::default()).collect();
        for (number, (layer, past)) in layers.iter().zip(&mut self.kv_caches).enumerate() {
            let group = |image: usize| {
                let keys = &questions.image_keys[image][number];
                let text = questions.text_keys[number].seen(&seen[image]);
                let group = Group::new(&rows[image], vec![keys.all(), text]);
                let group = group.with_mask(&masks[image]);
                match questions.joined_keys.get(image) {
                    Some(joined) => joined[number].serve(group),
                    None => group,
                }
            };
            let groups: Vec<Group> = (0..rows.len()).map(group).collect();
            x = layer.forward_after(&x, past, &parents, Some(&groups))?;
        }
        self.question_of = question_of;
        self.position += 1;
        head.forward(&x)?.to_dtype(DType::F32)
    }
}
