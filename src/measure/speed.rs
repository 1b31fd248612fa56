//! In: a device, a number format and a size. Out: the time of pictures from token ids to bytes, of answers,
//! and of large products, by which the first two can be judged. Each is repeated after a call that is not
//! counted, and the device is waited for at both ends.

use std::time::Instant;

use anyhow::Result;
use candle_core::{DType, Module, Tensor};
use image::{Rgb, RgbImage};
use serde::{Deserialize, Serialize};

use super::configs::Size;
use super::image_models::ImageModel;
use super::networks::mplug_folder;
use super::pictures::Parts;
use super::rounding::Rounding;
use crate::compute::device::Place;
use crate::compute::layers::Linear;
use crate::compute::products::ProductsHere;
use crate::judge::mplug::{MplugJudge, MplugOptions};
use crate::models::made_up;

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
    /// Which of the published sizes of the model it is; absent where there is one, and before 1.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<String>,
    /// Number format of the network.
    pub dtype: String,
    /// How products were rounded.
    #[serde(flatten)]
    pub rounding: Rounding,
    /// Pictures of one prompt made at a time.
    pub batch: usize,
    /// Steps of a picture; a scheduler may call the network once more.
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
        let own = (self.steps, self.side);
        let load = || Parts::load(model, self.size, &self.place, own);
        let parts = self.products.while_loading(load)?;
        batches.iter().map(|&batch| self.on(&parts, batch)).collect()
    }

    fn on(&self, parts: &Parts, batch: usize) -> Result<PictureSpeed> {
        let model = parts.model;
        let text = self.median(|| parts.texts().map(drop))?;
        let decode = parts.decoded(&self.place.device)?;
        let decode = self.median(|| decode().map(drop))?;
        let seconds = self.median(|| parts.pictures(batch))?;
        let work = model.published();
        let usual = self.size == Size::Full && self.side.is_none();
        let calls = parts.calls()?;
        let tera = work.filter(|_| usual).map(|work| {
            let picture = work.usual_texts() * work.call * calls as f64 + work.decode;
            (work.text + picture * batch as f64) / seconds
        });
        let published = work.map(|work| work.name).filter(|name| *name != model.name());
        Ok(PictureSpeed {
            model: model.name().to_owned(),
            published: published.map(str::to_owned),
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
/// Smooth colours, another for each number.
fn made_up_picture(number: u32) -> RgbImage {
    RgbImage::from_fn(512, 512, |x, y| {
        let shade = |at: u32| ((at * 230 / 512 + 37 * number) % 256) as u8;
        Rgb([shade(x), shade(y), shade((x + y) / 2)])
    })
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

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
