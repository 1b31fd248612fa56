//! In: a device, a number format and a size. Out: the time of pictures from token ids to bytes, of answers,
//! and of large products, by which the first two can be judged. Each is repeated after a call that is not
//! counted, and the device is waited for at both ends.

use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Module, Tensor};
use image::{Rgb, RgbImage};
use serde::{Deserialize, Serialize};

use super::conditions::{Boxed, CachedContexts, Timed};
use super::networks::{
    Size, UnetModel, added, clip_config, connector_size, ids, mplug_folder, t5_config, unet_config,
    vae_config,
};
use super::published_flops::PICTURES;
use super::rounding::Rounding;
use crate::checkpoint::known_configs::{SD15, SDXL};
use crate::checkpoint::scheduler_config::SchedulerConfig;
use crate::compute::device::Place;
use crate::compute::layers::Linear;
use crate::compute::products::ProductsHere;
use crate::generate::noise::ImageNoise;
use crate::generate::pipelines::conditioning::{
    AddedConditions, Conditioning, FixedConditioning, TextCondition, WithAdded,
};
use crate::generate::pipelines::denoise::{Networks, denoise};
use crate::generate::pipelines::diffusion::to_pixels;
use crate::judge::mplug::{MplugJudge, MplugOptions};
use crate::models::ella_connector::ProjectedText;
use crate::models::made_up;
use crate::models::{ClipTextModel, EllaConnector, T5EncoderModel, TextContext, UNet, VaeDecoder};
use crate::near_names::did_you_mean;

/// A large product.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProductSpeed {
    /// Rows, columns and inner length.
    pub side: usize,
    /// Number format.
    pub dtype: String,
    /// How products were rounded.
    #[serde(flatten)]
    pub rounding: Rounding,
    /// Floating-point operations a second, in units of 10^12; the best of several.
    pub tera: f64,
}

/// Times of a model's pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PictureSpeed {
    /// The model, as the catalog names it.
    pub model: String,
    /// Number format of the UNet.
    pub dtype: String,
    /// How products were rounded.
    #[serde(flatten)]
    pub rounding: Rounding,
    /// Pictures of one prompt made at a time.
    pub batch: usize,
    /// Steps of a picture; a scheduler may call the UNet once more.
    pub steps: usize,
    /// Side of the picture in pixels.
    pub side: usize,
    /// Median seconds for the texts of a prompt, both halves of guidance.
    pub text: f64,
    /// Median seconds of the whole batch, its text included.
    pub seconds: f64,
    /// Seconds for each picture.
    pub per_picture: f64,
    /// Seconds of the decoder for each picture.
    pub decode: f64,
    /// Floating-point operations a second, in units of 10^12, where the network's are known.
    pub tera: Option<f64>,
}

/// Times of a judge's answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct JudgeSpeed {
    /// The judge, as the catalog names it.
    pub judge: String,
    /// Number format.
    pub dtype: String,
    /// How products were rounded.
    #[serde(flatten)]
    pub rounding: Rounding,
    /// Pictures at a time.
    pub pictures: usize,
    /// Questions about each.
    pub questions: usize,
    /// Median seconds of all of them.
    pub seconds: f64,
    /// Questions a second.
    pub per_second: f64,
    /// Seconds of a picture with one question, pictures at a time as above.
    pub one_question: f64,
}

/// How a measurement is made.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Size of the networks.
    pub size: Size,
    /// Where they compute.
    pub place: Place,
    /// How the factors of their products are rounded there.
    pub products: ProductsHere,
    /// Times that each is repeated.
    pub repeats: usize,
    /// Steps of a picture, in place of the usual number.
    pub steps: Option<usize>,
    /// Side of the latents, in place of the usual one.
    pub side: Option<usize>,
}

impl Plan {
    /// What records say of its products.
    pub(crate) fn rounding(&self) -> Rounding {
        Rounding::of(self.products)
    }

