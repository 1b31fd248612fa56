//! In: which network, at which size, on which device. Out: a call of it on fixed inputs, with made-up weights.

use anyhow::{Context, Result};
use candle_core::{DType, Tensor};
use serde_json::{Map, Value, json};

use crate::checkpoint::known_configs::{SD15, SDXL};
use crate::compute::device::Place;
use crate::models::made_up::{self, ConnectorSize};
use crate::models::mplug::{Mplug, MplugConfig};
use crate::models::{AddedCondition, TextContext, UNet};
use crate::near_names::did_you_mean;

/// Which dimensions the networks have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// The published ones.
    Full,
    /// Of the same make, but small: to try things out.
    Tiny,
}

/// The networks that take nearly all of a run's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// CLIP's text encoder as SD1.5 has it.
    Clip,
    /// The encoder of flan-t5-xl.
    T5,
    /// ELLA's connector.
    Connector,
    /// SD1.5's UNet.
    UnetSd15,
    /// SDXL's UNet.
    UnetSdxl,
    /// The decoder that SD1.5 and SDXL share in shape.
    Vae,
    /// The same in f32 under f16, as SDXL's is.
    UpcastVae,
    /// mPLUG-large, from picture and questions to the scores of the first word.
    Mplug,
}

impl Network {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Clip,
        Self::T5,
        Self::Connector,
        Self::UnetSd15,
        Self::UnetSdxl,
        Self::Vae,
        Self::UpcastVae,
        Self::Mplug,
    ];

    /// Its name in records and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clip => "clip",
            Self::T5 => "t5",
            Self::Connector => "ella-connector",
            Self::UnetSd15 => "unet-sd15",
            Self::UnetSdxl => "unet-sdxl",
            Self::Vae => "vae",
            Self::UpcastVae => "vae-upcast",
            Self::Mplug => "mplug",
        }
    }

    /// Whether it is one of its own in this number format.
    pub fn has(self, dtype: DType) -> bool {
        self != Self::UpcastVae || dtype == DType::F16
    }

    /// Loads it and gives a call of it on fixed inputs, whose result is f32. `side` is that of the latents.
    ///
    /// # Errors
    /// The device refused.
    pub fn call(self, size: Size, side: usize, place: &Place) -> Result<Call> {
        let Place { device, dtype } = place;
        let dtype = *dtype;
        let input =
            |name: &str, shape: &[usize], spread: f32| made_up::input(name, shape, spread, device);
        Ok(match self {
            Self::Clip => {
                let network = made_up::clip(&clip_config(size), dtype, device)?;
                let rows = vec![ids(77, 1000), ids(77, 900)];
                Box::new(move || wide(network.forward(&rows)?))
            }
            Self::T5 => {
                let network = made_up::t5(&t5_config(size), dtype, device)?;
                let rows = vec![ids(128, 1000)];
                Box::new(move || wide(network.forward(&rows, &[100])?))
            }
            Self::Connector => {
                let dimensions = connector_size(size);
                let network = made_up::connector(dimensions, dtype, device)?;
                let text = input("text", &[2, 128, dimensions.input], 0.2)?;
                Box::new(move || wide(network.forward(&network.project(&text)?, 981.0)?))
            }
            Self::UnetSd15 | Self::UnetSdxl => {
                let model = if self == Self::UnetSd15 { UnetModel::Sd15 } else { UnetModel::Sdxl };
                let network = made_up::unet(&unet_config(model, size), dtype, device)?;
                let latents = input("latents", &[2, network.in_channels(), side, side], 1.0)?;
                let width = network.context_width();
                let text = |name: &str| -> Result<TextContext> {
                    Ok(TextContext::new(input(name, &[1, 77, width], 1.0)?))
                };
                let texts = [text("without")?, text("with")?];
                let added = added(&network, 2, side, device)?;
                Box::new(move || {
                    let texts = [&texts[0], &texts[1]];
                    wide(network.forward_contexts(&latents, 981.0, &texts, added.as_ref())?)
                })
            }
            Self::Vae | Self::UpcastVae => {
                let network = match (self, dtype) {
                    (Self::UpcastVae, DType::F16) => {
                        made_up::upcast_vae(&vae_config(size), device)?
                    }
                    _ => made_up::vae(&vae_config(size), dtype, device)?,
                };
                let latents = input("latents", &[1, 4, side, side], 1.0)?;
                Box::new(move || wide(network.decode(&latents)?))
            }
            Self::Mplug => {
                let folder = mplug_folder(size)?;
                let config = MplugConfig::read(folder.path())?;
                let network = made_up::mplug(&config, dtype, device)?;
                let side = config.image_res;
                let pixels = input("pixels", &[1, 3, side, side], 1.0)?;
                Box::new(move || first_scores(&network, &pixels))
            }
        })
    }
}

impl std::str::FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::name);
        Self::ALL.into_iter().find(|network| network.name() == text).ok_or_else(|| {
            let near = did_you_mean(text, names);
            format!("there is no network `{text}` to measure{near}; there are {}", names.join(", "))
        })
    }
}

/// A forward pass on fixed inputs.
pub type Call = Box<dyn Fn() -> Result<Tensor>>;

/// Whose UNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnetModel {
    /// Stable Diffusion 1.5.
    Sd15,
    /// Stable Diffusion XL base.
    Sdxl,
}

/// Token ids of a text, all below `vocabulary`.
pub(super) fn ids(count: u32, vocabulary: u32) -> Vec<u32> {
    (0..count).map(|place| (place * 7919 + 13) % vocabulary).collect()
}

