//! In: a repository, its commit and the places of the environment. Out: where its files lie: in Hugging
//! Face's cache layout (`models--owner--name` with `blobs`, `refs` and `snapshots`), in ModelScope's
//! (`models/owner/name`, or where its library has all of it since 1.38), or in the benchmark's folder.

use std::path::{Path, PathBuf};

use super::catalog::{Host, Source};
use super::digest::FileDigest;
use super::fetch_error::FetchError;
use super::lock_file::LOCK_FILE;
use super::model_scope_cache::{cached_folders, own_folder};
use super::places::Places;
use super::whole_folder::holds;

/// Where the files of a repository lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Store {
    /// Blobs by digest, and a folder of links for each commit.
    Hub {
        /// `models--owner--name`.
        repository: PathBuf,
        /// Folder of the locks that huggingface_hub takes.
        locks: PathBuf,
    },
    /// The files by name.
    Folder(PathBuf),
}

impl Store {
    /// Of a repository.
    pub(super) fn of(source: &Source, places: &Places) -> Self {
        match source.host {
            Host::HuggingFace => Self::hub(source.repository, places),
            Host::ModelScope => {
                // What its library has got already need not come again.
                let mut cached = cached_folders(source, places).newest.into_iter();
                let cached = cached.find(|folder| holds(folder, source));
                Self::Folder(cached.unwrap_or_else(|| own_folder(source, places)))
            }
            Host::GitHub => Self::Folder(places.benchmark.clone()),
        }
    }

    /// Of the Hugging Face repository of that name.
    pub(super) fn hub(repository: &str, places: &Places) -> Self {
        let name = format!("models--{}", repository.replace('/', "--"));
        Self::Hub {
            repository: places.hub_cache.join(&name),
            locks: places.hub_cache.join(".locks").join(name),
        }
    }

    /// The folder of everything.
    pub(super) fn base(&self) -> &Path {
        match self {
            Self::Hub { repository, .. } => repository,
            Self::Folder(folder) => folder,
        }
    }

    /// The lock file.
    pub(crate) fn lock_file(&self) -> PathBuf {
        self.base().join(LOCK_FILE)
    }

    /// The folder that a loader is given, of commit `revision`.
    pub(super) fn root(&self, revision: &str) -> PathBuf {
        match self {
            Self::Hub { repository, .. } => repository.join("snapshots").join(revision),
            Self::Folder(folder) => folder.clone(),
        }
    }

    /// Where the bytes of a file go.
    pub(super) fn kept(&self, path: &str, digest: Option<&FileDigest>) -> PathBuf {
        match (self, digest) {
            (Self::Hub { repository, .. }, Some(digest)) => {
                repository.join("blobs").join(digest.hex())
            }
            (Self::Hub { repository, .. }, None) => repository.join("blobs").join(path),
            (Self::Folder(folder), _) => folder.join(path),
        }
    }

    /// Where they lie until all are there.
    pub(super) fn partial(&self, path: &str, digest: Option<&FileDigest>) -> PathBuf {
        let kept = self.kept(path, digest);
        let name = kept.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        kept.with_file_name(match self {
            Self::Hub { .. } => format!("{name}.incomplete"),
            Self::Folder(_) => format!(".{name}.incomplete"),
        })
    }

    /// The lock of a file, where others may fetch it too.
    pub(crate) fn lock_of(&self, digest: Option<&FileDigest>) -> Option<PathBuf> {
        match (self, digest) {
            (Self::Hub { locks, .. }, Some(digest)) => {
                Some(locks.join(format!("{}.lock", digest.hex())))
            }
            _ => None,
        }
    }

    /// Lets the file appear under its name at commit `revision`.
    ///
    /// # Errors
    /// The disk said no.
    pub(super) fn show(
        &self,
        revision: &str,
        path: &str,
        digest: Option<&FileDigest>,
    ) -> Result<(), FetchError> {
        let Self::Hub { .. } = self else { return Ok(()) };
        let (shown, kept) = (self.root(revision).join(path), self.kept(path, digest));
        let folder = shown.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(FetchError::disk("make", folder))?;
        let up = "../".repeat(path.split('/').count() + 1);
        let name = digest.map_or(path, FileDigest::hex);
        let target = PathBuf::from(format!("{up}blobs/{name}"));
        if std::fs::read_link(&shown).is_ok_and(|found| found == target) {
            return Ok(());
        }
        if shown.symlink_metadata().is_ok() {
            std::fs::remove_file(&shown).map_err(FetchError::disk("remove", &shown))?;
        }
        link(&target, &kept, &shown).map_err(FetchError::disk("write", &shown))
    }

    /// Notes which commit `name` (`main`) stands for.
    ///
    /// # Errors
    /// The disk said no.
    pub(crate) fn note_ref(&self, name: &str, revision: &str) -> Result<(), FetchError> {
        let Self::Hub { repository, .. } = self else { return Ok(()) };
        let path = repository.join("refs").join(name);
        crate::results::atomic_write::atomic_write(&path, revision.as_bytes())
            .map_err(FetchError::disk("write", &path))
    }
}

/// A link where the file system has them, else a second name, else a copy.
fn link(target: &Path, kept: &Path, shown: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    if std::os::unix::fs::symlink(target, shown).is_ok() {
        return Ok(());
    }
    let _ = target;
    std::fs::hard_link(kept, shown).or_else(|_| std::fs::copy(kept, shown).map(drop))
}
