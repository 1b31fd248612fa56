//! In: how a command ended. Out: the number that the shell sees. These numbers are documented and do
//! not change.

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ExitStatus {
    /// 0: everything asked for was done.
    Done,
    /// 1: a check was carried out and said no.
    CheckFailed,
    /// 2: it could not be done: usage, data or I/O.
    CouldNot,
    /// 3: finished, but images or answers are missing.
    Incomplete,
}

impl From<ExitStatus> for u8 {
    fn from(status: ExitStatus) -> Self {
        match status {
            ExitStatus::Done => 0,
            ExitStatus::CheckFailed => 1,
            ExitStatus::CouldNot => 2,
            ExitStatus::Incomplete => 3,
        }
    }
}
