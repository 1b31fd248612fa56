//! In: where a report is to stand. Out: a folder beside it to make it in, which is removed with what is in it, at the latest
//! by the next report.

use std::fs::File;
use std::path::Path;

use tempfile::TempDir;

use crate::results::atomic_write::name_path;

/// How their names begin.
const PREFIX: &str = ".report-";

/// File that is locked as long as the command runs.
const LOCK: &str = "lock";

/// Where in it the report is made.
pub(super) const REPORT: &str = "report";

/// A folder that goes when this is dropped.
pub(super) struct UnfinishedFolder {
    folder: TempDir,
    _lock: File,
}

impl UnfinishedFolder {
    /// Makes one in `parent`, and removes those of commands that were killed.
    ///
    /// # Errors
    /// The disk said no.
    pub(super) fn make(parent: &Path) -> anyhow::Result<Self> {
        remove_abandoned(parent);
        let folder = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(parent)
            .map_err(|error| name_path(error, "make a folder in", parent))?;
        // It gets its name when it is locked, so that nobody finds it free before.
        let path = folder.path().join("lock.new");
        let lock = File::create_new(&path).map_err(|error| name_path(error, "make", &path))?;
        // Where the system knows no locks, the folder stays when its command is killed.
        if lock.try_lock().is_ok() {
            let place = folder.path().join(LOCK);
            std::fs::rename(&path, place).map_err(|error| name_path(error, "rename", &path))?;
        }
        Ok(Self { folder, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes the folders in `parent` whose lock is free and that hold nothing but an unfinished report: between two renames the
/// one that stood at its place is there too. One without a lock may have been begun a moment ago.
fn remove_abandoned(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let lock = entry.path().join(LOCK);
        if let Some(lock) = is_ours.then(|| File::open(lock).ok()).flatten()
            && holds_a_report_alone(&entry.path())
            && lock.try_lock().is_ok()
        {
            // No harm where it cannot be removed.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn holds_a_report_alone(folder: &Path) -> bool {
    let is_known = |name: &std::ffi::OsStr| name == LOCK || name == REPORT;
    std::fs::read_dir(folder)
        .is_ok_and(|all| all.flatten().all(|entry| is_known(&entry.file_name())))
}
