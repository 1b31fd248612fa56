//! In: a question file (official layout) on disk. Out: typed items with valid question graphs and a
//! digest. Nothing here knows about images, judges or scores.

pub mod category;
pub mod derangement;
pub mod digest;
pub mod error;
pub mod finding;
mod graph_findings;
pub mod item;
pub mod item_id;
pub mod load;
pub mod official;
mod prompt_files;
pub mod question;
pub mod question_graph;
mod rows;
pub mod select;
mod subset;

pub use category::Category;
pub use derangement::{Derangement, MixDifference};
pub use error::BenchmarkError;
pub use finding::{Finding, FindingKind, Oddity};
pub use item::Item;
pub use load::{Benchmark, REFERENCE_CATEGORIES, Source, Strictness};
pub use question::{DeclaredParent, Question, QuestionId};
pub use question_graph::{GraphFault, LocatedFault, QuestionGraph};
pub use select::Selection;
