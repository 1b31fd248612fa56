//! In: a file. Out: its SHA-256, taken once a process as long as the file stays as it is.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::model_error::ModelError;
use crate::benchmark::digest;

/// Digests taken by this process, by path, size and time of the last change: a single file holds all
/// components of a checkpoint, and is read for each.
type KnownDigests = BTreeMap<(PathBuf, u64, SystemTime), String>;
static KNOWN_DIGESTS: Mutex<KnownDigests> = Mutex::new(BTreeMap::new());

fn known_digests() -> MutexGuard<'static, KnownDigests> {
    KNOWN_DIGESTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// SHA-256 of the whole file, in hex.
pub(crate) fn sha256_of_file(path: &Path) -> Result<String, ModelError> {
    let unreadable = |source| ModelError::unreadable(path, source);
    let mut file = File::open(path).map_err(unreadable)?;
    let state = file.metadata().and_then(|about| Ok((about.len(), about.modified()?)));
    // A file that changed just now may change again within the clock's resolution.
    let settled =
        |modified: &SystemTime| modified.elapsed().is_ok_and(|age| age > Duration::from_secs(2));
    let state = state.ok().filter(|(_, modified)| settled(modified));
    let key = state.map(|(size, modified)| (path.to_path_buf(), size, modified));
    if let Some(known) = key.as_ref().and_then(|key| known_digests().get(key).cloned()) {
        return Ok(known);
    }
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(unreadable)? {
            0 => break,
            count => digest.update(&buffer[..count]),
        }
    }
    let sha256 = hex(digest);
    if let Some(key) = key {
        known_digests().insert(key, sha256.clone());
    }
    Ok(sha256)
}

pub(crate) fn hex(digest: Sha256) -> String {
    digest::hex(&digest.finalize())
}
