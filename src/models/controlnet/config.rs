//! In: the ControlNet's `config.json`. Out: its dimensions, or the key that asks for a network that is not here. Loading
//! the tensors is left to the blocks.

use crate::checkpoint::config::Config;
use crate::compute::layers::LoadResult;
use crate::models::resnet::NormSettings;
use crate::models::unet::added::TextTimeSize;
use crate::models::unet::blocks::BlockConfig;
use crate::models::unet::control::Levels;
use crate::models::unet::timestep::Sinusoid;
use crate::models::unet::transformer::TransformerSize;

/// Keys that change the arithmetic, with the values under which they do not.
const NEUTRAL: &[(&str, &[&str])] = &[
    ("act_fn", &["silu", "swish"]),
    ("addition_embed_type", &["text_time"]),
    ("class_embed_type", &[]),
    // The image is RGB.
    ("conditioning_channels", &["3"]),
    ("downsample_padding", &["1"]),
    ("encoder_hid_dim", &[]),
    ("encoder_hid_dim_type", &[]),
    // With it diffusers runs the network on the prompt's half alone, which is guess mode.
    ("global_pool_conditions", &["false"]),
    ("mid_block_scale_factor", &["1", "1.0"]),
    ("num_class_embeds", &[]),
    ("quantization_config", &[]),
    ("resnet_time_scale_shift", &["default"]),
];

/// Keys that are read.
const READ: &[&str] = &[
    "addition_time_embed_dim",
    "attention_head_dim",
    "block_out_channels",
    "conditioning_embedding_out_channels",
    "controlnet_conditioning_channel_order",
    "cross_attention_dim",
    "down_block_types",
    "flip_sin_to_cos",
    "freq_shift",
    "in_channels",
    "layers_per_block",
    "mid_block_type",
    "norm_eps",
    "norm_num_groups",
    "num_attention_heads",
    "only_cross_attention",
    "projection_class_embeddings_input_dim",
    "transformer_layers_per_block",
];

/// Keys that change nothing in the networks that pass the others: they belong to kinds of network that are refused, to
/// how linear layers are stored, or to arithmetic in half precision that is f32 here.
const WITHOUT_EFFECT: &[&str] =
    &["addition_embed_type_num_heads", "upcast_attention", "use_linear_projection"];

/// Keys that diffusers refuses, or takes for something else, where they are null.
const NEVER_NULL: &[&str] = &[
    "act_fn",
    "attention_head_dim",
    "block_out_channels",
    "conditioning_channels",
    "conditioning_embedding_out_channels",
    "controlnet_conditioning_channel_order",
    "cross_attention_dim",
    "down_block_types",
    "downsample_padding",
    "freq_shift",
    "in_channels",
    "layers_per_block",
    "mid_block_scale_factor",
    "mid_block_type",
    "norm_eps",
    "norm_num_groups",
    "resnet_time_scale_shift",
    "transformer_layers_per_block",
];

/// What `conditioning_embedding_out_channels` is where the file does not state it.
const EMBEDDING_CHANNELS: [usize; 4] = [16, 32, 96, 256];

/// The dimensions that `config.json` gives; one entry per level, from the top down.
pub(super) struct ControlNetConfig {
    pub(super) in_channels: usize,
    pub(super) context: usize,
    pub(super) unknown_keys: Vec<String>,
    pub(super) levels: Levels,
    pub(super) heads: Vec<usize>,
    pub(super) transformer_depth: Vec<usize>,
    pub(super) down_attention: Vec<bool>,
    /// Whether the middle has attention and a second residual block.
    pub(super) middle_attention: bool,
    pub(super) sinusoid: Sinusoid,
    pub(super) added: Option<TextTimeSize>,
    /// Channels of the image's embedding, which halves the image from each to the next.
    pub(super) embedding: Vec<usize>,
    /// Whether the image's channels are taken as blue, green, red.
    pub(super) blue_first: bool,
    pub(super) common: BlockConfig,
}

