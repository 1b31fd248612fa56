//! In: what can go wrong with a download. Out: one sentence that says what to do. None holds a token or
//! the query of an address.

use std::path::PathBuf;

/// Why something could not be fetched. What was fetched before stays and is not fetched again.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A variable of the environment that cannot be taken.
    #[error("{0}")]
    Environment(String),
    /// 401 or 403.
    #[error("{what}: the server refuses it ({status}): {advice}")]
    Refused {
        /// Repository and file.
        what: String,
        /// Status of the reply.
        status: u16,
        /// What to do.
        advice: String,
    },
    /// 404 or 410, or a file that the publisher's list lacks.
    #[error("{what}: {reason}")]
    NotThere {
        /// Repository and file.
        what: String,
        /// What is not there.
        reason: String,
    },
    /// The server was asked often enough.
    #[error(
        "{what}: {reason}; gave up after {failures} failures; the same command goes on from here"
    )]
    GaveUp {
        /// Repository and file.
        what: String,
        /// What went wrong the last time.
        reason: String,
        /// Failures without progress between them.
        failures: u32,
    },
    /// Asking again would be in vain.
    #[error("{what}: {reason}")]
    Answer {
        /// Repository and file.
        what: String,
        /// What is wrong with the server's answer.
        reason: String,
    },
    /// The bytes are not those that were promised.
    #[error(
        "{what}: the server sends other bytes than it promises (expected {expected}, came {found}); \
         nothing was kept of it; try again later or from another address"
    )]
    WrongBytes {
        /// Repository and file.
        what: String,
        /// Digest that was stated.
        expected: String,
        /// Digest of what came.
        found: String,
    },
    /// The publisher states another digest than before, or than this program knows.
    #[error("{what}: the publisher states {now}, but {source_of_before} says {before}; {advice}")]
    Changed {
        /// Repository and file.
        what: String,
        /// What is stated now.
        now: String,
        /// Where the other digest stands.
        source_of_before: String,
        /// The other digest.
        before: String,
        /// What to do.
        advice: &'static str,
    },
    /// Two publishers' copies of one model are not the same.
    #[error(
        "{path}: {one}, but {other}; both are here, and only one can be the model's: compare them with \
         what the publisher states, and remove the folder of the wrong one"
    )]
    CopiesDiffer {
        /// The file.
        path: String,
        /// Digest and place of the one.
        one: String,
        /// Digest and place of the other.
        other: String,
    },
    /// The disk is too small, as far as is known before anything is fetched.
    #[error(
        "{folder}: {needed} bytes are to be fetched and {free} are free; make room, or {elsewhere}",
        folder = folder.display()
    )]
    NoSpace {
        /// Where it was to go.
        folder: PathBuf,
        /// Bytes still to be fetched.
        needed: u64,
        /// Bytes that are free.
        free: u64,
        /// How to choose another place.
        elsewhere: &'static str,
    },
    /// A file or folder here.
    #[error("cannot {verb} {path}: {reason}", path = path.display())]
    Disk {
        /// What was tried.
        verb: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// A lock file that cannot be read.
    #[error("{path}: {reason}; remove the file, and the next fetch writes it anew", path = path.display())]
    LockFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another file of the same fetch failed.
    #[error("stopped")]
    Stopped,
}

impl FetchError {
    pub(super) fn disk(
        verb: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |reason| Self::Disk { verb, path, reason }
    }
}
