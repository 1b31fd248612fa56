//! In: a published category table as text. Out: whether it can come from a complete run of the
//! reference script in one process. With several processes that script pools different categories
//! into one figure (`docs/protocols.md`), which the counts give away: a complete run has 329 global
//! and 250 other questions, so the figures must be whole numbers of those.

pub(crate) mod fractions;
pub mod known_counts;
pub(crate) mod pasted_table;

pub use known_counts::{Finding, TableFinding, examine};
pub use pasted_table::{Figure, PastedTable, UnreadCell, Unreadable, read_tables};
