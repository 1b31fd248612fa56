//! In: a repository of the catalog. Out: its files in their places, each checked, and the lock file beside
//! them. What is there already is not got again, and where all of it is there, nobody is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::catalog::{Host, Source};
use super::client::{Client, RequestErrorKind, Timeouts};
use super::digest::FileDigest;
use super::fetch_error::FetchError;
use super::file_rules::{Precision, select};
use super::listing::{Listing, RemoteFile};
use super::lock_file::{LockFile, LockedFile, Witness};
use super::observer::FetchObserver;
use super::places::Places;
use super::server_fault::ServerFault;
use super::store::Store;
use super::transfer::{Job, Retry, RetryPolicy, Transfer, permanent_error};
use super::{dpg_bench, hugging_face, model_scope};
use crate::machine::free_space;
use crate::results::FORMAT_VERSION;

/// How to fetch.
#[derive(Debug, Clone, Copy)]
pub struct FetchOptions {
    /// Which weights, where there are two kinds.
    pub precision: Precision,
    /// Whether to take the newest commit anew where the catalog names none.
    pub update: bool,
    /// Whether to hold what is here against its digests, and get again what is damaged.
    pub verify: bool,
    /// Files at a time.
    pub parallel: usize,
    /// Failures without progress after which a file is given up.
    pub failures: u32,
    /// The wait after the first failure; it doubles.
    pub first_wait: Duration,
    /// For a connection and the head of a reply.
    pub head_wait: Duration,
    /// For the next bytes of a body.
    pub read_wait: Duration,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            precision: Precision::Full,
            update: false,
            verify: false,
            parallel: 4,
            failures: 6,
            first_wait: Duration::from_secs(1),
            head_wait: Duration::from_secs(30),
            read_wait: Duration::from_secs(60),
        }
    }
}

/// What a fetch came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The folder with the files, for a loader.
    pub folder: PathBuf,
    /// What is recorded beside them.
    pub lock: LockFile,
    /// Files that came now.
    pub came: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// A file that is wanted, with what is known of it.
struct Wanted {
    remote: RemoteFile,
    witness: Witness,
}

/// Fetches a repository of the catalog.
///
/// # Errors
/// See [`FetchError`]. Whatever came before stays, and the next call goes on from there.
pub fn fetch(
    source: &Source,
    places: &Places,
    options: &FetchOptions,
    observer: &dyn FetchObserver,
) -> Result<Fetched, FetchError> {
    let store = Store::of(source, places);
    let lock = LockFile::read(&store.lock_file())?;
    // A lock of another commit than the catalog's is of an older program.
    let lock = lock.filter(|lock| {
        !options.update && source.revision.is_none_or(|pinned| pinned == lock.revision)
    });
    if let Some(lock) = &lock
        && lock.has(options.precision)
        && lock.files.iter().all(|(path, file)| here(&store, &lock.revision, path, file, options))
    {
        let folder = store.root(&lock.revision);
        return Ok(Fetched { folder, lock: lock.clone(), came: 0, bytes: 0 });
    }
    let patience = Timeouts { head: options.head_wait, read: options.read_wait };
    let client = Client::new(patience, options.parallel);
    let stop = AtomicBool::new(false);
    let persistence = RetryPolicy { failures: options.failures, first_wait: options.first_wait };
    let transfer = Transfer { client: &client, persistence, observer, stop: &stop };
    let listing = listing(source, places, lock.as_ref(), &transfer)?;
    let wanted = wanted(source, &listing, lock.as_ref(), options.precision, &store)?;
    let mut record = record(source, &listing, lock, &wanted, options.precision);
    // From here on an interrupted fetch goes on at the same commit.
    record.write(&store.lock_file())?;
    let outcome = get(source, places, options, &store, &wanted, &mut record, &transfer);
    observer.finished();
    let (came, bytes) = outcome?;
    record.write(&store.lock_file())?;
    if source.revision.is_none() {
        store.note_ref(source.host.newest(), &record.revision)?;
    }
    Ok(Fetched { folder: store.root(&record.revision), lock: record, came, bytes })
}

/// Whether a file of the record is in its place.
fn here(
    store: &Store,
    revision: &str,
    path: &str,
    file: &LockedFile,
    options: &FetchOptions,
) -> bool {
    let shown = store.root(revision).join(path);
    let length = std::fs::metadata(&shown).map(|about| about.len());
    let Ok(length) = length else { return false };
    let sound = |digest: &FileDigest| {
        !options.verify || digest.of_same_kind(&shown).is_ok_and(|found| found == *digest)
    };
    file.size.is_none_or(|size| size == length) && file.digest.as_ref().is_some_and(sound)
}

