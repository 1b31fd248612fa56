//! In: typed records from the stages. Out: the same records, later, from disk. Owns `results/`: what
//! a run directory looks like, how it is written so that a kill loses nothing, how it is read back.

pub mod answers;
pub(crate) mod atomic_write;
mod control_kind;
mod controls;
mod format_version;
mod growth;
mod growth_error;
mod image_files;
pub mod image_store;
pub mod inside;
pub mod journal;
mod journal_tail;
mod jpeg;
mod jpeg_scans;
pub mod kept_thumbnail;
pub mod manifest;
pub mod merge;
mod merge_error;
mod merged_lines;
mod other_products;
pub mod pillow_resize;
pub mod png_data;
pub(crate) mod png_rows;
pub mod progress;
pub mod records;
pub(crate) mod replaceable;
pub(crate) mod run_directory;
pub(crate) mod run_lock;
pub mod shard;
mod shard_directory;
mod sitting;
pub mod thumbnail;

pub use answers::{ImageAnswers, MixedImages, NewestAnswers};
pub use control_kind::ControlKind;
pub use format_version::{FORMAT_VERSION, FormatVersion};
pub use growth_error::GrowthError;
pub use journal::{HeaderFault, Journal, JournalError, JournalRecord};
pub(crate) use journal_tail::JournalTail;
pub use manifest::{
    BenchmarkIdentity, Difference, Earlier, JudgeEntry, Manifest, Settings, StageEntry,
};
pub use records::{AnswerOutcome, AnswerRecord, ImageOutcome, ImageRecord, QuestionAnswer, Served};
pub use run_directory::{RunDirectory, RunError};
pub use run_lock::{LockError, RunLock};
pub use shard::{Shard, ShardError};
pub use sitting::Sitting;
