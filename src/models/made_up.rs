//! In: a network's configuration. Out: that network with weights that depend on nothing but the names and
//! shapes of its tensors, the same on every machine and device. For measurements of speed and of rounding at
//! full size where no published weights are: no result of a run depends on it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Result, Tensor};
use serde_json::{Map, Value};

use super::{
    ClipTextModel, EllaConnector, FluxTransformer, Mplug, MplugConfig, PixArtTransformer,
    Sd3Transformer, T5EncoderModel, UNet, VaeDecoder,
};
use crate::checkpoint::config::Config;
use crate::checkpoint::made_up::{MadeUp, numbers};
use crate::checkpoint::weights::Weights;
use crate::compute::layers::LoadResult;

/// A tensor of the same made-up numbers, for inputs: of the standard deviation `spread`.
///
/// # Errors
/// The device refused.
pub(crate) fn input(name: &str, shape: &[usize], spread: f32, device: &Device) -> Result<Tensor> {
    let values = numbers(name, shape.iter().product(), 0.0, spread);
    Tensor::from_vec(values, shape, &Device::Cpu)?.to_device(device)
}

/// A configuration that is in no file; `what` stands for its path in messages.
fn config(what: &str, values: &Map<String, Value>) -> Config {
    Config::of(PathBuf::from(what), values.clone())
}

fn weights(dtype: DType, device: &Device) -> Weights {
    Weights::made_up(MadeUp::default(), dtype, device)
}

/// The UNet of `values`, what its `config.json` would hold.
///
/// # Errors
/// The configuration asks for arithmetic that is not here, or the device refused.
pub(crate) fn unet(values: &Map<String, Value>, dtype: DType, device: &Device) -> LoadResult<UNet> {
    UNet::build(&config("unet/config.json", values), &weights(dtype, device))
}

/// PixArt's transformer of `values`.
///
/// # Errors
/// As [`unet`].
pub(crate) fn pixart(
    values: &Map<String, Value>,
    dtype: DType,
    device: &Device,
) -> LoadResult<PixArtTransformer> {
    PixArtTransformer::build(&config("transformer/config.json", values), &weights(dtype, device))
}

/// The transformer of Stable Diffusion 3 of `values`.
///
/// # Errors
/// As [`unet`].
pub(crate) fn sd3(
    values: &Map<String, Value>,
    dtype: DType,
    device: &Device,
) -> LoadResult<Sd3Transformer> {
    Sd3Transformer::build(&config("transformer/config.json", values), &weights(dtype, device))
}

/// FLUX.1's transformer of `values`.
///
/// # Errors
/// As [`unet`].
pub(crate) fn flux(
    values: &Map<String, Value>,
    dtype: DType,
    device: &Device,
) -> LoadResult<FluxTransformer> {
    FluxTransformer::build(&config("transformer/config.json", values), &weights(dtype, device))
}

/// The decoder of `values`.
///
/// # Errors
/// As [`unet`].
pub(crate) fn vae(
    values: &Map<String, Value>,
    dtype: DType,
    device: &Device,
) -> LoadResult<VaeDecoder> {
    VaeDecoder::build(&config("vae/config.json", values), &weights(dtype, device))
}

/// The decoder of `values` as [`VaeDecoder::load_upcast`] has it.
///
/// # Errors
/// As [`unet`].
pub(crate) fn upcast_vae(values: &Map<String, Value>, device: &Device) -> LoadResult<VaeDecoder> {
    let weights = weights(DType::F32, device).allowing_tf32();
    VaeDecoder::build(&config("vae/config.json", values), &weights)
}

/// CLIP's text encoder of `values`.
///
/// # Errors
/// As [`unet`].
pub(crate) fn clip(
    values: &Map<String, Value>,
    dtype: DType,
    device: &Device,
) -> LoadResult<ClipTextModel> {
    ClipTextModel::build(&config("text_encoder/config.json", values), &weights(dtype, device))
}

/// T5's encoder of `values`.
///
/// # Errors
/// As [`unet`].
pub(crate) fn t5(
    values: &Map<String, Value>,
    dtype: DType,
    device: &Device,
) -> LoadResult<T5EncoderModel> {
    T5EncoderModel::build(&config("t5/config.json", values), &weights(dtype, device))
}

