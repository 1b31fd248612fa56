//! In: files to get, with what is known of each. Out: the files in their places, whole and checked. A part
//! that is here already is gone on with; what a kill, a cut or a full disk leaves is such a part.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::client::{Client, Reply, Request, RequestError, RequestErrorKind, header};
use super::digest::FileDigest;
use super::fetch_error::FetchError;
use super::observer::FetchObserver;
use super::server_fault::ServerFault;
use crate::http::{ApiKey, TransportFault, transport_fault};
use crate::results::atomic_write::sync_folder;

/// Bytes that make a try count as progress, so that failures are counted anew.
const PROGRESS: u64 = 64 << 10;
/// The waits between tries grow up to this.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// No single wait is longer, whatever the server asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// How often a wait looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// One file to get.
#[derive(Debug, Clone)]
pub(super) struct Job<'a> {
    /// `owner/name path`, for messages.
    pub what: String,
    /// Path in the repository, for the observer.
    pub file: String,
    /// Where it comes from.
    pub url: String,
    /// The token for that server.
    pub token: Option<&'a ApiKey>,
    /// Page of the repository, where access is asked for.
    pub page: String,
    /// Where the part of it lies until it is whole.
    pub partial: PathBuf,
    /// Where it goes.
    pub kept: PathBuf,
    /// Its length, where the publisher states it.
    pub size: Option<u64>,
    /// Its digest, where it is known.
    pub digest: Option<FileDigest>,
    /// The lock under which it is got, shared with huggingface_hub.
    pub lock: Option<PathBuf>,
    /// The commit that the server must name, if it names one.
    pub commit: Option<&'a str>,
}

/// When to give up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RetryPolicy {
    /// Failures without progress between them.
    pub failures: u32,
    /// The wait after the first; it doubles.
    pub first_wait: Duration,
}

/// Counts failures and waits between them.
pub(super) struct Retry<'a> {
    persistence: RetryPolicy,
    failed: u32,
    stop: &'a AtomicBool,
    observer: &'a dyn FetchObserver,
}

impl<'a> Retry<'a> {
    /// Nothing has failed yet.
    pub(super) fn new(
        persistence: RetryPolicy,
        stop: &'a AtomicBool,
        observer: &'a dyn FetchObserver,
    ) -> Self {
        Self { persistence, failed: 0, stop, observer }
    }

