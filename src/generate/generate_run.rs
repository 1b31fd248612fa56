//! In: a run directory, items and a generator. Out: `images/<item>/<k>.png` with thumbnails, and `images.jsonl`. What
//! is there already is left as it is, so that a run killed at any point and started again ends in the
//! same bytes. How a picture is made is left to the generator.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context, Result};
use rayon::prelude::*;

use super::control_images::ControlImages;
use super::image_keeper::{ImageFiles, ImageKeeper, Kept};
use super::image_ledger::ImageLedger;
use super::noise::seeds::SeedMode;
use super::served_counts::ServedCounts;
use super::{GeneratedImage, Hopeless, ImageGenerator, ImageRequest};
use crate::benchmark::Item;
use crate::compute::workplace::Workplace;
use crate::ordered_work::{Crew, Pool, for_each_batch_in_order};
use crate::results::manifest::differences;
use crate::results::progress::is_zero;
use crate::results::{ImageOutcome, RunDirectory, Settings, Sitting};
use crate::stage_observer::{Silent, StageObserver};

/// Which seeds the images get and how many are made at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenerationPlan {
    /// Base seed.
    pub seed: u64,
    /// How an image's seed follows from it.
    pub seed_mode: SeedMode,
    /// Images of one item made in one call; at least 1. The images of an item are always grouped in
    /// the same way, also on a resume: a group of which one is missing is made anew as a whole,
    /// because the last bits of a picture may depend on its group.
    pub batch: u32,
    /// Whether each generator keeps to one thread, which pays for networks so small that several threads are in
    /// each other's way. It changes no pixel.
    pub one_thread_each: bool,
}

impl GenerationPlan {
    /// Where a generator works.
    pub(crate) fn workplace(self) -> Result<Workplace> {
        match self.one_thread_each {
            true => Workplace::of_one_thread().context("no thread can be had for the model"),
            false => Ok(Workplace::SHARED),
        }
    }
}

/// How the generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct GenerationSummary {
    /// Images that the run asks for.
    pub images: u64,
    /// Images that were there before.
    pub already_done: u64,
    /// Images made now.
    pub done: u64,
    /// Images that failed now; each is recorded with its reason.
    pub failed: u64,
    /// Whether it was asked to stop before the last image.
    pub stopped: bool,
    /// Items whose prompt is longer than the text encoder takes, whenever they were made.
    pub truncated_prompts: u64,
    /// Images whose prompt a content filter refused, whenever that was; none of them is counted elsewhere.
    #[serde(skip_serializing_if = "is_zero")]
    pub filtered: u64,
    /// What servers sent and said that a score should be read with, whenever they did.
    #[serde(flatten)]
    pub served: ServedCounts,
}

/// Makes every image of `items` that is not in the run yet, in order, `images_per_item` of the run's
/// manifest for each.
///
/// # Errors
/// The run was started with other settings, its journal is damaged, or the disk said no. A picture
/// that cannot be made is no error but a record.
pub fn generate_run(
    run: &mut RunDirectory,
    items: &[&Item],
    generator: &mut dyn ImageGenerator,
    plan: GenerationPlan,
    device: &str,
    observer: &dyn StageObserver,
) -> Result<GenerationSummary> {
    generate_on_devices(run, items, vec![generator], plan, device, observer)
}

/// As [`generate_run`], with the same model loaded several times: each takes the next group of images
/// when it has finished one, and what they make is kept in order, so that the run ends in the bytes that
/// one of them would have made.
///
/// # Errors
/// As there; the generators have different settings; there is none.
pub fn generate_on_devices(
    run: &mut RunDirectory,
    items: &[&Item],
    generators: Vec<&mut dyn ImageGenerator>,
    plan: GenerationPlan,
    device: &str,
    observer: &dyn StageObserver,
) -> Result<GenerationSummary> {
    let mut generation = Generation::begin(run, items, &generators, plan, device)?;
    let summary = generation.make(run, items, generators, observer)?;
    generation.finish(run, &summary)?;
    Ok(summary)
}

/// A sitting of the generation, for callers that let another stage read the run while its pictures are made.
pub struct Generation {
    settings: Settings,
    plan: GenerationPlan,
    sitting: Sitting,
    /// Digests of the items' control images, where the model has any.
    controls: BTreeMap<String, String>,
}

