//! In: pictures made elsewhere. Out: the same pixels as PNG files in a run directory, with a record of
//! where each came from. Which file is which image is told by `import_layout`.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::Context;
use image::{ImageReader, RgbImage};
use rayon::prelude::*;

use super::image_ledger::ImageLedger;
use super::import_error::ImportError;
use super::import_layout::{FilePlan, ImportRequest, Layout, PlannedFile, plan_files};
use crate::benchmark::{Benchmark, Item};
use crate::results::image_store::{pixels_sha256, read_picture};
use crate::results::manifest::to_settings;
use crate::results::{ImageOutcome, RunDirectory};
use crate::stage_observer::StageObserver;

/// Files named in a message about sizes; the rest are counted.
const SHOWN_SIZES: usize = 5;

/// What is imported from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportPlan {
    /// Which file is which image.
    pub files: FilePlan,
    /// Whether each file is a 2x2 grid.
    pub is_grid: bool,
    /// Side of an image, where it was given.
    pub resolution: Option<u32>,
    /// Images of the selected items that no file holds, in order.
    pub missing: Vec<(String, u32)>,
    /// Images per item.
    pub images_per_item: u32,
    /// Name of the imported folder.
    pub folder: String,
    /// Name of the map file.
    pub map: Option<String>,
}

/// How an import ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportSummary {
    /// Images imported now.
    pub done: u64,
    /// Images that an earlier import had brought already.
    pub already_done: u64,
    /// Images whose file cannot be used; each is recorded with its reason.
    pub failed: u64,
    /// Whether it was asked to stop before the last file.
    pub stopped: bool,
}

/// What the manifest keeps of an import.
#[derive(serde::Serialize)]
struct ImportSettings<'a> {
    kind: &'static str,
    model: Option<&'a str>,
    folder: &'a str,
    layout: Layout,
    grid: bool,
    first_index: Option<u32>,
    map: Option<&'a str>,
    resolution: Option<u32>,
}

/// Finds out what an import would bring, and makes sure that every picture has a size that fits.
/// Nothing is written.
///
/// # Errors
/// See [`ImportError`]. A picture that cannot be read is no error here: its import fails later, alone.
pub fn plan_import(
    benchmark: &Benchmark,
    items: &[&Item],
    request: &ImportRequest<'_>,
) -> Result<ImportPlan, ImportError> {
    let files = plan_files(benchmark, items, request)?;
    let sizes: Vec<Option<(u32, u32)>> =
        files.files.par_iter().map(|file| size_of(&file.path)).collect();
    let is_grid = files.layout == Layout::OnePerItem && holds_grids(&files, &sizes, request)?;
    let wrong: Vec<String> = files
        .files
        .iter()
        .zip(&sizes)
        .filter_map(|(file, size)| {
            let reason = why_unfit((*size)?, is_grid, request.resolution)?;
            Some(format!("{}: {reason}", file.name))
        })
        .collect();
    if !wrong.is_empty() {
        let mut sizes: Vec<String> = wrong.iter().take(SHOWN_SIZES).cloned().collect();
        if wrong.len() > SHOWN_SIZES {
            sizes.push(format!(
                "and {} more files of a size that does not fit",
                wrong.len() - SHOWN_SIZES
            ));
        }
        return Err(ImportError::BadSizes { sizes });
    }
    let held: std::collections::BTreeSet<(&str, u32)> = files
        .files
        .iter()
        .flat_map(|file| {
            let images =
                if is_grid { 0..request.images_per_item } else { file.image..file.image + 1 };
            images.map(|image| (file.item.as_str(), image))
        })
        .collect();
    let missing = items
        .iter()
        .flat_map(|item| (0..request.images_per_item).map(|image| (item.id.as_str(), image)))
        .filter(|key| !held.contains(key))
        .map(|(item, image)| (item.to_owned(), image))
        .collect();
    let name = |path: &Path| {
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    };
    Ok(ImportPlan {
        files,
        is_grid,
        resolution: request.resolution,
        missing,
        images_per_item: request.images_per_item,
        folder: name(request.folder),
        map: request.map.map(name),
    })
}

/// Width and height from the header; `None` when there is no readable one.
fn size_of(path: &Path) -> Option<(u32, u32)> {
    ImageReader::open(path).ok()?.with_guessed_format().ok()?.into_dimensions().ok()
}

/// `<item>.png` is a grid, unless there is one image per item and its size says otherwise.
fn holds_grids(
    files: &FilePlan,
    sizes: &[Option<(u32, u32)>],
    request: &ImportRequest<'_>,
) -> Result<bool, ImportError> {
    let images_per_item = request.images_per_item;
    if images_per_item > 4 {
        return Err(ImportError::GridTooSmall { images_per_item });
    }
    if images_per_item > 1 {
        return Ok(true);
    }
    match request.resolution {
        Some(side) => Ok(!sizes.iter().flatten().any(|size| *size == (side, side))),
        None => Err(ImportError::ImageOrGrid {
            example: files.files.first().map(|file| file.name.clone()).unwrap_or_default(),
        }),
    }
}

/// Why a picture of this size cannot be taken as it is.
fn why_unfit(
    (width, height): (u32, u32),
    is_grid: bool,
    resolution: Option<u32>,
) -> Option<String> {
    if is_grid && (width % 2 != 0 || height % 2 != 0 || width == 0 || height == 0) {
        return Some(format!("{width}x{height} pixels cannot be cut into 2x2 equal images"));
    }
    let side = resolution?;
    let (wanted, what) =
        if is_grid { (side.saturating_mul(2), "2x2 images") } else { (side, "an image") };
    ((width, height) != (wanted, wanted)).then(|| {
        format!(
            "it has {width}x{height} pixels, but {what} of {side} pixels would have {wanted}x{wanted}; \
             mend --resolution (nothing is cropped)"
        )
    })
}

