//! In: a run directory, items and a generator. Out: `images/<item>/<k>.png` and `images.jsonl`. What
//! is there already is left as it is, so that a run killed at any point and started again ends in the
//! same bytes. How a picture is made is left to the generator.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use rayon::prelude::*;

use super::image_ledger::ImageLedger;
use super::seeds::SeedMode;
use super::{GeneratedImage, ImageGenerator};
use crate::benchmark::Item;
use crate::results::image_store::pixels_sha256;
use crate::results::{FORMAT_VERSION, ImageOutcome, RunDirectory, Settings};
use crate::stage_observer::StageObserver;

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
    let settings = all_settings(generator.settings(), plan);
    let sitting = run.begin_generation(settings.clone(), device)?;
    let ledger = ImageLedger::open(run)?;
    let images = run.manifest().images_per_item;
    let present = present(run, items, images, &ledger);
    let mut summary = GenerationSummary {
        images: items.len() as u64 * u64::from(images),
        already_done: present.len() as u64,
        ..Default::default()
    };
    let lacking =
        |item: &&&Item| (0..images).any(|image| !present.contains(&(item.id.clone(), image)));
    let prompts: Vec<&str> = items.iter().filter(lacking).map(|i| i.prompt.as_str()).collect();
    generator.prepare(&prompts, observer).context("the prompts cannot be prepared")?;
    observer.started(summary.images, summary.already_done);
    let mut stage = Stage { run, ledger, present, settings, plan, observer };
    'items: for item in items {
        for first in (0..images).step_by(plan.batch.max(1) as usize) {
            if observer.stop_requested() {
                summary.stopped =
                    summary.already_done + summary.done + summary.failed < summary.images;
                break 'items;
            }
            let group = first..images.min(first.saturating_add(plan.batch.max(1)));
            stage.make_group(item, &group.collect::<Vec<_>>(), generator, &mut summary)?;
        }
    }
    summary.truncated_prompts = stage.truncated_prompts(items);
    observer.finished();
    run.finish(&sitting, summary.done, summary.failed)?;
    Ok(summary)
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

/// The images that need not be made again.
fn present(
    run: &RunDirectory,
    items: &[&Item],
    images: u32,
    ledger: &ImageLedger,
) -> BTreeSet<Key> {
    items
        .par_iter()
        .flat_map_iter(|item| (0..images).map(|image| (item.id.clone(), image)))
        .filter(|(item, image)| ledger.is_present(run, item, *image))
        .collect()
}

struct Stage<'a> {
    run: &'a RunDirectory,
    ledger: ImageLedger,
    present: BTreeSet<Key>,
    settings: Settings,
    plan: GenerationPlan,
    observer: &'a dyn StageObserver,
}

impl Stage<'_> {
    fn make_group(
        &mut self,
        item: &Item,
        group: &[u32],
        generator: &mut dyn ImageGenerator,
        summary: &mut GenerationSummary,
    ) -> Result<()> {
        let wanted: Vec<u32> = group
            .iter()
            .copied()
            .filter(|&image| !self.present.contains(&(item.id.clone(), image)))
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let seed = |image: &u32| self.plan.seed_mode.seed(self.plan.seed, &item.id, *image);
        let seeds: Vec<u64> = group.iter().map(seed).collect();
        match complete(generator.generate(&item.prompt, &seeds), seeds.len()) {
            Ok(pictures) => {
                for (&image, picture) in group.iter().zip(&pictures) {
                    if wanted.contains(&image) {
                        self.keep(item, image, picture)?;
                        summary.done += 1;
                        self.observer.image_done(&item.id, image);
                    }
                }
            }
            Err(error) => {
                let reason = sentence(&error);
                for &image in &wanted {
                    self.record(item, image, ImageOutcome::Failed { reason: reason.clone() })?;
                    summary.failed += 1;
                    self.observer.image_failed(&item.id, image, &reason);
                }
            }
        }
        Ok(())
    }

    /// The picture first, then its record: a record never stands without its picture.
    fn keep(&mut self, item: &Item, image: u32, picture: &GeneratedImage) -> Result<()> {
        let texts = texts(&self.settings, item, image, picture.seed);
        let texts: Vec<(&str, String)> =
            texts.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
        self.run.write_picture(&item.id, image, &picture.pixels, &texts)?;
        self.record(
            item,
            image,
            ImageOutcome::Done {
                pixels_sha256: pixels_sha256(&picture.pixels),
                width: picture.pixels.width(),
                height: picture.pixels.height(),
                seed: Some(picture.seed),
                prompt_tokens: Some(picture.prompt_tokens),
                truncated: Some(picture.truncated),
                source: None,
            },
        )
    }

    fn record(&mut self, item: &Item, image: u32, outcome: ImageOutcome) -> Result<()> {
        self.ledger
            .record(&item.id, image, outcome)
            .context("the record of an image cannot be kept")
    }

    fn truncated_prompts(&self, items: &[&Item]) -> u64 {
        let cut: BTreeSet<&str> = self.ledger.truncated_items().collect();
        items.iter().filter(|item| cut.contains(item.id.as_str())).count() as u64
    }
}

/// A generator that gives another number of pictures than asked for has failed.
fn complete(pictures: Result<Vec<GeneratedImage>>, expected: usize) -> Result<Vec<GeneratedImage>> {
    let pictures = pictures?;
    anyhow::ensure!(
        pictures.len() == expected,
        "the generator made {} pictures where {expected} were asked for",
        pictures.len()
    );
    Ok(pictures)
}

/// The error and its causes in one line. Tensor errors can carry a backtrace after their first line,
/// which is another one each time and names folders of this machine.
fn sentence(error: &anyhow::Error) -> String {
    let first_lines =
        error.chain().filter_map(|cause| cause.to_string().lines().next().map(str::to_owned));
    first_lines.collect::<Vec<_>>().join(": ")
}

/// Everything that the picture can be made again from, as PNG text: prompt, seed, place in the
/// benchmark and each setting. No time, so that the same picture is the same file.
fn texts(settings: &Settings, item: &Item, image: u32, seed: u64) -> Vec<(String, String)> {
    let mut texts = vec![
        ("Software".to_owned(), "dpg-bench".to_owned()),
        ("format_version".to_owned(), FORMAT_VERSION.to_string()),
        ("item".to_owned(), item.id.clone()),
        ("image".to_owned(), image.to_string()),
        ("prompt".to_owned(), item.prompt.clone()),
        ("seed".to_owned(), seed.to_string()),
    ];
    // What is null is not set: a text would read as the word.
    for (name, value) in settings.iter().filter(|(_, value)| !value.is_null()) {
        let name = match name.as_str() {
            "seed" => "base_seed",
            "negative_prompt" => "negative prompt",
            "scheduler" => "sampler",
            other => other,
        };
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        texts.push((name.to_owned(), text));
    }
    texts
}
