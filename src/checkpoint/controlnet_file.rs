//! In: a ControlNet in one safetensors file, and the UNet that it stands beside. Out: its weights by diffusers' names, and
//! its configuration, which no such file holds: it is the UNet's, as of every ControlNet that was begun from one.
//!
//! The names are those of the ControlNet authors' code (`input_hint_block...`, `zero_convs...`, with `control_model.` before
//! them or not), read as `ControlNetModel.from_single_file` of diffusers does, or diffusers' own.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device};
use serde_json::{Map, json};

use super::config::Config;
use super::file_fault::FileFault;
use super::ldm_names::unet_name;
use super::model_error::ModelError;
use super::recipe::Recipe;
use super::safetensors_file::TensorFile;
use super::weights::Weights;

/// Where the tensors stand in a file that holds more.
const PREFIX: &str = "control_model.";

/// Keys of a UNet's configuration that a ControlNet begun from it has too.
const SHARED: &[&str] = &[
    "act_fn",
    "addition_embed_type",
    "addition_time_embed_dim",
    "attention_head_dim",
    "block_out_channels",
    "class_embed_type",
    "cross_attention_dim",
    "down_block_types",
    "downsample_padding",
    "encoder_hid_dim",
    "encoder_hid_dim_type",
    "flip_sin_to_cos",
    "freq_shift",
    "in_channels",
    "layers_per_block",
    "mid_block_scale_factor",
    "mid_block_type",
    "norm_eps",
    "norm_num_groups",
    "num_class_embeds",
    "only_cross_attention",
    "projection_class_embeddings_input_dim",
    "resnet_time_scale_shift",
    "transformer_layers_per_block",
    "upcast_attention",
    "use_linear_projection",
];

/// The configuration and weights of the ControlNet in `file`, beside the UNet in the folder `unet`.
///
/// # Errors
/// It is no safetensors file with a ControlNet, it has a tensor that no ControlNet here has, or the UNet's configuration
/// cannot be read.
pub(crate) fn open(
    file: &Path,
    unet: &Path,
    dtype: DType,
    device: &Device,
) -> Result<(Config, Weights), ModelError> {
    let held = TensorFile::open(file)?;
    let config = Config::read_component(unet)?;
    // A list of one number for each level is refused where the network is built.
    let layers = config.counts("layers_per_block", 1, Some(2)).map_or(2, |layers| layers[0]);
    let names = own_names(file, &held, layers)?;
    let shape = |name: &str| {
        let stored = names.get(&format!("controlnet_cond_embedding.{name}.weight"))?;
        held.tensors.get(stored)?.info.shape.first().copied()
    };
    let wider = (0..).map_while(|number| shape(&format!("blocks.{}", 2 * number + 1)));
    let embedding: Vec<usize> = shape("conv_in").into_iter().chain(wider).collect();
    let mut more = Map::new();
    more.insert("conditioning_embedding_out_channels".to_owned(), json!(embedding));
    let config = config.with_only(SHARED, more);
    let weights = Weights::named(file, Recipe { names, ..Recipe::default() }, dtype, device)?;
    Ok((config, weights))
}

/// The network's names of the file's tensors with those in the file.
fn own_names(
    file: &Path,
    held: &TensorFile,
    layers: usize,
) -> Result<BTreeMap<String, String>, ModelError> {
    let inside = held.tensors.keys().any(|name| name.starts_with(PREFIX));
    let prefix = if inside { PREFIX } else { "" };
    let stored: Vec<&str> =
        held.tensors.keys().filter_map(|name| name.strip_prefix(prefix)).collect();
    let has = |name: &str| stored.contains(&name);
    let own = |name: &str| match has("time_embedding.linear_1.weight") {
        true => Some(name.to_owned()),
        false => own_name(name, layers),
    };
    if !has("middle_block_out.0.weight") && !has("controlnet_mid_block.weight") {
        return Err(ModelError::broken(file, FileFault::NoControlNet));
    }
    let pair = |name: &&str| {
        let fault = || FileFault::UnknownControlTensor(format!("{prefix}{name}"));
        let own = own(name).ok_or_else(|| ModelError::broken(file, fault()))?;
        Ok((own, format!("{prefix}{name}")))
    };
    stored.iter().map(pair).collect()
}

/// The network's name of a tensor that the authors' code calls `name`, where `layers` is the number of residual blocks of a
/// level; `None` for one that no ControlNet here has.
fn own_name(name: &str, layers: usize) -> Option<String> {
    /// The place of the last convolution of the image's embedding; those before it are two places apart.
    const LAST: usize = 14;
    let place = |name: &str| {
        let (place, rest) = name.split_once('.')?;
        Some((place.parse::<usize>().ok()?, rest.to_owned()))
    };
    if let Some(rest) = name.strip_prefix("input_hint_block.") {
        let (number, rest) = place(rest)?;
        let layer = match number {
            0 => "conv_in".to_owned(),
            LAST => "conv_out".to_owned(),
            _ if number.is_multiple_of(2) && number < LAST => format!("blocks.{}", number / 2 - 1),
            _ => return None,
        };
        return Some(format!("controlnet_cond_embedding.{layer}.{rest}"));
    }
    if let Some(rest) = name.strip_prefix("zero_convs.") {
        let (number, rest) = place(rest)?;
        return Some(format!("controlnet_down_blocks.{number}.{}", rest.strip_prefix("0.")?));
    }
    if let Some(rest) = name.strip_prefix("middle_block_out.0.") {
        return Some(format!("controlnet_mid_block.{rest}"));
    }
    let is_of_unet = !name.starts_with("out.") && !name.starts_with("output_blocks.");
    is_of_unet.then(|| unet_name(name, layers))?
}
