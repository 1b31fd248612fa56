//! In: sizes of the files of a plan, and a few of their pictures. Out: how files of several images are cut, or
//! why that cannot be told: a wrong cut gives quarters and halves of pictures, which a judge takes as well.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;

use image::RgbImage;
use rayon::prelude::*;
use serde::Serialize;

use super::error::ImportError;
use super::layout::FilePlan;
use super::layout::ImportRequest;
use super::tiles::{Seams, Tiling, likely_padding, seams};
use crate::generate::import::naming::Layout;
use crate::results::image_store::{PictureHeader, read_picture};

/// Files named in a message; the rest are counted.
const SHOWN_FILES: usize = 5;
/// Files whose pixels are looked at before anything is imported.
const SAMPLES: usize = 12;
/// Tiles that are this many times longer than wide are refused.
const LONGEST_RATIO: u32 = 2;

/// Files of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TileSize {
    /// Width of each image in pixels.
    pub width: u32,
    /// Height of each image in pixels.
    pub height: u32,
    /// Images taken from each file.
    pub images_per_file: u32,
    /// Number of files.
    pub files: usize,
}

/// What is known of the files before they are imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tiles {
    /// How each file is cut.
    pub tiling: Tiling,
    /// Sizes of the images, smallest first.
    pub sizes: Vec<TileSize>,
    /// The files look as if they were single pictures.
    pub without_seams: bool,
}

/// Finds out how the files are cut, and makes sure that every size fits.
///
/// # Errors
/// See [`ImportError`].
pub fn plan_tiles(
    files: &FilePlan,
    headers: &[Option<PictureHeader>],
    request: &ImportRequest<'_>,
) -> Result<Tiles, ImportError> {
    let sizes = Sizes {
        files,
        of_files: headers.iter().map(|header| header.map(|it| (it.width, it.height))).collect(),
    };
    if !files.layout.may_hold_several()
        && (request.tiling.is_some() || request.tile_padding.is_some())
    {
        return Err(ImportError::NothingToCut { layout: files.layout });
    }
    let padding = request.tile_padding.unwrap_or_default();
    let tiling = Tiling { padding, ..choose_tiling(&sizes, request)? };
    sizes.check_fit(tiling, request.resolution)?;
    let mut without_seams = false;
    if files.layout.may_hold_several() {
        if request.tiling.is_none() && request.resolution.is_none() && tiling.count() > 1 {
            sizes.check_alike(tiling)?;
            sizes.check_ratio(tiling)?;
        }
        let samples = sizes.samples();
        if request.tile_padding.is_none()
            && let Some(padding) = likely_padding(&samples, tiling)
        {
            return Err(ImportError::Padded { example: sizes.example(), padding });
        }
        let told = request.tiling.is_some() || request.resolution.is_some();
        if tiling.count() > 1 {
            without_seams = padding == 0 && seams(&samples, tiling) == Seams::Absent;
        } else if !told && seams(&samples, Tiling::new(2, 2)) == Seams::Present {
            return Err(ImportError::ImageOrGrid { example: sizes.example() });
        }
    }
    Ok(Tiles { tiling, sizes: sizes.of_images(tiling, request.images_per_item), without_seams })
}

/// What was asked for, else what the reference script would crop with as many images, where the sizes leave no
/// other way.
fn choose_tiling(sizes: &Sizes<'_>, request: &ImportRequest<'_>) -> Result<Tiling, ImportError> {
    let images = request.images_per_item;
    if let Some(tiling) = request.tiling {
        return if images <= tiling.count() {
            Ok(tiling)
        } else {
            Err(ImportError::TooFewTiles { tiling, images_per_item: images })
        };
    }
    let layout = sizes.files.layout;
    if !layout.may_hold_several() {
        return Ok(Tiling::WHOLE);
    }
    if images > 4 {
        return Err(ImportError::GridTooSmall { images_per_item: images });
    }
    let padding = request.tile_padding.unwrap_or_default();
    let (beside, grid) = (Tiling::new(2, 1), Tiling::new(2, 2));
    if let Some(side) = request.resolution {
        let candidates = [(Tiling::WHOLE, 1), (beside, 2)];
        let fitting = candidates.into_iter().find(|(tiling, most)| {
            let wanted = Tiling { padding, ..*tiling }.file_size((side, side));
            images <= *most && sizes.known().any(|size| Some(size) == wanted)
        });
        return Ok(fitting.map_or(grid, |(tiling, _)| tiling));
    }
    let is_row_of_two = |size| {
        let tile = Tiling { padding, ..beside }.tile_size(size);
        tile.is_some_and(|(width, height)| width == height)
    };
    match images {
        1 if layout == Layout::OnePerItem => Ok(Tiling::WHOLE),
        2 if sizes.known().next().is_some() && sizes.known().all(is_row_of_two) => Ok(beside),
        2 if layout == Layout::OnePerItem => {
            Err(ImportError::TwoOfWhat { example: sizes.example() })
        }
        _ => Ok(grid),
    }
}

/// The sizes of a plan's files, as far as their headers can be read.
struct Sizes<'a> {
    files: &'a FilePlan,
    of_files: Vec<Option<(u32, u32)>>,
}

