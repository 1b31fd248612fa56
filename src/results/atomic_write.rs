//! In: the bytes of a whole file. Out: either the old file or the new one, never a part of it, even
//! after a power cut.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Writes `bytes` to the file `.writing-<name>` beside `path`, syncs it, renames it over `path` and
/// syncs the folder. Missing parent folders are made.
///
/// # Errors
/// Any I/O error, with the path in its message.
pub(crate) fn atomic_write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_beside(path, bytes, true).map_err(|error| name_path(error, "write", path))
}

/// As [`atomic_write`], but nothing is synced: a kill leaves the old file or the new one, a power cut perhaps half of it. For
/// a file that is made anew where it is not whole.
///
/// # Errors
/// As there.
pub(crate) fn write_unsynced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_beside(path, bytes, false).map_err(|error| name_path(error, "write", path))
}

fn write_beside(path: &Path, bytes: &[u8], synced: bool) -> io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder)?;
    let mut hidden = OsString::from(".writing-");
    hidden.push(path.file_name().ok_or(io::ErrorKind::InvalidInput)?);
    // Always the same name: what a kill leaves here is taken over by the next write of the file, so
    // that a resumed run ends in the same files as one that was never killed.
    let temporary = folder.join(hidden);
    let written = write_new(&temporary, bytes, synced);
    let written = written.and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written?;
    if synced { sync_folder(folder) } else { Ok(()) }
}

fn write_new(path: &Path, bytes: &[u8], synced: bool) -> io::Result<()> {
    // A file of our own: what stands there may be a stranger's link to somewhere else.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    if synced { file.sync_all() } else { Ok(()) }
}

/// Makes a rename or a new file in `folder` survive a power cut.
///
/// # Errors
/// Any I/O error of opening or syncing the folder.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Puts the verb and the path into an I/O error, which by itself names neither.
pub(crate) fn name_path(error: io::Error, verb: &str, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {verb} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_the_whole_file_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/file.json");
        atomic_write(&path, b"long old content").unwrap();
        atomic_write(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_write_left_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("3.png");
        for write in [atomic_write, write_unsynced] {
            std::fs::write(folder.path().join(".writing-3.png"), b"half a pict").unwrap();
            write(&path, b"whole").unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"whole");
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_the_place_of_the_left_over_leads_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("other");
        std::fs::write(&other, "not ours").unwrap();
        for write in [atomic_write, write_unsynced] {
            std::os::unix::fs::symlink(&other, folder.path().join(".writing-3.png")).unwrap();
            write(&folder.path().join("3.png"), b"whole").unwrap();
            assert_eq!(std::fs::read(&other).unwrap(), b"not ours");
            assert!(!folder.path().join("3.png").is_symlink());
        }
    }

    #[test]
    fn an_error_names_the_path() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let error = atomic_write(&folder.path().join("file/inside"), b"x").unwrap_err();
        assert!(error.to_string().contains("file/inside"), "{error}");
    }
}
