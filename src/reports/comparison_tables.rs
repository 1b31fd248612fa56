//! In: a comparison of two runs. Out: its tables, for a terminal, as Markdown and as CSV.

use comfy_table::{CellAlignment, Table};

use crate::aggregate::Protocol;
use crate::benchmark::finding::shortened;
use crate::compare::{Comparison, Difference, FEWEST_ITEMS, ItemDifference, Level, SoftComparison};
use crate::statistics::paired_test::EXACT_ITEMS;

use super::exported_tables::escape_markdown;
use super::figure_table::{few_items_note, short_name, telling_rows};
use super::numbers::{fixed, p_value, signed, signed_ends};
use super::report_table::NONE;
use super::settings_tables::short;
use super::terminal::STYLE;
use crate::wording::counted;

/// The columns of [`cells`].
const HEADINGS: [&str; 6] = ["base", "other", "difference", "interval", "p", "p (Holm)"];

/// The differences as a table, what they rest on below it, and the `swings` largest losses and gains of items.
pub fn comparison_terminal(comparison: &Comparison, swings: usize) -> String {
    let rows = telling(&comparison.figures).into_iter();
    let rows = rows.map(|figure| (short_name(figure.level, &figure.name), figure));
    let mut text = drawn("", rows);
    let soft = soft_rows(comparison);
    if !soft.is_empty() {
        let rows = soft.into_iter();
        text.push_str(&drawn(SOFT, rows.map(|(name, one)| (short_name(one.level, name), one))));
    }
    for note in notes(comparison) {
        text.push_str(&note);
        text.push('\n');
    }
    text.push_str(&settings_terminal(comparison));
    let (lost, won) = swung(comparison, swings);
    for (heading, items) in [("largest losses:", lost), ("largest gains:", won)] {
        if !items.is_empty() {
            text.push_str(heading);
            text.push('\n');
        }
        for item in items {
            text.push_str(&format!(
                "  {:>7}  {:>6} -> {:>6}  {}\n",
                signed(item.difference, 2),
                fixed(item.base, 2),
                fixed(item.other, 2),
                item.item
            ));
        }
    }
    text
}

