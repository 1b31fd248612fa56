//! In: images that the caller holds in memory, item by item. Out: them in a run directory with their records, as an import of files
//! leaves them. Where they come from is the caller's.

use std::collections::BTreeSet;

use anyhow::Context;
use image::RgbImage;
use rayon::prelude::*;

use super::images::ImportSummary;
use crate::benchmark::Item;
use crate::generate::image_ledger::ImageLedger;
use crate::near_names::did_you_mean;
use crate::results::image_store::{MAX_IMAGE_SIDE, pixels_sha256};
use crate::results::{ImageOutcome, ImageRecord, RunDirectory, Settings, Sitting};
use crate::stage_observer::StageObserver;

/// The images of one item, in order.
#[derive(Debug, Clone)]
pub struct ItemImages {
    /// Id of the item.
    pub item: String,
    /// As many as the run has of each item.
    pub images: Vec<RgbImage>,
}

/// Why images are not taken into a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PixelsFault {
    /// The run is not about such an item.
    #[error("the run has no item `{item}`{near}")]
    UnknownItem {
        /// The id that was given.
        item: String,
        /// The name that may be meant, as a question.
        near: String,
    },
    /// Another number of images than the run has of each item.
    #[error("item {item}: {given} given where the run has {wanted} of each item")]
    Count {
        /// Id of the item.
        item: String,
        /// `1 image`, with the count of those that were given.
        given: String,
        /// Images per item.
        wanted: u32,
    },
    /// No width or height, or more than is read.
    #[error("image {image} of {item} is {width}x{height} pixels; a side has 1 to {MAX_IMAGE_SIDE}")]
    Size {
        /// Id of the item.
        item: String,
        /// Number of the image, from 0.
        image: u32,
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
    },
    /// The run has another image in this place.
    #[error(
        "image {image} of {item} is another one than that in {run}; images of another model go into a folder of their own"
    )]
    Another {
        /// Id of the item.
        item: String,
        /// Number of the image, from 0.
        image: u32,
        /// The run directory.
        run: String,
    },
}

/// Notes in the manifest that images of memory are taken in; `model` is the name of the model that made them, for tables.
///
/// # Errors
/// The run was begun with other settings, or the disk said no.
pub(crate) fn begin_import(run: &mut RunDirectory, model: Option<&str>) -> anyhow::Result<Sitting> {
    let mut settings = Settings::new();
    settings.insert("kind".to_owned(), "import".into());
    settings.insert("model".to_owned(), model.into());
    settings.insert("layout".to_owned(), "memory".into());
    Ok(run.begin_generation(settings, "cpu")?)
}

/// Takes `given` into the run, one item after the other as they come; those that are there already are left as they are.
/// Counts in `summary`, as stopped where `observer` asks for it.
///
/// # Errors
/// [`PixelsFault`]; an error that `given` ends with; or the disk said no. What came before is kept.
pub(crate) fn take_pixels(
    run: &RunDirectory,
    items: &[&Item],
    given: impl IntoIterator<Item = anyhow::Result<ItemImages>>,
    observer: &dyn StageObserver,
    summary: &mut ImportSummary,
) -> anyhow::Result<()> {
    let mut ledger = ImageLedger::open(run)?;
    observer.started(items.len() as u64 * u64::from(run.manifest().images_per_item), 0);
    let mut finished = Finished { items, has_come: BTreeSet::new(), leading: 0 };
    observer.items_finished(0);
    let mut given = given.into_iter();
    let taken = loop {
        if observer.stop_requested() {
            summary.stopped = true;
            break Ok(());
        }
        let next = given.next().transpose();
        let taken = next.and_then(|next| match next {
            Some(next) => take(run, items, next, &mut ledger, observer, summary).map(Some),
            None => Ok(None),
        });
        match taken {
            Ok(Some(item)) => observer.items_finished(finished.with(item)),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    observer.finished();
    taken
}

/// Which items have come, in whatever order.
struct Finished<'a> {
    items: &'a [&'a Item],
    has_come: BTreeSet<String>,
    /// Items from the first on that have.
    leading: usize,
}

