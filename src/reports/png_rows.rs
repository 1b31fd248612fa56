//! In: the bytes of a PNG as runs hold them: 8-bit RGB, not interlaced. Out: its rows, one after the other,
//! in a part of the time that a general decoder takes. Every other file, and every damaged one, is left to that
//! decoder, which says what is wrong.

use libdeflater::Decompressor;

/// Larger pictures are left to the general decoder, which holds less of them at a time.
const MOST_BYTES: usize = 64 << 20;

const SIGNATURE: [u8; 8] = [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a];

/// Memory that is used again for the next picture: given back and asked for anew each time, it costs the
/// system a page fault for every 4 KiB.
pub struct Buffers {
    packed: Vec<u8>,
    rows: Vec<u8>,
    inflate: Decompressor,
}

impl Default for Buffers {
    fn default() -> Self {
        Self { packed: Vec::new(), rows: Vec::new(), inflate: Decompressor::new() }
    }
}

/// An unpacked picture.
#[derive(Debug)]
pub struct PngRows<'b> {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    rows: &'b [u8],
}

impl PngRows<'_> {
    /// The rows from the top, three bytes a pixel.
    pub fn rows(&self) -> impl Iterator<Item = &[u8]> {
        self.rows.chunks_exact(self.width as usize * 3 + 1).map(|row| &row[1..])
    }
}

/// Unpacks a plain PNG; `None` of anything else. The checksum of the pixels is compared, those of the
/// chunks are not.
pub fn png_rows<'b>(png: &[u8], buffers: &'b mut Buffers) -> Option<PngRows<'b>> {
    let rest = png.strip_prefix(&SIGNATURE)?;
    let (kind, header, mut rest) = chunk(rest)?;
    let &[w0, w1, w2, w3, h0, h1, h2, h3, 8, 2, 0, 0, 0] = header else { return None };
    let (width, height) =
        (u32::from_be_bytes([w0, w1, w2, w3]), u32::from_be_bytes([h0, h1, h2, h3]));
    let line = (width as usize).checked_mul(3)?.checked_add(1)?;
    let size = line.checked_mul(height as usize).filter(|&size| size <= MOST_BYTES)?;
    if kind != b"IHDR" || width == 0 || height == 0 {
        return None;
    }
    buffers.packed.clear();
    loop {
        let (kind, content, after) = chunk(rest)?;
        rest = after;
        match kind {
            b"IDAT" => buffers.packed.extend_from_slice(content),
            b"IEND" => break,
            _ => {}
        }
    }
    buffers.rows.resize(size, 0);
    let unpacked = buffers.inflate.zlib_decompress(&buffers.packed, &mut buffers.rows).ok()?;
    if unpacked != size {
        return None;
    }
    let mut above: &[u8] = &vec![0; line];
    for row in buffers.rows.chunks_exact_mut(line) {
        unfilter(row, &above[1..])?;
        above = row;
    }
    Some(PngRows { width, height, rows: &buffers.rows })
}

