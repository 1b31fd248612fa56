//! In: the rows of one item. Out: its prompt and its question graph.

use super::category::Category;
use super::question::{DeclaredParent, Question};
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

impl Item {
    /// An item of no benchmark: questions without categories, none of which depends on another.
    pub(crate) fn of_questions(questions: &[&str]) -> Self {
        let question = |(id, text): (u32, &&str)| Question {
            id,
            text: (*text).to_owned(),
            tuple: String::new(),
            category: Category::from_tuple(""),
            declared_parents: vec![DeclaredParent::None],
            row: id as usize,
        };
        // Numbered from 1 and without edges there is nothing to find fault with.
        let (graph, _) = QuestionGraph::build((1..).zip(questions).map(question).collect());
        Self { id: String::new(), prompt: String::new(), graph }
    }
}
