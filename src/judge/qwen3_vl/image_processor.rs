//! In: a picture. Out: the patches that Qwen3-VL sees, equal to those of transformers'
//! `Qwen2VLImageProcessorPil` with Pillow 13, bit for bit. Its settings come from the checkpoint's
//! `preprocessor_config.json`, or `processor_config.json` as transformers 5 saves it.

use std::path::Path;

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use image::RgbImage;
use serde::Deserialize;
use serde_json::Value;

use super::super::pillow_resize::{Filter, Order, resize};
use super::super::processor_config::image_processor_config;
use crate::models::qwen3_vl::PatchLayout;
use crate::models::qwen3_vl::grid::Grid;

/// Of the settings, what changes a patch. What is absent is as in `Qwen2VLImageProcessor`.
#[derive(Debug, Deserialize)]
struct Settings {
    size: Option<Size>,
    min_pixels: Option<u64>,
    max_pixels: Option<u64>,
    do_resize: Option<bool>,
    do_rescale: Option<bool>,
    do_normalize: Option<bool>,
    resample: Option<u64>,
    rescale_factor: Option<f64>,
    image_mean: Option<Vec<f64>>,
    image_std: Option<Vec<f64>>,
    patch_size: Option<usize>,
    merge_size: Option<usize>,
    temporal_patch_size: Option<usize>,
}

#[derive(Debug, Deserialize)]
struct Size {
    shortest_edge: Option<u64>,
    longest_edge: Option<u64>,
}

/// How pictures are made patches.
#[derive(Debug)]
pub struct ImageProcessor {
    /// Pixels that a picture has at least, after scaling, and at most.
    pixels: (u64, u64),
    /// What each value of each colour becomes.
    values: [[f32; 256]; 3],
    layout: PatchLayout,
    described: Value,
}

/// Pillow's name for its bicubic filter.
const BICUBIC: u64 = 3;
const COLOURS: usize = 3;
/// Sides may differ by this factor.
const LONGEST_SHAPE: f64 = 200.0;

impl ImageProcessor {
    /// Reads the picture processor's settings of `folder`, for a network that wants `layout`.
    ///
    /// # Errors
    /// The file is missing or broken, asks for what is not done here, or is of another network.
    pub fn read(folder: &Path, layout: PatchLayout) -> Result<Self> {
        let (path, settings) = image_processor_config(folder)?;
        let settings: Settings = serde_json::from_value(settings)
            .with_context(|| format!("{}: is no image processor's settings", path.display()))?;
        Self::from_settings(settings, layout).with_context(|| path.display().to_string())
    }

    fn from_settings(settings: Settings, layout: PatchLayout) -> Result<Self> {
        for (name, on) in [
            ("do_resize", settings.do_resize),
            ("do_rescale", settings.do_rescale),
            ("do_normalize", settings.do_normalize),
        ] {
            if on == Some(false) {
                bail!("{name} = false is not supported");
            }
        }
        if settings.resample.is_some_and(|filter| filter != BICUBIC) {
            bail!("resample = {:?} is not supported, only {BICUBIC}, bicubic", settings.resample);
        }
        for (name, found, due) in [
            ("patch_size", settings.patch_size.unwrap_or(14), layout.patch),
            ("merge_size", settings.merge_size.unwrap_or(2), layout.merge),
            ("temporal_patch_size", settings.temporal_patch_size.unwrap_or(2), layout.frames),
            ("the number of colours", COLOURS, layout.channels),
        ] {
            if found != due {
                bail!("{name} is {found} here and {due} in config.json; are the two of one model?");
            }
        }
        let size = settings.size.as_ref();
        let least = settings.min_pixels.or_else(|| size?.shortest_edge).unwrap_or(56 * 56);
        let most = settings.max_pixels.or_else(|| size?.longest_edge).unwrap_or(28 * 28 * 1280);
        if least == 0 || most < least {
            bail!("an image cannot have from {least} to {most} pixels");
        }
        let factor = settings.rescale_factor.unwrap_or(1.0 / 255.0);
        // Absent, they are CLIP's.
        let means = three("image_mean", settings.image_mean, [0.48145466, 0.4578275, 0.40821073])?;
        let deviations =
            three("image_std", settings.image_std, [0.26862954, 0.261_302_58, 0.275_777_11])?;
        let mut values = [[0.0; 256]; COLOURS];
        for (colour, values) in values.iter_mut().enumerate() {
            for (value, result) in values.iter_mut().enumerate() {
                let scaled = (value as f64 * factor) as f32;
                *result = (scaled - means[colour] as f32) / deviations[colour] as f32;
            }
        }
        let described = serde_json::json!({
            "filter": "bicubic, as in Pillow 13",
            "min_pixels": least, "max_pixels": most,
            "rescale_factor": factor, "mean": means, "std": deviations,
        });
        Ok(Self { pixels: (least, most), values, layout, described })
    }

    /// The rules, for a run's record.
    pub(crate) fn described(&self) -> Value {
        self.described.clone()
    }

