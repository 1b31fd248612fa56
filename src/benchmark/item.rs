//! In: the rows of one item. Out: its prompt and its question graph.

use super::question_graph::QuestionGraph;

/// One prompt of the benchmark with its questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Identifier, safe as a file name (the loader refuses others).
    pub id: String,
    /// The dense prompt that images are generated from.
    pub prompt: String,
    /// Its questions and their dependencies.
    pub graph: QuestionGraph,
}