impl Finished<'_> {
    /// With one more; how many have come from the first on.
    fn with(&mut self, item: String) -> usize {
        self.has_come.insert(item);
        let next = &self.items[self.leading..];
        self.leading += next.iter().take_while(|item| self.has_come.contains(&item.id)).count();
        self.leading
    }
}

/// Takes in the images of one item; returns its id.
fn take(
    run: &RunDirectory,
    items: &[&Item],
    ItemImages { item, images }: ItemImages,
    ledger: &mut ImageLedger,
    observer: &dyn StageObserver,
    summary: &mut ImportSummary,
) -> anyhow::Result<String> {
    check(run, items, &item, &images)?;
    let absent = absent(run, ledger, &item, &images)?;
    summary.already_done += (images.len() - absent.len()) as u64;
    let written: Vec<anyhow::Result<ImageOutcome>> = absent
        .par_iter()
        .map(|(image, digest)| write(run, &item, *image, &images[*image as usize], digest))
        .collect();
    let mut records = Vec::new();
    for ((image, _), outcome) in absent.iter().zip(written) {
        records.push(ImageRecord { item: item.clone(), image: *image, outcome: outcome? });
    }
    ledger.record_all(records).context("the record of an image cannot be kept")?;
    summary.done += absent.len() as u64;
    absent.iter().for_each(|(image, _)| observer.image_done(&item, *image));
    Ok(item)
}

fn check(
    run: &RunDirectory,
    items: &[&Item],
    item: &str,
    images: &[RgbImage],
) -> Result<(), PixelsFault> {
    if !items.iter().any(|one| one.id == item) {
        let near = did_you_mean(item, items.iter().map(|one| one.id.as_str()));
        return Err(PixelsFault::UnknownItem { item: item.to_owned(), near });
    }
    let wanted = run.manifest().images_per_item;
    if images.len() != wanted as usize {
        let given = crate::wording::counted(images.len(), "image");
        return Err(PixelsFault::Count { item: item.to_owned(), given, wanted });
    }
    for (image, pixels) in (0..).zip(images) {
        let (width, height) = pixels.dimensions();
        if !(1..=MAX_IMAGE_SIDE).contains(&width) || !(1..=MAX_IMAGE_SIDE).contains(&height) {
            return Err(PixelsFault::Size { item: item.to_owned(), image, width, height });
        }
    }
    Ok(())
}

/// The images that are to be written, each with the digest of its pixels.
fn absent(
    run: &RunDirectory,
    ledger: &ImageLedger,
    item: &str,
    images: &[RgbImage],
) -> anyhow::Result<Vec<(u32, String)>> {
    let mut absent = Vec::new();
    for (image, pixels) in (0..).zip(images) {
        let digest = pixels_sha256(pixels);
        if ledger.digest(item, image).is_some_and(|there| there != digest) {
            let run = run.path().display().to_string();
            return Err(PixelsFault::Another { item: item.to_owned(), image, run }.into());
        }
        if !ledger.is_present(run, item, image)? {
            absent.push((image, digest));
        }
    }
    Ok(absent)
}

fn write(
    run: &RunDirectory,
    item: &str,
    image: u32,
    pixels: &RgbImage,
    digest: &str,
) -> anyhow::Result<ImageOutcome> {
    let texts = [
        ("Software", "dpg-bench".to_owned()),
        ("item", item.to_owned()),
        ("image", image.to_string()),
    ];
    run.write_image(item, image, pixels, &texts)
        .with_context(|| format!("image {image} of {item} cannot be kept"))?;
    Ok(ImageOutcome::Done {
        pixels_sha256: digest.to_owned(),
        width: pixels.width(),
        height: pixels.height(),
        seed: None,
        prompt_tokens: None,
        truncated: None,
        source: None,
        control_sha256: None,
        served: None,
    })
}
