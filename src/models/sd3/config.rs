//! In: the transformer's `config.json`. Out: its dimensions, or a sentence on the key that is not supported.

use crate::checkpoint::config::Config;
use crate::compute::layers::LoadResult;
use crate::models::joint::BlockSize;

/// Keys that change the arithmetic, with the values under which they do not.
const NEUTRAL: &[(&str, &[&str])] = &[("quantization_config", &[])];

/// Keys that are read.
const READ: &[&str] = &[
    "attention_head_dim",
    "caption_projection_dim",
    "dual_attention_layers",
    "in_channels",
    "joint_attention_dim",
    "num_attention_heads",
    "num_layers",
    "out_channels",
    "patch_size",
    "pooled_projection_dim",
    "pos_embed_max_size",
    "qk_norm",
    "sample_size",
];

/// Keys that diffusers refuses where they are null.
const NEVER_NULL: &[&str] = &[
    "attention_head_dim",
    "in_channels",
    "num_attention_heads",
    "num_layers",
    "patch_size",
    "sample_size",
];

/// The dimensions that `config.json` gives.
#[derive(Debug, Clone)]
pub(super) struct Sd3Config {
    pub(super) channels: usize,
    pub(super) sample_size: usize,
    pub(super) patch: usize,
    /// Squares of a side for which there are positions.
    pub(super) most_squares: usize,
    /// Width of the text's hidden states.
    pub(super) context: usize,
    pub(super) pooled: usize,
    pub(super) layers: usize,
    /// Blocks that attend a second time, to the picture alone.
    pub(super) dual: Vec<usize>,
    pub(super) block: BlockSize,
}

impl Sd3Config {
    pub(super) fn from_config(config: &Config) -> LoadResult<Self> {
        config.check_class(&["SD3Transformer2DModel"])?;
        config.refuse_unless_neutral(NEUTRAL)?;
        config.refuse_null(NEVER_NULL)?;
        let heads = config.count("num_attention_heads", Some(18))?;
        let width = heads * config.count("attention_head_dim", Some(64))?;
        let channels = config.count("in_channels", Some(16))?;
        if config.count("out_channels", Some(16))? != channels && !config.is_null("out_channels") {
            return Err(config.unsupported("out_channels", "as many as in_channels are needed"));
        }
        if config.count("caption_projection_dim", Some(1152))? != width {
            let hint = format!("{width} is needed, the heads together");
            return Err(config.unsupported("caption_projection_dim", &hint));
        }
        let qk_norm = match config.name_if_any("qk_norm")? {
            None => false,
            Some("rms_norm") => true,
            Some(_) => return Err(config.unsupported("qk_norm", "only rms_norm is")),
        };
        let layers = config.count("num_layers", Some(18))?;
        let dual = config.indexes("dual_attention_layers")?;
        if dual.iter().any(|layer| *layer >= layers) {
            let hint = format!("there are {layers} layers");
            return Err(config.unsupported("dual_attention_layers", &hint));
        }
        Ok(Self {
            channels,
            sample_size: config.count("sample_size", Some(128))?,
            patch: config.count("patch_size", Some(2))?,
            most_squares: config.count("pos_embed_max_size", Some(96))?,
            context: config.count("joint_attention_dim", Some(4096))?,
            pooled: config.count("pooled_projection_dim", Some(2048))?,
            layers,
            dual,
            block: BlockSize { width, heads, qk_norm },
        })
    }

    /// Keys that nobody knows.
    pub(super) fn unknown_keys(config: &Config) -> Vec<String> {
        let neutral: Vec<&str> = NEUTRAL.iter().map(|(key, _)| *key).collect();
        config.unknown_keys(&[&neutral, READ])
    }
}
