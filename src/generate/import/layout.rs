//! In: what the names of a folder's pictures, or the lines of a map, say (`names`). Out: which image of
//! which item each file is, or why that cannot be told. Opening the pictures is left to `images`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::error::ImportError;
use super::names::{Claim, KnownNames, Numbering, claims_of_names, numbering, read_map};
use super::naming::Layout;
use super::tiles::Tiling;
use crate::benchmark::{Benchmark, Item};

/// What to import.
#[derive(Debug, Clone, Copy)]
pub struct ImportRequest<'a> {
    /// Folder of the pictures.
    pub folder: &'a Path,
    /// JSON Lines file of `{"item": .., "image": .., "path": ..}`, the image from 0, the path inside
    /// the folder. `None` to go by the file names.
    pub map: Option<&'a Path>,
    /// Images per item.
    pub images_per_item: u32,
    /// Whether file names count images from 0 or 1; `None` to tell from the numbers present.
    pub first_index: Option<u32>,
    /// Side of each image in pixels; `None` to take it from the files.
    pub resolution: Option<u32>,
    /// How files of several images are cut; `None` to tell from their sizes.
    pub tiling: Option<Tiling>,
    /// Pixels around and between the tiles; `None` for none, unless there seem to be some.
    pub tile_padding: Option<u32>,
}

/// One file and the images that it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFile {
    /// The item.
    pub item: String,
    /// The first image that the file holds, from 0 (0 in a file of several).
    pub image: u32,
    /// The file, as a path.
    pub path: PathBuf,
    /// The file, relative to the imported folder, with `/`.
    pub name: String,
}

/// Which files are to be imported and which are not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePlan {
    /// How the files are named.
    pub layout: Layout,
    /// How the numbers in their names are read.
    pub numbering: Numbering,
    /// The files, in the order of items in the benchmark, then of images.
    pub files: Vec<PlannedFile>,
    /// Files that belong to no item, in name order.
    pub unknown: Vec<String>,
    /// Files of items that are not selected.
    pub not_selected: usize,
    /// Files of images beyond the number of images per item, in name order.
    pub surplus: Vec<String>,
}

/// Finds out which file is which image of the selected items.
///
/// # Errors
/// See [`ImportError`].
pub(crate) fn plan_files(
    benchmark: &Benchmark,
    items: &[&Item],
    request: &ImportRequest<'_>,
) -> Result<FilePlan, ImportError> {
    let known = KnownNames::new(benchmark);
    let (claims, unknown) = match request.map {
        Some(map) => (read_map(map, &known)?, Vec::new()),
        None => claims_of_names(request.folder, &known)?,
    };
    let Some(layout) = claims.first().map(|claim| claim.layout) else {
        return Err(nothing_found(benchmark, request));
    };
    let numbering = match (layout, request.first_index) {
        (Layout::OnePerItem | Layout::Grids, _) => Numbering::None,
        (Layout::Map, _) => Numbering::From(0),
        (_, Some(first)) => Numbering::From(first),
        (_, None) => numbering(&claims, request.images_per_item)?,
    };
    let seeds = seeds_of_items(&claims);
    let selected: BTreeSet<&str> = items.iter().map(|item| item.id.as_str()).collect();
    let mut plan = FilePlan {
        layout,
        numbering,
        files: Vec::new(),
        unknown,
        not_selected: 0,
        surplus: Vec::new(),
    };
    let mut taken: BTreeMap<(usize, u32), PlannedFile> = BTreeMap::new();
    for claim in claims {
        if !selected.contains(claim.item.as_str()) {
            plan.not_selected += 1;
            continue;
        }
        let image = image_of(&claim, &plan.numbering, &seeds);
        let Some(image) = image.filter(|&image| image < request.images_per_item) else {
            plan.surplus.push(claim.name);
            continue;
        };
        let file = PlannedFile {
            path: request.folder.join(&claim.name),
            item: claim.item,
            image,
            name: claim.name,
        };
        let key = (known.items.get(file.item.as_str()).copied().unwrap_or_default(), image);
        if let Some(other) = taken.get(&key) {
            return Err(ImportError::Duplicate {
                first: other.name.clone(),
                second: file.name,
                item: file.item,
                image,
            });
        }
        taken.insert(key, file);
    }
    plan.files = taken.into_values().collect();
    if plan.files.is_empty() && plan.not_selected > 0 {
        return Err(ImportError::NothingSelected {
            folder: request.folder.to_owned(),
            benchmark: benchmark.source.path.clone(),
            files: plan.not_selected,
        });
    }
    if plan.files.is_empty() {
        return Err(nothing_found(benchmark, request));
    }
    Ok(plan)
}

fn nothing_found(benchmark: &Benchmark, request: &ImportRequest<'_>) -> ImportError {
    ImportError::NothingFound {
        folder: request.folder.to_owned(),
        benchmark: benchmark.source.path.clone(),
        items: benchmark.items.len(),
        example: benchmark.items.first().map(|item| item.id.clone()).unwrap_or_default(),
    }
}

/// The numbers in the names of each item's files.
fn seeds_of_items(claims: &[Claim]) -> BTreeMap<String, BTreeSet<u64>> {
    let mut seeds: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for claim in claims {
        seeds.entry(claim.item.clone()).or_default().extend(claim.number);
    }
    seeds
}

/// The image that a file is, from 0; `None` if its number stands before the first.
fn image_of(
    claim: &Claim,
    numbering: &Numbering,
    seeds: &BTreeMap<String, BTreeSet<u64>>,
) -> Option<u32> {
    let number = claim.number.unwrap_or_default();
    let image = match numbering {
        Numbering::None => 0,
        Numbering::From(first) => number.checked_sub(u64::from(*first))?,
        Numbering::Seeds(all) => all.binary_search(&number).ok()? as u64,
        Numbering::SeedsOfItems => seeds.get(&claim.item)?.range(..number).count() as u64,
    };
    u32::try_from(image).ok()
}
