//! In: the transformer's `config.json`. Out: its dimensions, or a sentence on the key that is not supported.

use crate::checkpoint::config::Config;
use crate::compute::layers::LoadResult;

/// Keys that change the arithmetic, with the values under which they do not.
const NEUTRAL: &[(&str, &[&str])] = &[
    ("activation_fn", &["gelu-approximate"]),
    ("attention_type", &["default"]),
    ("norm_elementwise_affine", &["false"]),
    ("norm_type", &["ada_norm_single"]),
    ("quantization_config", &[]),
];

/// Keys that are read.
const READ: &[&str] = &[
    "attention_bias",
    "attention_head_dim",
    "caption_channels",
    "cross_attention_dim",
    "in_channels",
    "interpolation_scale",
    "norm_eps",
    "num_attention_heads",
    "num_layers",
    "out_channels",
    "patch_size",
    "sample_size",
    "use_additional_conditions",
];

/// Keys of training, and of `Transformer2DModel`, which diffusers takes for this class and whose own keys it passes over.
const WITHOUT_EFFECT: &[&str] = &[
    "double_self_attention",
    "dropout",
    "norm_num_groups",
    "num_embeds_ada_norm",
    "num_vector_embeds",
    "only_cross_attention",
    "upcast_attention",
    "use_linear_projection",
];

/// Keys that diffusers refuses where they are null.
const NEVER_NULL: &[&str] = &[
    "attention_head_dim",
    "in_channels",
    "norm_eps",
    "num_attention_heads",
    "num_layers",
    "patch_size",
    "sample_size",
];

/// The dimensions that `config.json` gives.
#[derive(Debug, Clone, Copy)]
pub(super) struct PixArtConfig {
    pub(super) in_channels: usize,
    /// As many as go in, or twice as many, of which the second half is a variance.
    pub(super) out_channels: usize,
    pub(super) sample_size: usize,
    pub(super) patch: usize,
    pub(super) interpolation_scale: f64,
    /// Width of the text's hidden states, and whether a projection takes them.
    pub(super) caption: Option<usize>,
    pub(super) has_conditions: bool,
    pub(super) layers: usize,
    pub(super) block: BlockSize,
}

/// Dimensions of a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockSize {
    pub(super) width: usize,
    pub(super) heads: usize,
    /// Width of what it attends to across.
    pub(super) context: usize,
    /// Whether queries, keys and values have biases.
    pub(super) biases: bool,
    pub(super) eps: f64,
}

impl PixArtConfig {
    pub(super) fn from_config(config: &Config) -> LoadResult<Self> {
        config.check_class(&["PixArtTransformer2DModel", "Transformer2DModel"])?;
        config.refuse_unless_neutral(NEUTRAL)?;
        config.refuse_null(NEVER_NULL)?;
        let heads = config.count("num_attention_heads", Some(16))?;
        let width = heads * config.count("attention_head_dim", Some(72))?;
        if !width.is_multiple_of(12) {
            let hint = "together with num_attention_heads a multiple of 12 is needed";
            return Err(config.unsupported("attention_head_dim", hint));
        }
        let in_channels = config.count("in_channels", Some(4))?;
        let out_channels = match config.is_null("out_channels") {
            true => in_channels,
            false => config.count("out_channels", Some(8))?,
        };
        if out_channels != in_channels && out_channels != 2 * in_channels {
            let hint = "as many as in_channels are needed, or twice as many";
            return Err(config.unsupported("out_channels", hint));
        }
        let sample_size = config.count("sample_size", Some(128))?;
        let patch = config.count("patch_size", Some(2))?;
        if !sample_size.is_multiple_of(patch) {
            return Err(config.unsupported("sample_size", "a multiple of patch_size is needed"));
        }
        let caption = config.count_if_any(1, "caption_channels")?;
        // Null is the width of what stands there: the map attends to itself, which nobody publishes.
        let context = config.count("cross_attention_dim", Some(1152))?;
        if caption.is_some() && context != width {
            let hint = format!("{width} is needed, the width that captions are projected to");
            return Err(config.unsupported("cross_attention_dim", &hint));
        }
        // Whole numbers, as Python divides.
        let unstated_scale = (sample_size / 64).max(1) as f64;
        let interpolation_scale = config.number("interpolation_scale", unstated_scale)?;
        if interpolation_scale <= 0.0 {
            let hint = "a number above 0 is needed";
            return Err(config.unsupported("interpolation_scale", hint));
        }
        Ok(Self {
            in_channels,
            out_channels,
            sample_size,
            patch,
            interpolation_scale,
            caption,
            has_conditions: config.flag("use_additional_conditions", sample_size == 128)?,
            layers: config.count("num_layers", Some(28))?,
            block: BlockSize {
                width,
                heads,
                context,
                biases: config.truth("attention_bias", true)?,
                eps: config.number("norm_eps", 1e-6)?,
            },
        })
    }

    /// Lists of keys that are known.
    pub(super) fn unknown_keys(config: &Config) -> Vec<String> {
        let neutral: Vec<&str> = NEUTRAL.iter().map(|(key, _)| *key).collect();
        config.unknown_keys(&[&neutral, READ, WITHOUT_EFFECT])
    }
}