    /// Seconds of `work`, `repeats` times after one that is not counted, sorted.
    fn times(&self, mut work: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
        work()?;
        let mut times = Vec::new();
        for _ in 0..self.repeats.max(1) {
            self.place.device.synchronize()?;
            let start = Instant::now();
            work()?;
            self.place.device.synchronize()?;
            times.push(start.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        Ok(times)
    }

    fn median(&self, work: impl FnMut() -> Result<()>) -> Result<f64> {
        let times = self.times(work)?;
        let middle = times.len() / 2;
        Ok(if times.len() % 2 == 1 {
            times[middle]
        } else {
            (times[middle - 1] + times[middle]) / 2.0
        })
    }

    /// The device's best speed in square products of `side`.
    ///
    /// # Errors
    /// The device refused.
    pub(crate) fn product(&self, side: usize) -> Result<ProductSpeed> {
        let Place { device, dtype } = &self.place;
        // bf16 products are not among those of the processor.
        let computed = if device.is_cpu() { DType::F32 } else { *dtype };
        // Products of zeros take less power and less time than those of numbers.
        let matrix = |name: &str| -> Result<Tensor> {
            Ok(made_up::input(name, &[side, side], 1.0, device)?.to_dtype(computed)?)
        };
        let (a, b) = (matrix("a")?, matrix("b")?);
        let calls = if device.is_cpu() { 1 } else { 10 };
        // Rounded ones are those of a layer, whose weights are packed before.
        let packed = self.products.while_loading(|| Linear::without_bias(b.clone()));
        let product = || if packed.packing().is_some() { packed.forward(&a) } else { a.matmul(&b) };
        let times = self.times(|| {
            for _ in 0..calls {
                product()?;
            }
            Ok(())
        })?;
        let best = times.first().copied().unwrap_or(f64::INFINITY) / f64::from(calls);
        let tera = 2.0 * (side as f64).powi(3) / best / 1e12;
        let (dtype, rounding) = (computed.as_str().to_owned(), self.rounding());
        Ok(ProductSpeed { side, dtype, rounding, tera })
    }

    /// The time of batches of each of these sizes, with the networks loaded once.
    ///
    /// # Errors
    /// The device refused.
    pub(crate) fn batches(
        &self,
        model: ImageModel,
        batches: &[usize],
    ) -> Result<Vec<PictureSpeed>> {
        let parts = self.products.while_loading(|| Parts::load(self, model))?;
        batches.iter().map(|&batch| self.on(&parts, batch)).collect()
    }

    fn on(&self, parts: &Parts, batch: usize) -> Result<PictureSpeed> {
        let model = parts.model;
        let text = self.median(|| parts.texts().map(drop))?;
        let latents = made_up::input(
            "decoded",
            &[1, parts.unet.in_channels(), parts.side, parts.side],
            1.0,
            &self.place.device,
        )?;
        let decode = self.median(|| Ok(parts.vae.decode(&latents).map(drop)?))?;
        let seconds = self.median(|| parts.pictures(batch))?;
        let work = PICTURES.iter().find(|work| work.model == model.name());
        let usual = self.size == Size::Full && self.side.is_none();
        let calls = parts.scheduler.scheduler(parts.steps)?.timesteps().len();
        let tera = work.filter(|_| usual).map(|work| {
            let picture = work.call * calls as f64 + work.decode;
            (work.text + picture * batch as f64) / seconds
        });
        Ok(PictureSpeed {
            model: model.name().to_owned(),
            dtype: self.place.dtype.as_str().to_owned(),
            rounding: self.rounding(),
            batch,
            steps: parts.steps,
            side: 8 * parts.side,
            text,
            seconds,
            per_picture: seconds / batch as f64,
            decode,
            tera,
        })
    }

    /// The time of mPLUG's answers to 14 questions about each of `pictures` pictures.
    ///
    /// # Errors
    /// The device refused.
    pub(crate) fn judge(&self, pictures: usize) -> Result<JudgeSpeed> {
        let folder = mplug_folder(self.size)?;
        let options = MplugOptions { together: pictures, ..MplugOptions::new(self.place.clone()) };
        let load = || MplugJudge::made_up(folder.path(), options);
        let judge = self.products.while_loading(load)?;
        let shown: Vec<RgbImage> = (0..pictures as u32).map(made_up_picture).collect();
        let texts: Vec<String> =
            (0..QUESTIONS).map(|n| format!("is there a word{} word{}?", n + 20, n + 40)).collect();
        let ask = |count: usize| {
            let asked: Vec<Vec<&str>> = shown
                .iter()
                .map(|_| texts.iter().take(count).map(String::as_str).collect())
                .collect();
            judge.hypotheses(&shown, &asked).map(drop)
        };
        let one_question = self.median(|| ask(1))?;
        let seconds = self.median(|| ask(QUESTIONS))?;
        Ok(JudgeSpeed {
            judge: "mplug".to_owned(),
            dtype: self.place.dtype.as_str().to_owned(),
            rounding: self.rounding(),
            pictures,
            questions: QUESTIONS,
            seconds,
            per_second: (pictures * QUESTIONS) as f64 / seconds,
            one_question: one_question / pictures as f64,
        })
    }
}

/// Questions about a picture: DPG-Bench has 13.5 on average.
const QUESTIONS: usize = 14;
/// Guidance of every picture.
const GUIDANCE: f64 = 7.5;
/// Tokens of a prompt to T5.
const T5_TOKENS: u32 = 128;

/// What pictures are made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ImageModel {
    /// Stable Diffusion 1.5: 512 pixels, 50 steps.
    Sd15,
    /// The same with ELLA in place of CLIP.
    EllaSd15,
    /// Stable Diffusion XL base: 1024 pixels, 30 steps.
    Sdxl,
}

impl ImageModel {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Sd15, Self::EllaSd15, Self::Sdxl];

