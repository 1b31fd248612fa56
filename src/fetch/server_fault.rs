//! In: what a server sent, or did not. Out: what is wrong with it, as data; its sentence holds no token and no
//! query of an address. What it means for the next try is left to `client` and `transfer`.

use ureq::http::StatusCode;

use super::digest::FileDigest;
use crate::http::TransportFault;

/// What is wrong with a server's answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServerFault {
    /// No whole reply came.
    #[error("{0}")]
    Transport(TransportFault),
    /// A status that is no success.
    #[error("{status} {}{}{words}", status_name(*status), if words.is_empty() { "" } else { ": " })]
    Status {
        /// The status.
        status: u16,
        /// The server's message, shortened; may be empty.
        words: String,
    },
    /// What was to be asked is no address.
    #[error("this is no address")]
    NoAddress,
    /// Too many redirects.
    #[error("the server sends us in circles")]
    Circles,
    /// A redirect without an address.
    #[error("the server sends us on without saying where")]
    RedirectNowhere,
    /// A redirect to something else.
    #[error("the server sends us on to what is no address")]
    RedirectNoAddress,
    /// A redirect to another protocol.
    #[error("the server sends us on to what is no http address")]
    RedirectNoHttp,
    /// A redirect that gives up encryption.
    #[error("the server sends us from https to http, which is not followed")]
    RedirectUnencrypted,
    /// A list that cannot be parsed.
    #[error("the reply is no JSON; is this the address of a mirror that has no list of files?")]
    NoJson,
    /// A list of an unknown state.
    #[error("the server's list names no commit")]
    ListWithoutCommit,
    /// A list of nothing.
    #[error(
        "the server's list names no files{}",
        words.as_ref().map(|words| format!(" ({words})")).unwrap_or_default()
    )]
    ListWithoutFiles {
        /// The server's message, from a server that gives one.
        words: Option<String>,
    },
    /// A list of another state.
    #[error("the server lists commit {listed} where {asked} was asked for")]
    ListOfOtherCommit {
        /// The commit of the list.
        listed: String,
        /// The commit that is due.
        asked: String,
    },
    /// A file that the list tells too little of.
    #[error("the server's list states no length and digest of it")]
    ListWithoutDigest,
    /// Files that the list lacks.
    #[error("the publisher's list lacks {}", .0.join(", "))]
    ListLacks(Vec<String>),
    /// A file of another state.
    #[error("the server answers with commit {found} where {asked} was asked for")]
    OtherCommit {
        /// The commit of the reply.
        found: String,
        /// The commit that is due.
        asked: String,
    },
    /// Another file.
    #[error("the server announces {announced} where {due} is due")]
    OtherDigest {
        /// The digest of the reply's headers.
        announced: FileDigest,
        /// The digest that is due.
        due: FileDigest,
    },
    /// A file of another length.
    #[error("the server sends {sent} bytes where the publisher states {stated}")]
    OtherLength {
        /// Bytes of the reply.
        sent: u64,
        /// Bytes of the publisher's list.
        stated: u64,
    },
    /// A part of a file of another length.
    #[error("the server has {total} bytes where the publisher states {stated}")]
    OtherTotal {
        /// Bytes of the server's file.
        total: u64,
        /// Bytes of the publisher's list.
        stated: u64,
    },
    /// A part without its place.
    #[error("the server sends a part without saying which")]
    NoRange,
    /// Another part.
    #[error("the server sends bytes from {start} where {asked} was asked for")]
    OtherRange {
        /// First byte of the reply.
        start: u64,
        /// First byte that was asked for.
        asked: u64,
    },
    /// The parts are of two files.
    #[error("the file changed on the server meanwhile")]
    FileChanged,
    /// The body ended before the file.
    #[error("the server closed the connection too early")]
    ClosedEarly,
    /// The body goes on after the file.
    #[error("the server sends more bytes than it states")]
    TooManyBytes,
    /// The connection broke within the body.
    #[error("the connection broke")]
    ConnectionBroke,
}

fn status_name(status: u16) -> &'static str {
    let name = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    name.unwrap_or("unknown status")
}
