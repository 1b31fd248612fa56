//! In: a run directory and the part of it that is this process's. Out: the directory to work in, locked, with
//! its items; or a sentence on who works there already or what is to be merged first.

use std::path::Path;
use std::time::Duration;

use anyhow::{bail, ensure};

use super::benchmarks::identity;
use super::listener::Listener;
use crate::benchmark::{Benchmark, Item, Selection};
use crate::results::manifest::to_settings;
use crate::results::merge::{Part, Purpose, merge, restore_order, unmerged_shards};
use crate::results::{BenchmarkIdentity, LockError, RunDirectory, RunLock, Settings, Shard};

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
}

/// What a run is about.
pub struct Subject {
    benchmark: BenchmarkIdentity,
    selection: Settings,
    images_per_item: u32,
}

impl Subject {
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
        Ok(Self { benchmark, selection, images_per_item })
    }

    /// That of a run that is there.
    pub fn of(run: &RunDirectory) -> Self {
        let manifest = run.manifest();
        Self {
            benchmark: manifest.benchmark.clone(),
            selection: manifest.selection.clone(),
            images_per_item: manifest.images_per_item,
        }
    }

    fn open_or_create(&self, path: &Path) -> anyhow::Result<RunDirectory> {
        let Self { benchmark, selection, images_per_item } = self;
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
    subject: &Subject,
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
    subject: &Subject,
    work: &str,
) -> anyhow::Result<(RunDirectory, RunLock)> {
    let lock = RunLock::take(out, work)?;
    let run = subject.open_or_create(out)?;
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
    subject: &Subject,
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
        pictures => format!(", {pictures} pictures of which are there already"),
    };
    let folder = run.path().display();
    listener.note(&format!("shard {shard}: {} items{brought}, in {folder}", items.len()));
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
