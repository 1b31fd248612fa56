//! In: text pasted from a paper, a README, a spreadsheet or the reference script's result file. Out:
//! the figures in it by category. What they mean is left to `known_counts`.

use std::collections::HashSet;

use serde::Serialize;

use super::fractions::Printed;

/// The figures of one row (one model).
#[derive(Debug, Clone, PartialEq)]
pub struct PastedTable {
    /// The model's name, where a row begins with one.
    pub label: Option<String>,
    /// The figures, in the order found.
    pub figures: Vec<Figure>,
    /// Cells of a category that hold digits and are no plain number.
    pub unread: Vec<UnreadCell>,
}

/// A cell that is not understood, so that its figure is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnreadCell {
    /// Category, as `CATEGORIES` has it.
    pub category: &'static str,
    /// What stands there.
    pub cell: String,
}

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Category, as `CATEGORIES` has it.
    pub category: &'static str,
    /// The value as printed, in percent.
    pub printed: Printed,
}

/// Why a text holds no table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[error(
    "no category figures found: give lines like `Global 80.26`, a table whose heading names the categories, or the summary that the reference script writes"
)]
pub struct Unreadable;

/// The names that are known, and how else they are written.
pub(crate) const CATEGORIES: &[(&str, &[&str])] = &[
    ("overall", &["overall", "average", "avg", "dpg-bench score", "dpg-bench", "dpg", "score"]),
    ("global", &["global"]),
    ("entity", &["entity"]),
    ("attribute", &["attribute"]),
    ("relation", &["relation"]),
    ("other", &["other"]),
    ("global -", &["global -"]),
    ("attribute - color", &["attribute - color", "attribute - colour", "color", "colour"]),
    ("attribute - texture", &["attribute - texture", "texture"]),
    ("attribute - shape", &["attribute - shape", "shape"]),
    ("attribute - size", &["attribute - size", "size"]),
    ("attribute - other", &["attribute - other"]),
    ("entity - whole", &["entity - whole", "whole"]),
    ("entity - part", &["entity - part", "part"]),
    ("entity - state", &["entity - state", "state"]),
    ("relation - spatial", &["relation - spatial", "spatial"]),
    ("relation - non-spatial", &["relation - non-spatial", "non-spatial"]),
    ("other - count", &["other - count", "count"]),
    ("other - text", &["other - text", "text"]),
];

/// Reads every table in `text`.
///
/// # Errors
/// [`Unreadable`] where there is none.
pub fn read_tables(text: &str) -> Result<Vec<PastedTable>, Unreadable> {
    // In the script's result file a line per picture stands before the figures, and its path may hold
    // any word; the last of several summaries counts.
    let text = text.rfind("L1 category scores:").map_or(text, |at| &text[at..]);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let mut tables = with_heading(&lines);
    if tables.is_empty() {
        let figures: Vec<Figure> = lines.iter().flat_map(|line| named_figures(line)).collect();
        tables.push(PastedTable { label: None, figures, unread: Vec::new() });
    }
    for table in &mut tables {
        shares_to_percent(&mut table.figures);
        // A category may be named again, as in a text that quotes two runs: the last counts.
        let mut seen = HashSet::new();
        table.figures.reverse();
        table.figures.retain(|figure| seen.insert(figure.category));
        table.figures.reverse();
    }
    tables.retain(|table| !table.figures.is_empty() || !table.unread.is_empty());
    if tables.is_empty() { Err(Unreadable) } else { Ok(tables) }
}

/// `0.8026` for 80.26 %: where no figure exceeds 1.
fn shares_to_percent(figures: &mut [Figure]) {
    let all_shares = figures.iter().all(|figure| figure.printed.percent <= 1.0);
    let finest = figures.iter().map(|figure| figure.printed.decimals).max().unwrap_or_default();
    if all_shares && finest > 2 {
        for figure in figures {
            let decimals = figure.printed.decimals.saturating_sub(2);
            let scale = 10_f64.powi(decimals.min(12) as i32);
            figure.printed.percent = (figure.printed.percent * 100.0 * scale).round() / scale;
            figure.printed.decimals = decimals;
        }
    }
}

