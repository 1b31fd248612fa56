//! In: items with their question graphs, and answers. Out: verdicts and item scores under each
//! protocol. Pure: no disk, no tensors. Figures over many items are left to `aggregate`.

pub(crate) mod answer_grid;
pub mod dependency_rule;
pub mod item_score;
pub(crate) mod log_alignment;
mod log_files;
pub mod log_line;
pub mod reference_log;
pub mod reference_results;
pub mod score_run;
#[cfg(test)]
mod test_graphs;
pub mod verdict;

pub(crate) use answer_grid::answer_grid;
pub use item_score::{ImageVerdicts, ItemScore, NotScored, score_item};
pub use score_run::{RunScore, ScoredItem, score_run};
pub use verdict::{AnswerState, Protocol, Verdict};
