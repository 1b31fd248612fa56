//! In: sizes and pixels of files that hold several pictures. Out: how they are cut, and what speaks against it.
//! The pictures lie in rows: top-left first, as the reference script crops them.

use std::fmt;
use std::str::FromStr;

use image::RgbImage;
use serde::{Serialize, Serializer};

/// Columns and rows of equal tiles, with a padding around and between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiling {
    /// Tiles side by side.
    pub columns: u32,
    /// Tiles one above the other.
    pub rows: u32,
    /// Pixels around and between the tiles, as torchvision's `make_grid` draws them.
    pub padding: u32,
}

impl Tiling {
    /// The file is the picture.
    pub const WHOLE: Self = Self { columns: 1, rows: 1, padding: 0 };

    /// Without padding.
    pub const fn new(columns: u32, rows: u32) -> Self {
        Self { columns, rows, padding: 0 }
    }

    /// Tiles in a file.
    pub fn count(self) -> u32 {
        self.columns.saturating_mul(self.rows)
    }

    /// Size of a tile in a file of this size; `None` if it cannot be cut into equal ones.
    pub(crate) fn tile_size(self, (width, height): (u32, u32)) -> Option<(u32, u32)> {
        let side = |length: u32, parts: u32| {
            let padding = self.padding.checked_mul(parts.checked_add(1)?)?;
            let rest = length.checked_sub(padding).filter(|rest| *rest > 0)?;
            (rest % parts == 0).then_some(rest / parts)
        };
        // Without several tiles there is no padding: torchvision leaves a single picture as it is.
        if self.count() == 1 {
            return (width > 0 && height > 0).then_some((width, height));
        }
        Some((side(width, self.columns)?, side(height, self.rows)?))
    }

    /// Size of a file whose tiles have this size; `None` if it is beyond all bounds.
    pub(crate) fn file_size(self, (width, height): (u32, u32)) -> Option<(u32, u32)> {
        if self.count() == 1 {
            return Some((width, height));
        }
        let side = |tile: u32, parts: u32| {
            tile.checked_mul(parts)?.checked_add(self.padding.checked_mul(parts + 1)?)
        };
        Some((side(width, self.columns)?, side(height, self.rows)?))
    }

    /// Left and top of a tile, counted row by row from 0.
    fn corner(self, index: u32, (width, height): (u32, u32)) -> (u32, u32) {
        if self.count() == 1 {
            return (0, 0);
        }
        let start = |place: u32, side: u32| self.padding + place * (side + self.padding);
        (start(index % self.columns, width), start(index / self.columns, height))
    }

    /// The pixels of a tile, counted row by row from 0; `None` if the picture has no such tile.
    pub fn cut(self, picture: &RgbImage, index: u32) -> Option<RgbImage> {
        let (width, height) = self.tile_size(picture.dimensions())?;
        let (left, top) = self.corner(index, (width, height));
        (index < self.count())
            .then(|| image::imageops::crop_imm(picture, left, top, width, height).to_image())
    }
}

impl fmt::Display for Tiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.columns, self.rows)
    }
}

impl FromStr for Tiling {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let side = |part: &str| part.parse().ok().filter(|side| (1..=64).contains(side));
        text.split_once('x')
            .and_then(|(columns, rows)| Some(Self::new(side(columns)?, side(rows)?)))
            .ok_or_else(|| "write COLUMNSxROWS, each from 1 to 64, such as 2x2 or 4x1".to_owned())
    }
}

