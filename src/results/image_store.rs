//! In: pictures. Out: PNG files with the settings that made them, and digests of their pixels; and the
//! pixels of picture files, which may be a stranger's.

use std::io::{self, BufRead, Read, Seek};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits, RgbImage};
use sha2::{Digest, Sha256};

use super::atomic_write::{atomic_write, name_path};
use super::jpeg::{JpegFault, MAGIC, decode_jpeg, jpeg_size};
pub use crate::benchmark::digest::hex;

/// Largest width and height of a picture that is read: what a file claims is looked at before anything is
/// unpacked.
pub const MAX_IMAGE_SIDE: u32 = 16_384;
/// Most memory that unpacking one may take, in bytes.
const LARGEST_MEMORY: u64 = 1 << 30;
/// Bytes of a PNG up to the end of its header's fields.
const PNG_HEADER: usize = 26;

/// What the beginning of a picture file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageHeader {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// What becomes of the samples.
    pub samples: Samples,
}

/// How the samples of a file become 8 bits each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Samples {
    /// They have no more.
    EightBit,
    /// 16 bits each: the high byte is taken, as Pillow does.
    SixteenBit,
    /// 16-bit grey: what is above 255 becomes white, as in Pillow's `convert("RGB")`.
    SixteenBitGrey,
}

/// Why a file is no picture that is taken; its name stands with whoever asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureFault {
    /// The system said no.
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    /// It claims to be larger than any picture that a model makes.
    #[error(
        "it says that it is larger than {MAX_IMAGE_SIDE}x{MAX_IMAGE_SIDE} pixels, and is not unpacked"
    )]
    TooLarge,
    /// A JPEG that is cut, damaged or of a kind that is not read.
    #[error("it is no JPEG that can be decoded: {0}")]
    Jpeg(JpegFault),
    /// No picture, or a damaged one.
    #[error("it is no image that can be decoded: {0}")]
    Undecodable(ImageError),
}

/// Reads the header of a PNG, JPEG or WebP; `None` when there is no readable one.
pub fn image_header(mut file: impl BufRead + Seek) -> Option<ImageHeader> {
    let beginning = beginning_of(&mut file).ok()?;
    let (width, height) = if beginning.starts_with(&MAGIC) {
        let mut bytes = Vec::new();
        file.take(LARGEST_MEMORY).read_to_end(&mut bytes).ok()?;
        jpeg_size(&bytes)?
    } else {
        ImageReader::new(file).with_guessed_format().ok()?.into_dimensions().ok()?
    };
    (width > 0 && height > 0).then(|| ImageHeader {
        width,
        height,
        samples: samples_of(&beginning),
    })
}

/// Decodes a PNG, JPEG or WebP, told by its first bytes, to 8-bit RGB as Pillow's
/// `Image.open(..).convert("RGB")` does; an alpha channel is dropped.
///
/// # Errors
/// See [`PictureFault`].
pub fn read_image(mut file: impl BufRead + Seek) -> Result<RgbImage, PictureFault> {
    let unreadable = PictureFault::Unreadable;
    let beginning = beginning_of(&mut file).map_err(unreadable)?;
    if beginning.starts_with(&MAGIC) {
        let mut bytes = Vec::new();
        file.take(LARGEST_MEMORY).read_to_end(&mut bytes).map_err(unreadable)?;
        return decode_jpeg(&bytes, MAX_IMAGE_SIDE, LARGEST_MEMORY).map_err(|fault| match fault {
            JpegFault::TooLarge => PictureFault::TooLarge,
            fault => PictureFault::Jpeg(fault),
        });
    }
    let picture = limited(file).map_err(unreadable)?.decode().map_err(undecodable)?;
    Ok(eight_bits(picture, samples_of(&beginning)))
}

/// As [`read_image`], turned as the file's EXIF data says that it is to be seen: Pillow's `ImageOps.exif_transpose` and then
/// `convert("RGB")`.
///
/// # Errors
/// See [`PictureFault`].
pub fn read_upright_image(mut file: impl BufRead + Seek) -> Result<RgbImage, PictureFault> {
    let unreadable = PictureFault::Unreadable;
    let orientation = limited(&mut file)
        .map_err(unreadable)?
        .into_decoder()
        .and_then(|mut decoder| decoder.orientation())
        .map_err(undecodable)?;
    file.rewind().map_err(unreadable)?;
    let picture = read_image(file)?;
    if orientation == Orientation::NoTransforms {
        return Ok(picture);
    }
    let mut picture = DynamicImage::ImageRgb8(picture);
    picture.apply_orientation(orientation);
    Ok(picture.into_rgb8())
}

/// A reader of no more than this program takes.
fn limited<R: BufRead + Seek>(file: R) -> io::Result<ImageReader<R>> {
    let mut reader = ImageReader::new(file).with_guessed_format()?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_IMAGE_SIDE);
    limits.max_image_height = Some(MAX_IMAGE_SIDE);
    limits.max_alloc = Some(LARGEST_MEMORY);
    reader.limits(limits);
    Ok(reader)
}

fn undecodable(error: ImageError) -> PictureFault {
    match error {
        ImageError::Limits(_) => PictureFault::TooLarge,
        error => PictureFault::Undecodable(error),
    }
}

