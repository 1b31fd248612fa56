//! In: an 8-bit RGB picture and a size. Out: the picture in that size, equal bit for bit to what Pillow's
//! `Image.resize` gives, for judges and models whose originals prepare their pictures with it.
//!
//! Written after `src/libImaging/Resample.c` of Pillow: one pass along each axis with weights in fixed
//! point, the picture between the passes in 8 bits. `tests/suite/pillow_resize.rs` holds it to Pillow.

use image::RgbImage;

/// Bits behind the point of a weight.
const PRECISION: u32 = 32 - 8 - 2;
const CHANNELS: usize = 3;

/// How far around a pixel the resampling looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// `Image.BILINEAR`: a triangle, 1 pixel to each side.
    Bilinear,
    /// `Image.BICUBIC`: Keys' cubic with a = -0.5, 2 pixels to each side.
    Bicubic,
    /// `Image.LANCZOS`: a windowed sinc, 3 pixels to each side.
    Lanczos,
}

/// Which axis Pillow takes first. It matters to the last bit of a pixel, since what lies between the two
/// passes is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Always along the rows first, as in Pillow up to version 12: what published numbers were made
    /// with.
    #[default]
    RowsFirst,
    /// As Pillow 13: along the columns first where that loses more than twice as many rows as the other
    /// pass loses columns. (Found by comparing 6,000 pictures of random sizes in versions 10.3 and 13.0.)
    Pillow13,
}

/// `picture` in `width` x `height` pixels.
///
/// An axis whose length does not change is left alone, as in Pillow. A side of no pixels, in the picture
/// or asked for, gives a picture of no pixels.
pub fn resize(
    picture: &RgbImage,
    (width, height): (u32, u32),
    filter: Filter,
    order: Order,
) -> RgbImage {
    let (from_width, from_height) = picture.dimensions();
    if [width, height, from_width, from_height].contains(&0) {
        return RgbImage::new(width, height);
    }
    let columns_first = order == Order::Pillow13 && height < from_height && {
        let lost = |from: u32, to: u32| i64::from(from) - i64::from(to);
        lost(from_height, height) > 2 * lost(from_width, width)
    };
    let steps = if columns_first { [Axis::Column, Axis::Row] } else { [Axis::Row, Axis::Column] };
    let mut current = picture.clone();
    for axis in steps {
        current = match axis {
            Axis::Row if width != from_width => along_rows(&current, width, filter),
            Axis::Column if height != from_height => along_columns(&current, height, filter),
            _ => current,
        };
    }
    current
}

enum Axis {
    Row,
    Column,
}

/// The weights of one axis.
struct Weights {
    /// First pixel that each new pixel is made from, and its weights in fixed point.
    windows: Vec<(usize, Vec<i32>)>,
}

impl Weights {
    fn new(from: u32, to: u32, filter: Filter) -> Self {
        let scale = f64::from(from) / f64::from(to);
        // Where the picture shrinks, the filter is widened, so that no pixel is passed over.
        let widening = scale.max(1.0);
        let support = filter.support() * widening;
        let narrowing = 1.0 / widening;
        let windows = (0..to).map(|index| {
            let centre = (f64::from(index) + 0.5) * scale;
            // `as` cuts towards zero and keeps within the type, like the casts of the original.
            let first = ((centre - support + 0.5) as i64).max(0);
            let end = ((centre + support + 0.5) as i64).min(i64::from(from));
            let weights: Vec<f64> = (first..end)
                .map(|pixel| filter.at((pixel as f64 - centre + 0.5) * narrowing))
                .collect();
            let sum: f64 = weights.iter().fold(0.0, |sum, weight| sum + weight);
            let fixed = weights.iter().map(|&weight| {
                let weight = if sum == 0.0 { weight } else { weight / sum };
                let scaled = weight * f64::from(1_i32 << PRECISION);
                (if weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
            });
            (first as usize, fixed.collect())
        });
        Self { windows: windows.collect() }
    }
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn at(self, distance: f64) -> f64 {
        let x = distance.abs();
        match self {
            Self::Bilinear if x < 1.0 => 1.0 - x,
            Self::Bicubic => {
                const A: f64 = -0.5;
                if x < 1.0 {
                    ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
                } else if x < 2.0 {
                    (((x - 5.0) * x + 8.0) * x - 4.0) * A
                } else {
                    0.0
                }
            }
            // The window is open at +3 and closed at -3 in the original.
            Self::Lanczos if (-3.0..3.0).contains(&distance) => {
                sinc(distance) * sinc(distance / 3.0)
            }
            Self::Bilinear | Self::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x
}

fn rounded(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// Half of the last place that is kept. Sums stay below 2^31: the weights of a window add up to 2^22, and
/// their absolute values to less than twice as much.
const HALF: i32 = 1 << (PRECISION - 1);

fn along_rows(picture: &RgbImage, width: u32, filter: Filter) -> RgbImage {
    let weights = Weights::new(picture.width(), width, filter);
    let mut out = RgbImage::new(width, picture.height());
    let row_length = picture.width() as usize * CHANNELS;
    let rows = picture.as_raw().chunks_exact(row_length);
    for (row, out_row) in rows.zip(out.chunks_exact_mut(width as usize * CHANNELS)) {
        for ((first, window), pixel) in
            weights.windows.iter().zip(out_row.chunks_exact_mut(CHANNELS))
        {
            let mut sums = [HALF; CHANNELS];
            for (&weight, source) in
                window.iter().zip(row[first * CHANNELS..].chunks_exact(CHANNELS))
            {
                for (sum, &value) in sums.iter_mut().zip(source) {
                    *sum += weight * i32::from(value);
                }
            }
            for (value, sum) in pixel.iter_mut().zip(sums) {
                *value = rounded(sum);
            }
        }
    }
    out
}

fn along_columns(picture: &RgbImage, height: u32, filter: Filter) -> RgbImage {
    let weights = Weights::new(picture.height(), height, filter);
    let mut out = RgbImage::new(picture.width(), height);
    let row_length = picture.width() as usize * CHANNELS;
    let source = picture.as_raw();
    let mut sums = vec![HALF; row_length];
    for ((first, window), out_row) in weights.windows.iter().zip(out.chunks_exact_mut(row_length)) {
        sums.fill(HALF);
        for (&weight, row) in
            window.iter().zip(source[first * row_length..].chunks_exact(row_length))
        {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += weight * i32::from(value);
            }
        }
        for (value, &sum) in out_row.iter_mut().zip(&sums) {
            *value = rounded(sum);
        }
    }
    out
}
