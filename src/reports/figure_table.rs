//! In: a summary and the protocols to show. Out: one table of figures, the same for every format:
//! rows are overall, L1 and L2, columns are protocol and stage. How a cell is written is left to the
//! formats.

pub use crate::aggregate::Level;
use crate::aggregate::category_order::table_order;
use crate::aggregate::shares::Stage;
use crate::aggregate::{CategoryFigure, Estimate, Protocol, Summary};
use crate::benchmark::category::l1_of;

use super::numbers::fixed;
use crate::wording::counted;

/// A table of figures.
#[derive(Debug, Clone, PartialEq)]
pub struct FigureTable {
    /// The protocols that are shown.
    pub protocols: Vec<Protocol>,
    /// The columns after the name.
    pub columns: Vec<Column>,
    /// The rows: overall first, then each L1 with its L2 below it.
    pub rows: Vec<Row>,
}

/// Where a column's figures come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// The rules.
    pub protocol: Protocol,
    /// Before or after the dependency rule.
    pub stage: Stage,
}

impl Column {
    /// The heading.
    pub fn heading(self) -> &'static str {
        match (self.protocol, self.stage) {
            (Protocol::Reference, _) => "reference",
            (Protocol::Corrected, Stage::Raw) => "corrected, before the rule",
            (Protocol::Corrected, Stage::Conditional) => "corrected, after the rule",
            (Protocol::Soft, Stage::Raw) => "soft, before the rule",
            (Protocol::Soft, Stage::Conditional) => "soft, after the rule",
            (Protocol::SoftTifaGm, _) => "soft_tifa_gm",
        }
    }
}

impl Column {
    /// Whether it is the protocol's own column where there is room for one: the only one that it has, or the one whose
    /// stage the benchmark score is made from.
    pub(super) fn is_printed_alone(self) -> bool {
        self.stage == Stage::of_categories(self.protocol)
    }

    /// Whether it has categories beside the benchmark score.
    pub(super) fn has_categories(self) -> bool {
        self.protocol != Protocol::SoftTifaGm
    }

    /// The name in CSV of the stage of a figure in it. The benchmark score is made after the rule, where there is one.
    pub(super) fn stage_name(self, level: Level) -> &'static str {
        match (level, self.stage) {
            (Level::Overall, _) if self.has_categories() => "conditional",
            (_, Stage::Conditional) => "conditional",
            (_, Stage::Raw) => "raw",
        }
    }
}

/// A name for narrow tables: below its L1 an L2 needs no name of that, but for `other`, which an L1 is called too.
pub(super) fn short_name(level: Level, name: &str) -> String {
    let own = match name.split_once(" - ") {
        Some((_, "other")) | None => name,
        Some((_, own)) => own,
    };
    match level {
        Level::L2 => format!("  {own}"),
        _ => name.to_owned(),
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What it is about.
    pub level: Level,
    /// Category name; `DPG-Bench score` for the overall row.
    pub name: String,
    /// One cell per column.
    pub cells: Vec<Cell>,
}

/// One cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell {
    /// A figure.
    Figure(Estimate),
    /// There is one, but coverage is incomplete and it was not asked for all the same.
    Withheld,
    /// There is none: no such question, or no such figure under the protocol.
    Absent,
}

/// A figure as it is printed: `71.70`, and its interval where it has one: `±1.31`, half its length, or
/// `(98.12–99.94)` where it does not reach as far up as down.
pub fn printed(figure: &Estimate) -> (String, Option<String>) {
    let interval = match (figure.margin(), figure.low.zip(figure.high)) {
        (Some(margin), _) => Some(format!("±{}", fixed(margin, 2))),
        (None, Some((low, high))) => Some(format!("({}–{})", fixed(low, 2), fixed(high, 2))),
        (None, None) => None,
    };
    (fixed(figure.mean, 2), interval)
}

/// A figure with its interval, where it has one.
pub(super) fn with_margin(figure: &Estimate) -> String {
    let (mean, margin) = printed(figure);
    margin.map_or(mean.clone(), |margin| format!("{mean} {margin}"))
}

/// What must be said of figures over so few items; nothing from thirty on, and of none.
pub(crate) fn few_items_note(items: u64) -> Option<String> {
    (1..FEW_ITEMS).contains(&items).then(|| {
        format!(
            "only {}: below {FEW_ITEMS} intervals are rough and only large differences show",
            counted(items, "item")
        )
    })
}

