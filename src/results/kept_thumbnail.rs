//! In: the thumbnail of an image and what tells its PNG from others. Out: the file that a run keeps: the JPEG, and after it one line
//! with that mark and a checksum. Later, the JPEG again, if it is whole and the PNG is still that one; else nothing, and
//! whoever asks makes it anew.
//!
//! The mark is the PNG's length and the eight bytes before its last chunk. Runs hold PNGs whose pixels are in one chunk, the
//! last but one, so these are the checksum of the unpacked rows (Adler-32) and that of the packed ones (CRC-32): another image has
//! all three by a chance of less than one in 2^40, and two small reads tell. What was damaged within a PNG while its length
//! and end stayed is not seen so; judges and resumes, which read the pixels, see it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::LazyLock;

use image::RgbImage;
use libdeflater::Crc;

use super::thumbnail::{THUMBNAIL_SIDE, jpeg_of};

/// What the line begins with. Another version is made anew.
const TITLE: &str = "\ndpg-bench thumbnail 1.0: CRC";
/// Bytes of the line.
const LINE: usize =
    TITLE.len() + " 01234567, of the PNG of 012345678901 bytes, 0123456789abcdef\n".len();
/// No thumbnail has as many bytes with its line.
const MOST_BYTES: u64 = 1 << 18;
/// The last chunk of a PNG.
const IEND: [u8; 12] = *b"\0\0\0\0IEND\xae\x42\x60\x82";
/// Where height and width stand in a thumbnail.
const SIDES: std::ops::Range<usize> = 25..29;

/// What tells a PNG from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PngMark {
    length: u64,
    checksums: [u8; 8],
}

impl PngMark {
    /// Of a whole file.
    pub(super) fn of(png: &[u8]) -> Option<Self> {
        Self::of_end(png.len() as u64, *png.last_chunk()?)
    }

    /// Of the file at `path`. `None` where there is none, or it does not end as a PNG.
    pub fn of_file(path: &Path) -> Option<Self> {
        let mut file = File::open(path).ok()?;
        let mut end = [0; 8 + IEND.len()];
        let start = file.seek(SeekFrom::End(-(end.len() as i64))).ok()?;
        file.read_exact(&mut end).ok()?;
        Self::of_end(start + end.len() as u64, end)
    }

    fn of_end(length: u64, end: [u8; 8 + IEND.len()]) -> Option<Self> {
        let (checksums, last) = end.split_first_chunk()?;
        (*last == IEND).then_some(Self { length, checksums: *checksums })
    }
}

/// The file to keep.
pub fn to_keep(jpeg: &[u8], mark: &PngMark) -> Vec<u8> {
    [jpeg, line(jpeg, mark).as_bytes()].concat()
}

fn line(jpeg: &[u8], mark: &PngMark) -> String {
    let mut crc = Crc::new();
    crc.update(jpeg);
    let (crc, length, checksums) = (crc.sum(), mark.length, u64::from_be_bytes(mark.checksums));
    format!("{TITLE} {crc:08x}, of the PNG of {length:012} bytes, {checksums:016x}\n")
}

/// The thumbnail that is kept at `thumbnail`, if it is whole and that of the PNG at `png`.
pub fn read_kept(thumbnail: &Path, png: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(1 << 13);
    File::open(thumbnail).ok()?.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    of_png(bytes, &PngMark::of_file(png)?)
}

/// The thumbnail in a file of these bytes, if it is whole and that of the PNG with this mark.
fn of_png(mut file: Vec<u8>, mark: &PngMark) -> Option<Vec<u8>> {
    let length = file.len().checked_sub(LINE)?;
    let (jpeg, end) = file.split_at(length);
    // A run may come from a stranger: what a report takes over has no other form than what it makes.
    let is_taken = is_thumbnail(jpeg) && line(jpeg, mark).as_bytes() == end;
    file.truncate(length);
    is_taken.then_some(file)
}

