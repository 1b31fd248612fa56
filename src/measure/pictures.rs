//! In: a model, a size and a device. Out: a pipeline with made-up weights, and its pictures from token ids to bytes.

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};

use super::conditions::{Boxed, CachedContexts, Timed};
use super::configs::{
    ClipModel, Size, T5Model, UnetModel, clip_config, t5_config, transformer_config, unet_config,
    vae_config,
};
use super::image_models::{ImageModel, Kind};
use super::networks::{GUIDANCE, added, connector_size, ids, made_up_transformer};
use crate::compute::device::Place;
use crate::generate::noise::ImageNoise;
use crate::generate::pipelines::conditioning::{
    AddedConditions, Conditioning, FixedConditioning, TextCondition, WithAdded,
};
use crate::generate::pipelines::denoise::{Networks, denoise};
use crate::generate::pipelines::diffusion::to_pixels;
use crate::generate::pipelines::guidance::GuidanceUse;
use crate::generate::pipelines::network::Network;
use crate::generate::pipelines::scheduler_of::Schedule;
use crate::models::ella_connector::ProjectedText;
use crate::models::{
    AddedCondition, ClipTextModel, EllaConnector, T5EncoderModel, TextContext, VaeDecoder, made_up,
};

/// A loaded pipeline.
pub(super) struct Parts {
    pub(super) model: ImageModel,
    text: Texts,
    network: Box<dyn Network>,
    /// What SDXL's network is told beside the text.
    sizes: Option<AddedCondition>,
    vae: VaeDecoder,
    schedule: Schedule,
    pub(super) steps: usize,
    /// Side of the latents.
    pub(super) side: usize,
    device: Device,
}

enum Texts {
    Clip(ClipTextModel),
    Sdxl {
        clip: ClipTextModel,
        large: ClipTextModel,
    },
    Ella {
        t5: T5EncoderModel,
        connector: Box<EllaConnector>,
        unconditional: CachedContexts,
    },
    /// T5, which reads so many tokens.
    T5(T5EncoderModel, u32),
    /// Encoders that are pooled, whose tokens stand before T5's where `in_front`.
    Joint {
        clips: Vec<ClipTextModel>,
        in_front: bool,
        t5: T5EncoderModel,
        tokens: u32,
    },
}

/// Tokens of a prompt to ELLA's T5.
const ELLA_TOKENS: u32 = 128;
/// Tokens of a prompt to PixArt's, which reads no padding.
const PIXART_TOKENS: u32 = 80;
/// Tokens of a prompt to that of Stable Diffusion 3.
const SD3_TOKENS: u32 = 256;
/// Tokens of a prompt to FLUX.1 dev's.
const FLUX_TOKENS: u32 = 512;

/// A text as the network takes it.
pub(super) struct Encoded {
    states: Tensor,
    pooled: Option<Tensor>,
}

/// The texts of a prompt and, where there are two halves, of the negative prompt.
pub(super) enum BothTexts {
    Fixed(Vec<Encoded>),
    Timed { with: ProjectedText, without: ProjectedText },
}