    /// Waits before the next try.
    ///
    /// # Errors
    /// It failed often enough, or another file stopped the fetch.
    pub(super) fn wait(
        &mut self,
        (what, file): (&str, &str),
        reason: ServerFault,
        asked: Option<Duration>,
    ) -> Result<(), FetchError> {
        self.failed += 1;
        if self.failed >= self.persistence.failures.max(1) {
            return Err(FetchError::GaveUp {
                what: what.to_owned(),
                reason,
                failures: self.failed,
            });
        }
        let doubled = self.persistence.first_wait * 2_u32.saturating_pow(self.failed.min(20) - 1);
        let wait = asked.map_or(doubled.min(LONGEST_BACKOFF), |asked| asked.min(LONGEST_WAIT));
        self.observer.waiting(file, &reason.to_string(), wait);
        let until = Instant::now() + wait;
        while Instant::now() < until {
            check_stop(self.stop)?;
            std::thread::sleep(LOOK.min(until.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }
}

/// What a try came to.
enum Pass {
    Whole,
    Again { reason: ServerFault, asked: Option<Duration>, progressed: bool },
}

impl Pass {
    fn again(reason: ServerFault) -> Self {
        Self::Again { reason, asked: None, progressed: false }
    }
}

/// What all files of a fetch share.
pub(crate) struct Transfer<'a> {
    /// The connections.
    pub client: &'a Client,
    /// When to give up.
    pub persistence: RetryPolicy,
    /// Who is told.
    pub observer: &'a dyn FetchObserver,
    /// Set where one file failed, so that the others stop too; what they have stays.
    pub stop: &'a AtomicBool,
}

impl Transfer<'_> {
    /// Gets `jobs`, up to `parallel` at a time. Their digests, in order.
    ///
    /// # Errors
    /// The first that failed for good. The others keep what they have.
    pub(super) fn all(
        &self,
        jobs: &[Job<'_>],
        parallel: usize,
    ) -> Result<Vec<FileDigest>, FetchError> {
        let next = AtomicUsize::new(0);
        let digests = Mutex::new(vec![None; jobs.len()]);
        let failure = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..parallel.clamp(1, jobs.len().max(1)) {
                scope.spawn(|| {
                    while let Some((index, job)) = {
                        let index = next.fetch_add(1, Ordering::SeqCst);
                        jobs.get(index).map(|job| (index, job))
                    } {
                        match self.one(job) {
                            Ok(digest) => {
                                let mut digests =
                                    digests.lock().unwrap_or_else(PoisonError::into_inner);
                                digests[index] = Some(digest);
                            }
                            Err(error) => {
                                self.stop.store(true, Ordering::SeqCst);
                                let mut failure =
                                    failure.lock().unwrap_or_else(PoisonError::into_inner);
                                if !matches!(error, FetchError::Stopped) || failure.is_none() {
                                    failure.get_or_insert(error);
                                }
                                return;
                            }
                        }
                    }
                });
            }
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => {
                let digests = digests.into_inner().unwrap_or_else(PoisonError::into_inner);
                Ok(digests.into_iter().flatten().collect())
            }
        }
    }

    fn one(&self, job: &Job<'_>) -> Result<FileDigest, FetchError> {
        check_stop(self.stop)?;
        for path in [&job.partial, &job.kept].into_iter().chain(&job.lock) {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).map_err(FetchError::disk("make", folder))?;
            }
        }
        let _lock = self.locked(job)?;
        // Another process may have got it while this one waited for the lock.
        let length = std::fs::metadata(&job.kept).map(|about| about.len());
        if let (Ok(length), Some(digest)) = (length, &job.digest)
            && job.size.is_none_or(|size| size == length)
            && digest.of_same_kind(&job.kept).is_ok_and(|found| found == *digest)
        {
            self.observer.done(&job.file);
            return Ok(digest.clone());
        }
        let mut wrong = 0;
        loop {
            self.until_whole(job)?;
            match checked(job)? {
                Ok(digest) => {
                    put_in_place(job)?;
                    self.observer.done(&job.file);
                    return Ok(digest);
                }
                // The part that was here before may have been to blame, or a proxy on the way.
                Err(found) => {
                    discard(job)?;
                    wrong += 1;
                    if wrong == 2 {
                        let expected = job.digest.as_ref().map(ToString::to_string);
                        return Err(FetchError::WrongBytes {
                            what: job.what.clone(),
                            expected: expected.unwrap_or_default(),
                            found: found.to_string(),
                        });
                    }
                    let reason = "what came is not what was promised; it is got again, whole";
                    self.observer.waiting(&job.file, reason, Duration::ZERO);
                }
            }
        }
    }

    /// The lock of the file, for as long as the result lives; `None` where the file system has no locks.
    fn locked(&self, job: &Job<'_>) -> Result<Option<File>, FetchError> {
        let Some(path) = &job.lock else { return Ok(None) };
        let file = File::create(path).map_err(FetchError::disk("open", path))?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::Error(_)) => return Ok(None),
                Err(TryLockError::WouldBlock) => {
                    if !std::mem::replace(&mut told, true) {
                        let reason = "another process is getting this file";
                        self.observer.waiting(&job.file, reason, Duration::ZERO);
                    }
                    check_stop(self.stop)?;
                    std::thread::sleep(LOOK);
                }
            }
        }
    }

    /// Tries until all bytes are in the partial file.
    fn until_whole(&self, job: &Job<'_>) -> Result<(), FetchError> {
        let mut retry = Retry::new(self.persistence, self.stop, self.observer);
        loop {
            match self.pass(job)? {
                Pass::Whole => return Ok(()),
                Pass::Again { reason, asked, progressed } => {
                    if progressed {
                        retry.failed = 0;
                    }
                    retry.wait((&job.what, &job.file), reason, asked)?;
                }
            }
        }
    }

    /// One try, from where the partial file ends.
    fn pass(&self, job: &Job<'_>) -> Result<Pass, FetchError> {
        let path = &job.partial;
        let mut options = OpenOptions::new();
        let open = options.read(true).write(true).create(true).truncate(false);
        let mut file = open.open(path).map_err(FetchError::disk("open", path))?;
        let mut have = file.metadata().map_err(FetchError::disk("read", path))?.len();
        if job.size.is_some_and(|size| have > size) {
            start_over(&file, job)?;
            have = 0;
        }
        if job.size == Some(have) {
            return Ok(Pass::Whole);
        }
        let tag = if have > 0 { read_tag(job) } else { None };
        let request = Request {
            url: &job.url,
            token: job.token,
            from: (have > 0).then_some((have, tag.as_deref())),
        };
        let mut reply = match self.client.get(request) {
            Ok(reply) => reply,
            Err(RequestError { kind: RequestErrorKind::NoSuchRange, reason }) => {
                start_over(&file, job)?;
                return Ok(Pass::again(reason));
            }
            Err(RequestError { kind: RequestErrorKind::Transient(asked), reason }) => {
                return Ok(Pass::Again { reason, asked, progressed: false });
            }
            Err(trouble) => return Err(permanent_error(trouble, &job.what, &job.page)),
        };
        if let Some(reason) = contradiction(&reply, job) {
            return Ok(Pass::again(reason));
        }
        if reply.status == 206 {
            if let Some(reason) = misfit(&reply, have, tag.as_deref(), job.size) {
                start_over(&file, job)?;
                return Ok(Pass::again(reason));
            }
        } else {
            if have > 0 {
                start_over(&file, job)?;
                have = 0;
            }
            let length =
                header(&reply.headers, "content-length").and_then(|text| text.parse().ok());
            if let (Some(sent), Some(stated)) = (length, job.size)
                && sent != stated
            {
                return Ok(Pass::again(ServerFault::OtherLength { sent, stated }));
            }
        }
        if have == 0 {
            write_tag(job, header(&reply.headers, "etag"))?;
        }
        self.take(job, &mut file, have, &mut reply)
    }

    /// Writes the body behind the `have` bytes that are there.
    fn take(
        &self,
        job: &Job<'_>,
        file: &mut File,
        mut have: u64,
        reply: &mut Reply,
    ) -> Result<Pass, FetchError> {
        let path = &job.partial;
        file.seek(SeekFrom::Start(have)).map_err(FetchError::disk("write", path))?;
        let start = have;
        let mut body = reply.body.as_reader();
        let mut buffer = vec![0; 256 << 10];
        let reason = loop {
            self.observer.position(&job.file, have, job.size);
            check_stop(self.stop)?;
            match body.read(&mut buffer) {
                Ok(0) => break ServerFault::ClosedEarly,
                Ok(count) => {
                    have += count as u64;
                    if job.size.is_some_and(|size| have > size) {
                        start_over(file, job)?;
                        return Ok(Pass::again(ServerFault::TooManyBytes));
                    }
                    file.write_all(&buffer[..count]).map_err(FetchError::disk("write", path))?;
                }
                Err(error) => {
                    break match transport_fault(&ureq::Error::from(error)) {
                        TransportFault::Unreachable(_) => ServerFault::ConnectionBroke,
                        fault => ServerFault::Transport(fault),
                    };
                }
            }
            if job.size == Some(have) {
                return Ok(Pass::Whole);
            }
        };
        // Without a stated length the end of the body is the end of the file, if it ended in order.
        if job.size.is_none() && reason == ServerFault::ClosedEarly {
            return Ok(Pass::Whole);
        }
        Ok(Pass::Again { reason, asked: None, progressed: have - start >= PROGRESS })
    }
}

