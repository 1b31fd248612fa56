//! In: normalised pictures and the token ids of questions about them. Out: the states of both, and the
//! scores of every word piece to stand next in the answers. mPLUG (arXiv 2205.12005) as ModelScope's
//! `mplug` answers visual questions with it. Pictures, words and the search among answers are left to
//! the judge.
//!
//! The original encodes picture, question and every half-made answer again for each step of each
//! question. Here a picture is encoded once, with the keys and values that every later layer makes of
//! it, and all questions about it - about several pictures, too - share them in one batch without
//! padding. Where the layers join image and text (the base model), a picture's states depend on the
//! question from there on, and only what comes before is shared.

mod config;
mod decoder;
mod fusion;
mod tensors;
mod vision;

use candle_core::{Result, Tensor};

use decoder::Decoder;
use fusion::{Fused, Fusion};
use vision::Vision;

use super::bert::{BertEmbeddings, BertLayer, KeysAndValues, SelfAttentionMask};
use crate::checkpoint::weights::Weights;
use crate::compute::layers::LoadResult;

pub use config::MplugConfig;
pub use decoder::{Decoding, QuestionStates};

/// The network.
#[derive(Debug)]
pub struct Mplug {
    vision: Vision,
    embeddings: BertEmbeddings,
    text_layers: Vec<BertLayer>,
    fusion: Fusion,
    decoder: Decoder,
    joins: bool,
}

/// A picture's states, with the keys and values of all layers that look at them.
#[derive(Debug, Clone)]
pub struct ImageStates {
    states: Tensor,
    fusion_keys: Vec<KeysAndValues>,
    /// Empty where image and text are joined, or their keys are.
    decoder_keys: Vec<KeysAndValues>,
}

impl ImageStates {
    /// [1 + patches, width]: the class token, and then the patches row by row.
    pub fn states(&self) -> &Tensor {
        &self.states
    }
}

impl Mplug {
    /// Loads every tensor of [`Mplug::needed_tensors`] from `weights`.
    ///
    /// # Errors
    /// A tensor is missing or has another shape than the configuration implies.
    pub fn load(config: &MplugConfig, weights: &Weights) -> LoadResult<Self> {
        let text = weights.root().at("text_encoder");
        let layers = text.at("encoder.layer");
        let (size, segments) = (config.bert, Some(config.segments));
        Ok(Self {
            vision: Vision::load(config, weights)?,
            embeddings: BertEmbeddings::load(
                &text.at("embeddings"),
                size,
                config.vocab_size,
                config.max_positions,
                segments,
            )?,
            text_layers: (0..config.text_layers)
                .map(|number| BertLayer::load(&layers.at(number), size, None))
                .collect::<LoadResult<_>>()?,
            fusion: Fusion::load(config, weights)?,
            decoder: Decoder::load(config, weights)?,
            joins: config.joins_at_all(),
        })
    }

    /// Names and shapes of every tensor that the network needs, in the order of its parts. The files
    /// hold more: CLIP's text half, the teacher's copies, layers of the fusion encoder that are not run.
    pub fn needed_tensors(config: &MplugConfig) -> Vec<(String, Vec<usize>)> {
        tensors::needed(config)
    }

    /// Whether the files hold different tables for the decoder's words as input and as output. The
    /// original has one parameter under both names, so this is a sign of a damaged conversion; the
    /// output's table is used for both, as the original would.
    pub fn word_tables_differ(&self) -> bool {
        self.decoder.tables_differ
    }

    /// States of `pixels` [b, 3, side, side], normalised f32, one for each picture.
    ///
    /// # Errors
    /// Another shape.
    pub fn encode_images(&self, pixels: &Tensor) -> Result<Vec<ImageStates>> {
        let states = self.vision.forward(pixels)?;
        let of_image = |number: usize| {
            let states = states.get(number)?;
            let decoder_keys =
                if self.shares_keys() { self.decoder.keys(&states)? } else { Vec::new() };
            Ok(ImageStates { fusion_keys: self.fusion.image_keys(&states)?, decoder_keys, states })
        };
        (0..pixels.dim(0)?).map(of_image).collect()
    }

    /// States of questions, each with its image: `ids[i]`, with `[CLS]` and `[SEP]` and without padding, asks
    /// about `images[i]`. The same image may come any number of times, at best by reference to the
    /// same states or a clone of them.
    ///
    /// # Errors
    /// Not one image for each question, a question without tokens or with more than there are
    /// positions, or an id outside the vocabulary.
    pub fn encode_questions(
        &self,
        images: &[&ImageStates],
        ids: &[Vec<u32>],
    ) -> Result<QuestionStates> {
        if images.len() != ids.len() || ids.is_empty() || ids.iter().any(Vec::is_empty) {
            let (images, questions) = (images.len(), ids.len());
            candle_core::bail!(
                "{questions} questions, of which each has tokens, for {images} images"
            )
        }
        let mut different: Vec<&ImageStates> = Vec::new();
        let mut image_of = Vec::with_capacity(images.len());
        for image in images {
            let same = |other: &&ImageStates| other.states.id() == image.states.id();
            image_of.push(different.iter().position(same).unwrap_or_else(|| {
                different.push(image);
                different.len() - 1
            }));
        }
        let lengths: Vec<usize> = ids.iter().map(Vec::len).collect();
        let among = SelfAttentionMask::texts(&lengths);
        let text =
            self.text_layers.iter().try_fold(self.embeddings.forward_texts(ids)?, |x, layer| {
                layer.forward(&x, &among, None)
            })?;
        let image_states = different.iter().map(|image| image.states.clone()).collect();
        let fused = Fused { text, images: image_states, image_of, lengths };
        let fusion_keys: Vec<&[KeysAndValues]> =
            different.iter().map(|image| &image.fusion_keys[..]).collect();
        let fused = self.fusion.forward(fused, &fusion_keys)?;
        let decoder_keys = self
            .shares_keys()
            .then(|| different.iter().map(|image| image.decoder_keys.clone()).collect());
        QuestionStates::new(&self.decoder, fused, decoder_keys)
    }

    /// Whether an image's keys for the decoder serve all sets of questions about it: where no layer changes its
    /// states, and a set's are not made together with its texts'.
    fn shares_keys(&self) -> bool {
        !self.joins && !self.decoder.joins_keys()
    }

    /// Begins answers to `questions`.
    pub fn decoding<'a>(&'a self, questions: &'a QuestionStates) -> Decoding<'a> {
        Decoding::new(&self.decoder, questions)
    }
}
