//! In: the shipped table of published scores. Out: its rows.

use serde::Deserialize;

const TABLE: &str = include_str!("../../benchmark/published_scores.csv");

/// A published benchmark score, by the reference script with mPLUG-large as the judge.
///
/// Only the overall column is there: the published category columns come from one image of four, and most
/// from several processes, which scrambles them (`docs/protocols.md`).
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct PublishedScore {
    /// The model.
    pub model: String,
    /// In percent.
    pub overall: f64,
    /// Where it was published.
    pub source: String,
}

/// The published scores, as the file orders them.
///
/// # Errors
/// The shipped file is broken (a programming error).
pub(crate) fn published_scores() -> Result<Vec<PublishedScore>, csv::Error> {
    csv::Reader::from_reader(TABLE.as_bytes()).deserialize().collect()
}
