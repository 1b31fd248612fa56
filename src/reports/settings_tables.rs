//! In: the runs of a report. Out: its tables of words: what is there of each run and what decided its
//! results; rows in which the runs differ are marked.

use std::collections::{BTreeMap, BTreeSet};

use super::report_input::{ReportInput, ReportRun};
use super::report_table::{NONE, ReportTable, TableRow};
use crate::aggregate::Coverage;
use crate::aggregate::run_settings::flattened;

/// `12 of 13 (92 %)`; only whole things are 100 %.
pub(super) fn share(part: u64, whole: u64) -> String {
    match whole {
        0 => NONE.to_owned(),
        _ if part == whole => format!("all {whole}"),
        _ => format!("{part} of {whole} ({:.0} %)", (100.0 * part as f64 / whole as f64).floor()),
    }
}

fn run_headings(input: &ReportInput<'_>, first: &str) -> Vec<String> {
    std::iter::once(first.to_owned()).chain(input.runs.iter().map(|run| run.name.clone())).collect()
}

/// The first 12 digits of a SHA-256 digest in hexadecimal; any other text as it is.
pub(super) fn short(text: &str) -> &str {
    let is_digest = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_digest { &text[..12] } else { text }
}

/// A table whose CSV is what it prints, but for digests, which are cut in print: names and one column per run.
fn text_table(
    input: &ReportInput<'_>,
    name: &str,
    caption: &str,
    rows: Vec<(String, Vec<String>)>,
) -> ReportTable {
    let mut table = ReportTable {
        name: name.to_owned(),
        caption: caption.to_owned(),
        headings: run_headings(input, name),
        csv_headings: vec!["name", "run", "value"],
        ..ReportTable::default()
    };
    for (name, cells) in rows {
        let marked = cells.iter().any(|cell| *cell != cells[0]);
        for (run, cell) in input.runs.iter().zip(&cells) {
            table.csv_rows.push(vec![name.clone(), run.name.clone(), cell.clone()]);
        }
        let cells = cells.iter().map(|cell| short(cell).to_owned()).collect();
        table.rows.push(TableRow { name, is_text: true, marked, cells, ..TableRow::default() });
    }
    table
}

/// What is there of each run.
pub(crate) fn coverage(input: &ReportInput<'_>) -> ReportTable {
    let row = |name: &str, cell: &dyn Fn(&ReportRun<'_>) -> String| {
        (name.to_owned(), input.runs.iter().map(cell).collect::<Vec<String>>())
    };
    let count = |value: u64| value.to_string();
    let mut rows = vec![
        row("items of the benchmark selected", &|run| {
            let coverage = &run.summary.coverage;
            share(coverage.items_expected, coverage.items_in_benchmark)
        }),
        row("items scored", &|run| {
            share(input.figures(run).items_scored, run.summary.coverage.items_expected)
        }),
        row("images", &|run| {
            share(run.summary.coverage.images_present, run.summary.coverage.images_expected)
        }),
        row("questions answered", &|run| {
            share(run.summary.coverage.questions_answered, run.summary.coverage.questions_expected)
        }),
        row("answers that are neither yes nor no", &|run| {
            count(run.summary.coverage.questions_unparsable)
        }),
        row("questions at which the judge failed", &|run| {
            count(run.summary.coverage.questions_failed)
        }),
        row("questions never asked", &|run| count(run.summary.coverage.questions_missing)),
        row("prompts cut short by the text encoder", &|run| {
            count(run.summary.coverage.prompts_truncated)
        }),
        row("why the score is withheld or incomplete", &|run| {
            input.figures(run).gap.clone().unwrap_or_else(|| NONE.to_owned())
        }),
    ];
    type Images = fn(&Coverage) -> u64;
    let of_servers: [(&str, Images); 4] = [
        ("images refused by a content filter", |coverage| coverage.images_filtered),
        ("images made of another prompt than the benchmark's", |coverage| coverage.images_revised),
        ("images of another size than was asked for", |coverage| coverage.images_other_size),
        ("images that came as JPEG or WebP", |coverage| coverage.images_lossy),
    ];
    for (name, of) in of_servers {
        if input.runs.iter().any(|run| of(&run.summary.coverage) > 0) {
            rows.push(row(name, &|run| count(of(&run.summary.coverage))));
        }
    }
    text_table(input, "coverage", "What is there of each run", rows)
}

/// What decided the results of each run: the settings in which they differ, then those that all share, once. The CSV of
/// the first holds both. A single run has them in one table.
pub(crate) fn settings(input: &ReportInput<'_>) -> Vec<ReportTable> {
    let mut table = all_settings(input);
    if input.runs.len() == 1 {
        return vec![table];
    }
    let (own, shared): (Vec<_>, Vec<_>) =
        std::mem::take(&mut table.rows).into_iter().partition(|row| row.marked);
    let shared: Vec<_> = shared
        .into_iter()
        .map(|row| TableRow { cells: row.cells.into_iter().take(1).collect(), ..row })
        .collect();
    let csv_rows = shared.iter().map(|row| vec![row.name.clone(), row.cells[0].clone()]);
    let shared = ReportTable {
        name: "settings-shared".into(),
        caption: "Settings that all runs share".into(),
        headings: ["settings", "all runs"].map(str::to_owned).to_vec(),
        csv_headings: vec!["name", "value"],
        csv_rows: csv_rows.collect(),
        rows: shared,
    };
    "Settings in which the runs differ".clone_into(&mut table.caption);
    // All rows differ: no mark is needed.
    table.rows = own.into_iter().map(|row| TableRow { marked: false, ..row }).collect();
    vec![table, shared]
}

fn all_settings(input: &ReportInput<'_>) -> ReportTable {
    let flat: Vec<BTreeMap<String, String>> =
        input.runs.iter().map(|run| flattened(&run.settings)).collect();
    let names: BTreeSet<&String> = flat.iter().flat_map(BTreeMap::keys).collect();
    // What servers say of themselves may be hundreds of lines: those in which the runs differ are shown.
    let is_long = |name: &str| {
        ["generation.server_says.", "generation.workflow."]
            .iter()
            .any(|part| name.starts_with(part))
    };
    let differs = |name: &String| flat.iter().any(|own| own.get(name) != flat[0].get(name));
    let names = names.into_iter().filter(|name| !is_long(name) || differs(name));
    let rows = names.map(|name| {
        let cells = flat.iter().map(|own| own.get(name).cloned().unwrap_or_else(|| NONE.into()));
        (name.clone(), cells.collect())
    });
    text_table(input, "settings", "What decided the results of each run", rows.collect())
}
