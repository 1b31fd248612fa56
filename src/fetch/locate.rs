//! In: a repository of the catalog. Out: where its files lie, if all of them are there, and whether they
//! are what they should be. Only the disk is looked at. What the Python libraries fetched counts as well.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::catalog::{Host, Source};
use super::digest::FileDigest;
use super::fetch_error::FetchError;
use super::lock_file::LockFile;
use super::model_scope_cache::cached_folders;
use super::places::Places;
use super::store::Store;
use super::whole_folder::{files_below, holds, is_whole};

/// A repository whose files are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The folder with the files.
    pub folder: PathBuf,
    /// Commit, where the folder's place tells it or the lock file does.
    pub revision: Option<String>,
    /// What a fetch of this program recorded of that commit.
    pub lock: Option<LockFile>,
}

/// How much of a repository is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchState {
    /// All that is needed.
    Whole(Found),
    /// A fetch began and did not end.
    Begun {
        /// Files that it is still to get.
        missing: Vec<String>,
    },
    /// Nothing.
    Absent,
}

/// Where the files of `source` lie; `None` unless all that are needed are there.
pub fn locate(source: &Source, places: &Places) -> Option<Found> {
    match state_of(source, places) {
        FetchState::Whole(found) => Some(found),
        FetchState::Begun { .. } | FetchState::Absent => None,
    }
}

/// How much of `source` is there.
pub fn state_of(source: &Source, places: &Places) -> FetchState {
    let store = Store::of(source, places);
    // A lock file that cannot be read says nothing here; the next fetch complains about it.
    let lock = LockFile::read(&store.lock_file()).ok().flatten();
    let cached = cached_folders(source, places);
    let bare = |folders: &[PathBuf]| {
        let folder = folders.iter().find(|folder| holds(folder, source))?.clone();
        Some(FetchState::Whole(Found { folder, revision: None, lock: None }))
    };
    // Where nothing is recorded, the newer library's folders go first.
    let newer = if lock.is_none() { [cached.newest, cached.named].concat() } else { Vec::new() };
    bare(&newer)
        .or_else(|| recorded(source, &store, lock.as_ref()))
        .or_else(|| bare(&cached.older))
        .or_else(|| under_former_name(source, places))
        .unwrap_or_else(|| match lock {
            Some(lock) => {
                let files = files_below(&store.root(&lock.revision));
                FetchState::Begun { missing: missing(&lock, &files) }
            }
            None => FetchState::Absent,
        })
}

/// What the Python libraries fetched from Hugging Face when the repository had another name.
fn under_former_name(source: &Source, places: &Places) -> Option<FetchState> {
    let names = (source.host == Host::HuggingFace).then_some(source.former_names);
    let mut names = names.into_iter().flatten();
    names.find_map(|name| recorded(source, &Store::hub(name, places), None))
}

/// What is whole in the store, by its record where there is one.
fn recorded(source: &Source, store: &Store, lock: Option<&LockFile>) -> Option<FetchState> {
    for revision in revisions(source, store, lock) {
        let folder = store.root(&revision);
        let files = files_below(&folder);
        if !is_whole(&files, source) {
            continue;
        }
        let lock = lock.filter(|lock| lock.revision == revision);
        if lock.is_some_and(|lock| !missing(lock, &files).is_empty()) {
            continue;
        }
        let tells_commit = matches!(store, Store::Hub { .. }) || lock.is_some();
        let revision = tells_commit.then_some(revision);
        return Some(FetchState::Whole(Found { folder, revision, lock: lock.cloned() }));
    }
    None
}

/// Files of the record that are not there, or have another length.
fn missing(lock: &LockFile, files: &BTreeMap<String, u64>) -> Vec<String> {
    let absent = lock.files.iter().filter(|(path, file)| {
        files.get(*path).is_none_or(|length| file.size.is_some_and(|size| size != *length))
    });
    absent.map(|(path, _)| path.clone()).collect()
}

/// The commits that may be there, the best known first.
fn revisions(source: &Source, store: &Store, lock: Option<&LockFile>) -> Vec<String> {
    let mut found: Vec<String> = source.revision.map(str::to_owned).into_iter().collect();
    found.extend(lock.map(|lock| lock.revision.clone()));
    if let Store::Hub { repository, .. } = store {
        found.extend(newest_in(repository, source.host));
        found.extend(snapshots_in(repository));
    } else {
        found.push(source.host.newest().to_owned());
    }
    let mut seen = BTreeSet::new();
    found.retain(|revision| {
        matches!(FileDigest::from_hex(revision), Some(FileDigest::GitBlob(_)))
            || revision == source.host.newest()
    });
    found.retain(|revision| seen.insert(revision.clone()));
    found
}

/// The revision that Hugging Face's cache knows as the newest of a repository.
fn newest_in(repository: &Path, host: Host) -> Option<String> {
    let newest = repository.join("refs").join(host.newest());
    std::fs::read_to_string(newest).ok().map(|text| text.trim().to_owned())
}

/// The revisions in Hugging Face's cache of a repository, in order.
fn snapshots_in(repository: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(repository.join("snapshots"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// The folders of the repository `owner/name` in Hugging Face's cache that may be meant: the newest revision, else, got
/// at named revisions, all that are there.
pub fn in_hub_cache(repository: &str, places: &Places) -> Vec<PathBuf> {
    let store = Store::hub(repository, places);
    let newest = newest_in(store.base(), Host::HuggingFace);
    let revisions = newest.map_or_else(|| snapshots_in(store.base()), |newest| vec![newest]);
    let folders = revisions.iter().map(|revision| store.root(revision));
    folders.filter(|folder| folder.is_dir()).collect()
}

/// Reads every file of the record again. What is wrong, by path; files without a digest are not read.
///
/// # Errors
/// A file cannot be read.
pub fn verify(
    found: &Found,
    each: &mut dyn FnMut(&str),
) -> Result<BTreeMap<String, String>, FetchError> {
    let mut wrong = BTreeMap::new();
    let known: BTreeMap<String, FileDigest> = match &found.lock {
        Some(lock) => {
            let files = lock.files.iter();
            files.filter_map(|(path, file)| Some((path.clone(), file.digest.clone()?))).collect()
        }
        None => blob_names(&found.folder),
    };
    for (path, digest) in known {
        each(&path);
        let file = found.folder.join(&path);
        let now = digest.of_same_kind(&file).map_err(FetchError::disk("read", &file))?;
        if now != digest {
            wrong.insert(path, format!("is {now} where {digest} is due"));
        }
    }
    Ok(wrong)
}

/// The digests that Hugging Face's cache names its blobs by.
fn blob_names(folder: &Path) -> BTreeMap<String, FileDigest> {
    let names = files_below(folder).into_keys();
    let named = names.filter_map(|path| {
        let target = std::fs::read_link(folder.join(&path)).ok()?;
        Some((path, FileDigest::from_hex(target.file_name()?.to_str()?)?))
    });
    named.collect()
}
