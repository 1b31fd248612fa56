//! In: a run directory that a process is about to write. Out: the right to do so, held until dropped, or
//! who holds it. Reading needs no lock.
//!
//! `lock.json` says who writes. The operating system's own lock on that file tells at once whether its
//! owner lives, as far as that lock reaches: to this machine always, to others where the file system passes
//! locks on. Where it does not, the owner's heart beat does: a number in the file that grows.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::atomic_write::name_path;
use super::inside::inside;
use super::manifest::{Tool, now};
use super::{FORMAT_VERSION, FormatVersion};

/// The lock's file in a run directory.
const FILE: &str = "lock.json";
/// Time from one beat to the next.
const BEAT: Duration = Duration::from_secs(10);
/// After so many beats left out an owner on another machine is taken for dead.
const BEATS_TO_DEATH: u32 = 3;
/// Another process may hold the lock for a moment only to look.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time between two tries.
const RETRY: Duration = Duration::from_millis(50);

/// Who writes a run directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Version of the file.
    pub format_version: FormatVersion,
    /// E.g. `dpg-bench 0.1.0`.
    pub program: String,
    /// What it does, e.g. `run`.
    pub work: String,
    /// Its process number.
    pub process: u32,
    /// Its machine's name.
    pub host: String,
    /// Names its machine's kernel since the last start, where that can be told.
    pub boot: Option<String>,
    /// When it began (RFC 3339, UTC).
    pub started: String,
    /// Grows as long as it lives.
    pub beat: u64,
}

impl Owner {
    fn this(work: &str) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            program: Tool::current().version,
            work: work.to_owned(),
            process: std::process::id(),
            host: host(),
            boot: boot(),
            started: now(),
            beat: 0,
        }
    }

    /// Whether the operating system here would know of its lock.
    fn is_on_this_machine(&self) -> bool {
        match (&self.boot, boot()) {
            (Some(theirs), Some(own)) => *theirs == own,
            _ => self.host == host(),
        }
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { work, process, host, started, .. } = self;
        write!(f, "`dpg-bench {work}`, process {process} on {host}, since {started}")
    }
}

/// Why a run directory may not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The disk said no; the message names the path.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Somebody else writes it.
    #[error(
        "{} is in use by {}; wait until it is done, or stop it and give the same command again",
        folder.display(),
        owner.as_ref().map_or_else(|| "another process".to_owned(), |owner| owner.to_string())
    )]
    Held {
        /// The run directory.
        folder: PathBuf,
        /// Who, where its file can be read.
        owner: Option<Box<Owner>>,
    },
}

/// The right to write a run directory, until dropped.
#[derive(Debug)]
pub struct RunLock {
    path: PathBuf,
    /// Folder to remove when it is left empty, where it was made for the lock.
    made: Option<PathBuf>,
    /// Open as long as the lock is held: closing it lets go.
    _file: File,
    heart: Heart,
}

impl RunLock {
    /// Takes the run directory `folder`, making it where there is none. `work` says what for, for others
    /// to read. An owner that is dead is no obstacle; whether one on another machine is may take half a
    /// minute to tell.
    ///
    /// # Errors
    /// Somebody else holds it, or the disk said no.
    pub fn take(folder: &Path, work: &str) -> Result<Self, LockError> {
        Self::take_with(folder, work, PATIENCE, BEAT)
    }