fn page(source: &Source, places: &Places) -> String {
    match source.host {
        Host::HuggingFace => hugging_face::page(&places.hub, source.repository),
        Host::ModelScope => model_scope::page(&places.model_scope, source.repository),
        Host::GitHub => places.github_raw.at(source.repository),
    }
}

/// What the publisher states, of the commit that is due.
fn listing(
    source: &Source,
    places: &Places,
    lock: Option<&LockFile>,
    transfer: &Transfer<'_>,
) -> Result<Listing, FetchError> {
    let repository = source.repository;
    let locked = lock.map(|lock| lock.revision.as_str());
    let revision = source.revision.or(locked).unwrap_or(source.host.newest());
    let url = match source.host {
        Host::GitHub => return Ok(dpg_bench::listing(&places.github_raw)),
        Host::HuggingFace => hugging_face::list_url(&places.hub, repository, revision),
        Host::ModelScope => model_scope::list_url(&places.model_scope, repository, revision),
    };
    let mut retry = Retry::new(transfer.persistence, transfer.stop, transfer.observer);
    let list = loop {
        match transfer.client.json(&url, places.token(source.host)) {
            Ok(list) => break list,
            Err(trouble) => match trouble.kind {
                RequestErrorKind::Transient(asked) => {
                    retry.wait((repository, "the list of files"), trouble.reason, asked)?;
                }
                _ => {
                    let error = permanent_error(trouble, repository, &page(source, places));
                    return Err(of_pinned(error, source.revision));
                }
            },
        }
    };
    let answer = |reason| FetchError::Answer { what: repository.to_owned(), reason };
    let listing = match source.host {
        Host::ModelScope => model_scope::read(&places.model_scope, repository, revision, &list),
        _ => hugging_face::read(&places.hub, repository, &list),
    };
    let listing = listing.map_err(answer)?;
    if revision != source.host.newest() && listing.revision != revision {
        let (listed, asked) = (listing.revision, revision.to_owned());
        return Err(answer(ServerFault::ListOfOtherCommit { listed, asked }));
    }
    Ok(listing)
}

/// Notes the commit of the catalog that the publisher does not have.
fn of_pinned(mut error: FetchError, commit: Option<&str>) -> FetchError {
    if let FetchError::NotFound { pinned, .. } = &mut error {
        *pinned = commit.map(str::to_owned);
    }
    error
}

/// The files to have, with the digests that the catalog, an earlier fetch or the publisher states.
fn wanted(
    source: &Source,
    listing: &Listing,
    lock: Option<&LockFile>,
    precision: Precision,
    store: &Store,
) -> Result<Vec<Wanted>, FetchError> {
    let names = match source.host {
        Host::GitHub => listing.names().into_iter().map(str::to_owned).collect(),
        _ => select(source.rules, &listing.names(), precision).map_err(|missing| {
            FetchError::NotFound {
                what: format!("{} at {}", source.repository, listing.revision),
                reason: ServerFault::ListLacks(missing),
                pinned: None,
            }
        })?,
    };
    let mut wanted = Vec::new();
    for remote in listing.files.iter().filter(|file| names.contains(&file.path)) {
        let what = || format!("{} {}", source.repository, remote.path);
        let mut remote_file = remote.clone();
        let pin = source.pins.iter().find(|(path, _)| *path == remote.path);
        let pin = pin.and_then(|(_, hex)| FileDigest::from_hex(hex));
        if let (Some(pin), Some(stated)) = (&pin, &remote.digest)
            && pin != stated
        {
            return Err(FetchError::Changed {
                what: what(),
                now: stated.to_string(),
                source_of_before: "this program".to_owned(),
                before: pin.to_string(),
                advice: "it is not fetched: that is not the file that others have under this name; who \
                         trusts it gets it with the publisher's own tool, whose cache is looked at \
                         as well, or names its folder with a flag",
            });
        }
        let locked = lock.and_then(|lock| lock.files.get(&remote.path));
        let before = locked.and_then(|file| file.digest.as_ref());
        if let (Some(before), Some(stated)) = (before, &remote.digest)
            && before != stated
        {
            return Err(FetchError::Changed {
                what: what(),
                now: stated.to_string(),
                source_of_before: store.lock_file().display().to_string(),
                before: before.to_string(),
                advice: "--update takes what is published now",
            });
        }
        let witness = match (&pin, &remote.digest, locked) {
            (Some(_), ..) => Witness::Program,
            (None, Some(_), _) if source.host == Host::GitHub => Witness::Program,
            (None, Some(_), _) => Witness::Publisher,
            (None, None, Some(locked)) => locked.witness,
            (None, None, None) => Witness::FirstFetch,
        };
        remote_file.digest = pin.or(remote_file.digest).or_else(|| before.cloned());
        // Its cache names files by their digests.
        if source.host == Host::HuggingFace
            && (remote_file.digest.is_none() || remote_file.size.is_none())
        {
            let reason = ServerFault::ListWithoutDigest;
            return Err(FetchError::Answer { what: what(), reason });
        }
        wanted.push(Wanted { remote: remote_file, witness });
    }
    Ok(wanted)
}

