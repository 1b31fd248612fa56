//! In: the pixels of an image, whole or row by row. Out: its thumbnail, a small JPEG. The same pixels give the same bytes: those
//! that a run keeps with its images are those that a report makes of the PNGs.

use std::io;

use image::RgbImage;
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

/// Longest side of a thumbnail in pixels.
pub(crate) const THUMBNAIL_SIDE: u32 = 192;
const QUALITY: u8 = 78;
/// Of a JPEG that people are to look at closely.
const CLOSE_QUALITY: u8 = 95;

/// The thumbnail of an image whose sides are at most `MAX_IMAGE_SIDE` of `image_store`.
///
/// # Errors
/// Those of the encoder, which has none for so small an image.
pub fn thumbnail_of(picture: &RgbImage) -> io::Result<Vec<u8>> {
    jpeg_of(&shrunk(picture))
}

/// The JPEG of an image that was shrunk.
///
/// # Errors
/// As [`thumbnail_of`].
pub(crate) fn jpeg_of(small: &RgbImage) -> io::Result<Vec<u8>> {
    encoded(small, QUALITY, SamplingFactor::F_2_2)
}

/// A JPEG that people are to look at closely, colours at full resolution.
///
/// # Errors
/// Those of the encoder: a side has more than 65,535 pixels or none.
pub(crate) fn close_jpeg_of(picture: &RgbImage) -> io::Result<Vec<u8>> {
    encoded(picture, CLOSE_QUALITY, SamplingFactor::F_1_1)
}

fn encoded(picture: &RgbImage, quality: u8, colours: SamplingFactor) -> io::Result<Vec<u8>> {
    let mut jpeg = Vec::new();
    let mut encoder = Encoder::new(&mut jpeg, quality);
    encoder.set_sampling_factor(colours);
    let side = |pixels: u32| u16::try_from(pixels).map_err(io::Error::other);
    let (width, height) = (side(picture.width())?, side(picture.height())?);
    encoder.encode(picture.as_raw(), width, height, ColorType::Rgb).map_err(io::Error::other)?;
    Ok(jpeg)
}

/// The image with squares of pixels averaged, as many as bring its longest side down to [`THUMBNAIL_SIDE`].
pub(crate) fn shrunk(picture: &RgbImage) -> RgbImage {
    let mut shrinking = Shrinking::new(picture.width(), picture.height());
    for row in picture.as_raw().chunks_exact(picture.width().max(1) as usize * 3) {
        shrinking.add(row);
    }
    shrinking.finish()
}

/// Averages squares of pixels, as many as bring the longest side down to [`THUMBNAIL_SIDE`].
pub(crate) struct Shrinking {
    /// Pixels of a square's side.
    step: u32,
    columns: u32,
    rows: u32,
    /// Rows of squares that are to come.
    rows_left: u32,
    /// Rows that the sums are of.
    lines: u32,
    /// Pixels of a row that are summed.
    across: u32,
    /// Per byte of a row, of the rows since the last squares were finished. Sixteen bits hold those of 257
    /// rows; the largest picture that is read needs 86.
    sums: Vec<u16>,
    picture: RgbImage,
    height: u32,
}

impl Shrinking {
    /// Of a picture whose sides are at most `MAX_IMAGE_SIDE` of `image_store`.
    pub(crate) fn new(width: u32, height: u32) -> Self {
        let step = width.max(height).div_ceil(THUMBNAIL_SIDE).max(1);
        let (columns, rows) = ((width / step).max(1), (height / step).max(1));
        Self {
            step,
            columns,
            rows,
            rows_left: rows,
            lines: 0,
            across: step.min(width).max(1),
            sums: vec![0; width as usize * 3],
            picture: RgbImage::new(columns, rows),
            height,
        }
    }

