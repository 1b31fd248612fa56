//! In: pictures as tensors. Out: pictures as bytes, or in another size. What is in them is left to the pipelines.

use anyhow::{Context, Result, anyhow, bail, ensure};
use candle_core::{DType, Tensor};
use image::RgbImage;

use crate::generate::GeneratedImage;

/// Pictures `[seeds, 3, height, width]` in 0..=1 as the images of a prompt.
///
/// # Errors
/// See [`to_pixels`]; the advice is for networks in `dtype`.
pub(crate) fn images(
    pictures: &Tensor,
    seeds: &[u64],
    prompt_tokens: usize,
    truncated: bool,
    dtype: DType,
) -> Result<Vec<GeneratedImage>> {
    let advice = match dtype {
        DType::F32 => {
            "a weight of the checkpoint, an adapter's weight or the guidance is out of range"
        }
        _ => "try --dtype f32",
    };
    seeds
        .iter()
        .enumerate()
        .map(|(index, &seed)| {
            Ok(GeneratedImage {
                pixels: to_pixels(&pictures.get(index)?).map_err(|e| anyhow!("{e}; {advice}"))?,
                seed,
                prompt_tokens: Some(u32::try_from(prompt_tokens)?),
                truncated: Some(truncated),
                served: None,
            })
        })
        .collect()
}

/// `[3, height, width]` in 0..=1 to bytes, rounded half to even as NumPy does.
///
/// # Errors
/// Another shape, or a number that is none (a network overflowed).
pub fn to_pixels(picture: &Tensor) -> Result<RgbImage> {
    let (channels, height, width) = picture.dims3()?;
    ensure!(channels == 3, "an image has 3 channels, not {channels}");
    let values = picture.permute((1, 2, 0))?.contiguous()?.flatten_all()?.to_vec1::<f32>()?;
    if values.iter().any(|value| value.is_nan()) {
        bail!("the image holds numbers that are none: the networks overflowed");
    }
    let bytes = values.iter().map(|value| (value * 255.0).round_ties_even() as u8).collect();
    RgbImage::from_raw(u32::try_from(width)?, u32::try_from(height)?, bytes)
        .context("the image has another size than its pixels")
}

/// `pictures` [b, c, h, w] blown up or shrunk until `height` x `width` fit, of which the middle is kept, as diffusers'
/// `resize_and_crop_tensor`: bilinear, without a filter where pictures shrink. Where rounding leaves diffusers a pixel too little
/// (248 rows asked of 464), it cuts off all but one; here the side is as asked.
pub(crate) fn resized_and_cropped(
    pictures: &Tensor,
    (height, width): (usize, usize),
) -> candle_core::Result<Tensor> {
    let (_, _, made_height, made_width) = pictures.dims4()?;
    if (made_height, made_width) == (height, width) {
        return Ok(pictures.clone());
    }
    let ratio = (height as f64 / made_height as f64).max(width as f64 / made_width as f64);
    let larger = |made: usize, asked: usize| ((made as f64 * ratio) as usize).max(asked);
    let (rows, columns) = (larger(made_height, height), larger(made_width, width));
    let resized = stretched(&stretched(pictures, 3, columns)?, 2, rows)?;
    let (top, left) = ((rows - height) / 2, (columns - width) / 2);
    resized.narrow(2, top, height)?.narrow(3, left, width)?.contiguous()
}

/// Dimension `dim` of `x` in `size` places, each between the two nearest.
fn stretched(x: &Tensor, dim: usize, size: usize) -> candle_core::Result<Tensor> {
    let from = x.dim(dim)?;
    if from == size {
        return Ok(x.clone());
    }
    let scale = from as f32 / size as f32;
    let places = (0..size).map(|place| ((place as f32 + 0.5) * scale - 0.5).max(0.0));
    let places: Vec<f32> = places.collect();
    let last = from.saturating_sub(1) as u32;
    let before: Vec<u32> = places.iter().map(|place| (*place as u32).min(last)).collect();
    let after: Vec<u32> = before.iter().map(|before| (before + 1).min(last)).collect();
    let shares: Vec<f32> =
        places.iter().zip(&before).map(|(place, before)| place - *before as f32).collect();
    let device = x.device();
    let pick = |places: Vec<u32>| x.index_select(&Tensor::from_vec(places, size, device)?, dim);
    let mut shape = vec![1; x.rank()];
    shape[dim] = size;
    let shares = Tensor::from_vec(shares, shape, device)?.to_dtype(x.dtype())?;
    let (before, after) = (pick(before)?, pick(after)?);
    &before + (after - &before)?.broadcast_mul(&shares)?
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_resized_picture_has_the_size_asked_for() {
        let picture = Tensor::zeros((1, 1, 464, 128), DType::F32, &Device::Cpu).unwrap();
        // 464 * (248 / 464) is a little less than 248.
        for size in [(248, 60), (248, 68), (464, 128), (100, 77), (900, 900)] {
            let resized = resized_and_cropped(&picture, size).unwrap();
            assert_eq!(resized.dims(), [1, 1, size.0, size.1]);
        }
    }

    #[test]
    fn bytes_are_rounded_half_to_even() {
        // 0.5, 1.5 and 2.5 of 255, as f32 products.
        let values: Vec<f32> = vec![0.5 / 255.0, 1.5 / 255.0, 2.5 / 255.0, 0.0, 1.0, 0.999];
        let halves = values.iter().map(|value| value * 255.0).collect::<Vec<_>>();
        assert_eq!(&halves[..3], [0.5, 1.5, 2.5]);
        let picture = Tensor::from_vec(values, (3, 1, 2), &Device::Cpu).unwrap();
        let image = to_pixels(&picture).unwrap();
        assert_eq!(image.get_pixel(0, 0).0, [0, 2, 255]);
        assert_eq!(image.get_pixel(1, 0).0, [2, 0, 255]);
    }

    #[test]
    fn a_picture_of_nothing_is_refused() {
        let pictures = Tensor::full(f32::NAN, (1, 3, 2, 2), &Device::Cpu).unwrap();
        let told = |dtype| images(&pictures, &[1], 7, false, dtype).unwrap_err().to_string();
        assert!(told(DType::F16).ends_with("the networks overflowed; try --dtype f32"));
        assert!(!told(DType::F32).contains("--dtype"), "{}", told(DType::F32));
    }
}
