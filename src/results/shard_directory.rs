//! In: a run directory. Out: the directories of its shards, which are run directories of their own.

use std::path::{Path, PathBuf};

use super::inside::inside;
use super::manifest::Manifest;
use super::run_directory::{RunDirectory, RunError};
use super::shard::{FOLDER, Shard};

impl RunDirectory {
    /// Which part of a run this directory holds; `None` for a run of its own.
    pub fn shard(&self) -> Option<Shard> {
        self.manifest().shard
    }

    /// Where a shard of this run is: `shards/0-of-4`, a run directory of its own.
    ///
    /// # Errors
    /// A symbolic link stands on the way.
    pub(crate) fn shard_path(&self, shard: Shard) -> Result<PathBuf, RunError> {
        Ok(inside(self.path(), &[FOLDER, &shard.folder()])?)
    }

    /// Opens a shard of this run, or starts it: about the same benchmark, selection and number of images.
    ///
    /// # Errors
    /// What is there is about something else or damaged, or the disk said no.
    pub(crate) fn open_or_create_shard(&self, shard: Shard) -> Result<Self, RunError> {
        let own = self.manifest();
        let path = self.shard_path(shard)?;
        let (benchmark, selection) = (own.benchmark.clone(), own.selection.clone());
        let fresh = || Manifest {
            shard: Some(shard),
            ..Manifest::new(benchmark.clone(), selection.clone(), own.images_per_item)
        };
        Self::open_or_start(&path, fresh)
    }

    /// The shards of this run that have begun, those of one dealing together.
    ///
    /// # Errors
    /// One of them is damaged, or the disk said no.
    pub fn shards(&self) -> Result<Vec<Self>, RunError> {
        shards_in(&self.path().join(FOLDER))
    }

    /// The other shards beside this one; none for a run of its own.
    pub(super) fn siblings(&self) -> Result<Vec<Self>, RunError> {
        let (Some(shard), Some(folder)) = (self.shard(), self.path().parent()) else {
            return Ok(Vec::new());
        };
        let mut all = shards_in(folder)?;
        all.retain(|sibling| sibling.shard() != Some(shard));
        for sibling in &mut all {
            sibling.allows_other_products = self.allows_other_products;
        }
        Ok(all)
    }
}

fn shards_in(folder: &Path) -> Result<Vec<RunDirectory>, RunError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(super::atomic_write::name_path(error, "read", folder).into()),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Some(shard) = entry.file_name().to_str().and_then(Shard::of_folder) else { continue };
        match RunDirectory::open(&entry.path()) {
            Ok(run) => found.push((shard, run)),
            // Its process was killed, or has not got further yet.
            Err(RunError::NoManifest(_)) => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_by_key(|(shard, _)| *shard);
    Ok(found.into_iter().map(|(_, run)| run).collect())
}
