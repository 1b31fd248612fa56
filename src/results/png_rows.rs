//! In: the bytes of a PNG as runs hold them: 8-bit RGB, not interlaced. Out: its rows, one after the other,
//! in a part of the time that a general decoder takes. Every other file, and every damaged one, is left to that
//! decoder, which says what is wrong.

use libdeflater::{Crc, Decompressor};

use super::image_store::MAX_IMAGE_SIDE;

/// Larger images are left to the general decoder, which holds less of them at a time, or get memory of their own.
pub(super) const MOST_BYTES: usize = 64 << 20;

/// Bytes that one byte of compressed data can become at most, rounded up (RFC 1951: 258 for two bits).
const LARGEST_RATIO: usize = 1040;

const SIGNATURE: [u8; 8] = [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a];

/// Memory that is used again for the next picture: given back and asked for anew each time, it costs the
/// system a page fault for every 4 KiB.
pub(crate) struct Buffers {
    /// The compressed pixels of a picture that has them in several chunks.
    packed: Vec<u8>,
    rows: Vec<u8>,
    inflate: Decompressor,
}

impl Default for Buffers {
    fn default() -> Self {
        Self { packed: Vec::new(), rows: Vec::new(), inflate: Decompressor::new() }
    }
}

/// An unpacked picture whose rows are still filtered.
#[derive(Debug)]
pub(crate) struct PngRows<'b> {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    rows: &'b mut [u8],
}

impl PngRows<'_> {
    /// Hands over the rows from the top, three bytes a pixel, each right after its filter is undone, while
    /// the processor still has it at hand. `None` where a row names a filter that there is not: then those
    /// before it are worth nothing.
    pub(crate) fn for_each(self, mut take: impl FnMut(&[u8])) -> Option<()> {
        let line = self.width as usize * 3 + 1;
        let mut above: &[u8] = &vec![0; line];
        for row in self.rows.chunks_exact_mut(line) {
            unfilter(row, &above[1..])?;
            take(&row[1..]);
            above = row;
        }
        Some(())
    }
}

/// Unpacks a plain PNG whose sides are at most [`MAX_IMAGE_SIDE`]; `None` of anything else. The checksum of the
/// pixels is compared, those of the chunks are not.
pub(crate) fn png_rows<'b>(png: &[u8], buffers: &'b mut Buffers) -> Option<PngRows<'b>> {
    let mut chunks = Chunks::of(png)?;
    let size = plain_size(&chunks.next()?).filter(|&size| bytes_of(size) <= MOST_BYTES)?;
    let mut parts = Vec::new();
    loop {
        let chunk = chunks.next()?;
        match chunk.kind {
            b"IDAT" => parts.push(chunk.content),
            b"IEND" => break,
            _ => {}
        }
    }
    let Buffers { packed, rows, inflate } = buffers;
    let packed = match parts.as_slice() {
        [only] => only,
        several => {
            packed.clear();
            several.iter().for_each(|part| packed.extend_from_slice(part));
            packed.as_slice()
        }
    };
    unpacked(packed, size, rows, inflate)
}

/// Bytes of the rows of an image whose sides are at most [`MAX_IMAGE_SIDE`], with a filter for each.
pub(super) fn bytes_of((width, height): (u32, u32)) -> usize {
    (width as usize * 3 + 1) * height as usize
}

/// Width and height that the first chunk of a plain PNG tells.
pub(super) fn plain_size(first: &Chunk<'_>) -> Option<(u32, u32)> {
    let &[w0, w1, w2, w3, h0, h1, h2, h3, 8, 2, 0, 0, 0] = first.content else { return None };
    let size = (u32::from_be_bytes([w0, w1, w2, w3]), u32::from_be_bytes([h0, h1, h2, h3]));
    let is_plain = |side| (1..=MAX_IMAGE_SIDE).contains(&side);
    (first.kind == b"IHDR" && is_plain(size.0) && is_plain(size.1)).then_some(size)
}

impl Buffers {
    /// Bytes of its memory for rows.
    #[cfg(test)]
    pub(super) fn rows_held(&self) -> usize {
        self.rows.len()
    }

    /// The rows in the data of a plain PNG's IDAT chunks; `size` is width and height. `None` where they are not as
    /// many as that, or the data is damaged.
    pub(super) fn unpack(&mut self, packed: &[u8], size: (u32, u32)) -> Option<PngRows<'_>> {
        unpacked(packed, size, &mut self.rows, &mut self.inflate)
    }
}

fn unpacked<'b>(
    packed: &[u8],
    (width, height): (u32, u32),
    rows: &'b mut Vec<u8>,
    inflate: &mut Decompressor,
) -> Option<PngRows<'b>> {
    let size = bytes_of((width, height));
    // So little cannot hold so much: no memory is asked for.
    if packed.len() < size / LARGEST_RATIO {
        return None;
    }
    if rows.len() < size {
        rows.resize(size, 0);
    }
    let rows = &mut rows[..size];
    let unpacked = inflate.zlib_decompress(packed, rows).ok()?;
    (unpacked == size).then_some(PngRows { width, height, rows })
}

