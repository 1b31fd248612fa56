//! In: a run directory and the part of it that is this process's. Out: the directory to work in, locked, with
//! its items; or a sentence on who works there already or what is to be merged first.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::Duration;

use anyhow::{bail, ensure};

use super::benchmarks::{all_selected, identity};
use super::listener::Listener;
use crate::benchmark::{Benchmark, Item, Selection};
use crate::near_names::did_you_mean;
use crate::results::manifest::{differences, to_settings};
use crate::results::merge::{Part, Purpose, merge, put_in_order, restore_order, unmerged_shards};
use crate::results::{
    BenchmarkIdentity, ImageRecord, LockError, RunDirectory, RunError, RunLock, Settings, Shard,
};
use crate::wording::counted;

/// What the lock says of a merge.
pub const MERGING: &str = "merge";
/// The lock of those that only start the directory for their shards.
const STARTING: &str = "run --shard";
/// Several shards may start the run directory at the same moment; each needs no time for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A directory that this process alone writes.
pub struct Work<'b> {
    /// The run, or a shard of it.
    pub run: RunDirectory,
    /// The items to work on.
    pub items: Vec<&'b Item>,
    _lock: RunLock,
}

impl Work<'_> {
    /// To be called when a stage is over.
    ///
    /// # Errors
    /// The disk said no.
    pub fn stage_is_over(&mut self) -> anyhow::Result<()> {
        let ids: Vec<&str> = self.items.iter().map(|item| item.id.as_str()).collect();
        Ok(restore_order(&mut self.run, &ids)?)
    }

    /// As [`Self::stage_is_over`], of a stage whose images came in the order of their owner.
    ///
    /// # Errors
    /// As there.
    pub(super) fn import_is_over(&mut self) -> anyhow::Result<()> {
        let place: HashMap<&str, usize> =
            self.items.iter().enumerate().map(|(place, item)| (item.id.as_str(), place)).collect();
        let records = self.run.read_images()?;
        let key = |record: &ImageRecord| (place.get(record.item.as_str()).copied(), record.image);
        if records.is_sorted_by_key(key) {
            return self.stage_is_over();
        }
        let ids: Vec<&str> = self.items.iter().map(|item| item.id.as_str()).collect();
        Ok(put_in_order(&mut self.run, &ids)?)
    }
}

/// What a run is about.
pub struct Subject<'b> {
    benchmark: BenchmarkIdentity,
    selection: Settings,
    images_per_item: u32,
    /// The benchmark with its selected items, where a run about a part of them may grow.
    larger: Option<(&'b Benchmark, Vec<&'b Item>)>,
}

/// A run about other items or images than a [`Subject`].
struct OtherPart {
    run: RunDirectory,
    /// Its items.
    items: usize,
    /// Those of them that the subject leaves out.
    left_out: usize,
    /// Items of the subject.
    wanted: usize,
}

impl<'b> Subject<'b> {
    /// A run about the selected items.
    ///
    /// # Errors
    /// The selection cannot be recorded.
    pub fn new(
        benchmark: &Benchmark,
        selection: &Selection,
        images_per_item: u32,
    ) -> anyhow::Result<Self> {
        let (benchmark, selection) = (identity(benchmark), to_settings(selection)?);
        Ok(Self { benchmark, selection, images_per_item, larger: None })
    }

    /// As [`Self::new`]; a run that is about a part of it grows with the first stage that begins.
    ///
    /// # Errors
    /// The selection names what the benchmark has not, or cannot be recorded.
    pub fn or_growing(
        benchmark: &'b Benchmark,
        selection: &Selection,
        images_per_item: u32,
    ) -> anyhow::Result<Self> {
        let larger = Some((benchmark, benchmark.select(selection)?));
        Ok(Self { larger, ..Self::new(benchmark, selection, images_per_item)? })
    }

    /// That of a run that is there.
    pub fn of(run: &RunDirectory) -> Self {
        let manifest = run.manifest();
        Self {
            benchmark: manifest.benchmark.clone(),
            selection: manifest.selection.clone(),
            images_per_item: manifest.images_per_item,
            larger: None,
        }
    }

    /// Opens, starts or makes larger what is at `path`.
    fn open_or_grow(&self, path: &Path) -> anyhow::Result<RunDirectory> {
        match self.other_part(path)? {
            Some(part) => self.grown(part),
            None => self.open_or_create(path),
        }
    }