/// Below this many items a mean is not nearly normal, and a spread is hardly known.
const FEW_ITEMS: u64 = 30;

impl From<Option<Estimate>> for Cell {
    fn from(estimate: Option<Estimate>) -> Self {
        estimate.map_or(Self::Absent, Self::Figure)
    }
}

impl FigureTable {
    /// One table of the protocols of yes and no, and one of those of P(yes), as far as `protocols` has them.
    pub fn parts(summary: &Summary, protocols: &[Protocol]) -> Vec<Self> {
        let (soft, plain): (Vec<Protocol>, Vec<Protocol>) =
            protocols.iter().partition(|protocol| protocol.is_soft());
        let parts = [plain, soft].into_iter().filter(|part| !part.is_empty());
        parts.map(|part| Self::new(summary, &part)).collect()
    }

    /// Lays out the figures of `protocols`, in the order given.
    pub fn new(summary: &Summary, protocols: &[Protocol]) -> Self {
        let columns: Vec<Column> = protocols
            .iter()
            .flat_map(|&protocol| {
                let stages: &[Stage] = match protocol {
                    Protocol::Reference | Protocol::SoftTifaGm => &[Stage::Raw],
                    Protocol::Corrected | Protocol::Soft => &[Stage::Raw, Stage::Conditional],
                };
                stages.iter().map(move |&stage| Column { protocol, stage })
            })
            .collect();
        let overall = Row {
            level: Level::Overall,
            name: "DPG-Bench score".to_owned(),
            cells: columns.iter().map(|&column| overall_cell(summary, column)).collect(),
        };
        let mut rows = vec![overall];
        for l1 in names(summary, protocols, Level::L1) {
            rows.push(category_row(summary, &columns, Level::L1, &l1));
            for l2 in names(summary, protocols, Level::L2) {
                if l1_of(&l2) == l1 {
                    rows.push(category_row(summary, &columns, Level::L2, &l2));
                }
            }
        }
        Self { protocols: protocols.to_vec(), columns, rows }
    }
}

/// Places of the rows that say something new: all but those of an L2 that is the whole of its L1, which stands above it, with
/// the same numbers.
pub(super) fn telling_rows<R>(
    rows: &[R],
    level: impl Fn(&R) -> Level,
    same: impl Fn(&R, &R) -> bool,
) -> Vec<usize> {
    let is_l2 = |place: usize| rows.get(place).is_some_and(|row| level(row) == Level::L2);
    let repeats = |place: usize| {
        let is_alone = place > 0 && is_l2(place) && !is_l2(place - 1) && !is_l2(place + 1);
        is_alone && same(&rows[place], &rows[place - 1])
    };
    (0..rows.len()).filter(|place| !repeats(*place)).collect()
}

/// The benchmark score stands in the column whose stage it is made from: after the rule, or the only column that the
/// protocol has.
fn overall_cell(summary: &Summary, column: Column) -> Cell {
    if !column.is_printed_alone() {
        return Cell::Absent;
    }
    let figures = summary.protocol(column.protocol);
    match (figures.overall, &figures.gap) {
        (None, Some(_)) if figures.items_scored > 0 => Cell::Withheld,
        (overall, _) => overall.into(),
    }
}

fn figures(summary: &Summary, protocol: Protocol, level: Level) -> &[CategoryFigure] {
    let figures = summary.protocol(protocol);
    if level == Level::L1 { &figures.l1 } else { &figures.l2 }
}

fn names(summary: &Summary, protocols: &[Protocol], level: Level) -> Vec<String> {
    let mut names: Vec<String> = protocols
        .iter()
        .flat_map(|&protocol| figures(summary, protocol, level))
        .map(|figure| figure.name.clone())
        .collect();
    names.sort_by(|a, b| table_order(a, b));
    names.dedup();
    names
}

fn category_row(summary: &Summary, columns: &[Column], level: Level, name: &str) -> Row {
    let cell = |column: &Column| {
        let mut figures = figures(summary, column.protocol, level).iter();
        let figure = figures.find(|figure| figure.name == name);
        figure
            .and_then(|figure| match column.stage {
                Stage::Raw => figure.raw,
                Stage::Conditional => figure.conditional,
            })
            .into()
    };
    Row { level, name: name.to_owned(), cells: columns.iter().map(cell).collect() }
}