    /// Its name in the catalog.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sd15 => "sd15",
            Self::EllaSd15 => "ella-sd15",
            Self::Sdxl => "sdxl",
        }
    }
}

impl std::str::FromStr for ImageModel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::name);
        Self::ALL.into_iter().find(|model| model.name() == text).ok_or_else(|| {
            let near = did_you_mean(text, names);
            format!("there is no model `{text}` to measure{near}; there are {}", names.join(", "))
        })
    }
}

/// A loaded pipeline.
struct Parts {
    model: ImageModel,
    text: Texts,
    unet: UNet,
    vae: VaeDecoder,
    scheduler: SchedulerConfig,
    steps: usize,
    side: usize,
    device: Device,
}

enum Texts {
    Clip(ClipTextModel),
    Sdxl { clip: ClipTextModel, large: ClipTextModel },
    Ella { t5: T5EncoderModel, connector: Box<EllaConnector>, unconditional: CachedContexts },
}

/// The texts of a prompt and of the negative prompt.
enum Encoded {
    Fixed { with: Tensor, without: Tensor },
    Timed { with: ProjectedText, without: ProjectedText },
}

impl Parts {
    fn load(plan: &Plan, model: ImageModel) -> Result<Self> {
        let (size, Place { device, dtype }) = (plan.size, &plan.place);
        let dtype = *dtype;
        let (picture, files, steps, side) = match model {
            ImageModel::Sd15 | ImageModel::EllaSd15 => (UnetModel::Sd15, SD15, 50, 64),
            ImageModel::Sdxl => (UnetModel::Sdxl, SDXL, 30, 128),
        };
        let usual_side = if size == Size::Full { side } else { side / 8 };
        // As the pipelines do: SDXL's autoencoder overflows f16.
        let upcast = picture == UnetModel::Sdxl && dtype == DType::F16;
        let scheduler = files.iter().find(|(path, _)| *path == "scheduler/scheduler_config.json");
        let (_, scheduler) = scheduler.context("no scheduler is known")?;
        let clip = || made_up::clip(&clip_config(size), dtype, device);
        let text = match model {
            ImageModel::Sd15 => Texts::Clip(clip()?),
            ImageModel::EllaSd15 => Texts::Ella {
                t5: made_up::t5(&t5_config(size), dtype, device)?,
                connector: Box::new(made_up::connector(connector_size(size), dtype, device)?),
                unconditional: CachedContexts::default(),
            },
            ImageModel::Sdxl => {
                let second = files.iter().find(|(path, _)| *path == "text_encoder_2/config.json");
                let (_, second) = second.context("no second encoder is known")?;
                let large = match size {
                    Size::Full => made_up::clip(&serde_json::from_str(second)?, dtype, device)?,
                    Size::Tiny => clip()?,
                };
                Texts::Sdxl { clip: clip()?, large }
            }
        };
        Ok(Self {
            model,
            text,
            unet: made_up::unet(&unet_config(picture, size), dtype, device)?,
            vae: match upcast {
                true => made_up::upcast_vae(&vae_config(size), device)?,
                false => made_up::vae(&vae_config(size), dtype, device)?,
            },
            scheduler: SchedulerConfig::from_json(scheduler, None)?,
            steps: plan.steps.unwrap_or(steps),
            side: plan.side.unwrap_or(usual_side),
            device: device.clone(),
        })
    }