    /// The run at `path`, where it is a whole one of this benchmark and differs in its selection or images.
    fn other_part(&self, path: &Path) -> anyhow::Result<Option<OtherPart>> {
        let Some((benchmark, items)) = &self.larger else { return Ok(None) };
        let run = match RunDirectory::open(path) {
            Ok(run) => run,
            Err(RunError::NoManifest(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let manifest = run.manifest();
        let is_other = manifest.selection != self.selection
            || manifest.images_per_item != self.images_per_item;
        let is_whole = run.shard().is_none() && manifest.benchmark.digest == self.benchmark.digest;
        if !is_other || !is_whole {
            return Ok(None);
        }
        let wanted: BTreeSet<&str> = items.iter().map(|item| item.id.as_str()).collect();
        let earlier = all_selected(benchmark, &run)?;
        let left_out = earlier.iter().filter(|item| !wanted.contains(item.id.as_str())).count();
        Ok(Some(OtherPart { items: earlier.len(), left_out, wanted: items.len(), run }))
    }

    fn grown(&self, part: OtherPart) -> anyhow::Result<RunDirectory> {
        let OtherPart { items, left_out, wanted, mut run } = part;
        let (before, now) = (run.manifest().images_per_item, self.images_per_item);
        let path = run.path().display().to_string();
        let advice = "Give the --images and the selection that it has (with none at all it grows to the whole \
                      benchmark), or another --out, or delete the folder";
        ensure!(
            left_out == 0,
            "{path} has {}, {left_out} of them left out of the {wanted} asked for now, and a run keeps what it has:{}\n{advice}",
            counted(items, "item"),
            self.differing_selection(&run),
        );
        ensure!(
            now >= before,
            "{path} has {} an item, more than the {now} asked for now, and a run keeps what it has\n{advice}",
            counted(before, "image")
        );
        run.grow(self.selection.clone(), now)?;
        Ok(run)
    }

    /// A shard cannot make the run larger that it is a part of.
    fn refuse_to_grow(&self, path: &Path) -> anyhow::Result<()> {
        let Some(OtherPart { left_out, run, .. }) = self.other_part(path)? else { return Ok(()) };
        let (before, now) = (run.manifest().images_per_item, self.images_per_item);
        ensure!(
            left_out > 0 || now < before,
            "{} is about less than is asked for now, and shards do not make a run larger:{}{}\nGive the command \
             without --shard, or give another --out, or delete the folder",
            path.display(),
            self.differing_selection(&run),
            match before == now {
                true => String::new(),
                false => format!("\n  images per item: {before} in the run, {now} now"),
            },
        );
        Ok(())
    }

    fn differing_selection(&self, run: &RunDirectory) -> String {
        let found = differences(&run.manifest().selection, &self.selection);
        found.iter().map(|difference| format!("\n  selection.{difference}")).collect()
    }

    fn open_or_create(&self, path: &Path) -> anyhow::Result<RunDirectory> {
        let Self { benchmark, selection, images_per_item, .. } = self;
        let (benchmark, selection) = (benchmark.clone(), selection.clone());
        Ok(RunDirectory::open_or_create(path, benchmark, selection, *images_per_item)?)
    }
}

/// Opens or starts what is to be worked on: the run at `out` or a shard inside it, about `items`, which are
/// those of the shard. `work` is the command, for others to read.
///
/// # Errors
/// Somebody else works there; something is to be merged first; what is there is about something else or is
/// damaged; or the disk said no.
pub fn open_work<'b>(
    out: &Path,
    subject: &Subject<'_>,
    items: Vec<&'b Item>,
    shard: Option<Shard>,
    work: &str,
    listener: &dyn Listener,
) -> anyhow::Result<Work<'b>> {
    let (run, lock) = match shard {
        None => open_whole(out, subject, work)?,
        Some(shard) => open_shard(out, subject, &items, shard, work, listener)?,
    };
    Ok(Work { run, items, _lock: lock })
}

/// Takes a judge's answers, scores and summary out of the run at `path` and of its shards; the benchmark is not needed.
///
/// # Errors
/// It is no run; somebody works there; the judge has not been there; or the disk said no.
pub fn remove_judge(path: &Path, judge: &str) -> anyhow::Result<()> {
    RunDirectory::open(path)?;
    let _lock = RunLock::take(path, "judge --remove")?;
    // Read again: somebody else may have worked there until now.
    let mut run = RunDirectory::open(path)?;
    refuse_shards_at_work(&run, |_| true)?;
    let mut there = run.judges();
    there.extend(run.shards()?.iter().flat_map(RunDirectory::judges));
    there.sort();
    there.dedup();
    ensure!(
        there.iter().any(|name| name == judge),
        "{} has no judge `{judge}` to remove{}; {}",
        path.display(),
        did_you_mean(judge, there.iter().map(String::as_str)),
        match there.as_slice() {
            [] => "it has none".to_owned(),
            there => format!("there is {}", there.join(", ")),
        }
    );
    run.remove_judge(judge)?;
    Ok(())
}

/// Opens a shard by its own folder.
///
/// # Errors
/// Somebody else works there, or it is damaged.
pub fn open_shard_itself<'b>(
    shard: &Path,
    items: Vec<&'b Item>,
    work: &str,
) -> anyhow::Result<Work<'b>> {
    let lock = RunLock::take(shard, work)?;
    // Read again: somebody else may have worked there until now.
    let run = RunDirectory::open(shard)?;
    Ok(Work { run, items, _lock: lock })
}

