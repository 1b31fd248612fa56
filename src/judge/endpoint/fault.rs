//! In: what went wrong with a request. Out: that as data, free of the key, and what it says about the next request.
//! The sentence is made here alone; the journal keeps it.

use std::fmt;
use std::time::Duration;

use ureq::http::StatusCode;

use super::cause::Cause;
use super::reply::ReplyFault;
use super::wordings::cause;
use crate::http::TransportFault;

/// What went wrong with one request.
#[derive(Debug)]
pub(crate) struct Fault {
    /// What is wrong.
    pub reason: FaultReason,
    /// What it says about the next request.
    pub kind: FaultKind,
    /// Why it was not tried again, where it was or might have been.
    pub gave_up: Option<GaveUp>,
}

/// What is wrong with a request or its reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum FaultReason {
    /// The request's body cannot be made.
    #[error("the request cannot be written: {0}")]
    Unwritable(serde_json::Error),
    /// No whole reply came.
    #[error("{0}")]
    Transport(TransportFault),
    /// Nor within the time set for it.
    #[error("no whole reply within {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// A status that is no success.
    #[error("{} {}: {words}", status.as_u16(), name_of(*status))]
    Status {
        /// The status.
        status: StatusCode,
        /// The beginning of the server's message.
        words: String,
    },
    /// A redirect.
    #[error(
        "{} {}: the server sends us on to `{target}`; redirects are not followed, so that the \
         key stays with the server that was named: give the final URL",
        status.as_u16(), name_of(*status)
    )]
    Redirect {
        /// The status.
        status: StatusCode,
        /// Where to, without its query.
        target: String,
    },
    /// The body gives no answer.
    #[error("{0}")]
    Reply(ReplyFault),
}

/// What a fault says about the next request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// The server says what is wrong, and asking again the same way gives the same.
    Permanent(Cause),
    /// 403, 404, 405 or a redirect, and no word that tells: probably the wrong address, model or key, but some
    /// servers refuse single pictures so.
    NotFound,
    /// Any other 4xx: this request will never be answered.
    Refused,
    /// No connection could be made.
    Unreachable,
    /// Anything that may pass: 408, 429, 5xx, time-outs, cut connections and bodies.
    Transient {
        /// How long the server asked to wait.
        retry_after: Option<Duration>,
    },
}

/// Why a request that may be answered another time is not sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GaveUp {
    /// It was sent so often.
    Tries(u32),
    /// The server asks for too long a wait.
    Wait {
        /// The wait that it asks for.
        asked: Duration,
        /// The longest that is waited.
        most: Duration,
    },
}

impl Fault {
    /// A fault after which nothing was given up yet.
    pub(super) fn new(reason: FaultReason, kind: FaultKind) -> Self {
        Self { reason, kind, gave_up: None }
    }

    /// A whole body that gives no answer; `fields` are those of the requests that a server may not know.
    pub(crate) fn of_reply(reply: ReplyFault, fields: &[String]) -> Self {
        let transient = FaultKind::Transient { retry_after: None };
        let kind = match &reply {
            ReplyFault::Withheld { .. } => FaultKind::Refused,
            ReplyFault::Reported(words) => match cause(StatusCode::OK.as_u16(), words, fields) {
                Some(cause) => FaultKind::Permanent(cause),
                None => transient,
            },
            _ => transient,
        };
        Self::new(FaultReason::Reply(reply), kind)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason)?;
        match self.gave_up {
            None => Ok(()),
            Some(GaveUp::Tries(tries)) => write!(f, " ({tries} tries)"),
            Some(GaveUp::Wait { asked, most }) => write!(
                f,
                "; the server asks to wait {} s, more than the {} s that we wait at most",
                asked.as_secs(),
                most.as_secs()
            ),
        }
    }
}

fn name_of(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("unknown status")
}
