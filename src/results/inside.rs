//! In: a run directory and names below it. Out: the path, if no symbolic link on the way leads out of the run. A
//! run may come from a stranger; what is written into it must stay in it.

use std::io;
use std::path::{Path, PathBuf};

/// `root` with `names` below it. The root itself may be a link: that is how a run is put on another disk.
///
/// # Errors
/// One of the names is a symbolic link, or no plain name.
pub fn inside(root: &Path, names: &[&str]) -> io::Result<PathBuf> {
    let mut path = root.to_owned();
    for name in names {
        if name.is_empty() || matches!(*name, "." | "..") || name.contains(['/', '\\', '\0']) {
            let text = format!("`{name}` is no name of a file in {}", root.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        path.push(name);
        if std::fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink()) {
            let text = format!(
                "{} is a symbolic link, and nothing inside a run may be one; put the file or folder itself \
                 there, or move the whole run and link to that",
                path.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        let root = Path::new("results/x");
        assert_eq!(inside(root, &["images", "a", "0.png"]).unwrap(), root.join("images/a/0.png"));
        for bad in ["..", ".", "", "a/b", "/etc", "a\\b", "a\0"] {
            assert!(inside(root, &["images", bad]).is_err(), "{bad:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_below_the_root_is_refused_and_the_root_may_be_one() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let (there, run) = (folder.path().join("there"), folder.path().join("run"));
        std::fs::create_dir_all(there.join("images/a")).unwrap();
        symlink(&there, &run).unwrap();
        inside(&run, &["images", "a", "0.png"]).unwrap();
        // Even one that leads nowhere: writing would follow it.
        symlink(folder.path().join("elsewhere"), there.join("images/b")).unwrap();
        let error = inside(&run, &["images", "b", "0.png"]).unwrap_err().to_string();
        assert!(error.contains("images/b is a symbolic link"), "{error}");
    }
}
