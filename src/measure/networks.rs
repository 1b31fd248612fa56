//! In: which network, at which size, on which device. Out: a call of it on fixed inputs, with made-up weights.

use anyhow::{Context, Result};
use candle_core::{DType, Tensor};
use serde_json::{Map, Value, json};

use super::configs::{
    ClipModel, Size, T5Model, TransformerModel, UnetModel, clip_config, keep_blocks, t5_config,
    transformer_config, unet_config, vae_config,
};
use super::published_flops::named;
use crate::compute::device::Place;
use crate::generate::pipelines::network::Network as Denoising;
use crate::models::made_up::{self, ConnectorSize};
use crate::models::mplug::{Mplug, MplugConfig};
use crate::models::{AddedCondition, TextContext, UNet};
use crate::near_names::did_you_mean;

/// Guidance of every call and picture.
pub(super) const GUIDANCE: f64 = 7.5;

/// Guidance and timestep of FLUX.1, which rounds both to its number format before and after it takes the first a thousandfold: these
/// are exact in every format, so that what is compared is the network's rounding.
const EXACT: (f64, f64) = (8.0, 500.0);

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
    /// Stable Diffusion 2.1's UNet.
    UnetSd2,
    /// The UNet of a latent consistency model, which is told the guidance.
    UnetLcm,
    /// PixArt-Sigma's transformer.
    PixArt,
    /// The transformer of Stable Diffusion 3 medium.
    Sd3,
    /// The transformer of Stable Diffusion 3.5 medium.
    Sd35,
    /// The transformer of FLUX.1 dev.
    Flux,
    /// The decoder that SD1.5 and SDXL share in shape.
    Vae,
    /// The same in f32 under f16, as SDXL's is.
    UpcastVae,
    /// mPLUG-large, from picture and questions to the scores of the first word.
    Mplug,
}

