//! In: run directories about the same, each with a part of the work. Out: one that holds all of it, in the
//! bytes that a single run would have ended in. It may be killed anywhere and given again, and given when
//! parts are still missing. What is missing, and the words for it, are left to others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::atomic_write::{name_path, sync_folder};
use super::image_store::{pixels_sha256, read_image};
use super::journal::Journal;
use super::manifest::{Difference, Settings, SittingEntry, StageEntry, differences};
pub(crate) use super::merge_error::MergeError;
use super::merged_lines::{ImageLine, LinesByImage};
use super::other_products;
use super::records::{AnswerRecord, ImageOutcome, ImageRecord};
use super::run_directory::{RunDirectory, RunError};
use super::shard::Shard;

/// A directory to take records and pictures from.
#[derive(Debug)]
pub struct Part {
    /// What it is called in the merged run's manifest.
    pub name: String,
    /// The directory.
    pub run: RunDirectory,
}

/// How to merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To gather: every picture is compared with its journal's digest, and the parts' sittings are noted.
    MergeShards,
    /// To deal out: a shard gets what the run has of its items already. Whoever goes on with it looks at the
    /// pictures itself.
    SeedShard,
}

/// What a merge did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Merged {
    /// Pictures brought in, linked or copied.
    pub pictures: u64,
    /// Journals that changed.
    pub journals: u64,
}

/// Brings what `parts` hold of `items` (ids in benchmark order) into `run`, which is theirs too.
///
/// Pictures come first, as links where the file system has them, then the journals, each all at once, then
/// the manifest: whenever it is stopped, a further call ends in the same.
///
/// # Errors
/// See `MergeError`; `run` is as it was, but for pictures that no journal speaks of yet.
pub fn merge(
    run: &mut RunDirectory,
    parts: &[Part],
    items: &[&str],
    purpose: Purpose,
) -> Result<Merged, MergeError> {
    check_settings(run, parts, purpose)?;
    let wanted: BTreeSet<&str> = items.iter().copied().collect();
    let is_wanted = |item: &str| wanted.contains(item);
    let per_item = run.manifest().images_per_item;

    let own = LinesByImage::new(run.read_images()?);
    refuse_foreign(run, &own, &wanted)?;
    let of_parts = parts
        .iter()
        .map(|part| Ok(LinesByImage::new(part.run.read_images()?)))
        .collect::<Result<Vec<_>, MergeError>>()?;
    let mut images = own.clone();
    for (part, lines) in parts.iter().zip(&of_parts) {
        if purpose == Purpose::MergeShards {
            refuse_foreign(&part.run, lines, &wanted)?;
        }
        let disagree = images.take_in(lines, is_wanted);
        refuse_contradiction(run, part, "images", disagree)?;
    }
    let mut answers = BTreeMap::new();
    for judge in judges(run, parts) {
        answers.insert(judge.clone(), merged_answers(run, parts, &judge, is_wanted)?);
    }

    let holders: Vec<(&RunDirectory, &LinesByImage<ImageRecord>)> = std::iter::once((&*run, &own))
        .chain(parts.iter().map(|part| &part.run).zip(&of_parts))
        .collect();
    let to_bring = choose_pictures(&holders, &images, purpose)?;
    let mut merged = Merged::default();
    bring_pictures(run, &to_bring)?;
    merged.pictures = to_bring.len() as u64;

    let has_images = holders.iter().any(|(run, _)| run.images_journal().exists());
    if has_images {
        let lines = images.in_order(items, per_item);
        merged.journals += u64::from(Journal::replace(&run.images_journal(), lines)?);
    }
    for (judge, lines) in &answers {
        let lines = lines.in_order(items, per_item);
        merged.journals += u64::from(Journal::replace(&run.answers_journal(judge)?, lines)?);
    }
    note_in_manifest(run, parts, purpose)?;
    Ok(merged)
}

/// Puts the journals of a run that was merged once or has grown, and was worked on since, in the order of a
/// single run again. Other runs are left alone.
///
/// # Errors
/// See `MergeError`.
pub(crate) fn restore_order(run: &mut RunDirectory, items: &[&str]) -> Result<(), MergeError> {
    let manifest = run.manifest();
    let entries = manifest.generation.iter().chain(manifest.judges.values());
    let mut sittings = entries.flat_map(|entry| &entry.sittings);
    let was_merged = sittings.any(|sitting| sitting.merged_from.is_some());
    if was_merged || !manifest.grown_from.is_empty() {
        put_in_order(run, items)?;
    }
    Ok(())
}

/// Puts the journals of a run whose images came in another order in that of `items`.
///
/// # Errors
/// See `MergeError`.
pub(crate) fn put_in_order(run: &mut RunDirectory, items: &[&str]) -> Result<(), MergeError> {
    merge(run, &[], items, Purpose::SeedShard).map(drop)
}

