//! In: a question file (official layout) on disk. Out: typed items with valid question graphs and a
//! digest. Nothing here knows about images, judges or scores.

pub mod category;
pub mod item;
pub mod question;
pub mod question_graph;

pub use category::Category;
pub use item::Item;
pub use question::{DeclaredParent, Question, QuestionId};
pub use question_graph::{GraphFault, LocatedFault, QuestionGraph};
