//! In: latents. Out: pixels. The decoder half of diffusers' `AutoencoderKL`; dimensions come from
//! `config.json`. Undoing the scale of the latents and rounding to bytes are left to the caller.

use std::path::Path;

use candle_core::{DType, Device, Module, Result, Tensor};

use super::resnet::{NormSettings, ResnetBlock, Upsampler};
use super::unused_parts::UnusedParts;
use crate::checkpoint::config::Config;
use crate::checkpoint::weights::{Scope, Weights};
use crate::compute::attention::{AttentionMask, attend};
use crate::compute::layers::{Conv2d, GroupNorm, Linear, LoadResult, rows};

/// Epsilon of every norm of the decoder; it is not configurable.
const NORM_EPS: f64 = 1e-6;

/// Scaling factor of a configuration that does not state one: Stable Diffusion 1's.
const DEFAULT_SCALING_FACTOR: f64 = 0.18215;

/// Keys that change the decoder's arithmetic, with the values under which they do not.
const NEUTRAL: &[(&str, &[&str])] =
    &[("act_fn", &["silu", "swish"]), ("out_channels", &["3"]), ("quantization_config", &[])];

/// Keys that are read, by the decoder or by the pipelines.
const READ: &[&str] = &[
    "block_out_channels",
    "force_upcast",
    "latent_channels",
    "latents_mean",
    "latents_std",
    "layers_per_block",
    "mid_block_add_attention",
    "norm_num_groups",
    "scaling_factor",
    "shift_factor",
    "up_block_types",
    "use_post_quant_conv",
];

/// Keys of the encoder, and of decoding in tiles.
const WITHOUT_EFFECT: &[&str] =
    &["down_block_types", "in_channels", "sample_size", "use_quant_conv"];

/// Keys that diffusers refuses where they are null.
const NEVER_NULL: &[&str] = &[
    "act_fn",
    "block_out_channels",
    "latent_channels",
    "layers_per_block",
    "norm_num_groups",
    "out_channels",
    "scaling_factor",
    "up_block_types",
];

/// The decoder of a latent autoencoder.
#[derive(Debug)]
pub struct VaeDecoder {
    post_quant_conv: Option<Conv2d>,
    conv_in: Conv2d,
    before: ResnetBlock,
    attention: Option<MidAttention>,
    after: ResnetBlock,
    up_blocks: Vec<DecoderBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    latent_channels: usize,
    scaling_factor: f64,
    statistics: Option<LatentStatistics>,
    shift_factor: Option<f64>,
    unused_parts: UnusedParts,
    dtype: DType,
    sha256: String,
}

/// Mean and standard deviation of each channel of an autoencoder's latents.
#[derive(Debug, Clone, PartialEq)]
pub struct LatentStatistics {
    /// Means, one for each channel.
    pub mean: Vec<f64>,
    /// Standard deviations.
    pub std: Vec<f64>,
}

impl VaeDecoder {
    /// Loads `vae/`: `config.json` and `diffusion_pytorch_model.safetensors` or a variant of it.
    /// Tensors of the encoder are ignored.
    ///
    /// # Errors
    /// A file is missing or broken, a tensor is missing or has another shape than the configuration
    /// implies, or the configuration asks for arithmetic that is not here.
    pub fn load(folder: &Path, dtype: DType, device: &Device) -> LoadResult<Self> {
        let config = Config::read_component(folder)?;
        let weights = Weights::open(folder, "diffusion_pytorch_model", dtype, device)?;
        Self::build(&config, &weights)
    }

    /// As [`VaeDecoder::load`] in f32, for a run in a half format that the decoder overflows: on a GPU its
    /// convolutions may round what they multiply to TF32, as PyTorch's do unless told otherwise.
    ///
    /// # Errors
    /// As [`VaeDecoder::load`].
    pub(crate) fn load_upcast(folder: &Path, device: &Device) -> LoadResult<Self> {
        let config = Config::read_component(folder)?;
        let weights = Weights::open(folder, "diffusion_pytorch_model", DType::F32, device)?;
        Self::build(&config, &weights.allowing_tf32())
    }