/// What SDXL's network is told beside the text, for pictures of 8 x `side` pixels; `None` for SD1.5's.
pub(super) fn added(
    network: &UNet,
    rows: usize,
    side: usize,
    device: &candle_core::Device,
) -> Result<Option<AddedCondition>> {
    let Some(width) = network.pooled_width() else { return Ok(None) };
    let pixels = 8.0 * side as f64;
    let pooled = made_up::input("pooled", &[rows, width], 1.0, device)?;
    Ok(Some(AddedCondition::new(pooled, vec![pixels, pixels, 0.0, 0.0, pixels, pixels])))
}

fn wide(tensor: Tensor) -> Result<Tensor> {
    Ok(tensor.to_dtype(DType::F32)?)
}

/// Log-probabilities of the first word of two answers about one picture.
fn first_scores(network: &Mplug, pixels: &Tensor) -> Result<Tensor> {
    let images = network.encode_images(pixels)?;
    let questions = [ids(9, 100), ids(14, 100)];
    let states = network.encode_questions(&[&images[0], &images[0]], &questions)?;
    wide(network.decoding(&states).step(&[0, 1], &[1, 1])?)
}

/// The published configuration of a part, with some keys changed where it is to be tiny.
fn published(files: &[(&str, &str)], part: &str, size: Size, tiny: Value) -> Map<String, Value> {
    let text = files.iter().find(|(path, _)| *path == part).map_or("{}", |(_, text)| text);
    let mut values: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
    if let (Size::Tiny, Value::Object(tiny)) = (size, tiny) {
        values.extend(tiny);
    }
    values
}

/// Configuration of a UNet.
pub(super) fn unet_config(model: UnetModel, size: Size) -> Map<String, Value> {
    match model {
        UnetModel::Sd15 => published(
            SD15,
            "unet/config.json",
            size,
            json!({
                "block_out_channels": [32, 64, 64, 64], "attention_head_dim": 4, "norm_num_groups": 8,
                "cross_attention_dim": 64, "sample_size": 16,
            }),
        ),
        UnetModel::Sdxl => published(
            SDXL,
            "unet/config.json",
            size,
            json!({
                "block_out_channels": [32, 64, 64], "attention_head_dim": [2, 4, 4],
                "norm_num_groups": 8, "cross_attention_dim": 64, "sample_size": 16,
                "transformer_layers_per_block": [1, 1, 2], "addition_time_embed_dim": 16,
                "projection_class_embeddings_input_dim": 128,
            }),
        ),
    }
}

/// Configuration of the decoder.
pub(super) fn vae_config(size: Size) -> Map<String, Value> {
    let tiny = json!({"block_out_channels": [16, 32, 32, 32], "norm_num_groups": 8});
    published(SD15, "vae/config.json", size, tiny)
}

/// Configuration of CLIP's text encoder.
pub(super) fn clip_config(size: Size) -> Map<String, Value> {
    let tiny = json!({
        "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4,
        "num_hidden_layers": 3, "vocab_size": 1000,
    });
    published(SD15, "text_encoder/config.json", size, tiny)
}

/// Configuration of flan-t5-xl's encoder.
pub(super) fn t5_config(size: Size) -> Map<String, Value> {
    let full = r#"{"d_model": 2048, "d_ff": 5120, "d_kv": 64, "num_heads": 32, "num_layers": 24,
"vocab_size": 32128, "feed_forward_proj": "gated-gelu", "relative_attention_num_buckets": 32,
"relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-06}"#;
    let tiny = json!({
        "d_model": 64, "d_ff": 128, "d_kv": 16, "num_heads": 4, "num_layers": 3, "vocab_size": 1000,
    });
    published(&[("t5", full)], "t5", size, tiny)
}

/// Dimensions of ELLA's connector.
pub(super) fn connector_size(size: Size) -> ConnectorSize {
    match size {
        Size::Full => ConnectorSize::PUBLISHED,
        Size::Tiny => ConnectorSize { input: 64, width: 64, tokens: 8, depth: 2, sinusoid: 32 },
    }
}

/// Word pieces of mPLUG's vocabulary.
const WORD_PIECES: usize = 30522;

/// A folder with mPLUG's configuration and a vocabulary, without weights. Answers have one word, as most
/// of the trained network have: two steps of the search.
///
/// # Errors
/// The temporary folder cannot be written.
pub(super) fn mplug_folder(size: Size) -> Result<tempfile::TempDir> {
    let (own, mut bert) = match size {
        Size::Full => (
            "image_res: 504\nmax_length: 2\n",
            json!({"hidden_size": 768, "num_hidden_layers": 12, "fusion_layers": 6, "stride_layer": 6}),
        ),
        Size::Tiny => (
            "image_res: 32\nclip_vision_layers: 2\nclip_vision_patch_size: 8\nclip_vision_width: 64\n\
             vision_width: 64\nmax_length: 2\n",
            json!({
                "hidden_size": 64, "encoder_width": 64, "intermediate_size": 128,
                "num_attention_heads": 4, "num_hidden_layers": 4, "text_encoder_layers": 2,
                "fusion_layers": 3, "text_decode_layers": 2, "stride_layer": 6,
            }),
        ),
    };
    let pieces = if size == Size::Full { WORD_PIECES } else { 200 };
    bert["vocab_size"] = json!(pieces);
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text)
            .with_context(|| format!("cannot write {name} of the made-up judge"))
    };
    write("config.yaml", own)?;
    write("config_bert.json", &bert.to_string())?;
    let special =
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "yes", "no", "is", "there", "a", "?"];
    let made_up = (special.len()..pieces).map(|number| format!("word{number}"));
    let vocabulary: Vec<String> = special.iter().map(ToString::to_string).chain(made_up).collect();
    write("vocab.txt", &(vocabulary.join("\n") + "\n"))?;
    Ok(folder)
}
