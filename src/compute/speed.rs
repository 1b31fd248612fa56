//! In: a device and a number format. Out: how fast they do the two operations that take nearly all of a
//! network's time, in the shapes that a Stable Diffusion UNet has. For estimates; no result depends on it.

use std::time::{Duration, Instant};

use candle_core::{DType, Device, Module, Result, Tensor};

use super::layers::{Conv2d, Linear};

/// Floating-point operations a second; a multiplication and an addition are two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Speed {
    /// Convolutions of 3 x 3: 320 channels to 320 on 64 x 64, two images.
    pub convolution: f64,
    /// Products: 8,192 rows of 320 by 320 x 2,560.
    pub product: f64,
}

/// Measures both, each for about `time` after a first call that is not counted.
///
/// # Errors
/// The device refused.
pub(crate) fn measure_speed(device: &Device, dtype: DType, time: Duration) -> Result<Speed> {
    let ones = |shape: &[usize]| Tensor::ones(shape, dtype, device);
    let (channels, side, images) = (320, 64, 2);
    let filters = ones(&[channels, channels, 3, 3])?.affine(1.0 / (9.0 * channels as f64), 0.0)?;
    let convolution = Conv2d::new(filters, ones(&[channels])?, 1);
    // What a convolution leaves lies as the next one wants it.
    let map = convolution.forward(&ones(&[images, channels, side, side])?)?;
    let (rows, input, output) = (images * side * side, 320, 2560);
    let product = Linear::new(ones(&[output, input])?, ones(&[output])?);
    let x = ones(&[1, rows, input])?;
    Ok(Speed {
        convolution: rate(device, time, 2 * rows * channels * channels * 9, || {
            convolution.forward(&map)
        })?,
        product: rate(device, time, 2 * rows * input * output, || product.forward(&x))?,
    })
}

fn rate(
    device: &Device,
    time: Duration,
    operations: usize,
    work: impl Fn() -> Result<Tensor>,
) -> Result<f64> {
    work()?;
    device.synchronize()?;
    let start = Instant::now();
    let mut calls = 0.0;
    loop {
        // Several at a time: waiting for a GPU after each would count the wait.
        for _ in 0..8 {
            work()?;
            calls += 1.0;
            if device.is_cpu() {
                break;
            }
        }
        device.synchronize()?;
        if start.elapsed() >= time {
            return Ok(calls * operations as f64 / start.elapsed().as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_rates_are_sensible_numbers() {
        let speed = measure_speed(&Device::Cpu, DType::F32, Duration::from_millis(1)).unwrap();
        for rate in [speed.convolution, speed.product] {
            assert!((1e8..1e15).contains(&rate), "{speed:?}");
        }
    }
}
