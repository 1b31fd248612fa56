//! In: a run and a kind of control. Out: which image stands in the control for each item, and these images in its directory, with
//! their journal. Judging them is left to `controls`.

use std::collections::BTreeMap;
use std::io::Cursor;

use anyhow::{Context, bail, ensure};
use image::{Rgb, RgbImage};

use crate::benchmark::{Benchmark, Derangement, Item, Strictness};
use crate::checkpoint::shipped::DEMO_SIDE;
use crate::results::image_store::{pixels_sha256, read_image};
use crate::results::{ControlKind, ImageOutcome, ImageRecord, RunDirectory, Settings};
use crate::session::benchmarks::{DEMO, load_benchmark};

/// The images that the prompts of the demo describe: item and PNG, as `benchmark/demo/true` has them.
static TRUE_RENDERINGS: &[(&str, &[u8])] =
    include!(concat!(env!("OUT_DIR"), "/true_renderings.rs"));

/// Width and height of grey images; those of the demo are as large as its other images, for its judge takes no others.
const GREY_SIDE: u32 = 512;
/// Their colour.
const GREY: u8 = 128;

/// Whether the benchmark is the demo's.
pub(super) fn is_demo(benchmark: &Benchmark) -> anyhow::Result<bool> {
    Ok(load_benchmark(DEMO.as_ref(), Strictness::Strict)?.digest == benchmark.digest)
}

/// What a control is made of.
pub(super) enum Pictures {
    /// Images of the run: whose.
    Swapped(Derangement, u64),
    /// One grey image of that side for each item.
    Grey(u32),
    /// One image for each item of the demo.
    True,
}

impl Pictures {
    /// Those of that kind.
    ///
    /// # Errors
    /// There is one item alone; or there are no true images of the benchmark.
    pub(super) fn of(
        kind: ControlKind,
        run: &RunDirectory,
        benchmark: &Benchmark,
        items: &[&Item],
        seed: u64,
    ) -> anyhow::Result<Self> {
        let demo = is_demo(benchmark)?;
        Ok(match kind {
            ControlKind::Swapped => {
                let dealt = Derangement::new(items, seed).with_context(|| {
                    format!(
                        "{} has one item alone, and no other whose questions its images could be asked; leave `swapped` out \
                         of --kinds",
                        run.path().display()
                    )
                })?;
                Self::Swapped(dealt, seed)
            }
            ControlKind::Grey => Self::Grey(if demo { DEMO_SIDE } else { GREY_SIDE }),
            ControlKind::True => {
                ensure!(
                    demo,
                    "nobody knows what a perfect image of the prompts of {} looks like, only of those of the demo; leave `true` \
                     out of --kinds",
                    benchmark.source.path.display()
                );
                Self::True
            }
        })
    }

    /// How many there are of each item, of which the run has so many.
    pub(super) fn per_item(&self, in_run: u32) -> u32 {
        match self {
            Self::Swapped(..) => in_run,
            Self::Grey(_) | Self::True => 1,
        }
    }

    /// Everything that decides which they are, for the manifest.
    pub(super) fn settings(&self) -> Settings {
        let (kind, key, value) = match self {
            Self::Swapped(_, seed) => (ControlKind::Swapped, "seed", *seed),
            Self::Grey(side) => (ControlKind::Grey, "side", (*side).into()),
            Self::True => (ControlKind::True, "side", DEMO_SIDE.into()),
        };
        let words = [
            ("kind", "control".to_owned()),
            ("control", kind.name().to_owned()),
            ("name", format!("{} (control)", kind.name())),
        ];
        let words = words.map(|(name, word)| (name.to_owned(), word.into()));
        words.into_iter().chain([(key.to_owned(), value.into())]).collect()
    }