    /// Patches [rows * columns, channels * frames * patch * patch] of `picture`, square by square, and
    /// their grid.
    ///
    /// # Errors
    /// The picture has no pixels, or one side is over 200 times the other.
    pub fn patches(&self, picture: &RgbImage) -> Result<(Tensor, Grid)> {
        let PatchLayout { patch, merge, frames, .. } = self.layout;
        let (width, height) = self.scaled_size(picture.dimensions())?;
        let scaled = resize(picture, (width, height), Filter::Bicubic, Order::Pillow13);
        let grid = Grid { rows: height as usize / patch, columns: width as usize / patch };
        let (pixels, stride) = (scaled.as_raw(), COLOURS * width as usize);
        let length = COLOURS * frames * patch * patch;
        let mut patches = Vec::with_capacity(grid.rows * grid.columns * length);
        for [row, column] in grid.places(merge) {
            for colour in 0..COLOURS {
                let values = &self.values[colour];
                let first = patches.len();
                for line in row * patch..(row + 1) * patch {
                    let line = &pixels[line * stride + column * patch * COLOURS..];
                    let line = line[..patch * COLOURS].iter().skip(colour).step_by(COLOURS);
                    patches.extend(line.map(|value| values[usize::from(*value)]));
                }
                for _ in 1..frames {
                    patches.extend_from_within(first..first + patch * patch);
                }
            }
        }
        let shape = (grid.rows * grid.columns, length);
        Ok((Tensor::from_vec(patches, shape, &Device::Cpu)?, grid))
    }

    /// Width and height in whole squares of patches, as close as possible to those of the picture and
    /// within the bounds on its pixels: `smart_resize` of transformers.
    fn scaled_size(&self, (width, height): (u32, u32)) -> Result<(u32, u32)> {
        let (width, height) = (f64::from(width), f64::from(height));
        let shape = width.max(height) / width.min(height);
        if shape.is_nan() || shape > LONGEST_SHAPE {
            bail!(
                "an image of {width} x {height} pixels is too long for Qwen3-VL, which takes sides up \
                 to {LONGEST_SHAPE} times the other"
            );
        }
        let square = (self.layout.patch * self.layout.merge) as f64;
        let (least, most) = (self.pixels.0 as f64, self.pixels.1 as f64);
        // Python rounds halves to even.
        let whole = |side: f64| (side / square).round_ties_even() * square;
        let (mut new_width, mut new_height) = (whole(width), whole(height));
        if new_width * new_height > most {
            let factor = (height * width / most).sqrt();
            let shrunk = |side: f64| ((side / factor / square).floor() * square).max(square);
            (new_width, new_height) = (shrunk(width), shrunk(height));
        } else if new_width * new_height < least {
            let factor = (least / (height * width)).sqrt();
            let grown = |side: f64| (side * factor / square).ceil() * square;
            (new_width, new_height) = (grown(width), grown(height));
        }
        // Zero sides stay below the bound that was meant to lift them only if the bound is tiny.
        if new_width < square || new_height < square {
            bail!("an image of {width} x {height} pixels is smaller than one token");
        }
        Ok((new_width as u32, new_height as u32))
    }
}

fn three(name: &str, values: Option<Vec<f64>>, absent: [f64; COLOURS]) -> Result<[f64; COLOURS]> {
    let values = values.unwrap_or_else(|| absent.to_vec());
    <[f64; COLOURS]>::try_from(values)
        .ok()
        .filter(|values| values.iter().all(|value| value.is_finite()))
        .with_context(|| format!("{name} needs {COLOURS} numbers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(json: &str) -> Result<ImageProcessor> {
        let layout = PatchLayout { patch: 16, merge: 2, frames: 2, channels: 3 };
        ImageProcessor::from_settings(serde_json::from_str(json).unwrap(), layout)
    }

    const PUBLISHED: &str = r#"{"size": {"longest_edge": 16777216, "shortest_edge": 65536},
        "patch_size": 16, "temporal_patch_size": 2, "merge_size": 2,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
        "image_processor_type": "Qwen2VLImageProcessorFast"}"#;

    #[test]
    fn sizes_are_those_of_transformers() {
        let rules = rules(PUBLISHED).unwrap();
        for (size, expected) in [
            ((1024, 1024), (1024, 1024)),
            ((512, 512), (512, 512)),
            ((1008, 1040), (1024, 1024)), // 31.5 and 32.5 both go to 32
            ((100, 60), (352, 224)),
            ((1, 200), (32, 3648)),
            ((8000, 3000), (6688, 2496)),
        ] {
            assert_eq!(rules.scaled_size(size).unwrap(), expected, "{size:?}");
        }
        for size in [(1, 201), (0, 5), (0, 0)] {
            assert!(rules.scaled_size(size).unwrap_err().to_string().contains("too long"));
        }
    }

    #[test]
    fn settings_that_are_not_honoured_are_named() {
        for (json, expected) in [
            (r#"{"do_resize": false, "patch_size": 16}"#, "do_resize"),
            (r#"{"resample": 2, "patch_size": 16}"#, "resample"),
            (r#"{"patch_size": 14}"#, "patch_size is 14 here and 16"),
            ("{}", "patch_size is 14 here and 16"),
            (r#"{"patch_size": 16, "merge_size": 4}"#, "merge_size"),
            (r#"{"patch_size": 16, "image_mean": [0.5]}"#, "image_mean needs 3"),
            (r#"{"patch_size": 16, "min_pixels": 9, "max_pixels": 3}"#, "from 9 to 3 pixels"),
        ] {
            let error = rules(json).unwrap_err().to_string();
            assert!(error.contains(expected), "{json}: {error}");
        }
        assert_eq!(rules(r#"{"patch_size": 16}"#).unwrap().pixels, (3136, 1_003_520));
    }
}