    fn texts(&self) -> Result<Encoded> {
        let rows = [ids(77, 1000), ids(77, 900)];
        let both =
            |encode: &dyn Fn(&[Vec<u32>]) -> candle_core::Result<Tensor>| -> Result<Encoded> {
                let [with, without] = [encode(&rows[..1])?, encode(&rows[1..])?];
                Ok(Encoded::Fixed { with: self.fitting(with)?, without: self.fitting(without)? })
            };
        match &self.text {
            Texts::Clip(clip) => both(&|ids| clip.forward(ids)),
            Texts::Sdxl { clip, large } => both(&|ids| {
                Tensor::cat(&[clip.states(ids)?.penultimate, large.states(ids)?.penultimate], 2)
            }),
            Texts::Ella { t5, connector, .. } => {
                let project = |vocabulary: u32| -> Result<ProjectedText> {
                    let row = ids(T5_TOKENS, vocabulary);
                    let states = t5.forward(&[row], &[T5_TOKENS as usize])?;
                    Ok(connector.project(&states)?)
                };
                Ok(Encoded::Timed { with: project(1000)?, without: project(900)? })
            }
        }
    }

    /// Hidden states in the width that the UNet attends to; only tiny networks differ.
    fn fitting(&self, states: Tensor) -> Result<Tensor> {
        let width = self.unet.context_width();
        let found = states.dim(2)?;
        Ok(if found > width { states.narrow(2, 0, width)?.contiguous()? } else { states })
    }

    /// Makes `batch` pictures from token ids to bytes, and throws them away.
    fn pictures(&self, batch: usize) -> Result<()> {
        let seeds: Vec<u64> = (0..batch as u64).collect();
        let shape = (self.unet.in_channels(), self.side, self.side);
        let mut noise = ImageNoise::new(&seeds, shape, &self.device);
        let mut scheduler = self.scheduler.scheduler(self.steps)?;
        let condition: Box<dyn Conditioning> = match self.texts()? {
            Encoded::Fixed { with, without } => Box::new(FixedConditioning(TextCondition {
                conditional: TextContext::new(with),
                unconditional: Some(TextContext::new(without)),
            })),
            Encoded::Timed { with, without } => match &self.text {
                Texts::Ella { connector, unconditional, .. } => {
                    Box::new(Timed { connector, with, without, unconditional })
                }
                _ => anyhow::bail!("texts that feel the time need a connector"),
            },
        };
        let condition: Box<dyn Conditioning> = match added(&self.unet, 1, self.side, &self.device)?
        {
            Some(one) => Box::new(WithAdded {
                text: Boxed(condition),
                added: AddedConditions { conditional: one.clone(), unconditional: Some(one) },
            }),
            None => condition,
        };
        let (networks, condition) = (Networks::one(&self.unet), condition.as_ref());
        let latents = denoise(networks, condition, scheduler.as_mut(), GUIDANCE, &mut noise)?;
        let unscaled = latents.affine(1.0 / self.vae.scaling_factor(), 0.0)?;
        for image in 0..batch {
            let decoded = self.vae.decode(&unscaled.narrow(0, image, 1)?)?;
            let picture = decoded.affine(0.5, 0.5)?.clamp(0.0, 1.0)?.to_dtype(DType::F32)?;
            to_pixels(&picture.get(0)?)?;
        }
        Ok(())
    }
}

/// Smooth colours, another for each number.
fn made_up_picture(number: u32) -> RgbImage {
    RgbImage::from_fn(512, 512, |x, y| {
        let shade = |at: u32| ((at * 230 / 512 + 37 * number) % 256) as u8;
        Rgb([shade(x), shade(y), shade((x + y) / 2)])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let place = Place { device: Device::Cpu, dtype: DType::F32 };
        let products = ProductsHere::default();
        Plan { size: Size::Tiny, place, products, repeats: 1, steps: Some(2), side: Some(8) }
    }

    #[test]
    fn every_model_makes_a_batch_of_pictures() {
        for model in ImageModel::ALL {
            let found = plan().batches(model, &[2]).unwrap().remove(0);
            assert_eq!((found.batch, found.steps, found.side), (2, 2, 64), "{found:?}");
            assert_eq!(found.model, model.name());
            assert!(found.seconds > 0.0 && found.per_picture < found.seconds, "{found:?}");
            // Of tiny networks nobody knows the operations.
            assert_eq!(found.tera, None);
        }
    }

    #[test]
    fn the_judge_answers_and_a_product_has_a_speed() {
        let found = plan().judge(2).unwrap();
        assert!((found.per_second * found.seconds - 28.0).abs() < 1e-6, "{found:?}");
        let product = plan().product(64).unwrap();
        assert!(product.tera > 0.0 && product.dtype == "f32", "{product:?}");
    }
}