impl Generation {
    /// Notes the sitting in the manifest.
    ///
    /// # Errors
    /// The run was started with other settings, the generators have different ones or there is none, a control image of
    /// `items` cannot be read or is not that of the images that the run has, or the disk said no.
    pub fn begin(
        run: &mut RunDirectory,
        items: &[&Item],
        generators: &[&mut dyn ImageGenerator],
        plan: GenerationPlan,
        device: &str,
    ) -> Result<Self> {
        let settings = all_settings(shared_settings(generators)?, plan);
        let images = generators.first().and_then(|generator| generator.control_images());
        let controls = images.map(|images| controls(run, items, images)).transpose()?;
        let sitting = run.begin_generation(settings.clone(), device)?;
        Ok(Self { settings, plan, sitting, controls: controls.unwrap_or_default() })
    }

    /// Makes the pictures, with the generators that it was begun with.
    ///
    /// # Errors
    /// As [`generate_run`].
    pub fn make(
        &mut self,
        run: &RunDirectory,
        items: &[&Item],
        mut generators: Vec<&mut dyn ImageGenerator>,
        observer: &dyn StageObserver,
    ) -> Result<GenerationSummary> {
        let ledger = ImageLedger::open(run)?;
        let images = run.manifest().images_per_item;
        let present = present(run, items, images, &ledger)?;
        let refused = match generators.iter().any(|generator| generator.retries_filtered()) {
            true => BTreeSet::new(),
            false => ledger.filtered_images().collect(),
        };
        let settled = Settled { present, refused };
        let mut summary = GenerationSummary {
            images: items.len() as u64 * u64::from(images),
            already_done: settled.present.len() as u64,
            ..Default::default()
        };
        let lacking = |item: &&&Item| (0..images).any(|image| !settled.has(&item.id, image));
        let prompts: Vec<&str> = items.iter().filter(lacking).map(|i| i.prompt.as_str()).collect();
        let places =
            generators.iter().map(|_| self.plan.workplace()).collect::<Result<Vec<_>>>()?;
        prepare(&mut generators, &prompts, observer)?;
        let refused = settled.count_refused(items, images);
        observer.started(summary.images, summary.already_done + refused);
        let groups = groups_to_make(items, images, self.plan, &settled);
        let files = ImageFiles { run, settings: &self.settings, controls: &self.controls };
        let keeper = ImageKeeper { files, ledger };
        let stage = Stage { keeper, observer, items, images };
        let generators = generators.into_iter().zip(places).collect();
        let made = stage.make_all(&groups, generators, &mut summary);
        observer.finished();
        self.sitting.stop();
        made.map(|()| summary)
    }

    /// Notes in the manifest how it ended.
    ///
    /// # Errors
    /// The disk said no.
    pub fn finish(&self, run: &mut RunDirectory, summary: &GenerationSummary) -> Result<()> {
        Ok(run.finish(&self.sitting, summary.done, summary.failed)?)
    }
}

/// The settings of all generators, which must be the same: else their pictures would differ.
fn shared_settings(generators: &[&mut dyn ImageGenerator]) -> Result<Settings> {
    let [first, others @ ..] = generators else { anyhow::bail!("no generator is given") };
    let settings = first.settings();
    for other in others {
        let differing = differences(&settings, &other.settings());
        if let Some(difference) = differing.first() {
            anyhow::bail!(
                "the model is not set alike on the devices named ({}: {} on the first, {} on another); \
                 name devices of one kind",
                difference.setting,
                difference.recorded,
                difference.requested
            );
        }
    }
    Ok(settings)
}

/// Digests of the control images of `items`, which are those of the images that the run has.
fn controls(
    run: &RunDirectory,
    items: &[&Item],
    images: &ControlImages,
) -> Result<BTreeMap<String, String>> {
    let ids: Vec<&str> = items.iter().map(|item| item.id.as_str()).collect();
    images.check(&ids)?;
    let digests = images.note(&ids)?;
    // A run without a ControlNet has other settings, which are refused as such.
    let recorded = run.generation_settings()?;
    if recorded.is_some_and(|settings| settings.contains_key("controlnet_scale")) {
        let records = run.read_images()?;
        let made = records.iter().filter_map(|record| match &record.outcome {
            ImageOutcome::Done { control_sha256, .. } => {
                Some((record.item.as_str(), control_sha256.as_deref()))
            }
            _ => None,
        });
        images.refuse_others(&digests, made)?;
    }
    Ok(digests)
}

/// Each generator encodes the prompts for itself, all at the same time.
fn prepare(
    generators: &mut [&mut dyn ImageGenerator],
    prompts: &[&str],
    observer: &dyn StageObserver,
) -> Result<()> {
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        let (first, others) = generators.split_at_mut(1);
        for generator in others {
            threads.push(scope.spawn(|| generator.prepare(prompts, &Silent)));
        }
        let mut prepared = first.iter_mut().try_for_each(|one| one.prepare(prompts, observer));
        for thread in threads {
            let joined = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            prepared = prepared.and(joined);
        }
        prepared
    })
    .context("the prompts cannot be prepared")
}