/// Rows of figures in a table with this heading over their names.
fn drawn<'a>(heading: &str, rows: impl Iterator<Item = (String, &'a Difference)>) -> String {
    let mut table = Table::new();
    table.load_style(STYLE);
    // Short, so that the table fits a terminal of 80 columns.
    table.set_header(std::iter::once(heading).chain(HEADINGS.map(|heading| match heading {
        "difference" => "diff.",
        other => other,
    })));
    for (name, figure) in rows {
        table.add_row(std::iter::once(name).chain(cells(figure)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((1, 0));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt() + "\n"
}

/// The heading of the figures of P(yes).
const SOFT: &str = "soft: P(yes)";

/// The figures of P(yes) that say something new, under their names: those of `soft`, then the score under `soft_tifa_gm`.
fn soft_rows(comparison: &Comparison) -> Vec<(&str, &Difference)> {
    let mut rows = Vec::new();
    for one in &comparison.soft {
        let name = (one.protocol != Protocol::Soft).then(|| one.protocol.name());
        let figures = telling(&one.figures).into_iter();
        rows.extend(figures.map(|figure| (name.unwrap_or(&figure.name), figure)));
    }
    rows
}

/// `settings that differ:` and one line each, with the value of the base and that of the other.
fn settings_terminal(comparison: &Comparison) -> String {
    let (rows, more) = shown_settings(comparison);
    if rows.is_empty() {
        return "settings that differ: none\n".to_owned();
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let [name, base] = [0, 1].map(|column| width(column).unwrap_or_default());
    let mut text = String::from("settings that differ (base, other):\n");
    for [setting, of_base, of_other] in &rows {
        text.push_str(&format!("  {setting:<name$}  {of_base:<base$}  {of_other}\n"));
    }
    if more > 0 {
        text.push_str(&format!("  and {more} more, which --json shows\n"));
    }
    text
}

/// Name and both values of the first settings that differ, and how many there are more.
fn shown_settings(comparison: &Comparison) -> (Vec<[String; 3]>, usize) {
    let found = &comparison.differing_settings;
    let value = |value: Option<&str>| shortened(short(value.unwrap_or(NONE)));
    let rows = found.iter().take(SHOWN_SETTINGS);
    let rows: Vec<_> = rows
        .map(|one| [one.name.clone(), value(one.base.as_deref()), value(one.other.as_deref())])
        .collect();
    let more = found.len() - rows.len();
    (rows, more)
}

/// Settings shown; what a server says of itself may be hundreds of lines.
const SHOWN_SETTINGS: usize = 20;

/// The figures that say something new.
fn telling(figures: &[Difference]) -> Vec<&Difference> {
    let same = |a: &Difference, b: &Difference| (a.base, a.other) == (b.base, b.other);
    let places = telling_rows(figures, |figure| figure.level, same);
    places.into_iter().map(|place| &figures[place]).collect()
}

/// The same as Markdown.
pub fn comparison_markdown(comparison: &Comparison, swings: usize) -> String {
    let rows = telling(&comparison.figures).into_iter();
    let mut text = markdown_rows("", rows.map(|figure| (figure.name.as_str(), figure)));
    let soft = soft_rows(comparison);
    if !soft.is_empty() {
        text.push_str(&markdown_rows(&format!(" {SOFT}"), soft.into_iter()));
    }
    for note in notes(comparison) {
        text.push_str(&format!("- {}\n", escape_markdown(&note)));
    }
    let (settings, more) = shown_settings(comparison);
    if settings.is_empty() {
        text.push_str("- settings that differ: none\n");
    } else {
        text.push_str("\n| settings that differ | base | other |\n| --- | --- | --- |\n");
    }
    for row in settings {
        text.push_str(&format!("| {} |\n", row.map(|cell| escape_markdown(&cell)).join(" | ")));
    }
    if more > 0 {
        text.push_str(&format!("| {more} more | | |\n"));
    }
    let (lost, won) = swung(comparison, swings);
    if !(lost.is_empty() && won.is_empty()) {
        text.push_str("\n| item | base | other | difference |\n| --- | ---: | ---: | ---: |\n");
    }
    for item in lost.into_iter().chain(won) {
        text.push_str(&format!(
            "| {} | {} | {} | {} |\n",
            escape_markdown(&item.item),
            fixed(item.base, 2),
            fixed(item.other, 2),
            signed(item.difference, 2)
        ));
    }
    text
}

fn markdown_rows<'a>(
    heading: &str,
    rows: impl Iterator<Item = (&'a str, &'a Difference)>,
) -> String {
    let mut text = format!("|{heading} | {} |\n| --- |", HEADINGS.join(" | "));
    text.push_str(&" ---: |".repeat(HEADINGS.len()));
    text.push('\n');
    for (name, figure) in rows {
        let name = escape_markdown(name);
        let name = if figure.level == Level::L2 { name } else { format!("**{name}**") };
        text.push_str(&format!("| {name} | {} |\n", cells(figure).join(" | ")));
    }
    text.push('\n');
    text
}

/// One row per figure of every comparison; numbers read back to the same ones, an absent one is empty.
///
/// # Errors
/// The CSV writer refused (a programming error).
pub fn comparison_csv(comparisons: &[Comparison]) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record([
        "base",
        "other",
        "protocol",
        "level",
        "name",
        "base_percent",
        "base_k",
        "base_n",
        "other_percent",
        "other_k",
        "other_n",
        "difference",
        "low",
        "high",
        "p",
        "p_holm",
        "items",
    ])?;
    let optional = |value: Option<f64>| value.map(|v| v.to_string()).unwrap_or_default();
    for comparison in comparisons {
        let own = comparison.figures.iter().map(|figure| (comparison.protocol, figure));
        let soft = comparison.soft.iter();
        let soft = soft.flat_map(|one| one.figures.iter().map(|figure| (one.protocol, figure)));
        for (protocol, figure) in own.chain(soft) {
            writer.write_record([
                &comparison.base.label,
                &comparison.other.label,
                protocol.name(),
                figure.level.name(),
                &figure.name,
                &figure.base.percent.to_string(),
                &figure.base.k.to_string(),
                &figure.base.n.to_string(),
                &figure.other.percent.to_string(),
                &figure.other.k.to_string(),
                &figure.other.n.to_string(),
                &figure.difference.to_string(),
                &optional(figure.low),
                &optional(figure.high),
                &optional(figure.p),
                &optional(figure.p_holm),
                &figure.other.items.to_string(),
            ])?;
        }
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

fn cells(figure: &Difference) -> [String; 6] {
    let interval = match (figure.low, figure.high) {
        (Some(low), Some(high)) => signed_ends((low, high), 2),
        _ => "-".to_owned(),
    };
    let p = |p: Option<f64>| p.map_or("-".to_owned(), p_value);
    [
        fixed(figure.base.percent, 2),
        fixed(figure.other.percent, 2),
        signed(figure.difference, 2),
        interval,
        p(figure.p),
        // One figure alone needs no correction.
        if figure.level == Level::Overall { String::new() } else { p(figure.p_holm) },
    ]
}

fn notes(comparison: &Comparison) -> Vec<String> {
    let side = |side: &crate::compare::Side| {
        let model = side.model.as_deref().unwrap_or("model not stated");
        format!("{} ({model}, judge {})", side.label, side.judge)
    };
    let mut notes = vec![
        format!("base: {}", side(&comparison.base)),
        format!("other: {}", side(&comparison.other)),
        format!(
            "protocol {}, {} scored in both ({} in base alone, {} in other alone)",
            comparison.protocol.name(),
            counted(comparison.items, "item"),
            comparison.only_base,
            comparison.only_other
        ),
        format!(
            "diff.: other minus base, in points; interval: {} %; p: two-sided",
            100.0 * comparison.level
        ),
        "p (Holm): corrected for the number of categories".to_owned(),
        "p decides: significant below 0.05, of a category p (Holm) below 0.05".to_owned(),
        "an interval that ends at +0.00 holds 0; that of a category is not corrected".to_owned(),
        format!(
            "interval and p: swapping the runs item by item, {} rounds (all patterns up to \
             {EXACT_ITEMS} items)",
            comparison.draws
        ),
    ];
    let says_nothing = |figure: &Difference| {
        figure.low.is_some_and(|low| low <= -100.0) && figure.high.is_some_and(|high| high >= 100.0)
    };
    if comparison.figures.iter().any(says_nothing) {
        notes.push("-100.00 to +100.00: so few items have such questions, five or fewer, that nothing can be excluded".to_owned());
    }
    notes.extend(comparison.detectable.map(|points| match points {
        points if points > 0.0 => format!(
            "with {}, 80 % of comparisons find a true difference of {points:.2} points (5 % level)",
            counted(comparison.items, "item")
        ),
        _ if comparison.items_by_difference.iter().all(|item| item.difference == 0.0) => {
            "the runs are equal in every item, so which difference would be found cannot be estimated".to_owned()
        }
        _ => "the runs differ by the same in every item, so which difference would be found cannot be estimated"
            .to_owned(),
    }));
    notes.extend(comparison.soft.iter().filter_map(soft_note));
    if comparison.items < FEWEST_ITEMS {
        notes.push(format!(
            "{} cannot show a difference at the 5 % level, however large; it takes {FEWEST_ITEMS} or more",
            counted(comparison.items, "item")
        ));
    }
    notes.extend(few_items_note(comparison.items as u64));
    notes.extend(comparison.warnings.iter().map(|warning| format!("note: {warning}")));
    notes
}

/// What comparisons under a protocol of P(yes) find, and of which numbers fewer items do.
fn soft_note(soft: &SoftComparison) -> Option<String> {
    let name = soft.protocol.name();
    let found = soft.detectable.filter(|points| *points > 0.0).map(|points| {
        format!(
            "{name}: 80 % of comparisons find a true difference of {points:.2} points (5 % level)"
        )
    })?;
    let fewer: Vec<String> = soft
        .items_needed
        .iter()
        .filter(|needed| needed.soft < needed.corrected)
        .map(|needed| format!("{} {} (corrected {})", needed.name, needed.soft, needed.corrected))
        .collect();
    let shown = fewer.iter().take(SHOWN_NEEDS).cloned().collect::<Vec<_>>().join(", ");
    Some(match fewer.len() {
        0 => format!("{found}; it needs fewer items than corrected for no number"),
        count if count > SHOWN_NEEDS => format!(
            "{found}; items that find what is seen, where it needs fewer: {shown} and {} more",
            count - SHOWN_NEEDS
        ),
        _ => format!("{found}; items that find what is seen, where it needs fewer: {shown}"),
    })
}

/// Further numbers are only counted; `--json` has them all.
const SHOWN_NEEDS: usize = 4;

/// The items that lost most and those that won most, the largest first; items that did neither are
/// left out.
fn swung(comparison: &Comparison, count: usize) -> (Vec<&ItemDifference>, Vec<&ItemDifference>) {
    let items = &comparison.items_by_difference;
    let lost = items.iter().filter(|item| item.difference < 0.0).take(count).collect();
    let won = items.iter().rev().filter(|item| item.difference > 0.0).take(count).collect();
    (lost, won)
}