/// The shards of `run` that hold something which it has not.
///
/// # Errors
/// A directory is damaged, or the disk said no.
pub(crate) fn unmerged_shards(run: &RunDirectory) -> Result<Vec<Shard>, RunError> {
    let shards = run.shards()?;
    if shards.is_empty() {
        return Ok(Vec::new());
    }
    let has_new = |shard: &RunDirectory| -> Result<bool, RunError> {
        if holds_more(LinesByImage::new(run.read_images()?), shard.read_images()?) {
            return Ok(true);
        }
        for judge in shard.judges() {
            let own = LinesByImage::new(run.read_answers(&judge)?);
            if holds_more(own, shard.read_answers(&judge)?) {
                return Ok(true);
            }
        }
        Ok(false)
    };
    let mut found = Vec::new();
    for shard in &shards {
        if has_new(shard)? {
            found.extend(shard.shard());
        }
    }
    Ok(found)
}

/// Whether `theirs` would change `own`, or contradict it.
fn holds_more<R: ImageLine>(own: LinesByImage<R>, theirs: Vec<R>) -> bool {
    let theirs = LinesByImage::new(theirs);
    let mut both = own.clone();
    let disagree = both.take_in(&theirs, |_| true);
    let changed = |(item, image): (&str, u32)| both.of(item, image) != own.of(item, image);
    !disagree.is_empty() || theirs.images().any(changed)
}

fn judges(run: &RunDirectory, parts: &[Part]) -> BTreeSet<String> {
    std::iter::once(run)
        .chain(parts.iter().map(|part| &part.run))
        .flat_map(|run| run.judges())
        .collect()
}

/// Everything that decides the results must be the same. Products may differ where that is allowed; of what is dealt to a
/// shard they are looked at when its stage begins.
fn check_settings(run: &RunDirectory, parts: &[Part], purpose: Purpose) -> Result<(), MergeError> {
    let other_products = run.allows_other_products || purpose == Purpose::SeedShard;
    let refuse =
        |first: &RunDirectory, other: &RunDirectory, what: &str, found: Vec<Difference>| {
            if found.is_empty() || (other_products && other_products::are_all(&found)) {
                return Ok(());
            }
            let (first, other) = (first.path().to_owned(), other.path().to_owned());
            Err(MergeError::Differ { first, other, what: what.to_owned(), differences: found })
        };
    let all = || std::iter::once(run).chain(parts.iter().map(|part| &part.run));
    for other in all() {
        let found = differences(&run.manifest().subject(), &other.manifest().subject());
        refuse(run, other, "what they are about", found)?;
    }
    let mut generated = all().filter_map(|run| Some((run, run.manifest().generation.as_ref()?)));
    if let Some((first, entry)) = generated.next() {
        for (other, theirs) in generated {
            let found = differences(&entry.settings, &theirs.settings);
            refuse(first, other, "the settings of their images", found)?;
        }
    }
    for judge in judges(run, parts) {
        let mut first: Option<(&RunDirectory, &Settings)> = None;
        for other in all() {
            let Some(theirs) = other.manifest().judges.get(&judge) else { continue };
            // The settings of a judge bind from its first answer on.
            if !other.has_answers(&judge)? {
                continue;
            }
            let (first, settings) = *first.get_or_insert((other, &theirs.settings));
            let found = differences(settings, &theirs.settings);
            refuse(first, other, &format!("the settings of the judge `{judge}`"), found)?;
        }
    }
    Ok(())
}

fn refuse_foreign<R: ImageLine>(
    run: &RunDirectory,
    lines: &LinesByImage<R>,
    wanted: &BTreeSet<&str>,
) -> Result<(), MergeError> {
    match lines.images().find(|(item, _)| !wanted.contains(item)) {
        None => Ok(()),
        Some((item, _)) => {
            let (path, item) = (run.path().to_owned(), item.to_owned());
            Err(MergeError::ForeignItem { path, item })
        }
    }
}

fn refuse_contradiction(
    run: &RunDirectory,
    part: &Part,
    what: &str,
    images: Vec<(String, u32)>,
) -> Result<(), MergeError> {
    if images.is_empty() {
        return Ok(());
    }
    let (first, other) = (run.path().to_owned(), part.run.path().to_owned());
    Err(MergeError::Contradiction { first, other, what: what.to_owned(), images })
}

fn merged_answers(
    run: &RunDirectory,
    parts: &[Part],
    judge: &str,
    is_wanted: impl Fn(&str) -> bool + Copy,
) -> Result<LinesByImage<AnswerRecord>, MergeError> {
    let read = |run: &RunDirectory| -> Result<LinesByImage<AnswerRecord>, MergeError> {
        let records = run.read_answers(judge)?;
        if records.iter().any(|record| record.pixels_sha256.is_none()) {
            return Err(MergeError::FromLog { path: run.path().to_owned() });
        }
        Ok(LinesByImage::new(records))
    };
    let mut all = read(run)?;
    for part in parts {
        let disagree = all.take_in(&read(&part.run)?, is_wanted);
        refuse_contradiction(run, part, &format!("answers of `{judge}`"), disagree)?;
    }
    Ok(all)
}

/// A picture to bring: which run has it, and which image it is.
struct Picture<'a> {
    from: &'a RunDirectory,
    item: &'a str,
    image: u32,
}

