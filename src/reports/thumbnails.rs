//! In: the pictures of the runs. Out: small JPEGs of them and their addresses in the page. Where the files
//! are put is left to `report_folder`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;
use image::RgbImage;
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use rayon::prelude::*;

use crate::results::image_store::read_image;
use crate::results::png_rows::{Buffers, png_rows};
use crate::stage_observer::StageObserver;

use super::address::address_of;

/// Longest side of a thumbnail in pixels.
pub(crate) const THUMBNAIL_SIDE: u32 = 192;
const QUALITY: u8 = 78;

/// A picture of a run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Picture {
    /// Place of the run in the report, from 0.
    pub run: usize,
    /// Item id.
    pub item: String,
    /// Index of the image.
    pub image: u32,
    /// The file.
    pub path: PathBuf,
}

/// Addresses of the thumbnails, by run, item and image.
#[derive(Debug, Default)]
pub(crate) struct Thumbnails {
    addresses: BTreeMap<(usize, String, u32), String>,
    /// Pictures that could not be read, each with the reason.
    pub unreadable: Vec<String>,
}

impl Thumbnails {
    /// The address of a thumbnail inside the page; `None` where there is no picture.
    pub(crate) fn address(&self, run: usize, item: &str, image: u32) -> Option<&str> {
        self.addresses.get(&(run, item.to_owned(), image)).map(String::as_str)
    }

    /// Makes all thumbnails: as files `images/<run>/<item>/<image>.jpg` of `folder`, or, without a
    /// folder, as data addresses.
    ///
    /// # Errors
    /// A thumbnail cannot be written. A picture that cannot be read is listed in `unreadable`.
    pub(crate) fn make(
        pictures: &[Picture],
        folder: Option<&Path>,
        observer: &dyn StageObserver,
    ) -> anyhow::Result<Self> {
        if let Some(folder) = folder {
            let mut folders: Vec<(usize, &str)> =
                pictures.iter().map(|picture| (picture.run, picture.item.as_str())).collect();
            folders.dedup();
            for (run, item) in folders {
                let path = folder.join("images").join((run + 1).to_string()).join(item);
                std::fs::create_dir_all(&path)
                    .with_context(|| format!("cannot make {}", path.display()))?;
            }
        }
        observer.started(pictures.len() as u64, 0);
        let made: Vec<anyhow::Result<Result<String, String>>> = pictures
            .par_iter()
            .map_init(Memory::default, |memory, picture| {
                let _done = Done(observer, picture);
                let jpeg = match thumbnail(&picture.path, memory) {
                    Ok(jpeg) => jpeg,
                    Err(error) => return Ok(Err(format!("{}: {error}", picture.path.display()))),
                };
                let Some(folder) = folder else {
                    let text = base64::engine::general_purpose::STANDARD.encode(&jpeg);
                    return Ok(Ok(format!("data:image/jpeg;base64,{text}")));
                };
                let (run, image) = (picture.run + 1, picture.image);
                let path = folder.join("images").join(run.to_string()).join(&picture.item);
                let path = path.join(format!("{image}.jpg"));
                std::fs::write(&path, &jpeg)
                    .with_context(|| format!("cannot write {}", path.display()))?;
                Ok(Ok(format!("images/{run}/{}/{image}.jpg", address_of(&picture.item))))
            })
            .collect();
        observer.finished();
        let mut thumbnails = Self::default();
        for (picture, made) in pictures.iter().zip(made) {
            match made? {
                Ok(address) => {
                    let key = (picture.run, picture.item.clone(), picture.image);
                    thumbnails.addresses.insert(key, address);
                }
                Err(reason) => thumbnails.unreadable.push(reason),
            }
        }
        Ok(thumbnails)
    }
}

/// Says that a picture is behind us, with or without a thumbnail.
struct Done<'a>(&'a dyn StageObserver, &'a Picture);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.image_done(&self.1.item, self.1.image);
    }
}

/// What a thread uses again for its next picture.
#[derive(Default)]
struct Memory {
    file: Vec<u8>,
    rows: Buffers,
}

fn thumbnail(path: &Path, memory: &mut Memory) -> anyhow::Result<Vec<u8>> {
    memory.file.clear();
    File::open(path)?.read_to_end(&mut memory.file)?;
    let small = match shrunk_in_passing(&memory.file, &mut memory.rows) {
        Some(small) => small,
        None => shrunk(&read_image(Cursor::new(&memory.file)).map_err(anyhow::Error::msg)?),
    };
    let mut jpeg = Vec::new();
    let mut encoder = Encoder::new(&mut jpeg, QUALITY);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    let (width, height) = (u16::try_from(small.width())?, u16::try_from(small.height())?);
    encoder.encode(small.as_raw(), width, height, ColorType::Rgb)?;
    Ok(jpeg)
}

/// Shrinks a PNG as runs hold them: half of the time goes into unpacking, and thousands are read. `None`
/// of any other file.
fn shrunk_in_passing(bytes: &[u8], buffers: &mut Buffers) -> Option<RgbImage> {
    let picture = png_rows(bytes, buffers)?;
    let mut shrinking = Shrinking::new(picture.width, picture.height);
    picture.for_each(|row| shrinking.add(row))?;
    Some(shrinking.finish())
}

fn shrunk(picture: &RgbImage) -> RgbImage {
    let mut shrinking = Shrinking::new(picture.width(), picture.height());
    for row in picture.as_raw().chunks_exact(picture.width().max(1) as usize * 3) {
        shrinking.add(row);
    }
    shrinking.finish()
}

/// Averages squares of pixels, as many as bring the longest side down to [`THUMBNAIL_SIDE`].
struct Shrinking {
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
    fn new(width: u32, height: u32) -> Self {
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
    fn add(&mut self, row: &[u8]) {
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

    fn finish(self) -> RgbImage {
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

    #[test]
    fn a_picture_read_in_passing_is_the_same_and_others_are_left_to_the_decoder() {
        let folder = tempfile::tempdir().unwrap();
        let picture = RgbImage::from_fn(600, 401, |x, y| {
            image::Rgb([(x * 7 % 256) as u8, (y * 5 % 256) as u8, ((x ^ y) % 256) as u8])
        });
        let (plain, grey) = (folder.path().join("a.png"), folder.path().join("b.png"));
        picture.save(&plain).unwrap();
        let mut memory = Memory::default();
        let mut in_passing =
            |path: &Path| shrunk_in_passing(&std::fs::read(path).unwrap(), &mut memory.rows);
        assert_eq!(in_passing(&plain), Some(shrunk(&picture)));
        image::DynamicImage::ImageRgb8(picture).to_luma8().save(&grey).unwrap();
        assert_eq!(in_passing(&grey), None);
        let small = image::load_from_memory(&thumbnail(&grey, &mut memory).unwrap()).unwrap();
        assert_eq!((small.width(), small.height()), (150, 100));
        std::fs::write(&grey, "no picture").unwrap();
        assert!(thumbnail(&grey, &mut memory).is_err());
    }
}
