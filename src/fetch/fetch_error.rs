//! In: what can go wrong with a download. Out: one sentence that says what to do. None holds a token or
//! the query of an address.

use std::path::PathBuf;

use super::server_fault::ServerFault;
use crate::http::BadKey;
use crate::results::{FORMAT_VERSION, FormatVersion};

/// Why something could not be fetched. What was fetched before stays and is not fetched again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// A variable of the environment that cannot be taken, or a file that it names.
    #[error("{name}: {reason}")]
    Environment {
        /// The variable or file.
        name: String,
        /// What is wrong with it.
        reason: EnvironmentFault,
    },
    /// 401 or 403.
    #[error(
        "{what}: the server refuses it ({status}): {reason}. Accept its terms at {page} and put a token of \
         yours into HF_TOKEN (ModelScope: MODELSCOPE_API_TOKEN)"
    )]
    Refused {
        /// Repository and file.
        what: String,
        /// Status of the reply.
        status: u16,
        /// What the server says.
        reason: ServerFault,
        /// Where access is asked for.
        page: String,
    },
    /// 404 or 410, or a file that the publisher's list lacks.
    #[error("{what}: {reason}{}", pinned.as_deref().map(ways_round).unwrap_or_default())]
    NotFound {
        /// Repository and file.
        what: String,
        /// What is not there.
        reason: ServerFault,
        /// The commit that this program asks for, where it asks for none but that.
        pinned: Option<String>,
    },
    /// The server was asked often enough.
    #[error(
        "{what}: {reason}; gave up after {failures} failures; the same command goes on from here"
    )]
    GaveUp {
        /// Repository and file.
        what: String,
        /// What went wrong the last time.
        reason: ServerFault,
        /// Failures without progress between them.
        failures: u32,
    },
    /// Asking again would be in vain.
    #[error("{what}: {reason}")]
    Answer {
        /// Repository and file.
        what: String,
        /// What is wrong with the server's answer.
        reason: ServerFault,
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
        reason: LockFileFault,
    },
    /// Another file of the same fetch failed.
    #[error("stopped")]
    Stopped,
}

/// Why a variable of the environment cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvironmentFault {
    /// It is no address.
    #[error("this is no address")]
    NoAddress,
    /// An address of another protocol.
    #[error("the address must begin with http:// or https://")]
    NoHttp,
    /// An address that may hold a secret; it is not repeated.
    #[error("the address must hold no user, password or query")]
    MayHoldSecret,
    /// An address without a host.
    #[error("the address names no host")]
    NoHost,
    /// Text in another encoding.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// It is no key.
    #[error("{0}")]
    Key(#[from] BadKey),
}

/// Why a lock file cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockFileFault {
    /// The system said no.
    #[error("it cannot be read: {0}")]
    Unreadable(std::io::Error),
    /// It is something else.
    #[error("it is no record of a fetch: {0}")]
    Unparsable(serde_json::Error),
    /// Another program's.
    #[error("its format {0} is not that of this program ({FORMAT_VERSION})")]
    OtherFormat(FormatVersion),
}

/// A commit of the catalog that the publisher does not have must not be the end.
fn ways_round(commit: &str) -> String {
    format!(
        " (commit {commit}, which this program asks for); if it is published as another commit \
         or elsewhere by now, get it with the publisher's own tool, whose cache is looked at as \
         well, or name its folder with a flag"
    )
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
