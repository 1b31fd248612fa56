//! In: published scores and those of runs. Out: one table, best first.

use comfy_table::{CellAlignment, Table};

use crate::aggregate::published::PublishedScore;

use super::numbers::{ends, fixed};
use super::terminal::STYLE;

/// A benchmark score and whose it is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Placed {
    /// The model, or the run.
    pub model: String,
    /// In percent.
    pub overall: f64,
    /// Its interval, where it has one: nobody publishes any.
    pub interval: Option<(f64, f64)>,
    /// Where it comes from.
    pub source: String,
    /// Whether it is a run of the user's.
    pub ours: bool,
}

impl From<PublishedScore> for Placed {
    fn from(PublishedScore { model, overall, source }: PublishedScore) -> Self {
        Self { model, overall, interval: None, source, ours: false }
    }
}

/// The table, and `notes` below it.
pub(crate) fn published_terminal(mut rows: Vec<Placed>, notes: &[String]) -> String {
    rows.sort_by(|a, b| b.overall.total_cmp(&a.overall));
    let mut table = Table::new();
    table.load_style(STYLE);
    table.set_header(["", "model", "overall", "source"]);
    for row in rows {
        let interval = row.interval.map_or(String::new(), |found| format!(" ({})", ends(found, 2)));
        table.add_row([
            if row.ours { ">" } else { "" }.to_owned(),
            row.model,
            fixed(row.overall, 2),
            row.source + &interval,
        ]);
    }
    if let Some(column) = table.column_mut(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = table.trim_fmt();
    text.push_str(
        "\nprotocol reference; published: by the reference script with mPLUG-large\n\
         in brackets the 95 % interval; published scores have none\n\
         not traced: in tables of later papers, without the paper that measured it\n\
         no columns of categories: published ones count one image of four, and most\n  \
         were mixed up between processes\n",
    );
    for note in notes {
        text.push_str(&format!("note: {note}\n"));
    }
    text
}
