//! In: a summary. Out: the table for a terminal, with what it covers below it.

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};

use crate::aggregate::{DroppedItem, IntervalKind, IntervalMethod, Protocol, ScoreSpread, Summary};

use super::figure_table::{Cell, FigureTable, Level, few_items_note, printed};

/// Dropped items listed one by one; the summary file has them all.
const SHOWN_ITEMS: usize = 5;

/// Lines above, below and under the heading; nothing between the rows.
pub(super) const STYLE: TableStyle =
    TableStyle::new().top_border(RULE).header_separator(RULE).bottom_border(RULE);
const RULE: LineStyle = LineStyle::none().fill('─').junction('─');

/// The figures of `protocols` side by side, then what the run covers.
pub fn terminal_table(summary: &Summary, protocols: &[Protocol]) -> String {
    let figures = FigureTable::new(summary, protocols);
    let mut table = Table::new();
    table.load_style(STYLE);
    let headings =
        figures.columns.iter().flat_map(|column| [two_lines(column.heading()), "k/n".into()]);
    table.set_header(std::iter::once(String::new()).chain(headings));
    for row in &figures.rows {
        let indent = if row.level == Level::L2 { "  " } else { "" };
        let cells = row.cells.iter().flat_map(|cell| match cell {
            Cell::Figure(figure) => {
                // The benchmark score is a mean of means: its counts do not divide to it.
                let counts = match row.level {
                    Level::Overall => format!("{} items", figure.items),
                    _ => format!("{}/{}", figure.k, figure.n),
                };
                let (mean, margin) = printed(figure);
                [[mean, margin.unwrap_or_default()].join(" ").trim_end().to_owned(), counts]
            }
            Cell::Withheld => ["withheld".to_owned(), String::new()],
            Cell::Absent => ["-".to_owned(), String::new()],
        });
        table.add_row(std::iter::once(format!("{indent}{}", row.name)).chain(cells));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    for line in notes(summary, protocols) {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// The table must fit a narrow terminal.
fn two_lines(heading: &str) -> String {
    heading.replace(", ", "\n")
}

/// What must be read with the figures, one line each.
pub fn notes(summary: &Summary, protocols: &[Protocol]) -> Vec<String> {
    let coverage = &summary.coverage;
    let benchmark = &summary.run.benchmark;
    let model = summary.run.model.as_deref().unwrap_or("not stated");
    let kind = if benchmark.official { "official question file" } else { "not the official file" };
    let mut lines = vec![
        format!("model {model}, judge {}", summary.judge.name),
        format!(
            "benchmark {} ({kind}), {} of {} items, {} images each",
            benchmark.path,
            coverage.items_expected,
            coverage.items_in_benchmark,
            summary.run.images_per_item
        ),
        format!(
            "images {}/{}, questions answered {}/{}: {} unparsable, {} failed, {} never asked",
            coverage.images_present,
            coverage.images_expected,
            coverage.questions_answered,
            coverage.questions_expected,
            coverage.questions_unparsable,
            coverage.questions_failed,
            coverage.questions_missing
        ),
    ];
    lines.extend(summary.run.server_note());
    lines.extend(coverage.server_notes());
    if coverage.prompts_truncated > 0 {
        lines.push(format!(
            "{} of {} prompts are longer than the text encoder takes and were truncated",
            coverage.prompts_truncated, coverage.items_expected
        ));
    }
    lines.extend(summary.intervals.map(interval_note));
    lines.extend(few_items_note(coverage.items_expected));
    for &protocol in protocols {
        let figures = summary.protocol(protocol);
        lines.push(format!(
            "{}: {} items scored, {} not",
            protocol.name(),
            figures.items_scored,
            figures.dropped.len()
        ));
        if let Some(spread) = figures.spread.filter(|_| protocol == Protocol::Corrected) {
            lines.extend(spread_lines(spread));
        }
        lines.extend(figures.dropped.iter().take(SHOWN_ITEMS).map(dropped_line));
        if let Some(more) = figures.dropped.len().checked_sub(SHOWN_ITEMS).filter(|&more| more > 0)
        {
            lines.push(format!("  and {more} more, all of them in the summary file"));
        }
        if let Some(gap) = &figures.gap {
            lines.push(match figures.overall {
                Some(_) => format!("{}: incomplete, {gap}", protocol.name()),
                None => format!(
                    "{}: score withheld, {gap}; --allow-incomplete prints it",
                    protocol.name()
                ),
            });
        }
    }
    lines
}

/// Where the score's error bar comes from, and what it can tell.
fn spread_lines(spread: ScoreSpread) -> [String; 2] {
    let ScoreSpread { between_items, between_images, .. } = spread;
    let (alike, unrelated) = (spread.detectable_alike, spread.detectable_unrelated);
    [
        format!(
            "  an image's score varies by {between_items:.1} points between items, by {between_images:.1} \
             between an item's images"
        ),
        format!(
            "  told apart from it is a run that differs by {alike:.1} points (a like model) to \
             {unrelated:.1} (an unlike one)"
        ),
    ]
}

/// What the margins are.
pub(super) fn interval_note(method: IntervalMethod) -> String {
    let how = match method.method {
        IntervalKind::KornGraubard => "Korn and Graubard's, over whole items",
        IntervalKind::Bootstrap => "a bootstrap of whole items",
    };
    let level = 100.0 * method.level;
    format!(
        "± is half of the {level} % interval, in brackets its ends where they lie unevenly: {how}"
    )
}

fn dropped_line(item: &DroppedItem) -> String {
    format!("  {}: {}", item.item, item.reason)
}
