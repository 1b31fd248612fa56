//! In: nothing but the machine that the program runs on. Out: its processors, memory and free disk space.
//! What a run needs of them is left to the command line.

use std::io;
use std::path::{Path, PathBuf};

/// Memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// What this process may have at most: the machine's, or a container's limit where that is lower.
    pub total: u64,
    /// What can be had now without swapping.
    pub available: u64,
}

/// Threads that can run at one time, as the system grants them to this process.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Programs that ran or waited for a processor at one time, on average over the last minute; `None` where the
/// system does not tell it in Linux's way.
pub fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// The widest vector instructions that the networks can use here.
pub(crate) fn vector_instructions() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            return "AVX-512";
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
        {
            return "AVX2";
        }
        "SSE2"
    }
    #[cfg(not(target_arch = "x86_64"))]
    "of the compiler's choice"
}

/// The machine's memory; `None` where the system does not tell it in Linux's way.
pub fn memory() -> Option<Memory> {
    let machine = from_meminfo(&std::fs::read_to_string("/proc/meminfo").ok()?)?;
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    Some(limited(
        machine,
        number("/sys/fs/cgroup/memory.max"),
        number("/sys/fs/cgroup/memory.current"),
    ))
}

fn from_meminfo(text: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    Some(Memory { total: 1024 * bytes("MemTotal")?, available: 1024 * bytes("MemAvailable")? })
}

/// Under a container's limit, of which `used` is taken.
fn limited(machine: Memory, limit: Option<u64>, used: Option<u64>) -> Memory {
    match limit {
        Some(limit) if limit < machine.total => Memory {
            total: limit,
            available: machine.available.min(limit.saturating_sub(used.unwrap_or(0))),
        },
        _ => machine,
    }
}

/// Bytes that this user can still write to the file system of `path`, which need not be there yet: then
/// the nearest folder above it counts.
///
/// # Errors
/// No folder above it is there, or the system does not say.
pub(crate) fn free_space(path: &Path) -> io::Result<u64> {
    space_of(&existing(path)?)
}

/// `path`, or the nearest folder above it that is there.
///
/// # Errors
/// There is none.
pub(crate) fn existing(path: &Path) -> io::Result<PathBuf> {
    let whole = std::path::absolute(path)?;
    let found = whole.ancestors().find(|folder| folder.exists());
    found.map(Path::to_owned).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Whether this user may write into the folder `path`, or into the nearest one above it that is there.
pub(crate) fn may_write(path: &Path) -> bool {
    existing(path).is_ok_and(|folder| is_open(&folder))
}

#[cfg(unix)]
fn is_open(folder: &Path) -> bool {
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok()
}

#[cfg(not(unix))]
fn is_open(folder: &Path) -> bool {
    std::fs::metadata(folder).is_ok_and(|about| !about.permissions().readonly())
}

#[cfg(unix)]
fn space_of(path: &Path) -> io::Result<u64> {
    let about = rustix::fs::statvfs(path)?;
    Ok(about.f_bavail.saturating_mul(about.f_frsize))
}

#[cfg(not(unix))]
fn space_of(_: &Path) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_containers_limit_counts_where_it_is_lower() {
        let text = "MemTotal:       16000 kB\nMemFree: 5 kB\nMemAvailable:    9000 kB\n";
        let machine = from_meminfo(text).unwrap();
        assert_eq!(machine, Memory { total: 16_384_000, available: 9_216_000 });
        assert_eq!(limited(machine, None, Some(5)), machine);
        assert_eq!(limited(machine, Some(u64::MAX), None), machine);
        let tight = limited(machine, Some(8_000_000), Some(3_000_000));
        assert_eq!(tight, Memory { total: 8_000_000, available: 5_000_000 });
        assert_eq!(from_meminfo("MemTotal: 16000 kB\n"), None);
    }

    #[test]
    fn space_is_told_of_what_is_not_there_yet() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("not/there/yet");
        assert_eq!(existing(&deep).unwrap(), folder.path());
        let (here, there) = (free_space(folder.path()).unwrap(), free_space(&deep).unwrap());
        assert!(here > 0 && there > 0 && processors() > 0 && may_write(&deep));
    }
}