/// A chunk of a PNG.
pub(super) struct Chunk<'f> {
    pub(super) kind: &'f [u8; 4],
    pub(super) content: &'f [u8],
    /// Kind and content, of which the checksum is.
    checked: &'f [u8],
    checksum: [u8; 4],
}

impl Chunk<'_> {
    /// Whether the checksum is that of the chunk.
    pub(super) fn is_whole(&self) -> bool {
        let mut crc = Crc::new();
        crc.update(self.checked);
        crc.sum().to_be_bytes() == self.checksum
    }
}

/// The chunks of a file, until one is cut.
pub(super) struct Chunks<'f>(&'f [u8]);

impl<'f> Chunks<'f> {
    /// `None` where the file does not begin as a PNG.
    pub(super) fn of(png: &'f [u8]) -> Option<Self> {
        png.strip_prefix(&SIGNATURE).map(Self)
    }
}

impl<'f> Iterator for Chunks<'f> {
    type Item = Chunk<'f>;

    fn next(&mut self) -> Option<Chunk<'f>> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        let (checked, rest) = rest.split_at_checked(length.checked_add(4)?)?;
        let (kind, content) = checked.split_first_chunk::<4>()?;
        let (&checksum, rest) = rest.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(Chunk { kind, content, checked, checksum })
    }
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
pub(super) mod tests {
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
                let mut pixels = Vec::new();
                rows.for_each(|row| pixels.extend_from_slice(row)).unwrap();
                assert_eq!(pixels, *picture.as_raw(), "{filter:?} {width}x{height}");
            }
        }
    }

    /// Where the first IDAT chunk begins, its content, and what follows it.
    fn first_data(png: &[u8]) -> (usize, &[u8], &[u8]) {
        let mut chunks = Chunks::of(png).unwrap();
        loop {
            let place = png.len() - chunks.0.len();
            let chunk = chunks.next().unwrap();
            if chunk.kind == b"IDAT" {
                return (place, chunk.content, chunks.0);
            }
        }
    }

    /// The same pixels in chunks of `size` bytes.
    fn in_chunks(whole: &[u8], size: usize) -> Vec<u8> {
        let (place, content, rest) = first_data(whole);
        let mut bytes = whole[..place].to_vec();
        for part in content.chunks(size) {
            bytes.extend_from_slice(&chunk_of(b"IDAT", part));
        }
        bytes.extend_from_slice(rest);
        bytes
    }

    pub(in super::super) fn chunk_of(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let mut bytes = (content.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(kind);
        bytes.extend_from_slice(content);
        let mut check = Crc::new();
        check.update(&bytes[4..]);
        bytes.extend_from_slice(&check.sum().to_be_bytes());
        bytes
    }

    #[test]
    fn pixels_in_several_chunks_are_put_together() {
        let picture = picture(61, 47);
        let whole = packed(&picture, png::Filter::Paeth);
        for size in [100, 1_000] {
            let parted = in_chunks(&whole, size);
            assert_eq!(image::load_from_memory(&parted).unwrap().to_rgb8(), picture);
            let mut pixels = Vec::new();
            let mut buffers = Buffers::default();
            let rows = png_rows(&parted, &mut buffers).unwrap();
            rows.for_each(|row| pixels.extend_from_slice(row)).unwrap();
            assert_eq!(pixels, *picture.as_raw());
        }
    }

    /// Writes the filter 5, which there is not, into the middle row.
    fn unknown_filter(png: &mut Vec<u8>, width: usize, height: usize) {
        let (place, content, rest) = first_data(png);
        let mut rows = vec![0; (width * 3 + 1) * height];
        Decompressor::new().zlib_decompress(content, &mut rows).unwrap();
        rows[(width * 3 + 1) * (height / 2)] = 5;
        let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
        let mut content = vec![0; compressor.zlib_compress_bound(rows.len())];
        let size = compressor.zlib_compress(&rows, &mut content).unwrap();
        let rest = rest.to_vec();
        png.truncate(place);
        png.extend_from_slice(&chunk_of(b"IDAT", &content[..size]));
        png.extend_from_slice(&rest);
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
        let mut unknown = packed(&picture(40, 30), png::Filter::NoFilter);
        unknown_filter(&mut unknown, 40, 30);
        assert!(png_rows(&unknown, &mut buffers).unwrap().for_each(|_| ()).is_none());
        let long = packed(&picture(1, MAX_IMAGE_SIDE + 1), png::Filter::Paeth);
        assert!(png_rows(&long, &mut buffers).is_none());
        let mut huge = whole;
        huge[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
        assert!(png_rows(&huge, &mut buffers).is_none());
        assert!(buffers.rows.len() < 1 << 20);
    }
}