/// Kind and content of the first chunk, and what follows it.
fn chunk(bytes: &[u8]) -> Option<(&[u8; 4], &[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (kind, rest) = rest.split_first_chunk::<4>()?;
    let (content, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    Some((kind, content, rest.get(4..)?))
}

/// Undoes the filter that a row's first byte names (PNG specification, section 9); `above` is the row
/// before, without that byte. `None` where there is no such filter.
fn unfilter(row: &mut [u8], above: &[u8]) -> Option<()> {
    let (filter, row) = row.split_first_mut()?;
    match filter {
        0 => {}
        1 => add_predicted(row, above, |left, _, _| left),
        2 => row.iter_mut().zip(above).for_each(|(byte, above)| *byte = byte.wrapping_add(*above)),
        3 => add_predicted(row, above, |left, above, _| (left + above) >> 1),
        4 => add_predicted(row, above, paeth),
        _ => return None,
    }
    Some(())
}

/// Adds to each byte what is predicted from the same channel of the pixels left, above and in the corner
/// between the two.
#[inline(always)]
fn add_predicted(row: &mut [u8], above: &[u8], predict: impl Fn(i16, i16, i16) -> i16) {
    let (mut left, mut corner) = ([0_i16; 3], [0_i16; 3]);
    let (pixels, above) = (row.as_chunks_mut::<3>().0, above.as_chunks::<3>().0);
    for (pixel, above) in pixels.iter_mut().zip(above) {
        let above = above.map(i16::from);
        for channel in 0..3 {
            let predicted = predict(left[channel], above[channel], corner[channel]);
            pixel[channel] = pixel[channel].wrapping_add(predicted as u8);
            left[channel] = i16::from(pixel[channel]);
        }
        corner = above;
    }
}

/// Whichever of the three is nearest to `left + above - corner`, the earlier of two as near. Written with
/// least and greatest, for which processors have instructions: left and above lie on either side of the
/// estimate, or both on one.
#[inline(always)]
fn paeth(left: i16, above: i16, corner: i16) -> i16 {
    let bound = 3 * corner - (left + above);
    let (low, high) = (left.min(above), left.max(above));
    let nearest = if high <= bound { low } else { corner };
    if bound <= low { high } else { nearest }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::RgbImage;

    fn packed(picture: &RgbImage, filter: png::Filter) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, picture.width(), picture.height());
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_filter(filter);
        encoder.add_itxt_chunk("prompt".into(), "a text before the pixels".into()).unwrap();
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(picture.as_raw()).unwrap();
        writer.finish().unwrap();
        bytes
    }

    /// Smooth with noise, so that every branch of the predictors is taken.
    fn picture(width: u32, height: u32) -> RgbImage {
        let mut state = 1_u32;
        RgbImage::from_fn(width, height, |x, y| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = state >> 26;
            image::Rgb([(x * 3 + noise) as u8, (y * 5 + noise) as u8, (x ^ y ^ noise) as u8])
        })
    }

    #[test]
    fn rows_equal_those_of_the_general_decoder_under_every_filter() {
        use png::Filter::{Adaptive, Avg, NoFilter, Paeth, Sub, Up};
        let mut buffers = Buffers::default();
        for (width, height) in [(61, 47), (1, 5), (300, 1), (2, 2)] {
            let picture = picture(width, height);
            for filter in [NoFilter, Sub, Up, Avg, Paeth, Adaptive] {
                let rows = png_rows(&packed(&picture, filter), &mut buffers).unwrap();
                assert_eq!((rows.width, rows.height), (width, height));
                let pixels: Vec<u8> = rows.rows().flatten().copied().collect();
                assert_eq!(pixels, *picture.as_raw(), "{filter:?} {width}x{height}");
            }
        }
    }

    #[test]
    fn the_prediction_is_the_one_of_the_specification() {
        for (a, b, c) in
            (0..17).flat_map(|a| (0..17).flat_map(move |b| (0..17).map(move |c| (a, b, c))))
        {
            let (a, b, c) = (a * 15, b * 15, c * 15);
            let estimate: i16 = a + b - c;
            let distance = |value: i16| (estimate - value).abs();
            let nearest = if distance(a) <= distance(b) && distance(a) <= distance(c) {
                a
            } else if distance(b) <= distance(c) {
                b
            } else {
                c
            };
            assert_eq!(paeth(a, b, c), nearest, "{a} {b} {c}");
        }
    }

    #[test]
    fn damaged_cut_and_other_files_are_left_to_the_general_decoder() {
        let mut buffers = Buffers::default();
        let whole = packed(&picture(40, 30), png::Filter::Paeth);
        for cut in 0..whole.len() {
            assert!(png_rows(&whole[..cut], &mut buffers).is_none(), "cut at {cut}");
        }
        let place = whole.windows(4).position(|kind| kind == b"IDAT").unwrap();
        let mut damaged = whole.clone();
        damaged[place + 300] ^= 0x40;
        assert!(png_rows(&damaged, &mut buffers).is_none());
        let mut huge = whole;
        huge[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
        assert!(png_rows(&huge, &mut buffers).is_none());
        assert!(buffers.rows.len() < 1 << 20);
    }
}