impl Parts {
    /// The pipeline of `model`, with so many steps and latents of that side in place of its own.
    pub(super) fn load(
        model: ImageModel,
        size: Size,
        place: &Place,
        (own_steps, own_side): (Option<usize>, Option<usize>),
    ) -> Result<Self> {
        let Place { device, dtype } = place;
        let dtype = *dtype;
        let (kind, steps, schedule) = model.recipe()?;
        let pixels = model.published().context("nothing is known of it")?.side;
        let side = own_side.unwrap_or(if size == Size::Full { pixels / 8 } else { pixels / 64 });
        // As the pipelines do: SDXL's autoencoder overflows f16.
        let upcast = kind == Kind::Unet(UnetModel::Sdxl) && dtype == DType::F16;
        let clip = |model: ClipModel| made_up::clip(&clip_config(model, size), dtype, device);
        let t5 = || made_up::summing_t5(&t5_config(T5Model::Xxl, size), dtype, device);
        let text = match model {
            ImageModel::Sd15 | ImageModel::Lcm => Texts::Clip(clip(ClipModel::Large)?),
            ImageModel::Sd2 => Texts::Clip(clip(ClipModel::Huge)?),
            ImageModel::EllaSd15 => Texts::Ella {
                t5: made_up::t5(&t5_config(T5Model::Xl, size), dtype, device)?,
                connector: Box::new(made_up::connector(connector_size(size), dtype, device)?),
                unconditional: CachedContexts::default(),
            },
            ImageModel::Sdxl => {
                Texts::Sdxl { clip: clip(ClipModel::Large)?, large: clip(ClipModel::Giant)? }
            }
            ImageModel::PixArt => Texts::T5(t5()?, PIXART_TOKENS),
            ImageModel::Sd3 => Texts::Joint {
                clips: vec![clip(ClipModel::Large)?, clip(ClipModel::Giant)?],
                in_front: true,
                t5: t5()?,
                tokens: SD3_TOKENS,
            },
            ImageModel::Flux => Texts::Joint {
                clips: vec![clip(ClipModel::Large)?],
                in_front: false,
                t5: t5()?,
                tokens: FLUX_TOKENS,
            },
        };
        let (network, sizes): (Box<dyn Network>, _) = match kind {
            Kind::Unet(model) => {
                let mut unet = made_up::unet(&unet_config(model, size), dtype, device)?;
                unet.tell_guidance(GUIDANCE, device)?;
                let sizes = added(&unet, 1, side, device)?;
                (Box::new(unet), sizes)
            }
            Kind::Transformer(model) => {
                let config = transformer_config(model, size);
                (made_up_transformer(model, &config, side, place)?, None)
            }
        };
        let vae = vae_config(network.in_channels(), size);
        Ok(Self {
            model,
            text,
            network,
            sizes,
            vae: match upcast {
                true => made_up::upcast_vae(&vae, device)?,
                false => made_up::vae(&vae, dtype, device)?,
            },
            schedule,
            steps: own_steps.unwrap_or(steps),
            side,
            device: device.clone(),
        })
    }

    /// Calls of the network for a picture.
    pub(super) fn calls(&self) -> Result<usize> {
        Ok(self.schedule.scheduler(self.steps)?.timesteps().len())
    }