impl Sizes<'_> {
    fn known(&self) -> impl Iterator<Item = (u32, u32)> {
        self.of_files.iter().copied().flatten()
    }

    fn named(&self) -> impl Iterator<Item = (&str, (u32, u32))> {
        let names = self.files.files.iter().map(|file| file.name.as_str());
        names.zip(&self.of_files).filter_map(|(name, size)| Some((name, (*size)?)))
    }

    /// The first file and its size.
    fn example(&self) -> String {
        let named = self.named().next();
        named
            .map(|(name, (width, height))| format!("{name} ({width}x{height} pixels)"))
            .unwrap_or_default()
    }

    fn check_fit(&self, tiling: Tiling, resolution: Option<u32>) -> Result<(), ImportError> {
        let wrong: Vec<String> = self
            .named()
            .filter_map(|(name, size)| {
                Some(format!("{name}: {}", why_unfit(size, tiling, resolution)?))
            })
            .collect();
        if wrong.is_empty() {
            return Ok(());
        }
        let mut sizes: Vec<String> = wrong.iter().take(SHOWN_FILES).cloned().collect();
        if wrong.len() > SHOWN_FILES {
            sizes.push(format!(
                "and {} more files of a size that does not fit",
                wrong.len() - SHOWN_FILES
            ));
        }
        Err(ImportError::BadSizes { sizes })
    }

    /// Grids of one model have one size; another one is often a single picture.
    fn check_alike(&self, tiling: Tiling) -> Result<(), ImportError> {
        let mut by_size: BTreeMap<(u32, u32), (usize, &str)> = BTreeMap::new();
        for (name, size) in self.named() {
            by_size.entry(size).or_insert((0, name)).0 += 1;
        }
        if by_size.len() < 2 {
            return Ok(());
        }
        let mut found: Vec<_> = by_size.into_iter().collect();
        found.sort_by_key(|(_, (count, _))| *count);
        let more = found.len().saturating_sub(SHOWN_FILES);
        let mut sizes: Vec<String> = found
            .into_iter()
            .take(SHOWN_FILES)
            .map(|((width, height), (count, name))| match count {
                1 => format!("{name} of {width}x{height}"),
                _ => format!("{count} of {width}x{height} ({name}, ...)"),
            })
            .collect();
        if more > 0 {
            sizes.push(format!("{more} other sizes"));
        }
        Err(ImportError::DifferentSizes { sizes: sizes.join(", "), tiling })
    }

    fn check_ratio(&self, tiling: Tiling) -> Result<(), ImportError> {
        for (name, size) in self.named() {
            let Some((width, height)) = tiling.tile_size(size) else { continue };
            let (long, short) = (width.max(height), width.min(height));
            if long >= short.saturating_mul(LONGEST_RATIO) {
                return Err(ImportError::UnlikelyTiles {
                    name: name.to_owned(),
                    size,
                    tile: (width, height),
                    tiling,
                });
            }
        }
        Ok(())
    }

    /// The pictures of some files, from the first to the last. Those that cannot be decoded are left out.
    fn samples(&self) -> Vec<RgbImage> {
        let files = &self.files.files;
        let wanted = SAMPLES.min(files.len());
        let places: Vec<usize> = (0..wanted).map(|at| at * files.len() / wanted).collect();
        places
            .par_iter()
            .filter_map(|place| {
                let file = File::open(&files.get(*place)?.path).ok()?;
                read_picture(BufReader::new(file)).ok()
            })
            .collect()
    }

    fn of_images(&self, tiling: Tiling, images_per_item: u32) -> Vec<TileSize> {
        let mut counts: BTreeMap<(u32, u32), usize> = BTreeMap::new();
        for tile in self.known().filter_map(|size| tiling.tile_size(size)) {
            *counts.entry(tile).or_default() += 1;
        }
        let images_per_file =
            if tiling.count() > 1 { tiling.count().min(images_per_item) } else { 1 };
        counts
            .into_iter()
            .map(|((width, height), files)| TileSize { width, height, images_per_file, files })
            .collect()
    }
}

/// Why a picture of this size cannot be taken as it is.
pub fn why_unfit(
    (width, height): (u32, u32),
    tiling: Tiling,
    resolution: Option<u32>,
) -> Option<String> {
    let padded = match tiling.padding {
        0 => String::new(),
        padding => format!(" with a padding of {padding}"),
    };
    if tiling.tile_size((width, height)).is_none() {
        return Some(format!(
            "{width}x{height} pixels cannot be cut into {tiling} equal images{padded}"
        ));
    }
    let side = resolution?;
    let wanted = tiling.file_size((side, side));
    if wanted == Some((width, height)) {
        return None;
    }
    let what = if tiling.count() > 1 { format!("{tiling} images") } else { "an image".to_owned() };
    let (wide, high) = wanted.unwrap_or((u32::MAX, u32::MAX));
    Some(format!(
        "it has {width}x{height} pixels, but {what} of {side} pixels{padded} would have {wide}x{high}; mend \
         --resolution (nothing is cropped)"
    ))
}
