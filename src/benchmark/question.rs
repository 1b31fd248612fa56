//! In: one row of the question file. Out: a typed question. Its edges are checked by
//! `question_graph`, its text is put to a judge elsewhere.

use super::category::Category;

/// A question's number inside its item (`proposition_id`). Unique there, not always 1..n.
pub type QuestionId = u32;

/// Data row (from 1) that the reference script never reads: it takes it for the header.
pub(crate) const SKIPPED_ROW: usize = 1;

/// One entry of the `dependency` cell, as the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeclaredParent {
    /// `0`: no parent.
    None,
    /// The number of another question, which may or may not exist.
    Id(i64),
    /// Text that is no integer (DSG-1k has `5, right`).
    Unreadable(String),
}

impl DeclaredParent {
    /// Reads a whole `dependency` cell: a comma list of integers, blanks allowed around each.
    pub fn parse_cell(cell: &str) -> Vec<Self> {
        cell.split(',')
            .map(|part| match part.trim().parse::<i64>() {
                Ok(0) => Self::None,
                Ok(id) => Self::Id(id),
                Err(_) => Self::Unreadable(part.trim().to_owned()),
            })
            .collect()
    }
}

impl std::fmt::Display for DeclaredParent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("0"),
            Self::Id(id) => write!(f, "{id}"),
            Self::Unreadable(text) => f.write_str(text),
        }
    }
}

/// One yes/no question about an image of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Number inside the item.
    pub id: QuestionId,
    /// The question in plain language, as it is put to the judge.
    pub text: String,
    /// The semantic tuple, e.g. `attribute - color (truck, red)`.
    pub tuple: String,
    /// Category cut from the tuple.
    pub category: Category,
    /// The `dependency` cell in file order, faults included: the reference protocol follows it.
    pub declared_parents: Vec<DeclaredParent>,
    /// Data row in the question file, counted from 1 (the header is not counted). The reference
    /// scorer loses row 1.
    pub row: usize,
}

impl Question {
    /// The `dependency` cell without stray blanks: `0`, `3` or `2,5`.
    pub fn dependency(&self) -> String {
        match self.declared_parents.as_slice() {
            // Nearly all are so; numbers alone are quicker than formatting.
            [DeclaredParent::None] => "0".to_owned(),
            [DeclaredParent::Id(id)] => id.to_string(),
            several => {
                let entries: Vec<String> = several.iter().map(ToString::to_string).collect();
                entries.join(",")
            }
        }
    }
}
