//! In: pictures made elsewhere. Out: the same pixels as PNG files in a run directory, with a record of
//! where each came from. Which file is which image is told by `layout`.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::Context;
use image::RgbImage;
use rayon::prelude::*;

use super::error::{FileFault, ImportError};
use super::layout::FilePlan;
use super::layout::ImportRequest;
use super::layout::PlannedFile;
use super::layout::plan_files;
use super::names::Numbering;
use super::sizes::{Tiles, check_size, plan_tiles};
use super::tiles::Tiling;
use crate::benchmark::{Benchmark, Item};
use crate::generate::image_ledger::ImageLedger;
use crate::generate::import::naming::Layout;
use crate::results::image_store::{
    ImageHeader, PictureFault, Samples, image_header, pixels_sha256, read_image,
};
use crate::results::manifest::to_settings;
use crate::results::{ImageOutcome, RunDirectory};
use crate::stage_observer::StageObserver;

/// What is imported from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportPlan {
    /// Which file is which image.
    pub files: FilePlan,
    /// How each file is cut, and into what.
    pub tiles: Tiles,
    /// Files of 16 bits a sample, which lose the lower 8.
    pub sixteen_bit: Vec<String>,
    /// Files of 16-bit grey, which are all white above 255.
    pub sixteen_bit_grey: Vec<String>,
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

impl ImportPlan {
    /// Whether files hold several images.
    pub fn is_grid(&self) -> bool {
        self.tiles.tiling.count() > 1
    }

    /// What file names count images from, where they do.
    pub fn first_index(&self) -> Option<u32> {
        match self.files.numbering {
            Numbering::From(first) => Some(first),
            _ => None,
        }
    }
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
    /// Where it is no 2x2 grid and no single image.
    #[serde(skip_serializing_if = "Option::is_none")]
    tiling: Option<Tiling>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tile_padding: Option<u32>,
    /// The seeds in the file names, where they are what images are counted by.
    #[serde(skip_serializing_if = "Option::is_none")]
    seeds: Option<&'a [u64]>,
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
    let headers: Vec<Option<ImageHeader>> =
        files.files.par_iter().map(|file| header_of(&file.path)).collect();
    let tiles = plan_tiles(&files, &headers, request)?;
    let with = |samples: Samples| {
        let all = files.files.iter().zip(&headers);
        all.filter(|(_, header)| header.is_some_and(|header| header.samples == samples))
            .map(|(file, _)| file.name.clone())
            .collect()
    };
    let (sixteen_bit, sixteen_bit_grey) =
        (with(Samples::SixteenBit), with(Samples::SixteenBitGrey));
    let held: std::collections::BTreeSet<(&str, u32)> = files
        .files
        .iter()
        .flat_map(|file| {
            let images = images_of(file, tiles.tiling, request.images_per_item);
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
        tiles,
        sixteen_bit,
        sixteen_bit_grey,
        resolution: request.resolution,
        missing,
        images_per_item: request.images_per_item,
        folder: name(request.folder),
        map: request.map.map(name),
    })
}

fn header_of(path: &Path) -> Option<ImageHeader> {
    image_header(BufReader::new(File::open(path).ok()?))
}

/// The images that a file holds.
fn images_of(file: &PlannedFile, tiling: Tiling, images_per_item: u32) -> std::ops::Range<u32> {
    if tiling.count() > 1 { 0..images_per_item } else { file.image..file.image + 1 }
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
    let tiling = plan.tiles.tiling;
    let settings = to_settings(&ImportSettings {
        kind: "import",
        model,
        folder: &plan.folder,
        layout: plan.files.layout,
        grid: plan.is_grid(),
        first_index: plan.first_index(),
        map: plan.map.as_deref(),
        resolution: plan.resolution,
        tiling: (!matches!((tiling.columns, tiling.rows), (1, 1) | (2, 2))).then_some(tiling),
        tile_padding: (tiling.padding > 0).then_some(tiling.padding),
        seeds: match &plan.files.numbering {
            Numbering::Seeds(seeds) => Some(seeds),
            _ => None,
        },
    })?;
    let sitting =
        run.begin_generation(settings, &format!("cpu, {} threads", rayon::current_num_threads()))?;
    let mut ledger = ImageLedger::open(run)?;
    let work: Vec<(&PlannedFile, Vec<u32>)> = plan
        .files
        .files
        .par_iter()
        .map(|file| {
            let mut absent = Vec::new();
            for image in images_of(file, tiling, plan.images_per_item) {
                if !ledger.is_present(run, &file.item, image)? {
                    absent.push(image);
                }
            }
            Ok::<_, std::io::Error>((file, absent))
        })
        .collect::<Result<_, _>>()?;
    let total: u64 = plan
        .files
        .files
        .iter()
        .map(|file| images_of(file, tiling, plan.images_per_item).count() as u64)
        .sum();
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
                    ImageOutcome::Done { .. } | ImageOutcome::Filtered { .. } => None,
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
        Err(fault) => {
            // The journal keeps it as text.
            let reason = format!("{}: {fault}", file.name);
            let failed = |&image: &u32| (image, ImageOutcome::Failed { reason: reason.clone() });
            return Ok(images.iter().map(failed).collect());
        }
    };
    let mut outcomes = Vec::with_capacity(images.len());
    for &image in images {
        let (pixels, source) = if plan.is_grid() {
            let tile = plan.tiles.tiling.cut(&picture, image);
            (
                tile.with_context(|| format!("{} has no tile {image}", file.name))?,
                format!("{}#{image}", file.name),
            )
        } else {
            (picture.clone(), file.name.clone())
        };
        let texts = [
            ("Software", "dpg-bench".to_owned()),
            ("item", file.item.clone()),
            ("image", image.to_string()),
            ("source", source.clone()),
        ];
        run.write_image(&file.item, image, &pixels, &texts)
            .with_context(|| format!("image {image} of {} cannot be kept", file.item))?;
        let outcome = ImageOutcome::Done {
            pixels_sha256: pixels_sha256(&pixels),
            width: pixels.width(),
            height: pixels.height(),
            seed: None,
            prompt_tokens: None,
            truncated: None,
            source: Some(source),
            control_sha256: None,
            served: None,
        };
        outcomes.push((image, outcome));
    }
    Ok(outcomes)
}

/// The pixels as 8-bit RGB (an alpha channel is dropped, as the reference script does), or why there
/// are none.
fn decode(plan: &ImportPlan, file: &PlannedFile) -> Result<RgbImage, FileFault> {
    let opened = File::open(&file.path).map_err(PictureFault::Unreadable)?;
    let picture = read_image(BufReader::new(opened))?;
    check_size(picture.dimensions(), plan.tiles.tiling, plan.resolution)?;
    Ok(picture)
}
