//! In: `config.json` of a Qwen3-VL checkpoint, as published or as transformers 5 writes it. Out: the
//! sizes of its two networks, or a sentence on the key that this build cannot honour.

use crate::checkpoint::config::Config;
use crate::compute::layers::{Activation, LoadResult};
use crate::models::decoder_layer::LayerSizes;

/// Sizes of both networks, and the token that stands for a picture's tokens.
#[derive(Debug, Clone)]
pub(super) struct Sizes {
    pub(super) vision: VisionSizes,
    pub(super) language: LanguageSizes,
    pub(super) image_token: u32,
}

/// Sizes of the network that sees.
#[derive(Debug, Clone)]
pub(super) struct VisionSizes {
    pub(super) width: usize,
    pub(super) depth: usize,
    pub(super) heads: usize,
    pub(super) inner: usize,
    pub(super) activation: Activation,
    pub(super) channels: usize,
    /// Pixels along a patch's side.
    pub(super) patch: usize,
    /// Frames of a patch; a still picture is shown this often.
    pub(super) frames: usize,
    /// Patches along the side of the square that becomes one token.
    pub(super) merge: usize,
    /// Side of the table of learnt positions.
    pub(super) side: usize,
    /// Blocks whose states enter the first layers of the language network, in this order.
    pub(super) tapped: Vec<usize>,
    pub(super) theta: f32,
}

/// Sizes of the network that reads and answers.
#[derive(Debug, Clone)]
pub(super) struct LanguageSizes {
    pub(super) vocabulary: usize,
    pub(super) depth: usize,
    pub(super) layer: LayerSizes,
    pub(super) theta: f32,
    /// Frequencies that turn with the row and with the column of a picture's token.
    pub(super) sections: [usize; 2],
    /// Whether the logits are products with the table of embeddings.
    pub(super) tied: bool,
}

impl Sizes {
    pub(super) fn from_config(config: &Config) -> LoadResult<Self> {
        config.refuse_unless_neutral(&[("model_type", &["qwen3_vl"])])?;
        let part = |key: &str| {
            config.part(key)?.ok_or_else(|| config.unsupported(key, "a Qwen3-VL model has it"))
        };
        let text = part("text_config")?;
        let tied = config.flag("tie_word_embeddings", false)?;
        let language = LanguageSizes::from_config(&text, tied)?;
        let vision = VisionSizes::from_config(&part("vision_config")?, language.layer.width)?;
        if vision.tapped.len() > language.depth {
            return Err(text.unsupported("num_hidden_layers", "every tapped block needs a layer"));
        }
        let image_token = config.count("image_token_id", Some(151_655))?;
        Ok(Self { vision, language, image_token: image_token as u32 })
    }
}

impl VisionSizes {
    fn from_config(config: &Config, language_width: usize) -> LoadResult<Self> {
        let width = config.count("hidden_size", Some(1152))?;
        let depth = config.count("depth", Some(27))?;
        let heads = config.count("num_heads", Some(16))?;
        config.divides("num_heads", heads, width)?;
        if !(width / heads).is_multiple_of(4) {
            return Err(config.unsupported("num_heads", "heads of a multiple of 4 are"));
        }
        let places = config.count("num_position_embeddings", Some(2304))?;
        let side = places.isqrt();
        if side * side != places {
            let hint = "a square number is needed";
            return Err(config.unsupported("num_position_embeddings", hint));
        }
        let tapped = config.indexes("deepstack_visual_indexes")?;
        if tapped.iter().any(|block| *block >= depth) {
            let hint = "only numbers of blocks are";
            return Err(config.unsupported("deepstack_visual_indexes", hint));
        }
        if config.count("out_hidden_size", Some(3584))? != language_width {
            let hint = "it must be text_config's hidden_size";
            return Err(config.unsupported("out_hidden_size", hint));
        }
        let theta = match config.part("rope_parameters")? {
            None => 10_000.0,
            Some(rope) => {
                rope.refuse_unless_neutral(&[("rope_type", &["axial"])])?;
                rope.number("rope_theta", 10_000.0)?
            }
        };
        Ok(Self {
            width,
            depth,
            heads,
            inner: config.count("intermediate_size", Some(4304))?,
            activation: activation(config, "gelu_pytorch_tanh")?,
            channels: config.count("in_channels", Some(3))?,
            patch: config.count("patch_size", Some(16))?,
            frames: config.count("temporal_patch_size", Some(2))?,
            merge: config.count("spatial_merge_size", Some(2))?,
            side,
            tapped,
            theta: theta as f32,
        })
    }
}

impl LanguageSizes {
    fn from_config(config: &Config, tied: bool) -> LoadResult<Self> {
        config.refuse_unless_neutral(&[("attention_bias", &["false"])])?;
        let width = config.count("hidden_size", None)?;
        let heads = config.count("num_attention_heads", None)?;
        let key_heads = config.count("num_key_value_heads", Some(heads))?;
        if !heads.is_multiple_of(key_heads) {
            let hint = format!("it must divide {heads} heads");
            return Err(config.unsupported("num_key_value_heads", &hint));
        }
        let head = config.count("head_dim", Some(width / heads))?;
        if !head.is_multiple_of(2) {
            return Err(config.unsupported("head_dim", "an even number is needed"));
        }
        // transformers 5 writes one object, earlier versions a number and an object.
        let rope = match config.part("rope_parameters")? {
            Some(rope) => Some(rope),
            None => config.part("rope_scaling")?,
        };
        let mut theta = config.number("rope_theta", 500_000.0)?;
        let mut sections = [20, 20];
        if let Some(rope) = rope {
            rope.refuse_unless_neutral(&[
                ("rope_type", &["default"]),
                ("type", &["default"]),
                ("mrope_interleaved", &["true"]),
            ])?;
            theta = rope.number("rope_theta", theta)?;
            let whole = rope.indexes("mrope_section")?;
            match whole.as_slice() {
                [] => {}
                [_, row, column] => sections = [*row, *column],
                _ => return Err(rope.unsupported("mrope_section", "three numbers are needed")),
            }
        }
        Ok(Self {
            vocabulary: config.count("vocab_size", None)?,
            depth: config.count("num_hidden_layers", None)?,
            layer: LayerSizes {
                width,
                inner: config.count("intermediate_size", None)?,
                heads,
                key_heads,
                head,
                activation: activation(config, "silu")?,
                eps: config.number("rms_norm_eps", 1e-6)?,
                head_norms: true,
                norms_around: false,
                attention_bias: false,
                mlp_bias: false,
                query_factor: None,
            },
            theta: theta as f32,
            sections,
            tied,
        })
    }
}

fn activation(config: &Config, usual: &str) -> LoadResult<Activation> {
    Activation::named(config.name("hidden_act", usual)?)
        .ok_or_else(|| config.unsupported("hidden_act", "silu, relu and the GELU family are"))
}
