//! In: a repository that was just fetched, and another that should hold the same files. Out: which of their
//! files are the same bytes. Only the disk is looked at.

use std::path::Path;

use super::catalog::Source;
use super::digest::FileDigest;
use super::fetch_error::FetchError;
use super::fetch_sources::Fetched;
use super::file_rules::FileRule;
use super::locate::Found;
use super::lock_file::LOCK_FILE;

/// What two copies came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Files with the same bytes.
    pub same: Vec<String>,
    /// Files with other bytes that are only taken along where there are any.
    pub other_notes: Vec<String>,
}

/// Holds the files of `fetched` against those of the same name in `found`, by digest.
///
/// # Errors
/// A file that the model needs differs, or one cannot be read.
pub fn compare_copies(
    (source, fetched): (&Source, &Fetched),
    (other, found): (&Source, &Found),
) -> Result<Comparison, FetchError> {
    let mut comparison = Comparison::default();
    for (path, file) in &fetched.lock.files {
        let there = found.folder.join(path);
        let Some(digest) = file.digest.as_ref().filter(|_| there.is_file()) else { continue };
        let recorded = found.lock.as_ref().and_then(|lock| lock.files.get(path)?.digest.clone());
        let recorded = recorded.filter(|known| is_same_kind(known, digest));
        let theirs = match recorded {
            Some(known) => known,
            None => digest.of_same_kind(&there).map_err(FetchError::disk("read", &there))?,
        };
        if theirs == *digest {
            comparison.same.push(path.clone());
        } else if is_optional(source, path) {
            comparison.other_notes.push(path.clone());
        } else {
            return Err(FetchError::CopiesDiffer {
                path: path.clone(),
                one: named(source, &fetched.folder, digest),
                other: named(other, &found.folder, &theirs),
            });
        }
    }
    Ok(comparison)
}

fn named(source: &Source, folder: &Path, digest: &FileDigest) -> String {
    let host = source.host.name();
    format!("{digest} in {host}'s {} ({})", source.repository, folder.display())
}

fn is_same_kind(one: &FileDigest, other: &FileDigest) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

/// Whether the model works as well without this file.
fn is_optional(source: &Source, path: &str) -> bool {
    let wished = |rule: &FileRule| matches!(rule, FileRule::Optional(name) if *name == path);
    path == LOCK_FILE || source.rules.iter().any(wished)
}