/// Imports what the plan says, in order, and skips what an earlier import has brought.
///
/// `model` names the model that made the pictures, for tables.
///
/// # Errors
/// The run was started with other settings, its journal is damaged, or the disk said no. A picture
/// that cannot be read is no error but a record.
pub fn import_images(
    run: &mut RunDirectory,
    plan: &ImportPlan,
    model: Option<&str>,
    observer: &dyn StageObserver,
) -> anyhow::Result<ImportSummary> {
    let settings = to_settings(&ImportSettings {
        kind: "import",
        model,
        folder: &plan.folder,
        layout: plan.files.layout,
        grid: plan.is_grid,
        first_index: plan.files.first_index,
        map: plan.map.as_deref(),
        resolution: plan.resolution,
    })?;
    let sitting =
        run.begin_generation(settings, &format!("cpu, {} threads", rayon::current_num_threads()))?;
    let mut ledger = ImageLedger::open(run)?;
    let work: Vec<(&PlannedFile, Vec<u32>)> = plan
        .files
        .files
        .par_iter()
        .map(|file| {
            let absent = |image: &u32| !ledger.is_present(run, &file.item, *image);
            (file, images_in(plan, file).filter(absent).collect())
        })
        .collect();
    let total: u64 = plan.files.files.iter().map(|file| images_in(plan, file).count() as u64).sum();
    let to_do: u64 = work.iter().map(|(_, images)| images.len() as u64).sum();
    let mut summary = ImportSummary { already_done: total - to_do, ..Default::default() };
    observer.started(total, summary.already_done);
    // Some files at a time: decoded and written side by side, recorded in order.
    for group in work.chunks(2 * rayon::current_num_threads()) {
        if observer.stop_requested() {
            summary.stopped = true;
            break;
        }
        let outcomes: Vec<anyhow::Result<Vec<(u32, ImageOutcome)>>> =
            group.par_iter().map(|(file, images)| bring(run, plan, file, images)).collect();
        for ((file, _), outcomes) in group.iter().zip(outcomes) {
            for (image, outcome) in outcomes? {
                let reason = match &outcome {
                    ImageOutcome::Done { .. } => None,
                    ImageOutcome::Failed { reason } => Some(reason.clone()),
                };
                ledger.record(&file.item, image, outcome)?;
                match reason {
                    None => {
                        summary.done += 1;
                        observer.image_done(&file.item, image);
                    }
                    Some(reason) => {
                        summary.failed += 1;
                        observer.image_failed(&file.item, image, &reason);
                    }
                }
            }
        }
    }
    observer.finished();
    run.finish(&sitting, summary.done, summary.failed)?;
    Ok(summary)
}

/// The images that a file holds.
fn images_in(plan: &ImportPlan, file: &PlannedFile) -> std::ops::Range<u32> {
    if plan.is_grid { 0..plan.images_per_item } else { file.image..file.image + 1 }
}

/// Decodes a file and writes the wanted images of it into the run.
fn bring(
    run: &RunDirectory,
    plan: &ImportPlan,
    file: &PlannedFile,
    images: &[u32],
) -> anyhow::Result<Vec<(u32, ImageOutcome)>> {
    if images.is_empty() {
        return Ok(Vec::new());
    }
    let picture = match decode(plan, file) {
        Ok(picture) => picture,
        Err(reason) => {
            let failed = |&image: &u32| (image, ImageOutcome::Failed { reason: reason.clone() });
            return Ok(images.iter().map(failed).collect());
        }
    };
    let mut outcomes = Vec::with_capacity(images.len());
    for &image in images {
        let (pixels, source) = if plan.is_grid {
            (tile(&picture, image), format!("{}#{image}", file.name))
        } else {
            (picture.clone(), file.name.clone())
        };
        let texts = [
            ("Software", "dpg-bench".to_owned()),
            ("item", file.item.clone()),
            ("image", image.to_string()),
            ("source", source.clone()),
        ];
        run.write_picture(&file.item, image, &pixels, &texts)
            .with_context(|| format!("image {image} of {} cannot be kept", file.item))?;
        let outcome = ImageOutcome::Done {
            pixels_sha256: pixels_sha256(&pixels),
            width: pixels.width(),
            height: pixels.height(),
            seed: None,
            prompt_tokens: None,
            truncated: None,
            source: Some(source),
        };
        outcomes.push((image, outcome));
    }
    Ok(outcomes)
}

/// The pixels as 8-bit RGB (an alpha channel is dropped, as the reference script does), or why there
/// are none.
fn decode(plan: &ImportPlan, file: &PlannedFile) -> Result<RgbImage, String> {
    let because = |reason: String| format!("{}: {reason}", file.name);
    let opened =
        File::open(&file.path).map_err(|error| because(format!("it cannot be read: {error}")))?;
    let picture = read_picture(BufReader::new(opened)).map_err(because)?;
    match why_unfit(picture.dimensions(), plan.is_grid, plan.resolution) {
        None => Ok(picture),
        Some(reason) => Err(because(reason)),
    }
}

/// A quarter of a 2x2 grid: 0 top-left, 1 top-right, 2 bottom-left, 3 bottom-right.
fn tile(grid: &RgbImage, index: u32) -> RgbImage {
    let (width, height) = (grid.width() / 2, grid.height() / 2);
    image::imageops::crop_imm(grid, index % 2 * width, index / 2 * height, width, height).to_image()
}
