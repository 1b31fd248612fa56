//! In: normalised pictures and the token ids of questions about them. Out: the states of both, and the
//! scores of every word piece to stand next in the answers. Follows `BlipForQuestionAnswering` of
//! transformers (BLIP, arXiv 2201.12086): a vision transformer, a BERT that reads the question and looks
//! at the picture, a BERT that writes the answer and looks at the question. Pictures, words and the choice
//! among them are left to the judge.
//!
//! candle-transformers (0.11) has BLIP for captions alone, and nothing of it is used here. The network that
//! would read a question is private there, and what is public always hides later words, as a decoder must;
//! there is no mask for questions of several lengths; keys and values of what is attended to are made anew
//! at each step; the vision tower comes only inside the captioning network, with a LayerNorm that loses
//! digits (see `layers`). So the text side is built from the blocks that mPLUG uses too, where questions
//! stand one after the other without padding and a picture's keys and values are made once for all
//! questions about it, and the vision side from our own layers.
//!
//! A question counts here as it does alone. (transformers, given several questions of different lengths at
//! once, lets the decoder look at their padding, and then answers otherwise than one by one.)

mod config;
mod decoder;
mod tensors;
mod vision;

use std::path::Path;

use candle_core::{Result, Tensor};

use decoder::Decoder;
use vision::Vision;

use super::bert::{BertEmbeddings, BertLayer, KeysAndValues, SelfAttentionMask};
use crate::checkpoint::needed_tensors::NeededTensors;
use crate::checkpoint::pickle_file::StateDictLayout;
use crate::checkpoint::weights::Weights;
use crate::compute::key_groups::Group;
use crate::compute::layers::LoadResult;

pub use config::BlipVqaConfig;
pub use decoder::{Decoding, QuestionStates};

/// The network.
#[derive(Debug)]
pub struct BlipVqa {
    vision: Vision,
    embeddings: BertEmbeddings,
    layers: Vec<BertLayer>,
    decoder: Decoder,
}

/// A picture's states, with the keys and values of all layers that look at them.
#[derive(Debug, Clone)]
pub struct ImageStates {
    states: Tensor,
    keys: Vec<KeysAndValues>,
}

impl ImageStates {
    /// [1 + patches, width]: the class token, and then the patches row by row.
    pub fn states(&self) -> &Tensor {
        &self.states
    }
}

impl BlipVqa {
    /// Loads the network that `config` describes.
    ///
    /// # Errors
    /// A tensor is missing or has another shape than the configuration implies.
    pub fn load(config: &BlipVqaConfig, weights: &Weights) -> LoadResult<Self> {
        let text = weights.root().at("text_encoder");
        let layers = text.at("encoder.layer");
        let size = config.text;
        Ok(Self {
            vision: Vision::load(config, weights)?,
            embeddings: BertEmbeddings::load(
                &text.at("embeddings"),
                size,
                config.vocabulary,
                config.max_positions,
                None,
            )?,
            layers: (0..config.text_layers)
                .map(|number| BertLayer::load(&layers.at(number), size, Some(size.width)))
                .collect::<LoadResult<_>>()?,
            decoder: Decoder::load(config, weights)?,
        })
    }

    /// Opens the file `path` (safetensors, or PyTorch's own, which is read as data) and makes sure that every
    /// tensor is there with its shape. No tensor is read yet.
    ///
    /// # Errors
    /// The file cannot be read or is damaged, or a tensor is missing or has another shape; it is named.
    pub(crate) fn find_tensors(config: &BlipVqaConfig, path: &Path) -> LoadResult<NeededTensors> {
        let open = |answer_words: &str| {
            let unwrapping = StateDictLayout { keys: &[], removed: "" };
            NeededTensors::open(path, unwrapping, &tensors::needed(config, answer_words))
        };
        // Published files hold the one table under one of its two names, or under both.
        let [own, other] = decoder::WORD_TABLES;
        open(own).or_else(|error| open(other).map_err(|_| error))
    }

    /// States of `pixels` [b, 3, side, side], normalised f32, one for each picture.
    ///
    /// # Errors
    /// Another shape.
    pub fn encode_images(&self, pixels: &Tensor) -> Result<Vec<ImageStates>> {
        let states = self.vision.forward(pixels)?;
        let of_image = |number: usize| {
            let states = states.get(number)?;
            let layers = self.layers.iter();
            let keys = layers.map(|layer| layer.cross_keys_and_values(&states));
            Ok(ImageStates { keys: keys.collect::<Result<_>>()?, states })
        };
        (0..pixels.dim(0)?).map(of_image).collect()
    }

    /// States of questions: `ids[i]`, with `[CLS]` and `[SEP]` and without padding, asks about
    /// `images[image_of[i]]`.
    ///
    /// # Errors
    /// Not one image for each question, a question without tokens or with more than there are positions,
    /// or an id outside the vocabulary.
    pub fn encode_questions(
        &self,
        images: &[ImageStates],
        image_of: &[usize],
        ids: &[Vec<u32>],
    ) -> Result<QuestionStates> {
        let known = image_of.iter().all(|image| *image < images.len());
        if image_of.len() != ids.len() || ids.is_empty() || !known || ids.iter().any(Vec::is_empty)
        {
            let (questions, images) = (ids.len(), images.len());
            candle_core::bail!("{questions} questions with {image_of:?} of {images} images")
        }
        let lengths: Vec<usize> = ids.iter().map(Vec::len).collect();
        let among = SelfAttentionMask::texts(&lengths);
        let image_of_row: Vec<usize> = image_of
            .iter()
            .zip(&lengths)
            .flat_map(|(image, length)| std::iter::repeat_n(*image, *length))
            .collect();
        let rows: Vec<Vec<usize>> = (0..images.len())
            .map(|image| {
                (0..image_of_row.len()).filter(|row| image_of_row[*row] == image).collect()
            })
            .collect();
        let mut x = self.embeddings.forward_texts(ids)?;
        for (number, layer) in self.layers.iter().enumerate() {
            let groups: Vec<Group> = rows
                .iter()
                .zip(images)
                .filter(|(rows, _)| !rows.is_empty())
                .map(|(rows, image)| Group::new(rows, vec![image.keys[number].all()]))
                .collect();
            x = layer.forward(&x, &among, Some(&groups))?;
        }
        QuestionStates::new(&self.decoder, x, &lengths)
    }

    /// Answers to `questions`, to be written token by token.
    pub fn decoding<'a>(&'a self, questions: &'a QuestionStates) -> Decoding<'a> {
        Decoding::new(&self.decoder, questions)
    }
}
