//! In: the UNet's `config.json`. Out: its dimensions, or the key that asks for a network that is not here. Loading
//! the tensors is left to the blocks.

use super::added::TextTimeSize;
use super::blocks::BlockConfig;
use super::timestep::Sinusoid;
use super::transformer::TransformerSize;
use crate::checkpoint::config::Config;
use crate::compute::layers::LoadResult;
use crate::models::resnet::NormSettings;

/// Keys that change the arithmetic, with the values under which they do not.
const NEUTRAL: &[(&str, &[&str])] = &[
    ("act_fn", &["silu", "swish"]),
    ("addition_embed_type", &["text_time"]),
    ("attention_type", &["default"]),
    ("center_input_sample", &["false"]),
    ("class_embed_type", &[]),
    ("class_embeddings_concat", &["false"]),
    ("conv_in_kernel", &["3"]),
    ("conv_out_kernel", &["3"]),
    ("cross_attention_norm", &[]),
    ("downsample_padding", &["1"]),
    ("dual_cross_attention", &["false"]),
    ("encoder_hid_dim", &[]),
    ("encoder_hid_dim_type", &[]),
    ("mid_block_scale_factor", &["1", "1.0"]),
    ("mid_block_type", &["UNetMidBlock2DCrossAttn"]),
    // diffusers refuses it too, as long as `attention_head_dim` means the number of heads.
    ("num_attention_heads", &[]),
    ("num_class_embeds", &[]),
    ("quantization_config", &[]),
    ("resnet_out_scale_factor", &["1", "1.0"]),
    ("resnet_skip_time_act", &["false"]),
    ("resnet_time_scale_shift", &["default"]),
    ("reverse_transformer_layers_per_block", &[]),
    ("time_embedding_act_fn", &[]),
    ("time_embedding_type", &["positional"]),
    ("timestep_post_act", &[]),
];

/// Keys that are read.
const READ: &[&str] = &[
    "addition_time_embed_dim",
    "attention_head_dim",
    "block_out_channels",
    "cross_attention_dim",
    "down_block_types",
    "flip_sin_to_cos",
    "freq_shift",
    "in_channels",
    "layers_per_block",
    "norm_eps",
    "norm_num_groups",
    "only_cross_attention",
    "out_channels",
    "projection_class_embeddings_input_dim",
    "sample_size",
    "time_cond_proj_dim",
    "time_embedding_dim",
    "transformer_layers_per_block",
    "up_block_types",
];

/// Keys that change nothing in the networks that pass the others: they belong to training, to kinds of block
/// that are refused, to how linear layers are stored, or to arithmetic in half precision that is f32 here.
const WITHOUT_EFFECT: &[&str] = &[
    "addition_embed_type_num_heads",
    "dropout",
    "mid_block_only_cross_attention",
    "upcast_attention",
    "use_linear_projection",
];

/// Keys that diffusers refuses, or takes for something else, where they are null.
const NEVER_NULL: &[&str] = &[
    "act_fn",
    "attention_head_dim",
    "block_out_channels",
    "conv_in_kernel",
    "conv_out_kernel",
    "cross_attention_dim",
    "down_block_types",
    "downsample_padding",
    "freq_shift",
    "in_channels",
    "layers_per_block",
    "mid_block_scale_factor",
    "norm_eps",
    "norm_num_groups",
    "out_channels",
    "resnet_out_scale_factor",
    "resnet_time_scale_shift",
    "time_embedding_type",
    "transformer_layers_per_block",
    "up_block_types",
];

/// The dimensions that `config.json` gives; one entry per level, from the top down.
pub(super) struct UNetConfig {
    pub(super) in_channels: usize,
    pub(super) out_channels: usize,
    pub(super) sample_size: Option<(usize, usize)>,
    pub(super) context: usize,
    pub(super) has_middle: bool,
    pub(super) unknown_keys: Vec<String>,
    pub(super) channels: Vec<usize>,
    pub(super) layers: Vec<usize>,
    pub(super) heads: Vec<usize>,
    pub(super) transformer_depth: Vec<usize>,
    pub(super) down_attention: Vec<bool>,
    /// From the bottom up, as the configuration lists it.
    pub(super) up_attention: Vec<bool>,
    pub(super) sinusoid: Sinusoid,
    pub(super) added: Option<TextTimeSize>,
    /// Width of the embedding of guidance, where the network is told it.
    pub(super) guidance: Option<usize>,
    pub(super) common: BlockConfig,
}

impl UNetConfig {
    pub(super) fn from_config(config: &Config) -> LoadResult<Self> {
        config.check_class(&["UNet2DConditionModel"])?;
        config.refuse_unless_neutral(NEUTRAL)?;
        config.refuse_null(NEVER_NULL)?;
        config.refuse_unless_all("only_cross_attention", "false")?;
        let neutral: Vec<&str> = NEUTRAL.iter().map(|(key, _)| *key).collect();
        let unknown_keys = config.unknown_keys(&[&neutral, READ, WITHOUT_EFFECT]);
        let kinds = |key: &str, with: &str, without: &str| -> LoadResult<Vec<bool>> {
            let kind = |name: &str| match name {
                _ if name == with => Ok(true),
                _ if name == without => Ok(false),
                _ => Err(config.unsupported(key, &format!("only {with} and {without} are"))),
            };
            config.names(key)?.into_iter().map(kind).collect()
        };
        let down_attention = kinds("down_block_types", "CrossAttnDownBlock2D", "DownBlock2D")?;
        let up_attention = kinds("up_block_types", "CrossAttnUpBlock2D", "UpBlock2D")?;
        let levels = down_attention.len();
        if up_attention.len() != levels {
            return Err(config.unsupported("up_block_types", "as many up as down are needed"));
        }
        let channels = config.counts("block_out_channels", levels, None)?;
        let contexts = config.counts("cross_attention_dim", levels, Some(1280))?;
        if contexts.iter().any(|width| *width != contexts[0]) {
            return Err(
                config.unsupported("cross_attention_dim", "only one width for all levels is")
            );
        }
        let groups = config.count("norm_num_groups", Some(32))?;
        // Despite its name, this has always been the number of heads here.
        let heads = config.counts("attention_head_dim", levels, Some(8))?;
        for level in 0..levels {
            config.divides("norm_num_groups", groups, channels[level])?;
            config.divides("attention_head_dim", heads[level], channels[level])?;
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
        Ok(Self {
            in_channels: config.count("in_channels", Some(4))?,
            out_channels: config.count("out_channels", Some(4))?,
            sample_size: config.sides("sample_size")?,
            context: contexts[0],
            has_middle: !config.is_null("mid_block_type"),
            unknown_keys,
            layers: config.counts("layers_per_block", levels, Some(2))?,
            transformer_depth: config.counts("transformer_layers_per_block", levels, Some(1))?,
            heads,
            down_attention,
            up_attention,
            sinusoid,
            added,
            guidance: config.count_if_any(4, "time_cond_proj_dim")?,
            common: BlockConfig {
                time_width: config.count("time_embedding_dim", Some(4 * first))?,
                norm: NormSettings { groups, eps: config.number("norm_eps", 1e-5)? },
            },
            channels,
        })
    }

    /// The transformers of a level.
    pub(super) fn transformer(&self, level: usize) -> TransformerSize {
        TransformerSize {
            channels: self.channels[level],
            heads: self.heads[level],
            depth: self.transformer_depth[level],
            context: self.context,
            groups: self.common.norm.groups,
        }
    }
}
