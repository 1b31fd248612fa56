//! In: the bytes of a PNG that somebody else made. Out: its pixels, and its compressed data, so that it can be kept without
//! being compressed again. What `image_store` reads and this does not, `image_store` compresses anew.

use std::cell::RefCell;
use std::io;

use image::RgbImage;

use super::image_store::png_with_texts;
use super::png_rows::{Buffers, Chunks, MOST_BYTES, bytes_of, plain_size};

/// The compressed 8-bit RGB pixels of a PNG, as they stand in its IDAT chunks, checked by decoding them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PngData {
    size: (u32, u32),
    idat: Vec<u8>,
}

/// The pixels and the compressed data of a PNG of 8-bit RGB. `None` where it is anything else: grey, with a palette or an alpha
/// channel, interlaced, animated, larger than what is read, cut, or with a wrong checksum, that of the pixels included.
pub fn read_png_data(file: &[u8]) -> Option<(RgbImage, PngData)> {
    thread_local! {
        static BUFFERS: RefCell<Buffers> = RefCell::default();
    }
    let data = png_data(file)?;
    let pixels = if bytes_of(data.size) <= MOST_BYTES {
        BUFFERS.with_borrow_mut(|buffers| pixels_of(&data, buffers))
    } else {
        pixels_of(&data, &mut Buffers::default())
    };
    Some((pixels?, data))
}

fn pixels_of(data: &PngData, buffers: &mut Buffers) -> Option<RgbImage> {
    let rows = buffers.unpack(&data.idat, data.size)?;
    let mut pixels = Vec::with_capacity(bytes_of(data.size));
    rows.for_each(|row| pixels.extend_from_slice(row))?;
    RgbImage::from_raw(data.size.0, data.size.1, pixels)
}

/// A PNG of this data, with one international text chunk per `(keyword, text)` and nothing else of the file that it came in. The
/// same input gives the same bytes.
///
/// # Errors
/// A keyword outside PNG's rules (1 to 79 Latin-1 characters).
pub(super) fn encode_png_data(data: &PngData, texts: &[(&str, String)]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(data.idat.len() + 8192);
    png_with_texts(&mut bytes, data.size, texts)
        .and_then(|mut writer| {
            writer.write_chunk(png::chunk::IDAT, &data.idat)?;
            writer.finish()
        })
        .map_err(io::Error::other)?;
    Ok(bytes)
}

/// The data of the IDAT chunks of a file whose chunks are whole; `None` where they do not stand together, and of a file that is not
/// plain.
fn png_data(file: &[u8]) -> Option<PngData> {
    let mut chunks = Chunks::of(file)?;
    let first = chunks.next().filter(|chunk| chunk.is_whole())?;
    let size = plain_size(&first)?;
    let mut idat = Vec::new();
    let mut is_over = false;
    loop {
        let chunk = chunks.next().filter(|chunk| chunk.is_whole())?;
        match chunk.kind {
            b"IDAT" if is_over => return None,
            b"IDAT" => idat.extend_from_slice(chunk.content),
            b"IEND" => return Some(PngData { size, idat }),
            // One colour is transparent; the image moves.
            b"tRNS" | b"acTL" => return None,
            // A suggested palette changes nothing; no other chunk with a capital may be passed over.
            b"PLTE" => is_over = !idat.is_empty(),
            [first, ..] if first.is_ascii_uppercase() => return None,
            _ => is_over = !idat.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{DynamicImage, ImageFormat, Rgb};
    use png::Decoder;

    use super::super::image_store::read_image;
    use super::super::png_rows::tests::chunk_of;
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
        let mut bytes = Vec::new();
        let texts = [("parameters", "a stranger's".to_owned())];
        let mut encoder = png_with_texts(&mut bytes, (37, 23), &texts).unwrap();
        encoder.write_image_data(&picture()).unwrap();
        encoder.finish().unwrap();
        let (pixels, data) = read_png_data(&bytes).unwrap();
        assert!(pixels == picture());
        let written = encode_png_data(&data, &[("prompt", "a kite".to_owned())]).unwrap();
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
        // The chunk has a right checksum, what is compressed in it a wrong one.
        let bytes = encode_png_data(&data, &[]).unwrap();
        assert!(read_image(Cursor::new(&bytes)).unwrap() == picture());
        assert!(read_png_data(&bytes).is_none());
    }

    /// `whole` with a chunk before its pixels.
    fn with_chunk(whole: &[u8], kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let place = whole.windows(4).position(|kind| kind == b"IDAT").unwrap() - 4;
        [&whole[..place], &chunk_of(kind, content), &whole[place..]].concat()
    }

    #[test]
    fn what_changes_the_pixels_or_is_unknown_is_left_to_others() {
        let whole = png(picture());
        for (kind, content, is_read) in [
            (b"gAMA", &[0, 0, 0xb1, 0x8f][..], true),
            (b"PLTE", &[1, 2, 3], true),
            (b"tRNS", &[0, 0, 0, 7, 0, 0], false),
            (b"acTL", &[0, 0, 0, 2, 0, 0, 0, 0], false),
            (b"CgBI", &[0x50, 0, 0x20, 2], false),
        ] {
            let read = read_png_data(&with_chunk(&whole, kind, content));
            assert_eq!(read.is_some(), is_read, "{kind:?}");
            if let Some((pixels, _)) = read {
                assert!(pixels == picture());
            }
        }
    }

    #[test]
    fn a_wrong_checksum_of_any_chunk_is_seen() {
        let whole = with_chunk(&png(picture()), b"gAMA", &[0, 0, 0xb1, 0x8f]);
        let mut place = 8;
        while place < whole.len() {
            let length = u32::from_be_bytes(whole[place..place + 4].try_into().unwrap()) as usize;
            place += 12 + length;
            let mut damaged = whole.clone();
            damaged[place - 1] ^= 1;
            assert!(read_png_data(&damaged).is_none(), "{place}");
        }
    }

    #[test]
    fn a_small_file_that_says_it_is_large_takes_no_memory() {
        let mut whole = png(picture());
        whole[16..24].copy_from_slice(&[0, 0, 0x40, 0, 0, 0, 0x40, 0]);
        let header = chunk_of(b"IHDR", &whole[16..29]);
        whole[8..33].copy_from_slice(&header);
        let mut buffers = Buffers::default();
        let data = png_data(&whole).unwrap();
        assert_eq!(data.size, (16_384, 16_384));
        assert!(buffers.unpack(&data.idat, data.size).is_none());
        assert_eq!(buffers.rows_held(), 0);
    }
}
