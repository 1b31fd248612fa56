//! In: what was fetched from one repository. Out: `fetch.json` beside it: commit, lengths and digests,
//! against which every later fetch is held. It holds no time and no machine.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::digest::FileDigest;
use super::fetch_error::{FetchError, LockFileFault};
use super::file_rules::Precision;
use crate::results::atomic_write::atomic_write;
use crate::results::{FORMAT_VERSION, FormatVersion};

/// Its name.
pub const LOCK_FILE: &str = "fetch.json";

/// Who says that a digest is the right one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Witness {
    /// This program: the digest stands in its table.
    Program,
    /// The publisher, at the first fetch.
    Publisher,
    /// Nobody: it was taken of what came at the first fetch.
    FirstFetch,
}

/// A file that was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedFile {
    /// Length in bytes.
    pub size: Option<u64>,
    /// Its digest; absent until it is here, where the publisher states none.
    pub digest: Option<FileDigest>,
    /// Who says so.
    pub witness: Witness,
}

/// What was fetched from a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockFile {
    /// Version of this file's format.
    pub format_version: FormatVersion,
    /// `Hugging Face`, `ModelScope` or `GitHub`.
    pub host: String,
    /// `owner/name`.
    pub repository: String,
    /// The commit, or the publisher's name of its newest state where it tells no commit.
    pub revision: String,
    /// Whether the commit stands in this program's table; else it was the newest at the first fetch.
    pub revision_is_pinned: bool,
    /// The licence as the publisher states it, else by this program's table.
    pub licence: String,
    /// Whether the usual files are among these.
    pub full: bool,
    /// Whether those of half precision are.
    pub half: bool,
    /// The files by path.
    pub files: BTreeMap<String, LockedFile>,
}

impl LockFile {
    /// Reads the lock file at `path`; `None` where there is none.
    ///
    /// # Errors
    /// It cannot be read, or is of another format.
    pub fn read(path: &Path) -> Result<Option<Self>, FetchError> {
        let told = |reason| FetchError::LockFile { path: path.to_owned(), reason };
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(told(LockFileFault::Unreadable(error))),
        };
        let lock: Self = serde_json::from_slice(&text)
            .map_err(|error| told(LockFileFault::Unparsable(error)))?;
        if !FORMAT_VERSION.can_read(lock.format_version) {
            return Err(told(LockFileFault::OtherFormat(lock.format_version)));
        }
        Ok(Some(lock))
    }

    /// Writes it to `path`, unless that holds the same.
    ///
    /// # Errors
    /// The disk said no.
    pub fn write(&self, path: &Path) -> Result<(), FetchError> {
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|error| FetchError::disk("write", path)(error.into()))?;
        text.push(b'\n');
        if std::fs::read(path).is_ok_and(|old| old == text) {
            return Ok(());
        }
        atomic_write(path, &text).map_err(FetchError::disk("write", path))
    }

    /// Whether the files of that kind were fetched.
    pub fn has(&self, precision: Precision) -> bool {
        match precision {
            Precision::Full => self.full,
            Precision::Half => self.half,
        }
    }
}