/// The generator's settings with those of the plan.
fn all_settings(mut settings: Settings, plan: GenerationPlan) -> Settings {
    settings.insert("seed".to_owned(), plan.seed.into());
    settings.insert("seed_mode".to_owned(), serde_json::json!(plan.seed_mode));
    settings.insert("batch".to_owned(), plan.batch.into());
    settings
}

/// Item and image index.
type Key = (String, u32);

/// The images that are not asked for.
struct Settled {
    /// Those that need not be made again.
    present: BTreeSet<Key>,
    /// Those that a content filter refused.
    refused: BTreeSet<Key>,
}

impl Settled {
    fn has(&self, item: &str, image: u32) -> bool {
        let key = (item.to_owned(), image);
        self.present.contains(&key) || self.refused.contains(&key)
    }

    fn count_refused(&self, items: &[&Item], images: u32) -> u64 {
        let ids: BTreeSet<&str> = items.iter().map(|item| item.id.as_str()).collect();
        let is_asked = |(item, image): &&Key| *image < images && ids.contains(item.as_str());
        self.refused.iter().filter(is_asked).count() as u64
    }
}

/// The images that need not be made again.
fn present(
    run: &RunDirectory,
    items: &[&Item],
    images: u32,
    ledger: &ImageLedger,
) -> Result<BTreeSet<Key>> {
    let keys =
        items.par_iter().flat_map_iter(|item| (0..images).map(|image| (item.id.clone(), image)));
    let present = keys.filter_map(|(item, image)| {
        let is_present = ledger.is_present(run, &item, image);
        is_present.map(|is_present| is_present.then_some((item, image))).transpose()
    });
    Ok(present.collect::<std::io::Result<_>>()?)
}

/// Images of one item that are made in one call.
struct Group<'a> {
    item: &'a Item,
    /// Items before it.
    place: usize,
    images: Vec<u32>,
    /// Those of them that are not there yet.
    wanted: Vec<u32>,
    /// One per image.
    seeds: Vec<u64>,
}

/// The groups of which an image is lacking, in order.
fn groups_to_make<'a>(
    items: &[&'a Item],
    images: u32,
    plan: GenerationPlan,
    settled: &Settled,
) -> Vec<Group<'a>> {
    let batch = plan.batch.max(1);
    let mut groups = Vec::new();
    for (place, &item) in items.iter().enumerate() {
        for first in (0..images).step_by(batch as usize) {
            let of_group: Vec<u32> = (first..images.min(first.saturating_add(batch))).collect();
            let is_wanted = |image: &u32| !settled.has(&item.id, *image);
            let wanted: Vec<u32> = of_group.iter().copied().filter(is_wanted).collect();
            if wanted.is_empty() {
                continue;
            }
            let seed = |image: &u32| plan.seed_mode.seed(plan.seed, &item.id, *image);
            let seeds = of_group.iter().map(seed).collect();
            groups.push(Group { item, place, images: of_group, wanted, seeds });
        }
    }
    groups
}

impl Group<'_> {
    /// The images that are wanted, with what came of them.
    fn asked<'m>(
        &self,
        made: &'m Result<Vec<GeneratedImage>>,
    ) -> Vec<(u32, Result<&'m GeneratedImage, &'m anyhow::Error>)> {
        let each = self
            .images
            .iter()
            .enumerate()
            .map(|(place, &image)| (image, made.as_ref().map(|pictures| &pictures[place])));
        each.filter(|(image, _)| self.wanted.contains(image)).collect()
    }

    /// What is to be recorded of the images that are wanted, whose files are written.
    fn written(&self, files: ImageFiles<'_>, made: &Result<Vec<GeneratedImage>>) -> Vec<Recorded> {
        let each = self.asked(made).into_iter().map(|(image, one)| {
            let outcome = AssertUnwindSafe(|| files.outcome(self.item, image, one));
            let broke =
                |_| Err(anyhow::anyhow!("the file of an image cannot be written: it broke"));
            (image, catch_unwind(outcome).unwrap_or_else(broke))
        });
        each.collect()
    }

    /// A panic must not leave the others waiting: it is a failure like any other.
    fn make(
        &self,
        generator: &mut dyn ImageGenerator,
        came: &dyn Fn(),
    ) -> Result<Vec<GeneratedImage>> {
        let Self { item, images, seeds, .. } = self;
        let request = ImageRequest { item: &item.id, images, prompt: &item.prompt, seeds, came };
        let made = AssertUnwindSafe(|| generator.generate_asked(request));
        let pictures = catch_unwind(made).unwrap_or_else(|panic| {
            let text = panic
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            Err(anyhow::anyhow!("the model broke: {}", text.unwrap_or("it panicked")))
        });
        complete(pictures, self.seeds.len())
    }
}

