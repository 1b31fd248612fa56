//! In: nothing. Out: what a fetch tells of itself while it runs, for a progress bar.

use std::time::Duration;

/// Told what happens; from several threads at once.
pub trait FetchObserver: Sync {
    /// A repository is about to be fetched: its name, its licence as the publisher states it, files and
    /// bytes still to come (of those whose length is known).
    fn planned(&self, repository: &str, licence: &str, files: usize, bytes: u64) {
        let _ = (repository, licence, files, bytes);
    }

    /// So many bytes of `file`, of `size` where that is known, are here; it may go back to 0.
    fn position(&self, file: &str, position: u64, size: Option<u64>) {
        let _ = (file, position, size);
    }

    /// `file` is tried again after a wait.
    fn waiting(&self, file: &str, reason: &str, wait: Duration) {
        let _ = (file, reason, wait);
    }

    /// `file` is here, checked and in its place.
    fn done(&self, file: &str) {
        let _ = file;
    }

    /// All files of the repository are here, or the fetch failed.
    fn finished(&self) {}
}

/// Tells nobody.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl FetchObserver for Silent {}