    /// As [`Self::take`], waiting so long for somebody else to let go.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn take_within(
        folder: &Path,
        work: &str,
        patience: Duration,
    ) -> Result<Self, LockError> {
        Self::take_with(folder, work, patience, BEAT)
    }

    fn take_with(
        folder: &Path,
        work: &str,
        patience: Duration,
        beat: Duration,
    ) -> Result<Self, LockError> {
        let path = inside(folder, &[FILE]).map_err(LockError::Io)?;
        let io_error = |error| LockError::Io(name_path(error, "lock", &path));
        let made = (!folder.exists()).then(|| folder.to_owned());
        std::fs::create_dir_all(folder).map_err(io_error)?;
        let deadline = Instant::now() + patience;
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            let mut file = match options.open(&path) {
                Ok(file) => file,
                // Its owner removes file and folder when it lets go of an empty one.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound && Instant::now() < deadline =>
                {
                    std::fs::create_dir_all(folder).map_err(io_error)?;
                    continue;
                }
                Err(error) => return Err(io_error(error)),
            };
            match file.try_lock() {
                // Its owner may have removed the file since it was opened: that lock is nobody's.
                Ok(()) if !is_still(&file, &path) => continue,
                Ok(()) => {
                    let elsewhere = read(&path).filter(|owner| !owner.is_on_this_machine());
                    refuse_living(folder, &path, elsewhere, beat)?;
                    let owner = Owner::this(work);
                    write(&mut file, &owner).map_err(io_error)?;
                    let heart = Heart::start(&file, owner, beat).map_err(io_error)?;
                    return Ok(Self { path, made, _file: file, heart });
                }
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(RETRY);
                }
                Err(TryLockError::WouldBlock) => {
                    let owner = read(&path).map(Box::new);
                    return Err(LockError::Held { folder: folder.to_owned(), owner });
                }
                Err(TryLockError::Error(_)) => {
                    return Self::take_without_system(folder, path, file, work, made, beat);
                }
            }
        }
    }

    /// On file systems that know no locks there is only the heart beat.
    fn take_without_system(
        folder: &Path,
        path: PathBuf,
        mut file: File,
        work: &str,
        made: Option<PathBuf>,
        beat: Duration,
    ) -> Result<Self, LockError> {
        let io_error = |error| LockError::Io(name_path(error, "lock", &path));
        refuse_living(folder, &path, read(&path), beat)?;
        let owner = Owner::this(work);
        write(&mut file, &owner).map_err(io_error)?;
        // Two that came at the same moment have both written; the later one stands there.
        std::thread::sleep(beat / 20);
        match read(&path) {
            Some(there) if there != owner => {
                Err(LockError::Held { folder: folder.to_owned(), owner: Some(Box::new(there)) })
            }
            _ => {
                let heart = Heart::start(&file, owner, beat).map_err(io_error)?;
                Ok(Self { path, made, _file: file, heart })
            }
        }
    }

    /// Who writes `folder` at this moment, as far as this machine can tell.
    pub fn holder(folder: &Path) -> Option<Owner> {
        let path = folder.join(FILE);
        let file = OpenOptions::new().read(true).write(true).open(&path).ok()?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => read(&path),
            _ => None,
        }
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        self.heart.stop();
        // While it is still locked: nobody can have taken it over yet.
        let _ = std::fs::remove_file(&self.path);
        if let Some(folder) = &self.made {
            // Only an empty folder goes.
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// Watches the beat of an owner that the system's lock does not tell of.
fn refuse_living(
    folder: &Path,
    path: &Path,
    owner: Option<Owner>,
    beat: Duration,
) -> Result<(), LockError> {
    let Some(owner) = owner else { return Ok(()) };
    let deadline = Instant::now() + beat * BEATS_TO_DEATH;
    while Instant::now() < deadline {
        std::thread::sleep((beat / 5).min(Duration::from_secs(1)));
        match read(path) {
            // It has let go. What is there but cannot be read is being written.
            None if !path.exists() => return Ok(()),
            Some(there) if there != owner => {
                let owner = Some(Box::new(there));
                return Err(LockError::Held { folder: folder.to_owned(), owner });
            }
            Some(_) | None => {}
        }
    }
    Ok(())
}

/// Opened anew each time: only that makes a network file system look again.
fn read(path: &Path) -> Option<Owner> {
    let mut text = String::new();
    File::open(path).ok()?.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn write(file: &mut File, owner: &Owner) -> io::Result<()> {
    let mut line = serde_json::to_vec(owner)?;
    line.push(b'\n');
    // In one call and never shorter than before: a reader finds the old text or the new.
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&line)?;
    file.set_len(line.len() as u64)?;
    file.sync_data()
}

#[cfg(unix)]
fn is_still(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(own), Ok(there)) => (own.dev(), own.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Elsewhere an open file cannot be removed.
#[cfg(not(unix))]
fn is_still(_: &File, path: &Path) -> bool {
    path.exists()
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .or_else(|| std::env::var("COMPUTERNAME").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "a machine without a name".to_owned())
}

fn boot() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

/// Lets the file's number grow until stopped.
#[derive(Debug)]
struct Heart {
    stopped: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Heart {
    fn start(file: &File, mut owner: Owner, beat: Duration) -> io::Result<Self> {
        let mut file = file.try_clone()?;
        let stopped = Arc::new((Mutex::new(false), Condvar::new()));
        let shared = Arc::clone(&stopped);
        let pump = move || {
            let (is_stopped, woken) = &*shared;
            let mut guard = is_stopped.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            while !*guard {
                let waited = woken.wait_timeout(guard, beat);
                let (next, timeout) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
                guard = next;
                if timeout.timed_out() && !*guard {
                    owner.beat += 1;
                    // A disk that is full now may not be so at the next beat.
                    let _ = write(&mut file, &owner);
                }
            }
        };
        let thread = std::thread::Builder::new().name("heart".to_owned()).spawn(pump)?;
        Ok(Self { stopped, thread: Some(thread) })
    }

    fn stop(&mut self) {
        let (is_stopped, woken) = &*self.stopped;
        *is_stopped.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = true;
        woken.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(20);

    fn take(folder: &Path) -> Result<RunLock, LockError> {
        RunLock::take_with(folder, "run", Duration::ZERO, QUICK)
    }

    fn elsewhere(beat: u64) -> Owner {
        let (host, boot) = ("node7".to_owned(), Some("another kernel".to_owned()));
        Owner { host, boot, process: 12, beat, ..Owner::this("generate") }
    }

    #[test]
    fn the_second_is_told_who_holds_it_and_gets_it_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let held = take(&run).unwrap();
        let error = take(&run).unwrap_err().to_string();
        let process = std::process::id();
        assert!(error.contains(&format!("`dpg-bench run`, process {process} on ")), "{error}");
        assert!(error.contains("run is in use by"), "{error}");
        assert_eq!(RunLock::holder(&run).unwrap().process, process);
        drop(held);
        // Nothing stays behind, not even the folder that was made for it.
        assert!(!run.exists());
        drop(take(&run).unwrap());
        assert_eq!(RunLock::holder(&run), None);
    }

    #[test]
    fn a_folder_with_something_in_it_stays() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let held = take(&run).unwrap();
        std::fs::write(run.join("manifest.json"), "{}").unwrap();
        drop(held);
        assert!(run.join("manifest.json").exists() && !run.join(FILE).exists());
    }

    #[test]
    fn what_a_dead_owner_left_on_this_machine_is_taken_over_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let left =
            Owner { process: 1, ..Owner::this("a work with a name longer than the next one's") };
        std::fs::write(folder.path().join(FILE), serde_json::to_vec(&left).unwrap()).unwrap();
        let held = take(folder.path()).unwrap();
        let there = read(&folder.path().join(FILE)).unwrap();
        assert_eq!((there.work.as_str(), there.process), ("run", std::process::id()));
        drop(held);
        std::fs::write(folder.path().join(FILE), "half a li").unwrap();
        drop(take(folder.path()).unwrap());
    }

    #[test]
    fn an_owner_on_another_machine_is_told_by_its_beat() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let put =
            |beat| std::fs::write(&path, serde_json::to_vec(&elsewhere(beat)).unwrap()).unwrap();
        put(0);
        let is_told = std::sync::atomic::AtomicBool::new(false);
        let order = std::sync::atomic::Ordering::SeqCst;
        let error = std::thread::scope(|scope| {
            scope.spawn(|| {
                for beat in 1.. {
                    if is_told.load(order) {
                        break;
                    }
                    put(beat);
                    std::thread::sleep(QUICK);
                }
            });
            // A machine under load may keep it from beating for a while, but not for that long.
            let beat = Duration::from_secs(10);
            let error = RunLock::take_with(folder.path(), "run", Duration::ZERO, beat);
            is_told.store(true, order);
            error.unwrap_err().to_string()
        });
        assert!(error.contains("`dpg-bench generate`, process 12 on node7"), "{error}");
        // Now its heart stands still.
        let held = take(folder.path()).unwrap();
        assert_eq!(read(&path).unwrap().process, std::process::id());
        drop(held);
    }

    #[test]
    fn the_heart_beats() {
        let folder = tempfile::tempdir().unwrap();
        let _held = take(folder.path()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while read(&folder.path().join(FILE)).is_none_or(|owner| owner.beat < 2) {
            assert!(Instant::now() < deadline, "no beat");
            std::thread::sleep(QUICK);
        }
    }

    #[test]
    fn of_many_at_a_time_one_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let (inside, most) =
            (std::sync::atomic::AtomicU32::new(0), std::sync::atomic::AtomicU32::new(0));
        let order = std::sync::atomic::Ordering::SeqCst;
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let patience = Duration::from_secs(60);
                        let held = RunLock::take_within(&run, "run", patience).unwrap();
                        most.fetch_max(inside.fetch_add(1, order) + 1, order);
                        std::thread::yield_now();
                        inside.fetch_sub(1, order);
                        drop(held);
                    }
                });
            }
        });
        assert_eq!(most.load(order), 1);
    }
}
