//! In: sizes of the files of a plan, and a few of their pictures. Out: how files of several images are cut, or
//! why that cannot be told: a wrong cut gives quarters and halves of pictures, which a judge takes as well.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;

use image::RgbImage;
use rayon::prelude::*;
use serde::Serialize;

use super::error::{ImportError, SizeFault, SizedFile};
use super::layout::FilePlan;
use super::layout::ImportRequest;
use super::tiles::{Seams, Tiling, likely_padding, seams};
use crate::generate::import::naming::Layout;
use crate::results::image_store::{ImageHeader, read_image};

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
pub(crate) fn plan_tiles(
    files: &FilePlan,
    headers: &[Option<ImageHeader>],
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
    fn example(&self) -> SizedFile {
        let (name, size) = self.named().next().unwrap_or_default();
        SizedFile { name: name.to_owned(), size }
    }

    fn check_fit(&self, tiling: Tiling, resolution: Option<u32>) -> Result<(), ImportError> {
        let mut files: Vec<(String, SizeFault)> = self
            .named()
            .filter_map(|(name, size)| {
                Some((name.to_owned(), check_size(size, tiling, resolution).err()?))
            })
            .collect();
        if files.is_empty() {
            return Ok(());
        }
        let more = files.len().saturating_sub(SHOWN_FILES);
        files.truncate(SHOWN_FILES);
        Err(ImportError::BadSizes { files, more })
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
        let sizes = found
            .into_iter()
            .take(SHOWN_FILES)
            .map(|(size, (count, name))| (count, SizedFile { name: name.to_owned(), size }))
            .collect();
        Err(ImportError::DifferentSizes { sizes, more, tiling })
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
                read_image(BufReader::new(file)).ok()
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

/// Whether a picture of this size can be taken as it is.
///
/// # Errors
/// It cannot be cut into such tiles, or they would not have the `resolution`.
pub(crate) fn check_size(
    size: (u32, u32),
    tiling: Tiling,
    resolution: Option<u32>,
) -> Result<(), SizeFault> {
    if tiling.tile_size(size).is_none() {
        return Err(SizeFault::NotDivisible { size, tiling });
    }
    let Some(resolution) = resolution else { return Ok(()) };
    let wanted = tiling.file_size((resolution, resolution)).unwrap_or((u32::MAX, u32::MAX));
    if wanted == size {
        return Ok(());
    }
    Err(SizeFault::OtherResolution { size, tiling, resolution, wanted })
}