/// An image's index within its item, and what is to be recorded of it.
type Recorded = (u32, Result<ImageOutcome>);

/// What came of a group.
enum Made {
    /// Images of which no file is written yet.
    Images(Result<Vec<GeneratedImage>>),
    /// Files are written.
    Written(Vec<Recorded>),
}

struct Stage<'a> {
    keeper: ImageKeeper<'a>,
    observer: &'a dyn StageObserver,
    items: &'a [&'a Item],
    /// Of each item.
    images: u32,
}

impl Stage<'_> {
    fn make_all(
        mut self,
        groups: &[Group<'_>],
        generators: Vec<(&mut dyn ImageGenerator, Workplace)>,
        summary: &mut GenerationSummary,
    ) -> Result<()> {
        let crew = crew(&generators);
        let files = self.keeper.files;
        // Threads that need not ask at once write what they have decoded.
        let writes = crew.first_parts < crew.threads;
        let generators = Pool::new(generators);
        self.report_finished_items(groups, 0);
        let observer = self.observer;
        let finished = for_each_batch_in_order(
            groups.len(),
            crew,
            |index, first_part| {
                let group = &groups[index];
                let make = move |generator: &mut dyn ImageGenerator| {
                    let first_part = RefCell::new(Some(first_part));
                    let came = || drop(first_part.take());
                    match group.make(generator, &came) {
                        Err(error) if error.is::<Hopeless>() => Err(error),
                        made if writes => Ok(Made::Written(group.written(files, &made))),
                        made => Ok(Made::Images(made)),
                    }
                };
                generators.with(|(generator, place)| place.run(|| make(*generator)))
            },
            |first, made| {
                let next = first + made.len();
                self.keep_groups(&groups[first..next], made, summary)?;
                self.report_finished_items(groups, next);
                Ok(())
            },
            || observer.stop_requested(),
        )?;
        summary.stopped = finished < groups.len();
        summary.truncated_prompts = self.truncated_prompts(self.items);
        (summary.filtered, summary.served) = self.keeper.ledger.of_servers(self.items, self.images);
        Ok(())
    }

    /// Says which items are finished when so many of the groups are.
    fn report_finished_items(&self, groups: &[Group<'_>], kept: usize) {
        let items = groups.get(kept).map_or(self.items.len(), |group| group.place);
        self.observer.items_finished(items);
    }

    fn keep_groups(
        &mut self,
        groups: &[Group<'_>],
        made: Vec<Made>,
        summary: &mut GenerationSummary,
    ) -> Result<()> {
        let mut unwritten = Vec::new();
        for (group, made) in groups.iter().zip(&made) {
            if let Made::Images(made) = made {
                let each = group.asked(made).into_iter();
                unwritten.extend(each.map(|(image, one)| (group.item, image, one)));
            }
        }
        let mut outcomes = self.keeper.files.outcomes(unwritten);
        for (group, made) in groups.iter().zip(made) {
            if let Made::Written(written) = made {
                let each = written.into_iter();
                outcomes.extend(each.map(|(image, outcome)| (group.item, image, outcome)));
            }
        }
        let Kept { done, failed } = self.keeper.keep(outcomes, self.observer)?;
        summary.done += done;
        summary.failed += failed;
        Ok(())
    }

    fn truncated_prompts(&self, items: &[&Item]) -> u64 {
        let cut: BTreeSet<&str> = self.keeper.ledger.truncated_items().collect();
        items.iter().filter(|item| cut.contains(item.id.as_str())).count() as u64
    }
}

/// How many threads ask, and how far ahead of what is written.
fn crew(generators: &[(&mut dyn ImageGenerator, Workplace)]) -> Crew {
    let threads = generators.len();
    let asked = generators.iter().filter_map(|(generator, _)| generator.asked_at_a_time()).min();
    let first_parts = asked.unwrap_or(threads).min(threads);
    let is_elsewhere = generators.iter().any(|(generator, _)| generator.runs_on_gpu());
    // One generator on the processor makes nothing that could not be kept; several need not wait for each other, nor a
    // GPU for the encoding of what it has made.
    let window = if threads > 1 || is_elsewhere { threads + first_parts } else { 1 };
    Crew { threads, first_parts, window, batch: first_parts }
}

/// A generator that gives another number of pictures than asked for has failed.
fn complete(pictures: Result<Vec<GeneratedImage>>, expected: usize) -> Result<Vec<GeneratedImage>> {
    let pictures = pictures?;
    anyhow::ensure!(
        pictures.len() == expected,
        "the generator made {} images where {expected} were asked for",
        pictures.len()
    );
    Ok(pictures)
}
