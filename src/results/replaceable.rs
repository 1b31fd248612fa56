//! In: a place to write to, and how to tell what a file there is about. Out: leave to write, or a refusal that says what
//! would be lost.

use std::path::{Path, PathBuf};

/// What stands where something new is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The same thing, of an earlier time.
    Same,
    /// The same kind of thing about something else: what it is, as `the baseline of another run`.
    Other(String),
    /// Nothing that this program wrote there.
    Foreign,
}

/// Something stands in the place that must not be lost quietly.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InTheWay {
    /// It is about something else.
    #[error("{path} is {what}; name another {flag}, or say --force to replace it", path = path.display())]
    Other {
        /// The file or folder.
        path: PathBuf,
        /// What it is.
        what: String,
        /// The flag that names the place.
        flag: &'static str,
    },
    /// It is nothing of ours.
    #[error(
        "{path} is a file that `dpg-bench {command}` did not write; name another {flag}, or say --force to replace it",
        path = path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The command that is to write there.
        command: &'static str,
        /// The flag that names the place.
        flag: &'static str,
    },
}

/// A file that is to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewFile<'p> {
    /// Where.
    pub path: &'p Path,
    /// By which command.
    pub command: &'static str,
    /// The flag that names the place.
    pub flag: &'static str,
    /// Whether to replace whatever stands there.
    pub force: bool,
}

impl NewFile<'_> {
    /// Whether it may be written; `look` tells what the bytes of a file that is there are. An empty file is none.
    ///
    /// # Errors
    /// Something else stands there, and `force` is not given.
    pub(crate) fn check(self, look: impl FnOnce(&[u8]) -> Standing) -> Result<(), InTheWay> {
        let Self { path, command, flag, force } = self;
        // What is no file, as a folder or a pipe, is for the write to refuse.
        if force || !path.is_file() {
            return Ok(());
        }
        let path = path.to_owned();
        match std::fs::read(&path) {
            Ok(bytes) if bytes.is_empty() => Ok(()),
            Ok(bytes) => match look(&bytes) {
                Standing::Same => Ok(()),
                Standing::Other(what) => Err(InTheWay::Other { path, what, flag }),
                Standing::Foreign => Err(InTheWay::Foreign { path, command, flag }),
            },
            Err(_) => Err(InTheWay::Foreign { path, command, flag }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_about_the_same_is_replaced_without_force() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        let look = |bytes: &[u8]| match bytes {
            b"same" => Standing::Same,
            b"other" => Standing::Other("about another run".to_owned()),
            _ => Standing::Foreign,
        };
        let file =
            |force| NewFile { path: &path, command: "baseline", flag: "--out", force }.check(look);
        assert!(file(false).is_ok());
        for (there, expected) in [
            ("", None),
            ("same", None),
            ("other", Some("a.json is about another run; name another --out, or say --force")),
            ("notes", Some("a.json is a file that `dpg-bench baseline` did not write; name")),
        ] {
            std::fs::write(&path, there).unwrap();
            let refused = file(false).err().map(|error| error.to_string());
            assert_eq!(refused.is_some(), expected.is_some(), "{there}: {refused:?}");
            assert!(refused.unwrap_or_default().contains(expected.unwrap_or_default()), "{there}");
            assert!(file(true).is_ok(), "{there}");
        }
    }
}
