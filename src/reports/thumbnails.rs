//! In: the pictures of the runs. Out: small JPEGs of them and their addresses in the page. Where the files
//! are put is left to `report_folder`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use rayon::prelude::*;

/// Longest side of a thumbnail in pixels.
pub const THUMBNAIL_SIDE: u32 = 256;
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
pub struct Thumbnails {
    addresses: BTreeMap<(usize, String, u32), String>,
    /// Pictures that could not be read, each with the reason.
    pub unreadable: Vec<String>,
}

impl Thumbnails {
    /// The address of a thumbnail inside the page; `None` where there is no picture.
    pub fn address(&self, run: usize, item: &str, image: u32) -> Option<&str> {
        self.addresses.get(&(run, item.to_owned(), image)).map(String::as_str)
    }

    /// Makes all thumbnails: as files `images/<run>/<item>/<image>.jpg` of `folder`, or, without a
    /// folder, as data addresses.
    ///
    /// # Errors
    /// A thumbnail cannot be written. A picture that cannot be read is listed in `unreadable`.
    pub fn make(pictures: &[Picture], folder: Option<&Path>) -> anyhow::Result<Self> {
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
        let made: Vec<anyhow::Result<Result<String, String>>> = pictures
            .par_iter()
            .map(|picture| {
                let jpeg = match thumbnail(&picture.path) {
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

/// A file name as a part of an address: everything but plain letters and digits is written as bytes.
fn address_of(name: &str) -> String {
    let mut address = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                address.push(byte.into())
            }
            _ => address.push_str(&format!("%{byte:02X}")),
        }
    }
    address
}

fn thumbnail(path: &Path) -> anyhow::Result<Vec<u8>> {
    let small = shrunk(image::open(path)?.into_rgb8());
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode_image(&small)?;
    Ok(jpeg)
}

/// Averages squares of pixels, as many as bring the longest side down to [`THUMBNAIL_SIDE`].
fn shrunk(picture: RgbImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    let step = width.max(height).div_ceil(THUMBNAIL_SIDE).max(1);
    if step == 1 {
        return picture;
    }
    let (columns, rows) = ((width / step).max(1), (height / step).max(1));
    let pixels = picture.as_raw();
    let mut small = Vec::with_capacity((columns * rows * 3) as usize);
    let mut sums = vec![0_u32; columns as usize * 3];
    for row in 0..rows {
        sums.fill(0);
        let lines = step.min(height - row * step);
        for line in 0..lines {
            let from = ((row * step + line) * width * 3) as usize;
            let line = &pixels[from..from + (width * 3) as usize];
            for (sum, square) in sums.chunks_exact_mut(3).zip(line.chunks(step as usize * 3)) {
                for pixel in square.chunks_exact(3) {
                    for (sum, value) in sum.iter_mut().zip(pixel) {
                        *sum += u32::from(*value);
                    }
                }
            }
        }
        let count = lines * step.min(width);
        small.extend(sums.iter().map(|sum| ((sum + count / 2) / count) as u8));
    }
    RgbImage::from_raw(columns, rows, small).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_are_averaged_and_a_rest_is_cut() {
        let picture =
            RgbImage::from_fn(513, 300, |x, y| image::Rgb([(x % 3) as u8 * 90, y as u8, 7]));
        let small = shrunk(picture);
        assert_eq!(small.dimensions(), (171, 100));
        assert_eq!(small.get_pixel(5, 3).0, [90, 10, 7]);
        let kept = RgbImage::from_pixel(4, 9, image::Rgb([1, 2, 3]));
        assert_eq!(shrunk(kept.clone()), kept);
        let thin = RgbImage::from_pixel(1, 600, image::Rgb([9, 9, 9]));
        let thin = shrunk(thin);
        assert_eq!((thin.dimensions(), thin.get_pixel(0, 0).0), ((1, 200), [9, 9, 9]));
    }

    #[test]
    fn an_address_holds_no_sign_of_its_own() {
        assert_eq!(address_of("a b#%?é"), "a%20b%23%25%3F%C3%A9");
    }
}