/// The lock file as it will be; files of an earlier fetch of the same commit stay in it.
fn record(
    source: &Source,
    listing: &Listing,
    lock: Option<LockFile>,
    wanted: &[Wanted],
    precision: Precision,
) -> LockFile {
    let before = lock.filter(|lock| lock.revision == listing.revision);
    let (full, half) = before.as_ref().map_or((false, false), |lock| (lock.full, lock.half));
    let mut files = before.map_or_else(BTreeMap::new, |lock| lock.files);
    for Wanted { remote, witness } in wanted {
        let (size, digest) = (remote.size, remote.digest.clone());
        files.insert(remote.path.clone(), LockedFile { size, digest, witness: *witness });
    }
    LockFile {
        format_version: FORMAT_VERSION,
        host: source.host.name().to_owned(),
        repository: source.repository.to_owned(),
        revision: listing.revision.clone(),
        revision_is_pinned: source.revision.is_some(),
        licence: match &listing.licence {
            Some(stated) => stated.clone(),
            None => source.licence.to_owned(),
        },
        full: full || precision == Precision::Full,
        half: half || precision == Precision::Half,
        files,
    }
}

/// Gets what is not here. The number of files and bytes that came.
fn get(
    source: &Source,
    places: &Places,
    options: &FetchOptions,
    store: &Store,
    wanted: &[Wanted],
    record: &mut LockFile,
    transfer: &Transfer<'_>,
) -> Result<(usize, u64), FetchError> {
    let revision = record.revision.clone();
    let mut missing = Vec::new();
    let mut digests_due = BTreeSet::new();
    for Wanted { remote, .. } in wanted {
        let kept = store.kept(&remote.path, remote.digest.as_ref());
        let length = std::fs::metadata(&kept).map(|about| about.len());
        let fits = length.is_ok_and(|length| remote.size.is_none_or(|size| size == length));
        // The length alone says little of a file that others may have written under its own name.
        let check = options.verify || matches!(store, Store::Folder(_));
        let sound = |digest: &FileDigest| {
            !check || digest.of_same_kind(&kept).is_ok_and(|found| found == *digest)
        };
        if fits && remote.digest.as_ref().is_some_and(sound) {
            continue;
        }
        if remote.digest.is_none() {
            digests_due.insert(remote.path.clone());
        }
        missing.push(remote);
    }
    let to_come = |remote: &&RemoteFile| {
        let partial = store.partial(&remote.path, remote.digest.as_ref());
        let have = std::fs::metadata(partial).map_or(0, |about| about.len());
        remote.size.unwrap_or(0).saturating_sub(have)
    };
    let bytes: u64 = missing.iter().map(to_come).sum();
    if let Ok(free) = free_space(store.base())
        && bytes > free
    {
        let (folder, elsewhere) = (store.base().to_owned(), source.host.elsewhere());
        return Err(FetchError::NoSpace { folder, needed: bytes, free, elsewhere });
    }
    transfer.observer.planned(source.repository, &record.licence, missing.len(), bytes);
    let page = page(source, places);
    let commit = (source.host == Host::HuggingFace).then_some(revision.as_str());
    let (last, mut first): (Vec<&RemoteFile>, Vec<&RemoteFile>) =
        missing.iter().partition(|remote| remote.last);
    first.sort_by_key(|remote| std::cmp::Reverse(remote.size));
    for phase in [first, last] {
        let jobs: Vec<Job<'_>> = phase
            .iter()
            .map(|remote| Job {
                what: format!("{} {}", source.repository, remote.path),
                file: remote.path.clone(),
                url: remote.url.clone(),
                token: places.token(source.host),
                page: page.clone(),
                partial: store.partial(&remote.path, remote.digest.as_ref()),
                kept: store.kept(&remote.path, remote.digest.as_ref()),
                size: remote.size,
                digest: remote.digest.clone(),
                lock: store.lock_of(remote.digest.as_ref()),
                commit,
            })
            .collect();
        let digests = transfer.all(&jobs, options.parallel)?;
        for (job, digest) in jobs.iter().zip(digests) {
            if digests_due.contains(&job.file)
                && let Some(file) = record.files.get_mut(&job.file)
            {
                file.digest = Some(digest);
            }
        }
    }
    for Wanted { remote, .. } in wanted {
        store.show(&revision, &remote.path, remote.digest.as_ref())?;
    }
    Ok((missing.len(), bytes))
}
