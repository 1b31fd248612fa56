//! In: the configuration of a network. Out: whether it can have a tensor of some name, so that the tensors of a deeper one are
//! not passed over.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::layout::Layout;
use super::small_files::{level_count, number, read_component};

/// How many blocks a network has.
pub(super) enum Known {
    /// Transformer blocks per level of the UNet, 0 where it has no attention there.
    Unet { down: Vec<usize>, up: Vec<usize>, middle: usize },
    /// Layers of CLIP.
    TextEncoder(usize),
    /// Blocks of T5.
    T5(usize),
    /// Blocks of FLUX.1's transformer, first of those with two streams, and whether it is told the guidance.
    Flux { double: usize, single: usize, guidance: bool },
    /// Blocks of Stable Diffusion 3's transformer, those that attend a second time, and whether queries and keys are normed.
    Sd3 { blocks: usize, dual: Vec<usize>, qk_norm: bool },
    /// Residual blocks of a level of the decoder.
    Decoder(usize),
}

impl Known {
    pub(super) fn read(layout: Layout, component: &str, path: &Path) -> Result<Self> {
        match component {
            "transformer" if layout == Layout::Flux => Ok(Self::Flux {
                double: number(path, "num_layers")?,
                single: number(path, "num_single_layers")?,
                guidance: read_component(path)?["guidance_embeds"].as_bool().unwrap_or(false),
            }),
            "transformer" => {
                let config = read_component(path)?;
                let dual = config["dual_attention_layers"].as_array().into_iter().flatten();
                Ok(Self::Sd3 {
                    blocks: number(path, "num_layers")?,
                    dual: dual.filter_map(|number| number.as_u64()?.try_into().ok()).collect(),
                    qk_norm: !config["qk_norm"].is_null(),
                })
            }
            _ if layout.is_t5(component) => Ok(Self::T5(number(path, "num_layers")?)),
            "unet" => {
                let config = read_component(path)?;
                let levels = level_count(path)?;
                let depths = depths(&config["transformer_layers_per_block"], levels)
                    .with_context(|| format!("{}: transformer_layers_per_block", path.display()))?;
                let middle = depths.last().copied().unwrap_or(1);
                let with = |kinds: &Value, depths: Vec<usize>| -> Vec<usize> {
                    let attends = |level: usize| {
                        kinds[level].as_str().is_some_and(|kind| kind.contains("CrossAttn"))
                    };
                    let levels = depths.into_iter().enumerate();
                    levels.map(|(level, depth)| if attends(level) { depth } else { 0 }).collect()
                };
                let reversed = depths.iter().rev().copied().collect();
                Ok(Self::Unet {
                    down: with(&config["down_block_types"], depths),
                    up: with(&config["up_block_types"], reversed),
                    middle,
                })
            }
            "vae" => Ok(Self::Decoder(number(path, "layers_per_block")? + 1)),
            _ => Ok(Self::TextEncoder(number(path, "num_hidden_layers")?)),
        }
    }

    /// Whether the network can have a tensor of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Self::Flux { double, single, guidance } => {
                match (
                    block(name, "transformer_blocks."),
                    block(name, "single_transformer_blocks."),
                ) {
                    (Some(number), _) => number < *double,
                    (_, Some(number)) => number < *single,
                    _ => *guidance || !name.contains(".guidance_embedder."),
                }
            }
            Self::Sd3 { blocks, dual, qk_norm } => match block(name, "transformer_blocks.") {
                Some(number) => {
                    number < *blocks
                        && (dual.contains(&number) || !name.contains(".attn2."))
                        && (*qk_norm || !name.contains(".norm_"))
                }
                None => true,
            },
            Self::T5(blocks) => match block(name, "encoder.block.") {
                Some(number) => number < *blocks,
                None => ["shared.", "encoder.final_layer_norm."]
                    .iter()
                    .any(|start| name.starts_with(start)),
            },
            Self::Unet { down, up, middle } => {
                let of_level = |levels: &[usize], start| {
                    number_after(name, start).map(|level| levels.get(level).copied())
                };
                let depth = of_level(down, "down_blocks.").or_else(|| of_level(up, "up_blocks."));
                match depth.unwrap_or(Some(*middle)) {
                    Some(0) => !name.contains(".attentions."),
                    Some(depth) => {
                        number_after(name, ".transformer_blocks.").is_none_or(|at| at < depth)
                    }
                    None => false,
                }
            }
            Self::TextEncoder(layers) => match number_after(name, "encoder.layers.") {
                Some(layer) => layer < *layers,
                None => ["embeddings.", "final_layer_norm.", "text_projection."]
                    .iter()
                    .any(|start| name.trim_start_matches("text_model.").starts_with(start)),
            },
            Self::Decoder(blocks) => {
                number_after(name, ".resnets.").is_none_or(|block| block < *blocks)
            }
        }
    }
}

fn depths(value: &Value, levels: usize) -> Option<Vec<usize>> {
    let whole = |value: &Value| value.as_u64().and_then(|number| usize::try_from(number).ok());
    match value {
        Value::Null => Some(vec![1; levels]),
        Value::Array(list) if list.len() == levels => list.iter().map(whole).collect(),
        one => whole(one).map(|depth| vec![depth; levels]),
    }
}

/// The number that stands behind `marker`.
fn number_after(name: &str, marker: &str) -> Option<usize> {
    let (_, rest) = name.split_once(marker)?;
    rest.split('.').next()?.parse().ok()
}

/// The number of the block that `name` is in.
fn block(name: &str, start: &str) -> Option<usize> {
    name.strip_prefix(start)?.split('.').next()?.parse().ok()
}