/// T5's encoder of `values` as [`T5EncoderModel::load_summing_in_f32`] has it.
///
/// # Errors
/// As [`unet`].
pub(crate) fn summing_t5(
    values: &Map<String, Value>,
    dtype: DType,
    device: &Device,
) -> LoadResult<T5EncoderModel> {
    let weights = weights(dtype, device);
    T5EncoderModel::build_summing_in_f32(&config("t5/config.json", values), &weights)
}

/// mPLUG's network as `config` describes it.
///
/// # Errors
/// As [`unet`].
pub(crate) fn mplug(config: &MplugConfig, dtype: DType, device: &Device) -> LoadResult<Mplug> {
    Mplug::load(config, &weights(dtype, device))
}

/// Dimensions of ELLA's connector.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectorSize {
    /// Width of the language model's hidden states.
    pub input: usize,
    /// Width of the tokens, and of the time's embedding.
    pub width: usize,
    /// Tokens that come out.
    pub tokens: usize,
    /// Blocks.
    pub depth: usize,
    /// Width of the timestep's sinusoids.
    pub sinusoid: usize,
}

impl ConnectorSize {
    /// That of `ella-sd1.5-tsc-t5xl`.
    pub(crate) const PUBLISHED: Self =
        Self { input: 2048, width: 768, tokens: 64, depth: 6, sinusoid: 320 };

    /// The shapes by which the connector knows its dimensions.
    fn shapes(self) -> BTreeMap<String, Vec<usize>> {
        let Self { input, width, tokens, depth, sinusoid } = self;
        let mut shapes = BTreeMap::from([
            ("connector.latents".to_owned(), vec![tokens, width]),
            ("connector.proj_in.weight".to_owned(), vec![width, input]),
            ("connector.time_aware_linear.weight".to_owned(), vec![width, width]),
            ("time_embedding.linear_1.weight".to_owned(), vec![width, sinusoid]),
        ]);
        for block in 0..depth {
            let name = format!("connector.perceiver_blocks.{block}.attn.in_proj_weight");
            shapes.insert(name, vec![3 * width, width]);
        }
        shapes
    }
}

/// ELLA's connector of that size.
///
/// # Errors
/// As [`unet`].
pub(crate) fn connector(
    size: ConnectorSize,
    dtype: DType,
    device: &Device,
) -> LoadResult<EllaConnector> {
    let made_up = MadeUp { shapes: size.shapes() };
    let weights = Weights::made_up(made_up, dtype, device);
    EllaConnector::build(Path::new("made-up connector"), &weights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::made_up::PIECE;

    #[test]
    fn numbers_depend_on_name_and_place_alone_and_have_the_size_they_should() {
        let long = numbers("a.weight", 3 * PIECE + 7, 0.5, 0.25);
        assert_eq!(long[..100], numbers("a.weight", 100, 0.5, 0.25)[..]);
        assert_ne!(long[..100], numbers("b.weight", 100, 0.5, 0.25)[..]);
        let mean = long.iter().sum::<f32>() / long.len() as f32;
        let variance = long.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / long.len() as f32;
        assert!((mean - 0.5).abs() < 0.005 && (variance.sqrt() - 0.25).abs() < 0.005);
        // Of these very numbers: another machine must make the same.
        assert_eq!(numbers("a.weight", 2, 0.0, 1.0), [0.5907395, -0.56363904]);
    }

    #[test]
    fn a_connector_has_the_size_that_is_asked_for() {
        let size = ConnectorSize { input: 24, width: 16, tokens: 3, depth: 2, sinusoid: 8 };
        let connector = connector(size, DType::F32, &Device::Cpu).unwrap();
        assert_eq!(
            (connector.input_width(), connector.output_width(), connector.tokens()),
            (24, 16, 3)
        );
        let text = input("text", &[2, 5, 24], 0.2, &Device::Cpu).unwrap();
        let tokens = connector.forward(&connector.project(&text).unwrap(), 981.0).unwrap();
        assert_eq!(tokens.dims(), [2, 3, 16]);
        let largest = tokens.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!((0.1..100.0).contains(&largest), "{largest}");
    }
}