    /// The decoder that `config` describes, of `weights`, whose number format becomes its own.
    pub(crate) fn build(config: &Config, weights: &Weights) -> LoadResult<Self> {
        config.check_class(&["AutoencoderKL"])?;
        config.refuse_unless_neutral(NEUTRAL)?;
        config.refuse_null(NEVER_NULL)?;
        let neutral: Vec<&str> = NEUTRAL.iter().map(|(key, _)| *key).collect();
        let kinds = config.names("up_block_types")?;
        if kinds.iter().any(|kind| *kind != "UpDecoderBlock2D") {
            return Err(config.unsupported("up_block_types", "only UpDecoderBlock2D is"));
        }
        let levels = kinds.len();
        let channels = config.counts("block_out_channels", levels, None)?;
        let groups = config.count("norm_num_groups", Some(32))?;
        for level in &channels {
            config.divides("norm_num_groups", groups, *level)?;
        }
        let norm = NormSettings { groups, eps: NORM_EPS };
        let latent_channels = config.count("latent_channels", Some(4))?;
        let depth = config.count("layers_per_block", Some(1))? + 1;
        let (root, decoder) = (weights.root(), weights.root().at("decoder"));
        let (top, bottom) = (channels[0], channels[levels - 1]);
        let resnet = |name: &str| {
            ResnetBlock::load(&decoder.at("mid_block").at(name), bottom, bottom, None, norm)
        };
        let mut up_blocks = Vec::with_capacity(levels);
        for (number, level) in (0..levels).rev().enumerate() {
            let input = channels[(level + 1).min(levels - 1)];
            let scope = decoder.at("up_blocks").at(number);
            let doubles = number + 1 < levels;
            up_blocks.push(DecoderBlock::load(
                &scope,
                (input, channels[level]),
                depth,
                doubles,
                norm,
            )?);
        }
        Ok(Self {
            post_quant_conv: config
                .truth("use_post_quant_conv", true)?
                .then(|| {
                    let scope = root.at("post_quant_conv");
                    Conv2d::load(&scope, latent_channels, latent_channels, 1, 1)
                })
                .transpose()?,
            conv_in: Conv2d::load(&decoder.at("conv_in"), latent_channels, bottom, 3, 1)?,
            before: resnet("resnets.0")?,
            attention: config
                .truth("mid_block_add_attention", true)?
                .then(|| MidAttention::load(&decoder.at("mid_block.attentions.0"), bottom, groups))
                .transpose()?,
            after: resnet("resnets.1")?,
            up_blocks,
            conv_norm_out: GroupNorm::load(&decoder.at("conv_norm_out"), top, groups, NORM_EPS)?,
            conv_out: Conv2d::load(
                &decoder.at("conv_out"),
                top,
                config.count("out_channels", Some(3))?,
                3,
                1,
            )?,
            latent_channels,
            scaling_factor: config.number("scaling_factor", DEFAULT_SCALING_FACTOR)?,
            statistics: config
                .numbers("latents_mean", latent_channels)?
                .zip(config.numbers("latents_std", latent_channels)?)
                .map(|(mean, std)| LatentStatistics { mean, std }),
            shift_factor: config.number_if_any("shift_factor")?,
            unused_parts: UnusedParts::of(
                (config, &[&neutral, READ, WITHOUT_EFFECT]),
                (weights, &["encoder.", "quant_conv."]),
            ),
            dtype: weights.dtype(),
            sha256: weights.sha256().to_owned(),
        })
    }

    /// Whether `vae/` asks to be decoded in f32 when the run is f16 (`force_upcast`, which the
    /// configuration of diffusers has on where it does not say): its activations overflow f16.
    ///
    /// # Errors
    /// The configuration is missing or broken.
    pub fn overflows_f16(folder: &Path) -> LoadResult<bool> {
        Config::read(folder)?.truth("force_upcast", true)
    }

