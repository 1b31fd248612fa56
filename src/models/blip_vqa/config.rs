//! In: a checkpoint's `config.json`. Out: the dimensions of the network, with transformers' defaults where
//! a key is absent, or a sentence on the key that this build cannot honour.

use std::path::Path;

use crate::checkpoint::config::Config;
use crate::checkpoint::model_error::ModelError;
use crate::compute::layers::Activation;
use crate::models::bert::BertSize;

/// Dimensions of the network and the tokens that frame an answer.
#[derive(Debug, Clone)]
pub struct BlipVqaConfig {
    /// Side of the pictures, in pixels.
    pub image_size: usize,
    /// Ids that the text networks know; a vocabulary file has fewer, for the start of an answer has no
    /// word.
    pub vocabulary: usize,
    /// Most tokens of a question.
    pub max_positions: usize,
    /// What every answer begins with.
    pub answer_start: u32,
    /// What ends an answer.
    pub answer_end: u32,
    pub(super) patch: usize,
    pub(super) vision: VisionSize,
    pub(super) text: BertSize,
    pub(super) text_layers: usize,
}

/// Dimensions of the vision transformer; its width is the text's.
#[derive(Debug, Clone, Copy)]
pub(super) struct VisionSize {
    pub(super) inner: usize,
    pub(super) heads: usize,
    pub(super) layers: usize,
    pub(super) activation: Activation,
    pub(super) eps: f64,
}

impl BlipVqaConfig {
    /// Reads `config.json` of `folder`.
    ///
    /// # Errors
    /// It cannot be read, is not BLIP's, or asks for arithmetic that is not here.
    pub fn read(folder: &Path) -> Result<Self, ModelError> {
        let config = Config::read(folder)?;
        config.refuse_unless_neutral(&[
            ("model_type", &["blip"]),
            ("architectures", &["[\"BlipForQuestionAnswering\"]"]),
            ("tie_word_embeddings", &["true"]),
        ])?;
        let needed = |key: &str| {
            let part = config.part(key)?;
            part.ok_or_else(|| config.unsupported(key, "BLIP's has an object there"))
        };
        let (text, vision) = (needed("text_config")?, needed("vision_config")?);
        text.refuse_unless_neutral(&[
            ("tie_word_embeddings", &["true"]),
            ("is_decoder", &["true"]),
        ])?;
        let size = BertSize {
            // The class's own default, which is not BERT's.
            heads: text.count("num_attention_heads", Some(8))?,
            ..BertSize::from_config(&text)?
        };
        text.divides("num_attention_heads", size.heads, size.width)?;
        let width = vision.count("hidden_size", Some(768))?;
        if width != size.width {
            let hint = format!("the answers' network needs the text's width, {}", size.width);
            return Err(vision.unsupported("hidden_size", &hint));
        }
        let heads = vision.count("num_attention_heads", Some(12))?;
        vision.divides("num_attention_heads", heads, width)?;
        let activation = Activation::named(vision.name("hidden_act", "gelu")?)
            .ok_or_else(|| vision.unsupported("hidden_act", "only the GELU family and relu are"))?;
        let image_size = vision.count("image_size", Some(384))?;
        let patch = vision.count("patch_size", Some(16))?;
        if patch > image_size {
            return Err(vision.unsupported("patch_size", "a patch must fit into the picture"));
        }
        let vocabulary = text.count("vocab_size", Some(30524))?;
        let token = |key: &str, absent: usize| {
            let id = text.count(key, Some(absent))?;
            let fits = || text.unsupported(key, "an id of the vocabulary is needed");
            if id < vocabulary { Ok(id as u32) } else { Err(fits()) }
        };
        Ok(Self {
            image_size,
            vocabulary,
            max_positions: text.count("max_position_embeddings", Some(512))?,
            answer_start: token("bos_token_id", 30522)?,
            answer_end: token("sep_token_id", 102)?,
            patch,
            vision: VisionSize {
                inner: vision.count("intermediate_size", Some(3072))?,
                heads,
                layers: vision.count("num_hidden_layers", Some(12))?,
                activation,
                eps: vision.number("layer_norm_eps", 1e-5)?,
            },
            text: size,
            text_layers: text.count("num_hidden_layers", Some(12))?,
        })
    }
}