    /// What decodes a picture of made-up latents.
    pub(super) fn decoded(&self, device: &Device) -> Result<impl Fn() -> Result<Tensor> + '_> {
        let shape = [1, self.network.in_channels(), self.side, self.side];
        let latents = made_up::input("decoded", &shape, 1.0, device)?;
        Ok(move || Ok(self.vae.decode(&latents)?))
    }

    /// Encodes a prompt and, where there are two halves, the negative prompt.
    pub(super) fn texts(&self) -> Result<BothTexts> {
        if let Texts::Ella { t5, connector, .. } = &self.text {
            let project = |vocabulary: u32| -> Result<ProjectedText> {
                let row = ids(ELLA_TOKENS, vocabulary);
                let states = t5.forward(&[row], &[ELLA_TOKENS as usize])?;
                Ok(connector.project(&states)?)
            };
            return Ok(BothTexts::Timed { with: project(1000)?, without: project(900)? });
        }
        let has_halves = self.network.guidance_use() == GuidanceUse::Halves;
        let vocabularies: &[u32] = if has_halves { &[1000, 900] } else { &[1000] };
        let encode = |vocabulary: &u32| self.encode(*vocabulary);
        Ok(BothTexts::Fixed(vocabularies.iter().map(encode).collect::<Result<_>>()?))
    }

    /// One text of token ids below `vocabulary`.
    fn encode(&self, vocabulary: u32) -> Result<Encoded> {
        let words = [ids(77, vocabulary)];
        let read = |t5: &T5EncoderModel, tokens: u32| {
            t5.forward(&[ids(tokens, vocabulary)], &[tokens as usize])
        };
        let width = self.network.context_width();
        let (states, pooled) = match &self.text {
            Texts::Clip(clip) => (clip.forward(&words)?, None),
            Texts::Sdxl { clip, large } => {
                let both = [clip.states(&words)?.penultimate, large.states(&words)?.penultimate];
                (Tensor::cat(&both, 2)?, None)
            }
            Texts::T5(t5, tokens) => (read(t5, *tokens)?, None),
            Texts::Joint { clips, in_front, t5, tokens } => {
                let states = clips.iter().map(|clip| clip.states(&words));
                let states = states.collect::<candle_core::Result<Vec<_>>>()?;
                let last = states.iter().map(|states| states.last.narrow(1, 76, 1)?.squeeze(1));
                let pooled = Tensor::cat(&last.collect::<candle_core::Result<Vec<_>>>()?, 1)?;
                let mut text = read(t5, *tokens)?;
                if *in_front {
                    let all: Vec<_> = states.iter().map(|states| &states.penultimate).collect();
                    text = Tensor::cat(&[of_width(&Tensor::cat(&all, 2)?, width)?, text], 1)?;
                }
                (text, Some(pooled))
            }
            Texts::Ella { .. } => anyhow::bail!("texts that feel the time need a connector"),
        };
        let pooled = pooled.zip(self.network.pooled_width());
        let pooled = pooled.map(|(pooled, width)| of_width(&pooled, width)).transpose()?;
        Ok(Encoded { states: of_width(&states, width)?, pooled })
    }

    /// What a walk is told of these texts.
    fn conditioning(&self, texts: BothTexts) -> Result<Box<dyn Conditioning + '_>> {
        let mut pooled = Vec::new();
        let condition: Box<dyn Conditioning> = match (texts, &self.text) {
            (BothTexts::Timed { with, without }, Texts::Ella { connector, unconditional, .. }) => {
                Box::new(Timed { connector, with, without, unconditional })
            }
            (BothTexts::Fixed(texts), _) => {
                pooled.extend(texts.iter().filter_map(|text| text.pooled.clone()));
                let mut states = texts.into_iter().map(|text| TextContext::new(text.states));
                Box::new(FixedConditioning(TextCondition {
                    conditional: states.next().context("there is no text")?,
                    unconditional: states.next(),
                }))
            }
            _ => anyhow::bail!("texts that feel the time need a connector"),
        };
        let mut pooled = pooled.into_iter().map(|one| AddedCondition::new(one, Vec::new()));
        let added = match (&self.sizes, pooled.next()) {
            (Some(one), _) => {
                Some(AddedConditions { conditional: one.clone(), unconditional: Some(one.clone()) })
            }
            (None, Some(conditional)) => {
                Some(AddedConditions { conditional, unconditional: pooled.next() })
            }
            (None, None) => None,
        };
        Ok(match added {
            Some(added) => Box::new(WithAdded { text: Boxed(condition), added }),
            None => condition,
        })
    }

    /// Makes `batch` pictures from token ids to bytes, and throws them away.
    pub(super) fn pictures(&self, batch: usize) -> Result<()> {
        let seeds: Vec<u64> = (0..batch as u64).collect();
        let shape = (self.network.in_channels(), self.side, self.side);
        let mut noise = ImageNoise::new(&seeds, shape, &self.device);
        let mut scheduler = self.schedule.scheduler(self.steps)?;
        let condition = self.conditioning(self.texts()?)?;
        let (networks, condition) = (Networks::one(self.network.as_ref()), condition.as_ref());
        let latents = denoise(networks, condition, scheduler.as_mut(), GUIDANCE, &mut noise)?;
        let unscaled = latents
            .affine(1.0 / self.vae.scaling_factor(), self.vae.shift_factor().unwrap_or_default())?;
        for image in 0..batch {
            let decoded = self.vae.decode(&unscaled.narrow(0, image, 1)?)?;
            let picture = decoded.affine(0.5, 0.5)?.clamp(0.0, 1.0)?.to_dtype(DType::F32)?;
            to_pixels(&picture.get(0)?)?;
        }
        Ok(())
    }
}

/// `states` with its last dimension cut, or filled up with zeros, to `width`, as wide as the network reads.
fn of_width(states: &Tensor, width: usize) -> Result<Tensor> {
    let last = states.rank() - 1;
    let found = states.dim(last)?;
    Ok(match found > width {
        true => states.narrow(last, 0, width)?.contiguous()?,
        false => states.pad_with_zeros(last, 0, width - found)?,
    })
}