/// A thumbnail up to the data of its pixels: but for the sides, all begin so.
static HEAD: LazyLock<Option<Vec<u8>>> = LazyLock::new(|| {
    let mut jpeg = jpeg_of(&RgbImage::new(1, 1)).ok()?;
    let scan = jpeg.windows(2).position(|two| two == [0xff, 0xda])?;
    let length = u16::from_be_bytes([*jpeg.get(scan + 2)?, *jpeg.get(scan + 3)?]);
    jpeg.truncate(scan + 2 + usize::from(length));
    Some(jpeg)
});

/// Whether these are the bytes of a thumbnail, up to what is in the data of its pixels.
fn is_thumbnail(jpeg: &[u8]) -> bool {
    let Some(head) = &*HEAD else { return false };
    let Some((begin, data)) = jpeg.split_at_checked(head.len()) else { return false };
    let is_alike =
        begin[..SIDES.start] == head[..SIDES.start] && begin[SIDES.end..] == head[SIDES.end..];
    let mut sides = begin[SIDES].as_chunks::<2>().0.iter().map(|side| u16::from_be_bytes(*side));
    let are_small = sides.all(|side| (1..=THUMBNAIL_SIDE).contains(&u32::from(side)));
    // In the data a byte 0xff is followed by a zero; else it would be a marker, of which only that of the end may come.
    let is_plain = |data: &[u8]| data.windows(2).all(|two| two[0] != 0xff || two[1] == 0);
    let data = data.strip_suffix(&[0xff, 0xd9]);
    is_alike && are_small && data.is_some_and(|data| is_plain(data) && data.last() != Some(&0xff))
}

#[cfg(test)]
mod tests {
    use super::super::image_store::write_png;
    use super::super::thumbnail::thumbnail_of;
    use super::*;