impl Serialize for Tiling {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The widest padding that is looked for.
const WIDEST_PADDING: u32 = 16;
/// Sides of pictures that models make are multiples of this.
const USUAL_MULTIPLE: u32 = 8;

/// The padding that all these grids seem to have: lines of one colour around and between their tiles. `None`
/// if there is none, or the tiles have a usual size only without one.
pub(crate) fn likely_padding(grids: &[RgbImage], tiling: Tiling) -> Option<u32> {
    if tiling.count() == 1 {
        return None;
    }
    let grids: Vec<&RgbImage> = grids.iter().filter(|grid| !is_plain(grid)).collect();
    let first = grids.first()?;
    let usual = |tiling: Tiling| {
        let is_usual =
            |(width, height)| width % USUAL_MULTIPLE == 0 && height % USUAL_MULTIPLE == 0;
        grids.iter().all(|grid| tiling.tile_size(grid.dimensions()).is_some_and(is_usual))
    };
    let colour = *first.get_pixel(0, 0);
    let with = |padding| Tiling { padding, ..tiling };
    let mut fitting = (1..=WIDEST_PADDING)
        .take_while(|padding| grids.iter().all(|grid| has_frame(grid, *padding, colour)))
        .filter(|padding| grids.iter().all(|grid| has_gaps(grid, with(*padding), colour)))
        .collect::<Vec<u32>>();
    fitting.sort_by_key(|padding| !usual(with(*padding)));
    let padding = *fitting.first()?;
    (usual(with(padding)) || !usual(tiling)).then_some(padding)
}

fn is_plain(picture: &RgbImage) -> bool {
    let first = picture.get_pixel_checked(0, 0);
    picture.pixels().all(|pixel| Some(pixel) == first)
}

/// Whether the outermost lines, `depth` deep, are all of this colour.
fn has_frame(picture: &RgbImage, depth: u32, colour: image::Rgb<u8>) -> bool {
    let (width, height) = picture.dimensions();
    let inside = |place: u32, length: u32| place >= depth && place + depth < length;
    picture
        .enumerate_pixels()
        .all(|(x, y, pixel)| inside(x, width) && inside(y, height) || *pixel == colour)
}

/// Whether the lines between the tiles are all of this colour.
fn has_gaps(picture: &RgbImage, tiling: Tiling, colour: image::Rgb<u8>) -> bool {
    let Some((width, height)) = tiling.tile_size(picture.dimensions()) else { return false };
    let in_gap = |place: u32, side: u32| place % (side + tiling.padding) < tiling.padding;
    picture
        .enumerate_pixels()
        .all(|(x, y, pixel)| !in_gap(x, width) && !in_gap(y, height) || *pixel == colour)
}

/// A change across the cuts that is this many times that beside them is a seam.
const SEAM: f64 = 4.0;
/// Below this there is none.
const NO_SEAM: f64 = 1.5;
/// Lines on each side of a cut that it is compared with.
const BESIDE: u32 = 3;

/// What the pixels on both sides of the cuts say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seams {
    /// The pictures change sharply there, across and down: different pictures meet.
    Present,
    /// They go on as if nothing was there: it is one picture.
    Absent,
    /// Neither.
    Unclear,
}

/// Looks at the cuts of these files, which have no padding; the median of the files decides.
pub(crate) fn seams(pictures: &[RgbImage], tiling: Tiling) -> Seams {
    let ratios = |down: bool, parts: u32| {
        let mut ratios: Vec<f64> =
            pictures.iter().filter_map(|picture| seam_ratio(picture, down, parts)).collect();
        ratios.sort_by(f64::total_cmp);
        (parts > 1).then(|| ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN))
    };
    let found: Vec<f64> =
        [ratios(false, tiling.columns), ratios(true, tiling.rows)].into_iter().flatten().collect();
    if found.is_empty() {
        Seams::Unclear
    } else if found.iter().all(|ratio| *ratio >= SEAM) {
        Seams::Present
    } else if found.iter().all(|ratio| *ratio <= NO_SEAM) {
        Seams::Absent
    } else {
        Seams::Unclear
    }
}

