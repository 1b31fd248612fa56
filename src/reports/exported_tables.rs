//! In: a summary. Out: its figures as CSV (full precision, one figure a row), Markdown, HTML and LaTeX
//! (booktabs), for other programs, notes, notebooks and papers.

use crate::aggregate::{Protocol, Summary};

use super::escape::escape;
use super::figure_table::{Cell, FigureTable, Level, Row, printed};
use super::terminal::notes;
use crate::wording::counted;

/// One row per figure: `level,name,protocol,stage,percent,k,n,items,low,high,standard_error`. A withheld or
/// absent figure has no row, an absent error bar is empty. Numbers read back to the same ones.
///
/// # Errors
/// The CSV writer refused (a programming error).
pub fn csv_table(summary: &Summary, protocols: &[Protocol]) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record([
        "level",
        "name",
        "protocol",
        "stage",
        "percent",
        "k",
        "n",
        "items",
        "low",
        "high",
        "standard_error",
    ])?;
    let tables = FigureTable::parts(summary, protocols);
    let rows = tables.iter().flat_map(|table| table.rows.iter().map(move |row| (table, row)));
    for (table, row) in rows {
        for (column, cell) in table.columns.iter().zip(&row.cells) {
            let Cell::Figure(figure) = cell else { continue };
            let optional = |value: Option<f64>| value.map(|v| v.to_string()).unwrap_or_default();
            writer.write_record([
                row.level.name(),
                &row.name,
                column.protocol.name(),
                column.stage_name(row.level),
                &figure.mean.to_string(),
                &figure.k.to_string(),
                &figure.n.to_string(),
                &figure.items.to_string(),
                &optional(figure.low),
                &optional(figure.high),
                &optional(figure.standard_error),
            ])?;
        }
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

/// A Markdown table with the notes below it.
pub fn markdown_table(summary: &Summary, protocols: &[Protocol]) -> String {
    let tables = FigureTable::parts(summary, protocols);
    let mut text: String = tables.iter().map(markdown_rows).collect();
    for note in notes(summary, protocols) {
        text.push_str(&format!("- {}\n", escape_markdown(note.trim_start())));
    }
    text
}

fn markdown_rows(table: &FigureTable) -> String {
    let mut text = String::from("| |");
    for column in &table.columns {
        text.push_str(&format!(" {} | k/n |", escape_markdown(column.heading())));
    }
    text.push_str("\n| --- |");
    text.push_str(&" ---: | ---: |".repeat(table.columns.len()));
    text.push('\n');
    for row in &table.rows {
        let name = escape_markdown(&row.name);
        text.push_str(&match row.level {
            Level::L2 => format!("| {name} |"),
            _ => format!("| **{name}** |"),
        });
        for cell in &row.cells {
            text.push_str(&match plain(cell, row) {
                (figure, counts) if counts.is_empty() => format!(" {figure} | |"),
                (figure, counts) => format!(" {figure} | {counts} |"),
            });
        }
        text.push('\n');
    }
    text.push('\n');
    text
}

/// A `<table>` for a notebook, with the notes below it.
pub fn html_table(summary: &Summary, protocols: &[Protocol]) -> String {
    let tables = FigureTable::parts(summary, protocols);
    let mut text: String = tables.iter().map(html_rows).collect();
    text.push_str("<ul>\n");
    for note in notes(summary, protocols) {
        text.push_str(&format!("<li>{}</li>\n", escape(note.trim_start())));
    }
    text.push_str("</ul>\n");
    text
}

fn html_rows(table: &FigureTable) -> String {
    let mut text = String::from("<table>\n<thead><tr><th></th>");
    for column in &table.columns {
        text.push_str(&format!("<th>{}</th><th>k/n</th>", escape(column.heading())));
    }
    text.push_str("</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        let name = escape(&row.name);
        text.push_str(&match row.level {
            Level::L2 => format!("<tr><td>{name}</td>"),
            _ => format!("<tr><th>{name}</th>"),
        });
        for cell in &row.cells {
            let (figure, counts) = plain(cell, row);
            text.push_str(&format!("<td>{}</td><td>{}</td>", escape(&figure), escape(&counts)));
        }
        text.push_str("</tr>\n");
    }
    text.push_str("</tbody>\n</table>\n");
    text
}

/// A `tabular` for LaTeX, and below it one for the protocols of P(yes); needs the package `booktabs`. The notes stand in
/// comments above them.
pub fn latex_table(summary: &Summary, protocols: &[Protocol]) -> String {
    let mut text = String::from("% Needs \\usepackage{booktabs}\n");
    for note in notes(summary, protocols) {
        text.push_str(&format!("% {note}\n"));
    }
    let tables = FigureTable::parts(summary, protocols);
    text + &tables.iter().map(latex_rows).collect::<Vec<_>>().join("\n")
}

fn latex_rows(table: &FigureTable) -> String {
    let mut text = String::new();
    text.push_str(&format!(
        "\\begin{{tabular}}{{l{}}}\n\\toprule\n",
        "rr".repeat(table.columns.len())
    ));
    for column in &table.columns {
        text.push_str(&format!(" & {} & $k/n$", escape_latex(column.heading())));
    }
    text.push_str(" \\\\\n");
    for row in &table.rows {
        let name = escape_latex(&row.name);
        text.push_str(match row.level {
            Level::L2 => "\\quad ",
            _ => "\\midrule\n",
        });
        text.push_str(&name);
        for cell in &row.cells {
            let (figure, counts) = plain(cell, row);
            let figure =
                if figure == "-" { "--".to_owned() } else { figure.replace('±', "$\\pm$") };
            text.push_str(&format!(" & {figure} & {counts}"));
        }
        text.push_str(" \\\\\n");
    }
    text.push_str("\\bottomrule\n\\end{tabular}\n");
    text
}

/// A cell's figure and its counts.
fn plain(cell: &Cell, row: &Row) -> (String, String) {
    match cell {
        Cell::Figure(figure) => {
            let (mean, margin) = printed(figure);
            let counts = match row.level {
                Level::Overall => counted(figure.items, "item"),
                _ => format!("{}/{}", figure.k, figure.n),
            };
            (margin.map_or(mean.clone(), |margin| format!("{mean} {margin}")), counts)
        }
        Cell::Withheld => ("withheld".to_owned(), String::new()),
        Cell::Absent => ("-".to_owned(), String::new()),
    }
}

pub(crate) fn escape_markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '|' | '*' | '_' | '`' | '<' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

pub(super) fn escape_latex(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => escaped.extend(['\\', c]),
            '\\' => escaped.push_str("\\textbackslash{}"),
            '~' => escaped.push_str("\\textasciitilde{}"),
            '^' => escaped.push_str("\\textasciicircum{}"),
            '|' => escaped.push_str("\\textbar{}"),
            '<' => escaped.push_str("\\textless{}"),
            '>' => escaped.push_str("\\textgreater{}"),
            c => escaped.push(c),
        }
    }
    escaped
}
