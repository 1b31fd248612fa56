//! Small question graphs for the unit tests of this folder.

use crate::benchmark::{Category, DeclaredParent, Item, Question, QuestionGraph};

/// A graph of `(number, dependency cell)` rows, in rows 101, 102, .. of the file.
pub(super) fn graph(rows: &[(u32, &str)]) -> QuestionGraph {
    graph_from_row(101, rows)
}

/// The same, beginning at data row `first`.
pub(crate) fn graph_from_row(first: usize, rows: &[(u32, &str)]) -> QuestionGraph {
    let question = |(index, (id, dependency)): (usize, &(u32, &str))| Question {
        id: *id,
        text: format!("Is there {id}?"),
        tuple: "entity - whole (x)".into(),
        category: Category::from_tuple("entity - whole (x)"),
        declared_parents: DeclaredParent::parse_cell(dependency),
        row: first + index,
    };
    QuestionGraph::build(rows.iter().enumerate().map(question).collect()).0
}

/// An item around a graph.
pub(super) fn item(id: &str, graph: QuestionGraph) -> Item {
    Item { id: id.into(), prompt: format!("A picture of {id}."), graph }
}