    fn picture(width: u32, height: u32, shade: u8) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            image::Rgb([(x * y) as u8, (x * 31 + y * 7) as u8, shade])
        })
    }

    /// A PNG and its thumbnail in `folder`.
    fn kept_in(folder: &Path, pixels: &RgbImage) -> (std::path::PathBuf, std::path::PathBuf) {
        let (png, thumbnail) = (folder.join("0.png"), folder.join("0.jpg"));
        write_png(&png, pixels, &[("prompt", "a kite".to_owned())]).unwrap();
        let jpeg = thumbnail_of(pixels).unwrap();
        std::fs::write(&thumbnail, to_keep(&jpeg, &PngMark::of_file(&png).unwrap())).unwrap();
        (png, thumbnail)
    }

    #[test]
    fn a_thumbnail_is_kept_as_long_as_the_png_has_the_same_pixels() {
        let folder = tempfile::tempdir().unwrap();
        for (width, height) in [(512, 512), (64, 64), (1, 700), (193, 2), (1, 1)] {
            let pixels = picture(width, height, 7);
            let (png, thumbnail) = kept_in(folder.path(), &pixels);
            assert!(read_kept(&thumbnail, &png) == Some(thumbnail_of(&pixels).unwrap()));
            let whole = std::fs::read(&png).unwrap();
            assert_eq!(PngMark::of(&whole), PngMark::of_file(&png));
            // One value of one pixel is another, the size of the file the same or not.
            let mut other = pixels.clone();
            other.get_pixel_mut(width - 1, height / 2).0[1] ^= 1;
            write_png(&png, &other, &[("prompt", "a kite".to_owned())]).unwrap();
            assert_eq!(read_kept(&thumbnail, &png), None, "{width}x{height}");
            std::fs::write(&png, &whole[..whole.len() - 1]).unwrap();
            assert_eq!(read_kept(&thumbnail, &png), None);
            std::fs::write(&png, b"").unwrap();
            assert_eq!(read_kept(&thumbnail, &png), None);
            std::fs::remove_file(&png).unwrap();
            assert_eq!(read_kept(&thumbnail, &png), None);
        }
    }

    #[test]
    fn the_mark_holds_the_checksums_of_the_rows_and_of_the_packed_rows() {
        let folder = tempfile::tempdir().unwrap();
        let (png, _) = kept_in(folder.path(), &picture(61, 47, 7));
        let bytes = std::fs::read(&png).unwrap();
        let start = bytes.windows(4).position(|kind| kind == b"IDAT").unwrap();
        let length = u32::from_be_bytes(bytes[start - 4..start].try_into().unwrap()) as usize;
        // The pixels are in one chunk, which the last one follows.
        assert_eq!(start + 4 + length + 4 + IEND.len(), bytes.len());
        let mut crc = Crc::new();
        crc.update(&bytes[start..start + 4 + length]);
        let packed = &bytes[start + 4..start + 4 + length];
        let mut rows = vec![0; (61 * 3 + 1) * 47];
        libdeflater::Decompressor::new().zlib_decompress(packed, &mut rows).unwrap();
        let mut adler = libdeflater::Adler32::new();
        adler.update(&rows);
        let expected = [adler.sum().to_be_bytes(), crc.sum().to_be_bytes()].concat();
        let mark = PngMark::of_file(&png).unwrap();
        assert_eq!((mark.length, &mark.checksums[..]), (bytes.len() as u64, &expected[..]));
    }

    #[test]
    fn a_thumbnail_that_is_damaged_anywhere_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let (png, thumbnail) = kept_in(folder.path(), &picture(64, 48, 7));
        let mark = PngMark::of_file(&png).unwrap();
        let whole = std::fs::read(&thumbnail).unwrap();
        assert!(of_png(whole.clone(), &mark).is_some());
        for place in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[place] ^= 0x10;
            assert_eq!(of_png(damaged, &mark), None, "byte {place}");
            assert_eq!(of_png(whole[..place].to_vec(), &mark), None, "cut at {place}");
        }
        assert_eq!(of_png([&whole[..], b"\n"].concat(), &mark), None);
        std::fs::remove_file(&thumbnail).unwrap();
        assert_eq!(read_kept(&thumbnail, &png), None);
        std::fs::create_dir(&thumbnail).unwrap();
        assert_eq!(read_kept(&thumbnail, &png), None);
    }

    /// All with a right line.
    #[test]
    fn a_stranger_cannot_have_other_things_shown_than_a_small_jpeg_of_this_form() {
        let folder = tempfile::tempdir().unwrap();
        let (png, thumbnail) = kept_in(folder.path(), &picture(64, 48, 7));
        let mark = PngMark::of_file(&png).unwrap();
        let whole = thumbnail_of(&picture(64, 48, 7)).unwrap();
        let head = HEAD.as_ref().unwrap().len();
        let with = |place: usize, bytes: &[u8]| {
            let mut other = whole.clone();
            other.splice(place..place + bytes.len(), bytes.iter().copied());
            other
        };
        let put_in =
            |place: usize, bytes: &[u8]| [&whole[..place], bytes, &whole[place..]].concat();
        assert_eq!(whole[SIDES], [0, 48, 0, 64]);
        let forms = [
            (whole.clone(), true),
            (with(SIDES.start, &[0, 192]), true),
            (with(SIDES.start, &[0, 193]), false),
            (with(SIDES.start + 2, &[0xff, 0xff]), false),
            (with(SIDES.start, &[0, 0]), false),
            (std::fs::read(&png).unwrap(), false),
            (b"<svg onload=alert(1)>".to_vec(), false),
            (Vec::new(), false),
            (whole[..head].to_vec(), false),
            // A comment, one more image, and what comes after the end.
            (put_in(2, b"\xff\xfe\0\x06hush"), false),
            (put_in(head, b"\xff\xfe\0\x06hush"), false),
            (put_in(whole.len() - 2, b"\xff\xd8"), false),
            (put_in(whole.len(), b"<script>"), false),
            (put_in(whole.len() - 2, b"\xff"), false),
            (vec![0xff; MOST_BYTES as usize], false),
        ];
        for (place, (jpeg, is_taken)) in forms.into_iter().enumerate() {
            std::fs::write(&thumbnail, to_keep(&jpeg, &mark)).unwrap();
            assert_eq!(read_kept(&thumbnail, &png), is_taken.then_some(jpeg), "form {place}");
        }
    }
}