fn check_stop(stop: &AtomicBool) -> Result<(), FetchError> {
    if stop.load(Ordering::SeqCst) { Err(FetchError::Stopped) } else { Ok(()) }
}

/// A fault that no further try mends; `page` is where access is asked for.
pub(crate) fn permanent_error(trouble: RequestError, what: &str, page: &str) -> FetchError {
    let what = what.to_owned();
    let reason = trouble.reason;
    match trouble.kind {
        RequestErrorKind::Refused(status) => {
            FetchError::Refused { what, status, reason, page: page.to_owned() }
        }
        RequestErrorKind::NotFound => FetchError::NotFound { what, reason, pinned: None },
        _ => FetchError::Answer { what, reason },
    }
}

/// What the first server says of the file against what is known of it.
fn contradiction(reply: &Reply, job: &Job<'_>) -> Option<ServerFault> {
    let stated = header(&reply.first_headers, "x-repo-commit");
    if let (Some(stated), Some(commit)) = (stated, job.commit)
        && stated != commit
    {
        let (found, asked) = (stated.to_owned(), commit.to_owned());
        return Some(ServerFault::OtherCommit { found, asked });
    }
    let linked = header(&reply.first_headers, "x-linked-etag")?;
    let linked = FileDigest::from_hex(linked.trim_start_matches("W/").trim_matches('"'))?;
    let same_kind = |known: &&FileDigest| {
        std::mem::discriminant(*known) == std::mem::discriminant(&linked) && **known != linked
    };
    let known = job.digest.as_ref().filter(same_kind)?;
    Some(ServerFault::OtherDigest { announced: linked, due: known.clone() })
}

