//! In: a picture and the settings of its processor. Out: the normalised pixels that BLIP's vision tower takes.
//!
//! Follows transformers' image processor as it computes with Pillow and NumPy (`BlipImageProcessorPil`,
//! called slow in versions before 5), to the bit: resized to a square with Pillow's filter in 8 bits,
//! scaled in f64, normalised in f32. Its torch path resizes by another arithmetic, which differs in a
//! grey level here and there.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor};
use image::RgbImage;
use serde::Deserialize;

use crate::judge::pillow_resize::{Filter, Order, resize};
use crate::judge::processor_config::image_processor_config;

const CHANNELS: usize = 3;

/// How pictures are prepared.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageProcessor {
    side: u32,
    filter: Filter,
    factor: f64,
    mean: [f32; CHANNELS],
    deviation: [f32; CHANNELS],
}

/// The settings; what is absent is as in `BlipImageProcessor`.
#[derive(Deserialize)]
struct File {
    size: Option<Size>,
    resample: Option<u32>,
    rescale_factor: Option<f64>,
    image_mean: Option<[f32; CHANNELS]>,
    image_std: Option<[f32; CHANNELS]>,
    do_resize: Option<bool>,
    do_rescale: Option<bool>,
    do_normalize: Option<bool>,
    do_center_crop: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Size {
    Square(u32),
    Sides { height: u32, width: u32 },
}

impl ImageProcessor {
    /// Reads the picture processor's settings of `folder`, for a network that takes pictures of `side` pixels.
    ///
    /// # Errors
    /// It cannot be read, asks for what is not here, or is that of another network.
    pub fn read(folder: &Path, side: usize) -> Result<Self> {
        let (path, settings) = image_processor_config(folder)?;
        Self::of(settings, side).with_context(|| format!("{} cannot be used", path.display()))
    }

    fn of(settings: serde_json::Value, side: usize) -> Result<Self> {
        let file: File = serde_json::from_value(settings).context("it is no image processor's")?;
        for (key, value, needed) in [
            ("do_resize", file.do_resize, true),
            ("do_rescale", file.do_rescale, true),
            ("do_normalize", file.do_normalize, true),
            ("do_center_crop", file.do_center_crop, false),
        ] {
            ensure!(
                value.is_none_or(|value| value == needed),
                "{key} = {} is not supported; only {needed} is",
                !needed
            );
        }
        let (height, width) = match file.size {
            None => (384, 384),
            Some(Size::Square(side)) => (side, side),
            Some(Size::Sides { height, width }) => (height, width),
        };
        ensure!(
            height as usize == side && width as usize == side,
            "its size is {width} x {height} pixels, but config.json's network takes {side} x {side}; \
             do the two files belong together?"
        );
        let deviation = file.image_std.unwrap_or([0.268_629_54, 0.261_302_6, 0.275_777_1]);
        ensure!(deviation.iter().all(|value| *value > 0.0), "image_std must be above 0");
        Ok(Self {
            side: height,
            filter: match file.resample.unwrap_or(3) {
                1 => Filter::Lanczos,
                2 => Filter::Bilinear,
                3 => Filter::Bicubic,
                other => bail!("resample = {other} is not supported; 1, 2 and 3 are"),
            },
            factor: file.rescale_factor.unwrap_or(1.0 / 255.0),
            mean: file.image_mean.unwrap_or([0.481_454_66, 0.457_827_5, 0.408_210_73]),
            deviation,
        })
    }

    /// Pixels [1, 3, side, side] of a picture, f32.
    ///
    /// # Errors
    /// The picture has no pixels.
    pub fn pixels(&self, picture: &RgbImage) -> Result<Tensor> {
        ensure!(picture.width() > 0 && picture.height() > 0, "the image has no pixels");
        let resized = resize(picture, (self.side, self.side), self.filter, Order::default());
        let mut values = Vec::with_capacity(resized.as_raw().len());
        for channel in 0..CHANNELS {
            let (mean, deviation) = (self.mean[channel], self.deviation[channel]);
            let scaled = resized.pixels().map(|pixel| f64::from(pixel.0[channel]) * self.factor);
            values.extend(scaled.map(|value| (value as f32 - mean) / deviation));
        }
        let side = self.side as usize;
        Ok(Tensor::from_vec(values, (1, CHANNELS, side, side), &Device::Cpu)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_are_not_here_are_refused() {
        let of = |text: &str, side| ImageProcessor::of(serde_json::from_str(text).unwrap(), side);
        let plain = of("{}", 384).unwrap();
        assert_eq!(plain.filter, Filter::Bicubic);
        let whole = r#"{"size": {"height": 384, "width": 384}, "resample": 3, "do_pad": true,
            "rescale_factor": 0.00392156862745098, "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711]}"#;
        assert_eq!(of(whole, 384).unwrap(), plain);
        for (text, expected) in [
            ("[1]", "no image processor's"),
            (r#"{"size": 480}"#, "480 x 480 pixels, but config.json's network takes 384 x 384"),
            (r#"{"do_normalize": false}"#, "do_normalize = false is not supported"),
            (r#"{"do_center_crop": true}"#, "do_center_crop = true is not supported"),
            (r#"{"resample": 5}"#, "resample = 5"),
            (r#"{"image_std": [1, 0, 1]}"#, "above 0"),
        ] {
            let error = format!("{:#}", of(text, 384).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