/// Which directory each picture is taken from that the first one, the merged run, has not.
fn choose_pictures<'a>(
    holders: &[(&'a RunDirectory, &LinesByImage<ImageRecord>)],
    images: &'a LinesByImage<ImageRecord>,
    purpose: Purpose,
) -> Result<Vec<Picture<'a>>, MergeError> {
    let keys: Vec<(&str, u32)> = images.images().collect();
    let chosen: Vec<Result<Option<Picture<'a>>, PathBuf>> = keys
        .par_iter()
        .map(|&(item, image)| {
            let Some(record) = images.of(item, image).last() else { return Ok(None) };
            let ImageOutcome::Done { pixels_sha256, .. } = &record.outcome else { return Ok(None) };
            let mut bad = None;
            for (place, &(run, lines)) in holders.iter().enumerate() {
                if lines.of(item, image).last() != Some(record) {
                    continue;
                }
                let path = run.image_path(item, image);
                let is_good = match purpose {
                    Purpose::MergeShards => has_pixels(&path, pixels_sha256),
                    Purpose::SeedShard => path.exists(),
                };
                match (is_good, place) {
                    (true, 0) => return Ok(None),
                    (true, _) => return Ok(Some(Picture { from: run, item, image })),
                    (false, _) => bad = Some(path),
                }
            }
            match (bad, purpose) {
                (Some(path), Purpose::MergeShards) => Err(path),
                _ => Ok(None),
            }
        })
        .collect();
    let (mut to_bring, mut bad) = (Vec::new(), Vec::new());
    for choice in chosen {
        match choice {
            Ok(picture) => to_bring.extend(picture),
            Err(path) => bad.push(path),
        }
    }
    if bad.is_empty() { Ok(to_bring) } else { Err(MergeError::BadPictures { paths: bad }) }
}

fn has_pixels(path: &Path, digest: &str) -> bool {
    let picture = File::open(path).ok().and_then(|file| read_image(BufReader::new(file)).ok());
    picture.is_some_and(|picture| pixels_sha256(&picture) == digest)
}

fn bring_pictures(run: &RunDirectory, pictures: &[Picture<'_>]) -> Result<(), MergeError> {
    let mut folders = BTreeSet::new();
    for picture in pictures {
        let to = run.take_image(picture.from, picture.item, picture.image)?;
        folders.extend(to.parent().map(Path::to_owned));
    }
    for folder in folders {
        sync_folder(&folder).map_err(|error| name_path(error, "sync", &folder))?;
    }
    Ok(())
}

/// The settings of the parts become the run's; when gathering, their sittings too.
fn note_in_manifest(
    run: &mut RunDirectory,
    parts: &[Part],
    purpose: Purpose,
) -> Result<(), MergeError> {
    let before = run.manifest().clone();
    if purpose == Purpose::MergeShards {
        forget_sittings(run, parts);
    }
    let mut answered = Vec::new();
    for (place, part) in parts.iter().enumerate() {
        for judge in part.run.judges() {
            if part.run.has_answers(&judge)? {
                answered.push((place, judge));
            }
        }
    }
    for (place, part) in parts.iter().enumerate() {
        let theirs = part.run.manifest();
        if let Some(entry) = &theirs.generation {
            let own = run.manifest.generation.get_or_insert_with(StageEntry::default);
            other_products::go_on_with(own, &entry.settings);
            note_sittings(own, entry, &part.name, purpose);
        }
        for (judge, entry) in &theirs.judges {
            let is_new = !run.manifest.judges.contains_key(judge);
            let own = run.manifest.judges.entry(judge.clone()).or_default();
            if is_new || answered.contains(&(place, judge.clone())) {
                other_products::go_on_with(own, &entry.settings);
            }
            note_sittings(own, entry, &part.name, purpose);
        }
    }
    if *run.manifest() != before {
        run.save()?;
    }
    Ok(())
}

/// Those of an earlier merge of these parts: they may have ended since, or be named otherwise.
fn forget_sittings(run: &mut RunDirectory, parts: &[Part]) {
    let is_of_parts = |from: &String| {
        let below = |name: &str| from.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'));
        parts.iter().any(|part| *from == part.name || below(&part.name))
    };
    let manifest = &mut run.manifest;
    for entry in manifest.generation.iter_mut().chain(manifest.judges.values_mut()) {
        entry.sittings.retain(|sitting| !sitting.merged_from.as_ref().is_some_and(is_of_parts));
    }
}

fn note_sittings(own: &mut StageEntry, theirs: &StageEntry, name: &str, purpose: Purpose) {
    if purpose == Purpose::SeedShard {
        return;
    }
    for sitting in &theirs.sittings {
        let from = match &sitting.merged_from {
            None => name.to_owned(),
            Some(deeper) => format!("{name}/{deeper}"),
        };
        let products = || other_products::of_sitting(own, &theirs.settings);
        let products = sitting.products.clone().or_else(products);
        own.sittings.push(SittingEntry { merged_from: Some(from), products, ..sitting.clone() });
    }
}