/// Whether a heading is that of a DPG-Bench table. Others have some of its words: GenEval counts and colours,
/// T2I-CompBench colours, shapes and textures, and all of them an overall column.
fn is_heading(cells: &[String], names: &[Option<&'static str>]) -> bool {
    let named: Vec<&str> = names.iter().flatten().copied().collect();
    let own = ["global", "entity", "relation", "entity - whole", "entity - part", "entity - state"];
    let is_long = |cell: &String| cell.contains(" - ") && category_of(cell).is_some();
    let broad = named.iter().filter(|name| ["attribute", "other"].contains(name)).count();
    broad == 2 || named.iter().any(|name| own.contains(name)) || cells.iter().any(is_long)
}

/// Rows below a heading that names at least two categories: Markdown, CSV, TSV, LaTeX or columns set
/// apart by blanks. A table ends at an empty line, but for the last kind, which is often copied with empty
/// lines in it, and at the heading of another table.
fn with_heading(lines: &[&str]) -> Vec<PastedTable> {
    let mut tables = Vec::new();
    let mut heading: Option<(Separator, Vec<Option<&'static str>>)> = None;
    for line in lines {
        let found = Separator::ALL.into_iter().find_map(|separator| {
            let cells = separator.split(line);
            let names: Vec<_> = cells.iter().map(|cell| category_of(cell)).collect();
            let named = names.iter().flatten().count();
            let has_number = cells.iter().any(|cell| read_number(cell).is_some());
            let is_ours = is_heading(&cells, &names);
            (named >= 2 && !has_number).then_some((is_ours, (separator, names)))
        });
        if let Some((is_ours, found)) = found {
            heading = is_ours.then_some(found);
            continue;
        }
        if line.trim().is_empty()
            && heading.as_ref().is_some_and(|(kind, _)| *kind != Separator::Blanks)
        {
            heading = None;
        }
        let Some((separator, names)) = &heading else { continue };
        let cells = separator.split(line);
        // Columns set apart by blanks line up at the right: a model's name may have several words,
        // and its column no heading.
        let surplus = match separator {
            Separator::Blanks => cells.len().saturating_sub(names.len()),
            _ => 0,
        };
        let (mut figures, mut unread) = (Vec::new(), Vec::new());
        for (name, cell) in names.iter().zip(cells.iter().skip(surplus)) {
            let Some(category) = *name else { continue };
            match read_number(cell) {
                Some(printed) => figures.push(Figure { category, printed }),
                None if cell.bytes().any(|byte| byte.is_ascii_digit()) => {
                    unread.push(UnreadCell { category, cell: cell.clone() });
                }
                None => {}
            }
        }
        // Prose below columns set apart by blanks is no row.
        let is_row = *separator != Separator::Blanks && !unread.is_empty();
        if !figures.is_empty() || is_row {
            let words = cells.iter().take_while(|cell| read_number(cell).is_none());
            let words: Vec<String> = words.map(|cell| strip_marks(cell)).collect();
            let label = match separator {
                Separator::Blanks => words.join(" "),
                _ => words.into_iter().next().unwrap_or_default(),
            };
            tables.push(PastedTable {
                label: Some(label).filter(|label| !label.is_empty()),
                figures,
                unread,
            });
        }
    }
    tables
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Separator {
    Bar,
    Ampersand,
    Tab,
    Comma,
    Semicolon,
    Blanks,
}

impl Separator {
    const ALL: [Self; 6] =
        [Self::Bar, Self::Ampersand, Self::Tab, Self::Semicolon, Self::Comma, Self::Blanks];

    fn split(self, line: &str) -> Vec<String> {
        let line = line.trim();
        let character = match self {
            Self::Bar => '|',
            Self::Ampersand => '&',
            Self::Tab => '\t',
            Self::Comma => ',',
            Self::Semicolon => ';',
            Self::Blanks => return line.split_whitespace().map(str::to_owned).collect(),
        };
        let line = if self == Self::Bar { line.trim_matches('|') } else { line };
        line.split(character).map(|cell| cell.trim().to_owned()).collect()
    }
}

/// Takes off what tables put around a cell: bold marks, quotes, arrows, LaTeX commands, units.
fn strip_marks(cell: &str) -> String {
    let mut text = cell.to_owned();
    for mark in [
        "\\textbf",
        "\\underline",
        "\\textit",
        "\\\\",
        "\\%",
        "\\uparrow",
        "<b>",
        "</b>",
        "<u>",
        "</u>",
    ] {
        text = text.replace(mark, "");
    }
    let text: String = text
        .chars()
        .filter(|c| !matches!(c, '*' | '`' | '"' | '{' | '}' | '$' | '\u{2191}' | '%' | ':'))
        .collect();
    text.trim().trim_matches('_').trim().to_owned()
}

fn category_of(cell: &str) -> Option<&'static str> {
    let name = strip_marks(cell).to_lowercase();
    let known = CATEGORIES.iter().find(|(_, spellings)| spellings.contains(&name.as_str()));
    known.map(|(category, _)| *category)
}

/// A number from 0 to 100 that is the whole cell, and how many decimals it shows.
fn read_number(cell: &str) -> Option<Printed> {
    let text = strip_marks(cell);
    let is_plain = text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    let percent: f64 = text.parse().ok().filter(|_| is_plain)?;
    let decimals = text.split_once('.').map_or(0, |(_, digits)| digits.len() as u32);
    (0.0..=100.0).contains(&percent).then_some(Printed { percent, decimals })
}

/// `Global 80.26, Entity: 80.13 ...`: each known name that a number follows.
fn named_figures(line: &str) -> Vec<Figure> {
    let lower = line.to_ascii_lowercase();
    // The longest spelling first, so that `other - count` is not read as `other`.
    let mut spellings: Vec<(&str, &'static str)> = CATEGORIES
        .iter()
        .flat_map(|(category, spellings)| spellings.iter().map(|spelling| (*spelling, *category)))
        .collect();
    spellings.sort_by_key(|(spelling, _)| std::cmp::Reverse(spelling.len()));
    let mut figures = Vec::new();
    let mut at = 0;
    while at < lower.len() {
        let rest = &lower[at..];
        let begins_word = !lower[..at].ends_with(|c: char| c.is_alphanumeric() || c == '-');
        let name = spellings.iter().find(|(spelling, _)| {
            begins_word
                && rest
                    .strip_prefix(spelling)
                    .is_some_and(|tail| !tail.starts_with(|c: char| c.is_alphanumeric()))
        });
        match name {
            Some((spelling, category)) => {
                at += spelling.len();
                let tail = lower[at..].trim_start_matches(|c: char| {
                    c.is_whitespace() || matches!(c, ':' | '=' | '|' | ',' | '&' | '*' | '"' | ';')
                });
                let number = tail.split(|c: char| !c.is_ascii_digit() && c != '.').next();
                let printed =
                    number.map(|number| number.trim_end_matches('.')).and_then(read_number);
                if let Some(printed) = printed {
                    figures.push(Figure { category, printed });
                }
            }
            None => at += rest.chars().next().map_or(1, char::len_utf8),
        }
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    type Found = (Option<String>, Vec<(&'static str, f64, u32)>);

    fn read(text: &str) -> Vec<Found> {
        let of =
            |figure: &Figure| (figure.category, figure.printed.percent, figure.printed.decimals);
        read_tables(text)
            .unwrap()
            .iter()
            .map(|table| (table.label.clone(), table.figures.iter().map(of).collect()))
            .collect()
    }

    #[test]
    fn every_usual_form_is_read() {
        let wanted = vec![("global", 80.26, 2), ("other", 73.9, 1)];
        for text in [
            "Global 80.26\nOther 73.9\n",
            "global: 80.26, other = 73.9",
            "Model,Global,Other\nx,80.26,73.9\n",
            "| Model | Global | **Other** |\n|---|---|---|\n| x | 80.26 | **73.9** |",
            "Model & Global & Other $\\uparrow$ \\\\\nx & 80.26 & \\textbf{73.9} \\\\",
            "Global Other\nx 80.26 73.9",
            "Global\tOther\n80.26\t73.9",
        ] {
            let tables = read(text);
            assert_eq!(tables.len(), 1, "{text}");
            assert_eq!(tables[0].1, wanted, "{text}");
        }
    }

    #[test]
    fn several_rows_keep_their_labels() {
        let text = "Model | Overall | Global | Other\nSDXL base | 74.65 | 83.27 | 80.41\nOurs | 80.00 | 81.00 | 82.00";
        let labels: Vec<_> = read(text).into_iter().map(|table| table.0).collect();
        assert_eq!(labels, [Some("SDXL base".to_owned()), Some("Ours".to_owned())]);
    }

    /// As model cards have them: several benchmarks below one another, with words in common.
    #[test]
    fn tables_of_other_benchmarks_are_passed_over() {
        let text = "GenEval\n\n\
            | Model | Single | Count | Color | Attribute | **Overall** |\n|:--|:-:|:-:|:-:|:-:|:-:|\n\
            | x | 0.99 | 0.79 | 0.74 | 0.47 | 0.67 |\n\n\
            | Color | Shape | Texture | Spatial | Non-Spatial | Complex |\n|-|-|-|-|-|-|\n\
            | 0.61 | 0.52 | 0.63 | 0.21 | 0.31 | 0.40 |\n\n\
            | Model | Global | Entity | **Overall \u{2191}** |\n|:--|:-:|:-:|:-:|\n\
            | **Group** ||||\n| x | 82.10 | 89.50 | 84.00 |\n| y | TBD | - | 83.57 |\n\n\
            | Model | SC | PQ | **Overall** |\n|:--|:-:|:-:|:-:|\n| x | 7.09 | 6.76 | 6.70 |\n";
        let x = vec![("global", 82.1, 2), ("entity", 89.5, 2), ("overall", 84.0, 2)];
        let y = vec![("overall", 83.57, 2)];
        assert_eq!(read(text), [(Some("x".to_owned()), x), (Some("y".to_owned()), y)]);
        let geneval = "Model,Count,Color,Overall\nx,0.79,0.74,0.67\n";
        assert_eq!(read_tables(geneval), Err(Unreadable));
        // Two columns that are DPG-Bench's alone or together tell it.
        for heading in ["Overall Global", "Attribute Other", "whole part state", "Relation Other"] {
            let cells = heading.split(' ').map(|_| "50.00").collect::<Vec<_>>().join(" ");
            assert_eq!(read(&format!("{heading}\nx {cells}")).len(), 1, "{heading}");
        }
    }

    #[test]
    fn cells_that_are_not_understood_are_told() {
        let text = "Model,Global,Other,Entity\nx,79.64\u{2020},83.6 (+1.2),n/a\n";
        let table = read_tables(text).unwrap().remove(0);
        assert!(table.figures.is_empty());
        let unread = |category, cell: &str| UnreadCell { category, cell: cell.to_owned() };
        let expected = [unread("global", "79.64\u{2020}"), unread("other", "83.6 (+1.2)")];
        assert_eq!(table.unread, expected);
    }

    #[test]
    fn the_summary_of_the_reference_script_is_read_in_full() {
        let text = "Model: run\nL1 category scores:\n\tother: 83.6\n\tglobal: 79.63525835866262\nL2 category scores:\n\tglobal -: 79.63525835866262\n\tother - count: 81.0\nDPG-Bench score: 65.9674\n";
        let tables = read(text);
        assert_eq!(
            tables[0].1,
            [
                ("other", 83.6, 1),
                ("global", 79.635_258_358_662_62, 14),
                ("global -", 79.635_258_358_662_62, 14),
                ("other - count", 81.0, 1),
                ("overall", 65.9674, 4),
            ]
        );
    }

    #[test]
    fn shares_are_taken_as_percentages_and_prose_as_nothing() {
        assert_eq!(read("global 0.8026 other 0.7391")[0].1[0], ("global", 80.26, 2));
        assert_eq!(read_tables("Nothing of the kind: another 12 globally"), Err(Unreadable));
        assert_eq!(read_tables(""), Err(Unreadable));
    }
}