impl Network {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Clip,
        Self::T5,
        Self::Connector,
        Self::UnetSd15,
        Self::UnetSdxl,
        Self::UnetSd2,
        Self::UnetLcm,
        Self::PixArt,
        Self::Sd3,
        Self::Sd35,
        Self::Flux,
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
            Self::UnetSd2 => "unet-sd2",
            Self::UnetLcm => "unet-lcm",
            Self::PixArt => "pixart",
            Self::Sd3 => "sd3",
            Self::Sd35 => "sd35",
            Self::Flux => "flux",
            Self::Vae => "vae",
            Self::UpcastVae => "vae-upcast",
            Self::Mplug => "mplug",
        }
    }

    /// Whether it is one of its own in this number format.
    pub fn has(self, dtype: DType) -> bool {
        self != Self::UpcastVae || dtype == DType::F16
    }

    /// The transformer that it is, and the name of its row of published sizes.
    fn transformer(self) -> Option<(TransformerModel, &'static str)> {
        match self {
            Self::PixArt => Some((TransformerModel::PixArt, "pixart-sigma")),
            Self::Sd3 => Some((TransformerModel::Sd3, "sd3-medium")),
            Self::Sd35 => Some((TransformerModel::Sd35, "sd35-medium")),
            Self::Flux => Some((TransformerModel::Flux, "flux-dev")),
            _ => None,
        }
    }

    /// The share of its blocks for which `room` bytes of memory suffice in f32. The others are left out of a measurement: only the
    /// transformers are so large.
    pub(super) fn share_within(self, size: Size, room: Option<u64>) -> f64 {
        let row = self.transformer().and_then(|(_, name)| named(name));
        match (row, room, size) {
            (Some(row), Some(room), Size::Full) => {
                (room as f64 / (4.0 * row.parameters.network as f64)).min(1.0)
            }
            _ => 1.0,
        }
    }

    /// Loads it and gives a call of it on fixed inputs, whose result is f32. `side` is that of the latents, `share` that of a
    /// transformer's blocks that are kept. Gives in words how many these are, where not all.
    ///
    /// # Errors
    /// The device refused.
    pub(super) fn call(
        self,
        size: Size,
        share: f64,
        side: usize,
        place: &Place,
    ) -> Result<(Call, Option<String>)> {
        let mut blocks = None;
        let call = match self.transformer() {
            Some((model, _)) => {
                let mut config = transformer_config(model, size);
                blocks = keep_blocks(&mut config, share);
                transformer_call(model, &config, side, place)?
            }
            None => self.other_call(size, side, place)?,
        };
        Ok((call, blocks))
    }

    /// A call of what is no transformer.
    fn other_call(self, size: Size, side: usize, place: &Place) -> Result<Call> {
        let Place { device, dtype } = place;
        let dtype = *dtype;
        let input =
            |name: &str, shape: &[usize], spread: f32| made_up::input(name, shape, spread, device);
        Ok(match self {
            Self::Clip => {
                let config = clip_config(ClipModel::Large, size);
                let network = made_up::clip(&config, dtype, device)?;
                let rows = vec![ids(77, 1000), ids(77, 900)];
                Box::new(move || wide(network.forward(&rows)?))
            }
            Self::T5 => {
                let network = made_up::t5(&t5_config(T5Model::Xl, size), dtype, device)?;
                let rows = vec![ids(128, 1000)];
                Box::new(move || wide(network.forward(&rows, &[100])?))
            }
            Self::Connector => {
                let dimensions = connector_size(size);
                let network = made_up::connector(dimensions, dtype, device)?;
                let text = input("text", &[2, 128, dimensions.input], 0.2)?;
                Box::new(move || wide(network.forward(&network.project(&text)?, 981.0)?))
            }
            Self::UnetSd15 => unet_call(UnetModel::Sd15, size, side, place)?,
            Self::UnetSd2 => unet_call(UnetModel::Sd2, size, side, place)?,
            Self::UnetLcm => unet_call(UnetModel::Lcm, size, side, place)?,
            Self::UnetSdxl => unet_call(UnetModel::Sdxl, size, side, place)?,
            Self::Vae | Self::UpcastVae => {
                let network = match (self, dtype) {
                    (Self::UpcastVae, DType::F16) => {
                        made_up::upcast_vae(&vae_config(4, size), device)?
                    }
                    _ => made_up::vae(&vae_config(4, size), dtype, device)?,
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
            Self::PixArt | Self::Sd3 | Self::Sd35 | Self::Flux => {
                anyhow::bail!("{} is a transformer", self.name())
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

/// A call of a UNet for a text and the empty one; of one that is told the guidance, for the text alone.
fn unet_call(model: UnetModel, size: Size, side: usize, place: &Place) -> Result<Call> {
    let Place { device, dtype } = place;
    let mut network = made_up::unet(&unet_config(model, size), *dtype, device)?;
    network.tell_guidance(GUIDANCE, device)?;
    let names: &[&str] = if network.takes_guidance() { &["with"] } else { &["without", "with"] };
    let (rows, width) = (names.len(), network.context_width());
    let shape = [rows, network.in_channels(), side, side];
    let latents = made_up::input("latents", &shape, 1.0, device)?;
    let text = |name: &&str| -> Result<TextContext> {
        Ok(TextContext::new(made_up::input(name, &[1, 77, width], 1.0, device)?))
    };
    let texts = names.iter().map(text).collect::<Result<Vec<_>>>()?;
    let added = added(&network, rows, side, device)?;
    Ok(Box::new(move || {
        let texts: Vec<&TextContext> = texts.iter().collect();
        wide(network.forward_contexts(&latents, 981.0, &texts, added.as_ref())?)
    }))
}

/// A call of a transformer for one text.
fn transformer_call(
    model: TransformerModel,
    config: &Map<String, Value>,
    side: usize,
    place: &Place,
) -> Result<Call> {
    let device = &place.device;
    let input = |name: &str, shape: &[usize]| made_up::input(name, shape, 1.0, device);
    let network = made_up_transformer(model, config, side, place)?;
    let latents = input("latents", &[1, network.in_channels(), side, side])?;
    let rows = match model {
        TransformerModel::PixArt => 120,
        TransformerModel::Sd3 | TransformerModel::Sd35 => 333,
        TransformerModel::Flux => 512,
    };
    let text = TextContext::new(input("text", &[1, rows, network.context_width()])?);
    let pooled = network.pooled_width().map(|width| input("pooled", &[1, width])).transpose()?;
    let added = pooled.map(|pooled| AddedCondition::new(pooled, Vec::new()));
    let timestep = if model == TransformerModel::Flux { EXACT.1 } else { 981.0 };
    Ok(Box::new(move || wide(network.predict(&latents, timestep, &[&text], added.as_ref())?)))
}

/// A transformer with made-up weights for latents of `side`, told what it is told of guidance and sizes.
pub(super) fn made_up_transformer(
    model: TransformerModel,
    config: &Map<String, Value>,
    side: usize,
    Place { device, dtype }: &Place,
) -> Result<Box<dyn Denoising>> {
    Ok(match model {
        TransformerModel::PixArt => {
            let mut network = made_up::pixart(config, *dtype, device)?;
            network.prepare((side, side), (8 * side, 8 * side), device)?;
            Box::new(network)
        }
        TransformerModel::Sd3 | TransformerModel::Sd35 => {
            Box::new(made_up::sd3(config, *dtype, device)?)
        }
        TransformerModel::Flux => {
            let mut network = made_up::flux(config, *dtype, device)?;
            network.tell_guidance(EXACT.0, device)?;
            Box::new(network)
        }
    })
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