/// The change across the cuts against that between the lines beside them; `None` where nothing changes.
fn seam_ratio(picture: &RgbImage, down: bool, parts: u32) -> Option<f64> {
    let (width, height) = picture.dimensions();
    let (length, across) = if down { (height, width) } else { (width, height) };
    let part = length / parts;
    if part <= BESIDE + 1 || across == 0 {
        return None;
    }
    // Mean difference of the line that ends before `at` and the one that begins there.
    let change = |at: u32| {
        let pixel = |along: u32, side: u32| {
            if down { picture.get_pixel(side, along) } else { picture.get_pixel(along, side) }
        };
        let total: u64 = (0..across)
            .map(|side| {
                let (before, after) = (pixel(at - 1, side), pixel(at, side));
                (0..3).map(|c| u64::from(before[c].abs_diff(after[c]))).sum::<u64>()
            })
            .sum();
        total as f64 / f64::from(across)
    };
    let (mut seam, mut beside) = (0.0, 0.0);
    for cut in (1..parts).map(|place| place * part) {
        seam += change(cut);
        beside += (1..=BESIDE).map(|step| change(cut - step) + change(cut + step)).sum::<f64>()
            / f64::from(2 * BESIDE);
    }
    (seam + beside > 0.0).then(|| seam / beside.max(f64::MIN_POSITIVE))
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    fn tile(index: u32, side: u32) -> RgbImage {
        RgbImage::from_fn(side, side, |x, y| {
            Rgb([(60 * index + x) as u8, (y + 40) as u8, (200 + 50 * index) as u8])
        })
    }

    fn grid(tiling: Tiling, side: u32) -> RgbImage {
        let (width, height) = tiling.file_size((side, side)).unwrap();
        let mut grid = RgbImage::new(width, height);
        for index in 0..tiling.count() {
            let (left, top) = tiling.corner(index, (side, side));
            image::imageops::replace(&mut grid, &tile(index, side), left.into(), top.into());
        }
        grid
    }

    #[test]
    fn tiles_are_cut_in_reading_order_with_and_without_padding() {
        for (columns, rows, padding) in [(1, 1, 0), (2, 2, 0), (4, 1, 0), (2, 1, 3), (3, 2, 2)] {
            let tiling = Tiling { columns, rows, padding };
            let grid = grid(tiling, 8);
            assert_eq!(tiling.tile_size(grid.dimensions()), Some((8, 8)), "{tiling}");
            for index in 0..tiling.count() {
                assert_eq!(tiling.cut(&grid, index).unwrap(), tile(index, 8), "{tiling} {index}");
            }
            assert_eq!(tiling.cut(&grid, tiling.count()), None);
        }
        assert_eq!(Tiling::new(2, 2).tile_size((15, 16)), None);
        assert_eq!(Tiling { padding: 2, ..Tiling::new(2, 2) }.tile_size((6, 6)), None);
        assert_eq!("4x1".parse(), Ok(Tiling::new(4, 1)));
        for wrong in ["4", "x", "0x2", "2x2x2", "2 x 2", "65x1", "-1x2"] {
            assert!(wrong.parse::<Tiling>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_padding_is_seen_and_pictures_on_plain_ground_are_not_taken_for_one() {
        let two_by_two = Tiling::new(2, 2);
        for padding in [1, 2, 5] {
            let padded = grid(Tiling { padding, ..two_by_two }, 16);
            assert_eq!(likely_padding(&[padded], two_by_two), Some(padding));
        }
        assert_eq!(likely_padding(&[grid(two_by_two, 16)], two_by_two), None);
        // Shapes on white, 2 pixels from the edges of their tiles: without padding the size is usual.
        let mut white = RgbImage::from_pixel(32, 32, Rgb([255; 3]));
        for (left, top) in [(2, 2), (18, 2), (2, 18), (18, 18)] {
            image::imageops::replace(&mut white, &tile(1, 12), left, top);
        }
        assert_eq!(likely_padding(&[white], two_by_two), None);
        assert_eq!(likely_padding(&[RgbImage::new(22, 22)], two_by_two), None);
        assert_eq!(likely_padding(&[], two_by_two), None);
    }

    #[test]
    fn seams_tell_grids_from_single_pictures() {
        let two_by_two = Tiling::new(2, 2);
        assert_eq!(seams(&[grid(two_by_two, 16)], two_by_two), Seams::Present);
        assert_eq!(seams(&[tile(1, 32)], two_by_two), Seams::Absent);
        assert_eq!(seams(&[grid(Tiling::new(2, 1), 16)], two_by_two), Seams::Unclear);
        assert_eq!(seams(&[RgbImage::new(32, 32)], two_by_two), Seams::Unclear);
        assert_eq!(seams(&[], two_by_two), Seams::Unclear);
    }
}
