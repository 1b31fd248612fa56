//! In: the transformer's `config.json`. Out: its dimensions, or a sentence on the key that is not supported.

use crate::checkpoint::config::Config;
use crate::compute::layers::LoadResult;
use crate::models::joint::BlockSize;

/// Keys that change the arithmetic, with the values under which they do not.
const NEUTRAL: &[(&str, &[&str])] = &[("patch_size", &["1"]), ("quantization_config", &[])];

/// Keys that are read.
const READ: &[&str] = &[
    "attention_head_dim",
    "axes_dims_rope",
    "guidance_embeds",
    "in_channels",
    "joint_attention_dim",
    "num_attention_heads",
    "num_layers",
    "num_single_layers",
    "out_channels",
    "pooled_projection_dim",
];

/// Keys that diffusers refuses where they are null.
const NEVER_NULL: &[&str] = &[
    "attention_head_dim",
    "axes_dims_rope",
    "in_channels",
    "joint_attention_dim",
    "num_attention_heads",
    "num_layers",
    "num_single_layers",
    "patch_size",
    "pooled_projection_dim",
];

/// Side of the squares of latents that one token stands for; the pipeline's, not the network's.
pub(super) const SIDE: usize = 2;

/// The dimensions that `config.json` gives.
#[derive(Debug, Clone)]
pub(super) struct FluxConfig {
    /// Channels of a token, of all latents of its square.
    pub(super) channels: usize,
    /// Channels of what it makes of one.
    pub(super) gives: usize,
    /// Width of the text's hidden states.
    pub(super) context: usize,
    pub(super) pooled: usize,
    /// Blocks in which picture and text have weights of their own.
    pub(super) layers: usize,
    /// Blocks behind them, in which they share them.
    pub(super) single_layers: usize,
    /// Numbers of a head that turn with each axis.
    pub(super) axes: [usize; 3],
    /// Whether it is told the guidance.
    pub(super) guidance: bool,
    pub(super) block: BlockSize,
}

impl FluxConfig {
    pub(super) fn from_config(config: &Config) -> LoadResult<Self> {
        config.check_class(&["FluxTransformer2DModel"])?;
        config.refuse_unless_neutral(NEUTRAL)?;
        config.refuse_null(NEVER_NULL)?;
        let heads = config.count("num_attention_heads", Some(24))?;
        let head = config.count("attention_head_dim", Some(128))?;
        let channels = config.count("in_channels", Some(64))?;
        config.divides("in_channels", SIDE * SIDE, channels)?;
        let gives = config.count_if_any(1, "out_channels")?.unwrap_or(channels);
        config.divides("out_channels", SIDE * SIDE, gives)?;
        let axes = match config.indexes("axes_dims_rope")?.as_slice() {
            [] => [16, 56, 56],
            &[first, row, column] => [first, row, column],
            _ => return Err(config.unsupported("axes_dims_rope", "three numbers are needed")),
        };
        let fits = axes.iter().all(|axis| *axis >= 2 && axis.is_multiple_of(2));
        if !fits || axes.iter().sum::<usize>() != head {
            let hint = format!("three even numbers are needed, {head} together");
            return Err(config.unsupported("axes_dims_rope", &hint));
        }
        Ok(Self {
            channels,
            gives,
            context: config.count("joint_attention_dim", Some(4096))?,
            pooled: config.count("pooled_projection_dim", Some(768))?,
            layers: config.count_from(0, "num_layers", Some(19))?,
            single_layers: config.count_from(0, "num_single_layers", Some(38))?,
            axes,
            guidance: config.truth("guidance_embeds", false)?,
            block: BlockSize { width: heads * head, heads, qk_norm: true },
        })
    }

    /// Keys that nobody knows.
    pub(super) fn unknown_keys(config: &Config) -> Vec<String> {
        let neutral: Vec<&str> = NEUTRAL.iter().map(|(key, _)| *key).collect();
        config.unknown_keys(&[&neutral, READ])
    }
}
