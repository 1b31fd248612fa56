//! In: something noteworthy in a question file. Out: one record of what it is and where, which is an
//! error or a warning as the loader decides.

use serde::Serialize;

/// What was met. Everything from [`Self::SelfLoop`] on leaves the data usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// The header lacks a column, or has one twice.
    BadHeader,
    /// The file has no question at all.
    NoQuestions,
    /// A row has more or fewer fields than the header.
    WrongFieldCount,
    /// Bytes that are not UTF-8, or a NUL.
    BadText,
    /// An item id that is no safe file name.
    UnsafeItemId,
    /// Two item ids that differ only in upper and lower case.
    ItemIdsDifferInCase,
    /// The rows of an item do not stand together.
    SplitItem,
    /// A `proposition_id` that is no positive integer.
    BadQuestionId,
    /// A row without a question.
    EmptyQuestion,
    /// A `tuple` that names no category.
    NoCategory,
    /// An item without a prompt.
    EmptyPrompt,
    /// Rows of an item with different prompts: an error, unless a prompt file settles it.
    PromptDiffersBetweenRows,
    /// A prompt file that cannot be used.
    BadPromptFile,
    /// Graph: two questions of an item have one number.
    DuplicateQuestionId,
    /// Graph: a `dependency` entry that is no integer.
    UnreadableParent,
    /// Graph: a parent that no question of the item has as its number.
    MissingParent,
    /// Graph: an edge that closes a cycle.
    Cycle,
    /// A question that depends on itself. It changes nothing under either protocol.
    SelfLoop,
    /// A question that depends on the file's first row, which the reference script never reads.
    FirstRowParent,
    /// A question that stands before its parent.
    ForwardReference,
    /// A parent named twice by one question.
    RepeatedParent,
    /// `0` (no parent) beside real parents.
    ZeroBesideParents,
    /// Question numbers that are not 1, 2, 3 and so on.
    UnusualNumbering,
    /// One question asked twice in an item.
    RepeatedQuestion,
    /// `category_broad` or `category_detailed` disagree with `tuple`; the tuple counts.
    CategoryDisagrees,
    /// An L2 name outside the 13 of the reference table.
    UnlistedCategory,
    /// The prompt file says something else than the question file; the prompt file counts.
    PromptFileDiffers,
    /// A prompt file without an item.
    PromptFileWithoutItem,
    /// An item without a prompt file, where others have one.
    ItemWithoutPromptFile,
    /// The file begins with a byte order mark.
    ByteOrderMark,
}

impl FindingKind {
    /// Whether it is a fault of a question graph, which `Strictness::Lenient` lets through.
    pub fn is_graph_fault(self) -> bool {
        (Self::DuplicateQuestionId..=Self::Cycle).contains(&self)
    }

    /// Heading over findings of this kind, in the plural.
    pub fn heading(self) -> &'static str {
        match self {
            Self::BadHeader => "faults of the header",
            Self::NoQuestions => "files without questions",
            Self::WrongFieldCount => "rows with a wrong number of fields",
            Self::BadText => "rows that are not clean UTF-8",
            Self::UnsafeItemId => "item ids that are no safe file names",
            Self::ItemIdsDifferInCase => "item ids that differ only in case",
            Self::SplitItem => "items split in two",
            Self::BadQuestionId => "question numbers that are no positive integers",
            Self::EmptyQuestion => "rows without a question",
            Self::NoCategory => "tuples without a category",
            Self::EmptyPrompt => "items without a prompt",
            Self::PromptDiffersBetweenRows => "items whose rows have different prompts",
            Self::BadPromptFile => "prompt files that cannot be used",
            Self::DuplicateQuestionId => "questions with a number already taken (left out)",
            Self::UnreadableParent => "parents that are no integers (edge ignored)",
            Self::MissingParent => "parents that do not exist (edge ignored)",
            Self::SelfLoop => "questions that depend on themselves (it changes nothing)",
            Self::FirstRowParent => {
                "questions that depend on the file's first row (`reference` never reads it and drops the item)"
            }
            Self::Cycle => "edges that close a cycle (edge ignored)",
            Self::ForwardReference => "questions that stand before a parent",
            Self::RepeatedParent => "parents named twice by a question",
            Self::ZeroBesideParents => "`0` beside real parents",
            Self::UnusualNumbering => "items whose questions are not numbered 1, 2, 3, ...",
            Self::RepeatedQuestion => "questions asked twice in an item",
            Self::CategoryDisagrees => {
                "category columns that disagree with the tuple (the tuple counts)"
            }
            Self::UnlistedCategory => "categories that are none of the official file's 13",
            Self::PromptFileDiffers => {
                "prompt files that differ from the question file (the prompt file counts)"
            }
            Self::PromptFileWithoutItem => "prompt files without an item",
            Self::ItemWithoutPromptFile => {
                "items without a prompt file (the question file's prompt counts)"
            }
            Self::ByteOrderMark => "byte order marks",
        }
    }
}

/// One thing met in a question file, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is.
    pub kind: FindingKind,
    /// Data row, from 1 (the header is not counted).
    pub row: Option<usize>,
    /// Line of the file on which that row begins, from 1.
    pub line: Option<usize>,
    /// The item.
    pub item: Option<String>,
    /// Column of the question file.
    pub column: Option<String>,
    /// What stands there, shortened.
    pub value: Option<String>,
    /// What is wrong and, for an error, what to do.
    pub message: String,
}

/// A finding that is no error: the benchmark loaded all the same.
pub type Oddity = Finding;

/// Characters of a value that a message shows.
const SHOWN_VALUE: usize = 60;

impl Finding {
    /// A finding about the whole file.
    pub fn of_file(kind: FindingKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            row: None,
            line: None,
            item: None,
            column: None,
            value: None,
            message: message.into(),
        }
    }

    /// A finding in a data row.
    pub fn in_row(kind: FindingKind, row: usize, line: usize, message: impl Into<String>) -> Self {
        Self { row: Some(row), line: Some(line), ..Self::of_file(kind, message) }
    }

    /// Adds the item.
    pub fn item(mut self, id: &str) -> Self {
        self.item = Some(shortened(id));
        self
    }

    /// Adds the column and what stands there.
    pub fn cell(mut self, column: &str, value: &str) -> Self {
        self.column = Some(column.to_owned());
        self.value = Some(shortened(value));
        self
    }
}

/// Cut to a readable length, with control characters spelled out so that they cannot reach a terminal.
pub(crate) fn shortened(value: &str) -> String {
    let mut text: String = value.chars().take(SHOWN_VALUE).flat_map(spelled).collect();
    if value.chars().nth(SHOWN_VALUE).is_some() {
        text.push_str("...");
    }
    text
}

fn spelled(character: char) -> Vec<char> {
    if character.is_control() { character.escape_default().collect() } else { vec![character] }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        match (self.row, self.line) {
            (Some(row), Some(line)) => parts.push(format!("row {row} (line {line})")),
            (None, Some(line)) => parts.push(format!("line {line}")),
            _ => {}
        }
        if let Some(item) = &self.item {
            parts.push(format!("item `{item}`"));
        }
        if let (Some(column), Some(value)) = (&self.column, &self.value) {
            parts.push(format!("{column} `{value}`"));
        }
        if !parts.is_empty() {
            write!(f, "{}: ", parts.join(", "))?;
        }
        f.write_str(&self.message)
    }
}