impl ControlNetConfig {
    pub(super) fn from_config(config: &Config) -> LoadResult<Self> {
        config.check_class(&["ControlNetModel"])?;
        config.refuse_unless_neutral(NEUTRAL)?;
        config.refuse_null(NEVER_NULL)?;
        config.refuse_unless_all("only_cross_attention", "false")?;
        let neutral: Vec<&str> = NEUTRAL.iter().map(|(key, _)| *key).collect();
        let unknown_keys = config.unknown_keys(&[&neutral, READ, WITHOUT_EFFECT]);
        let (with, without) = ("CrossAttnDownBlock2D", "DownBlock2D");
        let kind =
            |name: &str| match name {
                _ if name == with => Ok(true),
                _ if name == without => Ok(false),
                _ => Err(config
                    .unsupported("down_block_types", &format!("only {with} and {without} are"))),
            };
        let down_attention = config
            .names("down_block_types")?
            .into_iter()
            .map(kind)
            .collect::<LoadResult<Vec<_>>>()?;
        let (with, without) = ("UNetMidBlock2DCrossAttn", "UNetMidBlock2D");
        let middle_attention = match config.name("mid_block_type", with)? {
            name if name == with => true,
            name if name == without => false,
            _ => {
                let hint = format!("only {with} and {without} are");
                return Err(config.unsupported("mid_block_type", &hint));
            }
        };
        let blue_first = match config.name("controlnet_conditioning_channel_order", "rgb")? {
            "rgb" => false,
            "bgr" => true,
            _ => {
                let key = "controlnet_conditioning_channel_order";
                return Err(config.unsupported(key, "only rgb and bgr are"));
            }
        };
        let count = down_attention.len();
        let channels = config.counts("block_out_channels", count, None)?;
        let groups = config.count("norm_num_groups", Some(32))?;
        // As in diffusers, which named it wrongly and still reads either.
        let heads = match config.is_stated("num_attention_heads") {
            true => config.counts("num_attention_heads", count, None)?,
            false => config.counts("attention_head_dim", count, Some(8))?,
        };
        for level in 0..count {
            config.divides("norm_num_groups", groups, channels[level])?;
            let attends = down_attention[level] || (middle_attention && level + 1 == count);
            if attends {
                config.divides("attention_head_dim", heads[level], channels[level])?;
            }
        }
        let first = channels[0];
        let sinusoid = Sinusoid {
            width: first,
            flip_sin_to_cos: config.truth("flip_sin_to_cos", true)?,
            shift: config.number("freq_shift", 0.0)?,
        };
        let added = match config.name("addition_embed_type", "")? {
            "" => None,
            _ => Some(TextTimeSize {
                sinusoid: Sinusoid {
                    width: config.count("addition_time_embed_dim", None)?,
                    ..sinusoid
                },
                input: config.count("projection_class_embeddings_input_dim", None)?,
            }),
        };
        let embedding = match config.indexes("conditioning_embedding_out_channels")? {
            channels if channels.is_empty() => EMBEDDING_CHANNELS.to_vec(),
            channels => channels,
        };
        if embedding.contains(&0) || embedding.len() > 8 {
            let key = "conditioning_embedding_out_channels";
            return Err(config.unsupported(key, "1 to 8 whole numbers of at least 1 are needed"));
        }
        Ok(Self {
            in_channels: config.count("in_channels", Some(4))?,
            context: config.count("cross_attention_dim", Some(1280))?,
            unknown_keys,
            // One number for all levels.
            levels: Levels {
                layers: vec![config.count("layers_per_block", Some(2))?; count],
                channels,
            },
            transformer_depth: config.counts("transformer_layers_per_block", count, Some(1))?,
            heads,
            down_attention,
            middle_attention,
            sinusoid,
            added,
            embedding,
            blue_first,
            common: BlockConfig {
                time_width: 4 * first,
                norm: NormSettings { groups, eps: config.number("norm_eps", 1e-5)? },
            },
        })
    }

    /// The transformers of a level.
    pub(super) fn transformer(&self, level: usize) -> TransformerSize {
        TransformerSize {
            channels: self.levels.channels[level],
            heads: self.heads[level],
            depth: self.transformer_depth[level],
            context: self.context,
            groups: self.common.norm.groups,
        }
    }
}
