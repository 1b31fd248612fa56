//! In: typed records from the stages. Out: the same records, later, from disk. Owns `results/`: what
//! a run directory looks like, how it is written so that a kill loses nothing, how it is read back.

pub mod answers;
pub mod atomic_write;
pub mod image_store;
pub mod inside;
pub mod journal;
mod journal_tail;
mod jpeg;
mod jpeg_scans;
pub mod manifest;
pub mod merge;
mod merge_error;
mod merged_lines;
pub mod progress;
pub mod records;
pub mod run_directory;
pub mod run_lock;
pub mod shard;
mod sitting;

pub use answers::{ImageAnswers, MixedPictures, NewestAnswers};
pub use journal::{Journal, JournalError, JournalRecord};
pub use journal_tail::JournalTail;
pub use manifest::{BenchmarkIdentity, Difference, JudgeEntry, Manifest, Settings, StageEntry};
pub use records::{AnswerOutcome, AnswerRecord, ImageOutcome, ImageRecord, QuestionAnswer};
pub use run_directory::{RunDirectory, RunError};
pub use run_lock::{LockError, RunLock};
pub use shard::{Shard, ShardError};
pub use sitting::Sitting;

/// Version of every file in a run directory: `major.minor`. A reader refuses another major; a newer
/// minor only adds fields.
pub const FORMAT_VERSION: FormatVersion = FormatVersion { major: 1, minor: 0 };

/// `major.minor`, stored as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FormatVersion {
    /// Raised when old readers would misread the file.
    pub major: u32,
    /// Raised when fields are added.
    pub minor: u32,
}

impl FormatVersion {
    /// Whether this program can read a file of that version.
    pub fn can_read(self, file: Self) -> bool {
        file.major == self.major
    }
}

impl std::fmt::Display for FormatVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl std::str::FromStr for FormatVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split_once('.')
            .and_then(|(major, minor)| {
                Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
            })
            .ok_or_else(|| {
                format!("`{text}` is no format version; it reads like `{FORMAT_VERSION}`")
            })
    }
}

impl serde::Serialize for FormatVersion {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for FormatVersion {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