/// The first bytes of a file, which is then at its start again.
fn beginning_of(file: &mut (impl BufRead + Seek)) -> io::Result<Vec<u8>> {
    let mut beginning = Vec::with_capacity(PNG_HEADER);
    file.by_ref().take(PNG_HEADER as u64).read_to_end(&mut beginning)?;
    file.rewind()?;
    Ok(beginning)
}

/// Bit depth and colour type of a PNG stand at fixed places; no other format that is read has 16 bits.
fn samples_of(beginning: &[u8]) -> Samples {
    match beginning {
        [0x89, b'P', b'N', b'G', .., 16, 0] if beginning.len() == PNG_HEADER => {
            Samples::SixteenBitGrey
        }
        [0x89, b'P', b'N', b'G', .., 16, _] if beginning.len() == PNG_HEADER => Samples::SixteenBit,
        _ => Samples::EightBit,
    }
}

fn eight_bits(picture: DynamicImage, samples: Samples) -> RgbImage {
    let clipped = |value: u16| value.min(255) as u8;
    let high_byte = |value: u16| (value >> 8) as u8;
    match samples {
        Samples::EightBit => picture.into_rgb8(),
        Samples::SixteenBit => map_samples(&picture.into_rgb16(), high_byte),
        Samples::SixteenBitGrey => map_samples(&picture.into_rgb16(), clipped),
    }
}

fn map_samples(
    picture: &image::ImageBuffer<image::Rgb<u16>, Vec<u16>>,
    narrow: impl Fn(u16) -> u8,
) -> RgbImage {
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        image::Rgb(picture.get_pixel(x, y).0.map(&narrow))
    })
}

/// SHA-256 of the 8-bit RGB pixels, row by row, as lower-case hex. The size is hashed first, so that
/// two shapes of the same bytes differ.
pub fn pixels_sha256(image: &RgbImage) -> String {
    let mut hasher = Sha256::new();
    hasher.update(image.width().to_le_bytes());
    hasher.update(image.height().to_le_bytes());
    hasher.update(image.as_raw());
    hex(&hasher.finalize())
}

/// Writes an 8-bit RGB PNG with one international text chunk per `(keyword, text)`, all or nothing.
/// The same input gives the same bytes.
///
/// # Errors
/// Any I/O error, with the path; a keyword outside PNG's rules (1 to 79 Latin-1 characters).
pub fn write_png(path: &Path, image: &RgbImage, texts: &[(&str, String)]) -> io::Result<()> {
    let bytes = encode_png(image, texts).map_err(|error| name_path(error, "encode", path))?;
    atomic_write(path, &bytes)
}

/// An 8-bit RGB PNG that is soon unpacked again: packed quickly, not well.
///
/// # Errors
/// The image has no width or no height.
pub(crate) fn png_bytes(image: &RgbImage) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, image.width(), image.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fastest);
    let mut writer = encoder.write_header().map_err(io::Error::other)?;
    writer.write_image_data(image.as_raw()).map_err(io::Error::other)?;
    writer.finish().map_err(io::Error::other)?;
    Ok(bytes)
}

/// The bytes that [`write_png`] writes.
pub(super) fn encode_png(image: &RgbImage, texts: &[(&str, String)]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    png_with_texts(&mut bytes, image.dimensions(), texts)
        .and_then(|mut writer| {
            writer.write_image_data(image.as_raw())?;
            writer.finish()
        })
        .map_err(io::Error::other)?;
    Ok(bytes)
}

/// The beginning of an 8-bit RGB PNG, with its texts; the pixels are to follow. `size` is width and height.
pub(super) fn png_with_texts<'b>(
    bytes: &'b mut Vec<u8>,
    size: (u32, u32),
    texts: &[(&str, String)],
) -> Result<png::Writer<&'b mut Vec<u8>>, png::EncodingError> {
    let mut encoder = png::Encoder::new(bytes, size.0, size.1);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    for (keyword, text) in texts {
        encoder.add_itxt_chunk((*keyword).to_owned(), text.clone())?;
    }
    encoder.write_header()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_png_gives_back_its_pixels_and_texts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("item/0.png");
        let image = RgbImage::from_fn(5, 3, |x, y| image::Rgb([x as u8, y as u8, 200]));
        write_png(&path, &image, &[("prompt", "ünïcode, \"quotes\"".into())]).unwrap();
        assert_eq!(image::open(&path).unwrap().to_rgb8(), image);
        let decoder = png::Decoder::new(io::BufReader::new(std::fs::File::open(&path).unwrap()));
        let reader = decoder.read_info().unwrap();
        let chunk = &reader.info().utf8_text[0];
        assert_eq!(
            (chunk.keyword.as_str(), chunk.get_text().unwrap()),
            ("prompt", "ünïcode, \"quotes\"".into())
        );
    }

    #[test]
    fn the_pixel_digest_sees_shape_and_content() {
        let wide = RgbImage::new(4, 2);
        let tall = RgbImage::new(2, 4);
        assert_ne!(pixels_sha256(&wide), pixels_sha256(&tall));
        let mut other = wide.clone();
        other.put_pixel(0, 0, image::Rgb([0, 0, 1]));
        assert_ne!(pixels_sha256(&wide), pixels_sha256(&other));
    }
}