    /// Adds the next row: three bytes a pixel.
    pub(crate) fn add(&mut self, row: &[u8]) {
        if self.rows_left == 0 {
            return;
        }
        // Down first, byte by byte, which processors do many at a time; across only once a square.
        let sums = self.sums.iter_mut().zip(row);
        if self.lines == 0 {
            sums.for_each(|(sum, &byte)| *sum = u16::from(byte));
        } else {
            sums.for_each(|(sum, &byte)| *sum += u16::from(byte));
        }
        self.lines += 1;
        if self.lines == self.step.min(self.height) {
            let line = self.columns as usize * 3;
            let place = (self.rows - self.rows_left) as usize * line;
            let pixels: &mut [u8] = &mut self.picture;
            let pixels = pixels[place..place + line].as_chunks_mut::<3>().0;
            let average = Average::of(self.lines * self.across);
            let sums = self.sums.as_chunks::<3>().0;
            match self.across {
                // The sides of 64 to 192, 512, 768 and 1,024 pixels.
                1 => average.squares(sums.as_chunks::<1>().0, pixels),
                3 => average.squares(sums.as_chunks::<3>().0, pixels),
                4 => average.squares(sums.as_chunks::<4>().0, pixels),
                6 => average.squares(sums.as_chunks::<6>().0, pixels),
                across => average.squares(sums.chunks(across as usize), pixels),
            }
            self.lines = 0;
            self.rows_left -= 1;
        }
    }

    /// The image that was shrunk.
    pub(crate) fn finish(self) -> RgbImage {
        self.picture
    }
}

/// Division by the number of a square's pixels, rounded to the nearest: by a product and a shift, as a
/// processor takes an order of magnitude longer to divide.
#[derive(Clone, Copy)]
struct Average {
    half: u32,
    factor: u64,
}

impl Average {
    const SHIFT: u32 = 40;

    /// Exact for sums of `count` bytes where `count` is at most 2^15: the factor is too large by less than
    /// one, so the quotient is by less than 256 count / 2^40, and at least 1 / count is missing to the next
    /// whole number.
    fn of(count: u32) -> Self {
        Self { half: count / 2, factor: (1_u64 << Self::SHIFT).div_ceil(u64::from(count)) }
    }

    fn over(self, sum: u32) -> u8 {
        ((u64::from(sum + self.half) * self.factor) >> Self::SHIFT) as u8
    }

    /// Fills a row of pixels with the averages of as many squares.
    #[inline(always)]
    fn squares<'s, S: AsRef<[[u16; 3]]> + ?Sized + 's>(
        self,
        squares: impl IntoIterator<Item = &'s S>,
        pixels: &mut [[u8; 3]],
    ) {
        for (pixel, square) in pixels.iter_mut().zip(squares) {
            let mut sums = [0; 3];
            for [red, green, blue] in square.as_ref() {
                sums[0] += u32::from(*red);
                sums[1] += u32::from(*green);
                sums[2] += u32::from(*blue);
            }
            *pixel = sums.map(|sum| self.over(sum));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::image_store::MAX_IMAGE_SIDE;

    #[test]
    fn squares_are_averaged_and_a_rest_is_cut() {
        let picture =
            RgbImage::from_fn(513, 300, |x, y| image::Rgb([(x % 3) as u8 * 90, y as u8, 7]));
        let small = shrunk(&picture);
        assert_eq!(small.dimensions(), (171, 100));
        assert_eq!(small.get_pixel(5, 3).0, [90, 10, 7]);
        let kept = RgbImage::from_pixel(4, 9, image::Rgb([1, 2, 3]));
        assert_eq!(shrunk(&kept), kept);
        let thin = RgbImage::from_pixel(1, 600, image::Rgb([9, 9, 9]));
        let thin = shrunk(&thin);
        assert_eq!((thin.dimensions(), thin.get_pixel(0, 0).0), ((1, 150), [9, 9, 9]));
    }

    #[test]
    fn averages_are_rounded_to_the_nearest_for_every_square() {
        for count in (1..=512).chain([86 * 86, 1 << 15]) {
            let average = Average::of(count);
            let step = (255 * count as usize / 5_000).max(1);
            let last = (255 * count).saturating_sub(1_000)..=255 * count;
            for sum in (0..=255 * count).step_by(step).chain(last) {
                assert_eq!(
                    u32::from(average.over(sum)),
                    (sum + count / 2) / count,
                    "{sum} of {count}"
                );
            }
        }
    }

    #[test]
    fn sums_of_the_largest_picture_do_not_run_over() {
        let white = RgbImage::from_pixel(3, MAX_IMAGE_SIDE, image::Rgb([255; 3]));
        let small = shrunk(&white);
        assert_eq!((small.dimensions(), small.get_pixel(0, 7).0), ((1, 190), [255; 3]));
    }
}
