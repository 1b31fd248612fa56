//! In: what the loader and the selection met. Out: errors that name file, row, column and value and
//! say what to do. How they reach the terminal is left to `cli`.

use std::path::PathBuf;

use super::finding::Finding;
use crate::near_names::did_you_mean_category;

/// Problems shown in an error message; the rest are counted.
const SHOWN_PROBLEMS: usize = 10;

/// Why a benchmark cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchmarkError {
    /// The disk said no.
    #[error("cannot read {path}: {reason}")]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// A folder without a question file.
    #[error(
        "{path} holds no question file: put `dpg_bench.csv` there, or name the CSV file itself"
    )]
    NoQuestionFile {
        /// The folder.
        path: PathBuf,
    },
    /// A folder with several CSV files, none of them `dpg_bench.csv`.
    #[error("{path} holds several CSV files ({}); name the one to use", found.join(", "))]
    SeveralQuestionFiles {
        /// The folder.
        path: PathBuf,
        /// Their names, in order.
        found: Vec<String>,
    },
    /// The data are wrong; at least one problem.
    #[error("{}", describe(path, problems))]
    Invalid {
        /// The question file.
        path: PathBuf,
        /// Every problem, in file order.
        problems: Vec<Finding>,
    },
    /// Items asked for that the benchmark has not.
    #[error("{}", describe_unknown(items))]
    UnknownItems {
        /// Each unknown id with the ids that are like it.
        items: Vec<(String, Vec<String>)>,
    },
    /// A category asked for that no question has.
    #[error("no question has the category `{name}`{}; the benchmark has: {}", did_you_mean_category(name, known), known.join(", "))]
    UnknownCategory {
        /// The category asked for.
        name: String,
        /// The names that are there, each L1 before its L2.
        known: Vec<String>,
    },
    /// Flags that leave no item.
    #[error("{selection} leaves no item; widen the selection")]
    NothingSelected {
        /// The selection in words.
        selection: String,
    },
}

fn describe(path: &std::path::Path, problems: &[Finding]) -> String {
    let path = path.display();
    if let [only] = problems {
        return format!("{path}, {only}");
    }
    let mut text = format!("{path} has {} problems:", problems.len());
    for problem in problems.iter().take(SHOWN_PROBLEMS) {
        text.push_str(&format!("\n  {problem}"));
    }
    if problems.len() > SHOWN_PROBLEMS {
        text.push_str(&format!("\n  and {} more", problems.len() - SHOWN_PROBLEMS));
    }
    text
}

fn describe_unknown(items: &[(String, Vec<String>)]) -> String {
    let each: Vec<String> = items
        .iter()
        .map(|(id, near)| match near.as_slice() {
            [] => format!("`{id}`"),
            near => format!("`{id}` (near it: {})", near.join(", ")),
        })
        .collect();
    format!("the benchmark has no item {}", each.join(", no item "))
}