    /// Pixels [b, 3, h * factor, w * factor], in about -1..1, of `latents` [b, latent channels, h,
    /// w] that have been divided by the scaling factor; in the number format of `latents`.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let (_, channels, _, _) = latents.dims4()?;
        if channels != self.latent_channels {
            let (found, needed) = (latents.dims(), self.latent_channels);
            candle_core::bail!("latents {found:?}: this decoder takes [b, {needed}, h, w]")
        }
        let mut x = latents.to_dtype(self.dtype)?;
        if let Some(conv) = &self.post_quant_conv {
            x = conv.forward(&x)?;
        }
        x = self.before.forward(&self.conv_in.forward(&x)?, None)?;
        if let Some(attention) = &self.attention {
            x = attention.forward(&x)?;
        }
        x = self.after.forward(&x, None)?;
        for block in &self.up_blocks {
            x = block.forward(&x)?;
        }
        let x = self.conv_norm_out.forward_silu(&x)?;
        self.conv_out.forward(&x)?.to_dtype(latents.dtype())
    }

    /// What the denoiser's latents are divided by before [`VaeDecoder::decode`].
    pub fn scaling_factor(&self) -> f64 {
        self.scaling_factor
    }

    /// Statistics of its latents, where its configuration has both: Stable Diffusion XL's pipeline scales by
    /// them, that of Stable Diffusion 1 passes them over.
    pub(crate) fn latent_statistics(&self) -> Option<&LatentStatistics> {
        self.statistics.as_ref()
    }

    /// What stands in the middle of its latents, where the configuration says: the pipelines of Stable Diffusion 1 to XL pass it
    /// over, those of 3 and of FLUX.1 add it.
    pub(crate) fn shift_factor(&self) -> Option<f64> {
        self.shift_factor
    }

    /// Channels of the latents.
    pub(crate) fn latent_channels(&self) -> usize {
        self.latent_channels
    }

    /// What of the files changed nothing.
    pub(crate) fn unused_parts(&self) -> &UnusedParts {
        &self.unused_parts
    }

    /// Pixels of a side for each latent of it.
    pub fn spatial_factor(&self) -> usize {
        1 << (self.up_blocks.len() - 1)
    }

    /// Digest of the weight files, see [`Weights::sha256`].
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

/// Residual blocks, then a doubling of the size at all levels but the last.
#[derive(Debug)]
struct DecoderBlock {
    resnets: Vec<ResnetBlock>,
    upsampler: Option<Upsampler>,
}

impl DecoderBlock {
    fn load(
        scope: &Scope,
        (input, output): (usize, usize),
        depth: usize,
        doubles: bool,
        norm: NormSettings,
    ) -> LoadResult<Self> {
        let resnets = scope.at("resnets");
        Ok(Self {
            resnets: (0..depth)
                .map(|number| {
                    let input = if number == 0 { input } else { output };
                    ResnetBlock::load(&resnets.at(number), input, output, None, norm)
                })
                .collect::<LoadResult<_>>()?,
            upsampler: doubles.then(|| Upsampler::load(scope, output)).transpose()?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for resnet in &self.resnets {
            x = resnet.forward(&x, None)?;
        }
        match &self.upsampler {
            Some(upsampler) => {
                let (_, _, height, width) = x.dims4()?;
                upsampler.forward(&x, 2 * height, 2 * width)
            }
            None => Ok(x),
        }
    }
}

/// Single-head attention over the positions of the smallest map.
#[derive(Debug)]
struct MidAttention {
    group_norm: GroupNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
}

impl MidAttention {
    /// Both spellings: `to_q`, `to_k`, `to_v`, `to_out.0`, and `query`, `key`, `value`, `proj_attn`
    /// of checkpoints up to 2023, stored as linear layers or as 1x1 convolutions.
    fn load(scope: &Scope, channels: usize, groups: usize) -> LoadResult<Self> {
        let old = scope.has("query.weight");
        let linear = |new_name: &str, old_name: &str| {
            let name = if old { old_name } else { new_name };
            Linear::load_pointwise(&scope.at(name), channels, channels)
        };
        Ok(Self {
            group_norm: GroupNorm::load(&scope.at("group_norm"), channels, groups, NORM_EPS)?,
            query: linear("to_q", "query")?,
            key: linear("to_k", "key")?,
            value: linear("to_v", "value")?,
            out: linear("to_out.0", "proj_attn")?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let positions = rows(&self.group_norm.forward(x)?)?;
        let query = self.query.forward(&positions)?;
        let key = self.key.forward(&positions)?;
        let value = self.value.forward(&positions)?;
        let packing = self.out.packing();
        let mixed = attend(&query, &key, &value, 1, AttentionMask::All, packing)?;
        self.out.forward_transposed_with_shortcut(&mixed, x)
    }
}
