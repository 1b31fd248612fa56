//! In: the bytes of a PNG that somebody else made. Out: its pixels, and its compressed data, so that it can be kept without
//! being compressed again. What `image_store` reads and this does not, `image_store` compresses anew.

use std::io::{self, Cursor};
use std::path::Path;

use image::RgbImage;
use png::{BitDepth, ColorType, DecodeOptions, Decoder, Limits};

use super::atomic_write::{atomic_write, name_path};
use super::image_store::{LARGEST_MEMORY, MAX_IMAGE_SIDE, png_with_texts};

/// The first bytes of every PNG.
const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";

/// The compressed 8-bit RGB pixels of a PNG, as they stand in its IDAT chunks, checked by decoding them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PngData {
    size: (u32, u32),
    idat: Vec<u8>,
}

/// The pixels and the compressed data of a PNG of 8-bit RGB. `None` where it is anything else: grey, with a palette or an alpha
/// channel, interlaced, animated, larger than what is read, cut, or with a wrong checksum, that of the pixels included.
pub fn read_png_data(file: &[u8]) -> Option<(RgbImage, PngData)> {
    let mut options = DecodeOptions::default();
    options.set_ignore_adler32(false);
    options.set_ignore_text_chunk(true);
    options.set_ignore_iccp_chunk(true);
    let mut decoder = Decoder::new_with_options(Cursor::new(file), options);
    decoder.set_limits(Limits { bytes: LARGEST_MEMORY as usize });
    let mut reader = decoder.read_info().ok()?;
    let info = reader.info();
    let size = info.size();
    let is_plain = info.color_type == ColorType::Rgb
        && info.bit_depth == BitDepth::Eight
        && !info.interlaced
        && info.trns.is_none()
        && info.animation_control.is_none()
        && size.0 <= MAX_IMAGE_SIDE
        && size.1 <= MAX_IMAGE_SIDE;
    if !is_plain {
        return None;
    }
    let mut pixels = vec![0; reader.output_buffer_size()?];
    reader.next_frame(&mut pixels).ok()?;
    reader.finish().ok()?;
    let pixels = RgbImage::from_raw(size.0, size.1, pixels)?;
    Some((pixels, PngData { size, idat: idat_of(file)? }))
}

/// Writes a PNG of this data, with one international text chunk per `(keyword, text)` and nothing else of the file that it
/// came in, all or nothing. The same input gives the same bytes.
///
/// # Errors
/// As [`write_png`](super::image_store::write_png).
pub fn write_png_data(path: &Path, data: &PngData, texts: &[(&str, String)]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(data.idat.len() + 8192);
    png_with_texts(&mut bytes, data.size, texts)
        .and_then(|mut writer| {
            writer.write_chunk(png::chunk::IDAT, &data.idat)?;
            writer.finish()
        })
        .map_err(|error| name_path(io::Error::other(error), "encode", path))?;
    atomic_write(path, &bytes)
}

/// The data of the IDAT chunks of a file that was decoded; `None` where they do not stand together.
fn idat_of(file: &[u8]) -> Option<Vec<u8>> {
    let mut rest = file.strip_prefix(&SIGNATURE)?;
    let mut idat = Vec::new();
    let mut is_over = false;
    loop {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (kind, after) = after.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        let data = after.get(..length)?;
        match kind {
            b"IDAT" if is_over => return None,
            b"IDAT" => idat.extend_from_slice(data),
            b"IEND" => return Some(idat),
            _ => is_over = !idat.is_empty(),
        }
        // A checksum of 4 bytes, which the decoder has looked at.
        rest = after.get(length + 4..)?;
    }
}

#[cfg(test)]
mod tests {
    use image::{DynamicImage, ImageFormat, Rgb};

    use super::super::image_store::read_image;
    use super::*;

    fn picture() -> RgbImage {
        RgbImage::from_fn(37, 23, |x, y| Rgb([(x * y) as u8, (x + 7) as u8, (y * 31) as u8]))
    }

    fn png(image: impl Into<DynamicImage>) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn what_is_written_has_the_pixels_the_data_and_our_texts_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = Vec::new();
        let texts = [("parameters", "a stranger's".to_owned())];
        let mut encoder = png_with_texts(&mut bytes, (37, 23), &texts).unwrap();
        encoder.write_image_data(&picture()).unwrap();
        encoder.finish().unwrap();
        let (pixels, data) = read_png_data(&bytes).unwrap();
        assert!(pixels == picture());
        let path = folder.path().join("0.png");
        write_png_data(&path, &data, &[("prompt", "a kite".to_owned())]).unwrap();
        let written = std::fs::read(&path).unwrap();
        assert!(read_image(Cursor::new(&written)).unwrap() == picture());
        let (_, again) = read_png_data(&written).unwrap();
        assert_eq!(again, data);
        let reader = Decoder::new(Cursor::new(&written)).read_info().unwrap();
        let words: Vec<&str> =
            reader.info().utf8_text.iter().map(|chunk| chunk.keyword.as_str()).collect();
        assert_eq!(words, ["prompt"]);
        // What comes after the end of the file is left behind.
        bytes.extend_from_slice(b"more");
        assert_eq!(read_png_data(&bytes).unwrap().1, data);
    }

    #[test]
    fn other_images_are_left_to_be_compressed_anew() {
        let image = DynamicImage::from(picture());
        for other in [
            png(image.to_rgba8()),
            png(image.to_luma8()),
            png(image.to_rgb16()),
            b"\xff\xd8\xff\xe0".to_vec(),
            Vec::new(),
        ] {
            assert!(read_png_data(&other).is_none());
        }
        let whole = png(picture());
        for length in 0..whole.len() {
            assert!(read_png_data(&whole[..length]).is_none(), "{length}");
        }
    }

    #[test]
    fn a_wrong_checksum_of_the_pixels_is_seen() {
        let whole = png(picture());
        let (_, mut data) = read_png_data(&whole).unwrap();
        let last = data.idat.len() - 1;
        data.idat[last] ^= 1;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.png");
        // The chunk has a right checksum, what is compressed in it a wrong one.
        write_png_data(&path, &data, &[]).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert!(read_image(Cursor::new(&bytes)).unwrap() == picture());
        assert!(read_png_data(&bytes).is_none());
    }
}