    /// Puts those that are not there yet into `control`, one after the other, until `stop` says so.
    ///
    /// # Errors
    /// The control has another image in the place of one; the disk said no; or an image of the run cannot be linked or read.
    pub(super) fn put(
        &self,
        control: &RunDirectory,
        run: &RunDirectory,
        items: &[&Item],
        stop: &dyn Fn() -> bool,
    ) -> anyhow::Result<u64> {
        let (mut journal, there) = control.open_images()?;
        let there: BTreeMap<(&str, u32), &ImageRecord> =
            there.iter().map(|record| ((record.item.as_str(), record.image), record)).collect();
        let mut wanted = self.records(run, items)?;
        let is_other = |record: &&&ImageRecord| {
            let key = (record.item.as_str(), record.image);
            wanted.get(&key).is_none_or(|(wanted, _)| wanted != **record)
        };
        if let Some(other) = there.values().find(is_other) {
            bail!(
                "{} has an image of {} that {} does not have now; delete that folder and ask about the images anew",
                control.path().display(),
                other.item,
                run.path().display()
            );
        }
        let mut put = 0;
        for item in items {
            for image in 0..self.per_item(run.manifest().images_per_item) {
                let key = (item.id.as_str(), image);
                let Some((record, source)) = wanted.remove(&key) else { continue };
                if stop() {
                    return Ok(put);
                }
                if !control.image_path(&item.id, image).exists() {
                    match source {
                        Source::OfRun(other) => {
                            control.link_image(run, (other, image), &item.id, image)?;
                        }
                        Source::Control(other) => {
                            control.link_image(control, (other, image), &item.id, image)?;
                        }
                        Source::Pixels(pixels) => {
                            control.write_image(&item.id, image, &pixels, &[])?;
                        }
                    }
                }
                if !there.contains_key(&key) {
                    journal.append(&record)?;
                    put += 1;
                }
            }
        }
        Ok(put)
    }

    /// The record of each image with where it comes from.
    fn records<'i>(&self, run: &RunDirectory, items: &[&'i Item]) -> anyhow::Result<Wanted<'i>> {
        let mut wanted = BTreeMap::new();
        let mut add = |item: &'i str, image, outcome, source| {
            let record = ImageRecord { item: item.to_owned(), image, outcome };
            wanted.insert((item, image), (record, source));
        };
        match self {
            Self::Swapped(dealt, _) => {
                let images = run.read_images()?;
                let newest: BTreeMap<(&str, u32), &ImageOutcome> = images
                    .iter()
                    .map(|record| ((record.item.as_str(), record.image), &record.outcome))
                    .collect();
                for (item, other) in items.iter().zip(dealt.images_of()) {
                    let other = items[other].id.as_str();
                    for image in 0..run.manifest().images_per_item {
                        let found = newest.get(&(other, image));
                        if let Some(ImageOutcome::Done { pixels_sha256, width, height, .. }) = found
                        {
                            let source = format!("images/{other}/{image}.png");
                            let outcome =
                                done(pixels_sha256.clone(), (*width, *height), Some(source));
                            add(&item.id, image, outcome, Source::OfRun(other));
                        }
                    }
                }
            }
            Self::Grey(side) => {
                let pixels = RgbImage::from_pixel(*side, *side, Rgb([GREY; 3]));
                let digest = pixels_sha256(&pixels);
                let outcome = || done(digest.clone(), pixels.dimensions(), None);
                let [first, others @ ..] = items else { return Ok(wanted) };
                add(&first.id, 0, outcome(), Source::Pixels(pixels.clone()));
                for item in others {
                    add(&item.id, 0, outcome(), Source::Control(&first.id));
                }
            }
            Self::True => {
                let renderings: BTreeMap<&str, &[u8]> = TRUE_RENDERINGS.iter().copied().collect();
                for item in items {
                    let Some(png) = renderings.get(item.id.as_str()) else { continue };
                    let pixels = read_image(Cursor::new(png))?;
                    let outcome = done(pixels_sha256(&pixels), pixels.dimensions(), None);
                    add(&item.id, 0, outcome, Source::Pixels(pixels));
                }
            }
        }
        Ok(wanted)
    }
}

/// By item and number: the record of an image, and where it comes from.
type Wanted<'i> = BTreeMap<(&'i str, u32), (ImageRecord, Source<'i>)>;

enum Source<'i> {
    /// The image of that item of the run, with the same number.
    OfRun(&'i str),
    /// The image of that item of the control.
    Control(&'i str),
    Pixels(RgbImage),
}

fn done(
    pixels_sha256: String,
    (width, height): (u32, u32),
    source: Option<String>,
) -> ImageOutcome {
    ImageOutcome::Done {
        pixels_sha256,
        width,
        height,
        seed: None,
        prompt_tokens: None,
        truncated: None,
        source,
        control_sha256: None,
        served: None,
    }
}