/// Why a part that the server sends does not go behind the `have` bytes that are here.
fn misfit(reply: &Reply, have: u64, tag: Option<&str>, size: Option<u64>) -> Option<ServerFault> {
    let range = header(&reply.headers, "content-range").and_then(|text| {
        let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
        let start: u64 = range.split_once('-')?.0.trim().parse().ok()?;
        Some((start, total.trim().parse::<u64>().ok()))
    });
    let Some((start, total)) = range else {
        return Some(ServerFault::NoRange);
    };
    if start != have {
        return Some(ServerFault::OtherRange { start, asked: have });
    }
    if let (Some(total), Some(stated)) = (total, size)
        && total != stated
    {
        return Some(ServerFault::OtherTotal { total, stated });
    }
    let now = header(&reply.headers, "etag");
    (tag.is_some() && now.is_some() && tag != now).then_some(ServerFault::FileChanged)
}

/// The digest of the partial file, if it is the right one, else what it is instead.
fn checked(job: &Job<'_>) -> Result<Result<FileDigest, FileDigest>, FetchError> {
    let read = FetchError::disk("read", &job.partial);
    match &job.digest {
        None => FileDigest::sha256_of(&job.partial).map(Ok).map_err(read),
        Some(known) => {
            let found = known.of_same_kind(&job.partial).map_err(read)?;
            Ok(if found == *known { Ok(found) } else { Err(found) })
        }
    }
}

fn put_in_place(job: &Job<'_>) -> Result<(), FetchError> {
    let file = File::open(&job.partial).map_err(FetchError::disk("open", &job.partial))?;
    file.sync_all().map_err(FetchError::disk("write", &job.partial))?;
    std::fs::rename(&job.partial, &job.kept).map_err(FetchError::disk("write", &job.kept))?;
    remove(&tag_file(job))?;
    let folder = job.kept.parent().unwrap_or(Path::new("."));
    sync_folder(folder).map_err(FetchError::disk("write", folder))
}

fn discard(job: &Job<'_>) -> Result<(), FetchError> {
    remove(&job.partial)?;
    remove(&tag_file(job))
}

fn start_over(file: &File, job: &Job<'_>) -> Result<(), FetchError> {
    file.set_len(0).map_err(FetchError::disk("write", &job.partial))?;
    remove(&tag_file(job))
}

fn remove(path: &Path) -> Result<(), FetchError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(FetchError::disk("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Holds the entity tag under which the partial file came.
fn tag_file(job: &Job<'_>) -> PathBuf {
    let mut name = job.partial.clone().into_os_string();
    name.push(".etag");
    name.into()
}

fn read_tag(job: &Job<'_>) -> Option<String> {
    let tag = std::fs::read_to_string(tag_file(job)).ok()?;
    // It goes into a request header.
    (!tag.is_empty() && tag.bytes().all(|byte| byte.is_ascii_graphic())).then_some(tag)
}

fn write_tag(job: &Job<'_>, tag: Option<&str>) -> Result<(), FetchError> {
    let path = tag_file(job);
    match tag {
        None => remove(&path),
        Some(tag) => std::fs::write(&path, tag).map_err(FetchError::disk("write", &path)),
    }
}