/// Opens or starts the run at `out` as a whole.
///
/// # Errors
/// As [`open_work`].
pub fn open_whole(
    out: &Path,
    subject: &Subject<'_>,
    work: &str,
) -> anyhow::Result<(RunDirectory, RunLock)> {
    let lock = RunLock::take(out, work)?;
    let run = subject.open_or_grow(out)?;
    if let Some(shard) = run.shard() {
        bail!(
            "{} is shard {shard} of a run; name the run directory and --shard {shard}",
            out.display()
        );
    }
    refuse_shards_at_work(&run, |_| true)?;
    ensure_merged(&run)?;
    Ok((run, lock))
}

fn open_shard(
    out: &Path,
    subject: &Subject<'_>,
    items: &[&Item],
    shard: Shard,
    work: &str,
    listener: &dyn Listener,
) -> anyhow::Result<(RunDirectory, RunLock)> {
    if let Some(owner) = RunLock::holder(out)
        && owner.work != STARTING
        && owner.work != MERGING
    {
        // The run as a whole is being made; its items must not be made twice.
        let owner = Some(Box::new(owner));
        return Err(LockError::Held { folder: out.to_owned(), owner }.into());
    }
    let whole = if out.join("manifest.json").exists() {
        subject.refuse_to_grow(out)?;
        subject.open_or_create(out)?
    } else {
        let _starting = RunLock::take_within(out, STARTING, PATIENCE)?;
        subject.open_or_create(out)?
    };
    ensure!(
        whole.shard().is_none(),
        "{} is a shard already; name the run directory that it is in",
        out.display()
    );
    let is_other = |other: Shard| other.count() != shard.count();
    refuse_shards_at_work(&whole, is_other)?;
    let others: Vec<Shard> =
        unmerged_shards(&whole)?.into_iter().filter(|other| is_other(*other)).collect();
    ensure!(
        others.is_empty(),
        "{} was dealt otherwise before and has work of {} that is not merged yet; `dpg-bench merge {}` \
         joins it, then give the same command again",
        out.display(),
        listed(&others),
        out.display()
    );
    let lock = RunLock::take(&whole.shard_path(shard)?, work)?;
    let mut run = whole.open_or_create_shard(shard)?;
    // What the run has of these items already is not made again.
    let ids: Vec<&str> = items.iter().map(|item| item.id.as_str()).collect();
    let part = Part { name: "the whole run".to_owned(), run: whole };
    let got = merge(&mut run, &[part], &ids, Purpose::SeedShard)?;
    let brought = match got.pictures {
        0 => String::new(),
        images => format!("; images there already: {images}"),
    };
    let folder = run.path().display();
    listener
        .note(&format!("shard {shard}: {}{brought}, in {folder}", counted(items.len(), "item")));
    Ok((run, lock))
}

fn refuse_shards_at_work(
    run: &RunDirectory,
    is_meant: impl Fn(Shard) -> bool,
) -> anyhow::Result<()> {
    for shard in run.shards()? {
        if shard.shard().is_some_and(&is_meant)
            && let Some(owner) = RunLock::holder(shard.path())
        {
            let owner = Some(Box::new(owner));
            return Err(LockError::Held { folder: shard.path().to_owned(), owner }.into());
        }
    }
    Ok(())
}

/// Makes sure that no shard of the run holds something that the run has not.
///
/// # Errors
/// One does; or one is damaged.
pub fn ensure_merged(run: &RunDirectory) -> anyhow::Result<()> {
    let shards = unmerged_shards(run)?;
    ensure!(
        shards.is_empty(),
        "{} has work of {} that is not merged yet; `dpg-bench merge {}` joins it (it may be called before \
         all shards are done)",
        run.path().display(),
        listed(&shards),
        run.path().display()
    );
    Ok(())
}

/// `shard 0/4` or `shards 0/4, 1/4`.
pub fn listed(shards: &[Shard]) -> String {
    let shown: Vec<String> = shards.iter().map(Shard::to_string).collect();
    let word = if shown.len() == 1 { "shard" } else { "shards" };
    format!("{word} {}", shown.join(", "))
}
