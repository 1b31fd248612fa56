//! In: the runs of a report. Out: its tables of figures: leaderboard, categories, differences, items. How a
//! table is written is left to `report_table`.

use std::collections::BTreeSet;

use super::differences::Differences;
use super::figure_table::{Level, printed, telling_rows, with_margin};
use super::numbers;
use super::report_input::{ReportInput, ReportRun, words};
use super::report_table::{NONE, ReportTable, TableRow};
use super::settings_tables::share;
use crate::aggregate::category_order::table_order;
use crate::aggregate::shares::Stage;
use crate::aggregate::{Estimate, Protocol, ProtocolSummary};
use crate::benchmark::category::l1_of;

pub(super) fn full(value: Option<f64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

pub(super) fn error_bar(figure: Option<Estimate>) -> [String; 4] {
    let of = |part: fn(Estimate) -> Option<f64>| full(figure.and_then(part));
    [of(|f| Some(f.mean)), of(|f| f.low), of(|f| f.high), of(|f| f.standard_error)]
}

pub(super) fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// A benchmark score, and the ends of its interval.
pub(super) fn score_cells(figures: &ProtocolSummary) -> [String; 2] {
    let score = match (&figures.overall, &figures.gap) {
        (Some(figure), None) => printed(figure).0,
        (Some(figure), Some(_)) => format!("{} (incomplete)", printed(figure).0),
        (None, Some(_)) => "withheld".to_owned(),
        (None, None) => NONE.to_owned(),
    };
    let ends = figures.overall.and_then(|figure| Some((figure.low?, figure.high?)));
    [score, ends.map_or(NONE.to_owned(), |found| numbers::ends(found, 2))]
}

/// The runs, best score first; beside it stands the score under the other protocol.
pub(crate) fn leaderboard(input: &ReportInput<'_>) -> ReportTable {
    let beside = match input.protocol {
        Protocol::Corrected => Protocol::Reference,
        _ => Protocol::Corrected,
    };
    let mut table = ReportTable {
        name: "leaderboard".into(),
        caption: format!("DPG-Bench score under the {} protocol", input.protocol.name()),
        headings: strings(&[
            "run",
            input.protocol.name(),
            "95 % interval",
            beside.name(),
            "95 % interval",
            "items",
            "answered",
            "model",
            "judge",
        ]),
        csv_headings: vec![
            "run",
            "model",
            "judge",
            "protocol",
            "score",
            "low",
            "high",
            "standard_error",
            "items",
            "questions_answered",
            "questions_expected",
            "other_protocol",
            "other_score",
        ],
        ..ReportTable::default()
    };
    for place in input.ranked() {
        let run = &input.runs[place];
        let figures = input.figures(run);
        let coverage = &run.summary.coverage;
        let model = run.summary.run.model.clone();
        let judge = run.summary.judge.name.clone();
        let scores = [figures, run.summary.protocol(beside)].into_iter().flat_map(score_cells);
        let others = [
            figures.items_scored.to_string(),
            share(coverage.questions_answered, coverage.questions_expected),
            model.clone().unwrap_or_else(|| NONE.to_owned()),
            judge.clone(),
        ];
        table.rows.push(TableRow {
            name: run.name.clone(),
            cells: scores.chain(others).collect(),
            ..TableRow::default()
        });
        let mut row = vec![run.name.clone(), model.unwrap_or_default(), judge];
        row.push(input.protocol.name().to_owned());
        row.extend(error_bar(figures.overall));
        row.push(figures.items_scored.to_string());
        row.push(coverage.questions_answered.to_string());
        row.push(coverage.questions_expected.to_string());
        row.push(beside.name().to_owned());
        row.push(full(run.summary.protocol(beside).overall.map(|figure| figure.mean)));
        table.csv_rows.push(row);
    }
    table
}

/// The scores made of P(yes) beside those of yes and no; without rows where no judge states it.
pub(crate) fn soft_scores(input: &ReportInput<'_>) -> ReportTable {
    let protocols = [Protocol::Corrected, Protocol::Soft, Protocol::SoftTifaGm];
    let headings = protocols.iter().flat_map(|protocol| [protocol.name(), "95 % interval"]);
    let mut table = ReportTable {
        name: "soft".into(),
        caption: "DPG-Bench score with P(yes) in place of yes and no".into(),
        headings: strings(&["run"]).into_iter().chain(headings.map(str::to_owned)).collect(),
        csv_headings: vec![
            "run",
            "judge",
            "protocol",
            "score",
            "low",
            "high",
            "standard_error",
            "items",
        ],
        ..ReportTable::default()
    };
    table.headings.push("answers without P(yes)".to_owned());
    for place in input.ranked() {
        let run = &input.runs[place];
        if run.summary.soft.is_none() {
            continue;
        }
        let scores = protocols.iter().flat_map(|one| score_cells(run.summary.protocol(*one)));
        let lacking = run.summary.coverage.answers_without_probability.to_string();
        table.rows.push(TableRow {
            name: run.name.clone(),
            cells: scores.chain([lacking]).collect(),
            ..TableRow::default()
        });
        for protocol in protocols {
            let own = run.summary.protocol(protocol);
            let mut row = strings(&[&run.name, &run.summary.judge.name, protocol.name()]);
            row.extend(error_bar(own.overall));
            row.push(own.items_scored.to_string());
            table.csv_rows.push(row);
        }
    }
    table
}

/// The names of all categories of one level that any run has, in table order.
pub(crate) fn category_names(input: &ReportInput<'_>, level: Level) -> Vec<String> {
    let names: BTreeSet<String> = input
        .runs
        .iter()
        .flat_map(|run| match level {
            Level::L2 => &input.figures(run).l2,
            _ => &input.figures(run).l1,
        })
        .map(|figure| figure.name.clone())
        .collect();
    let mut names: Vec<String> = names.into_iter().collect();
    names.sort_by(|a, b| table_order(a, b));
    names
}

/// The rows of [`category_rows`] that say something new.
pub(crate) fn telling_categories(input: &ReportInput<'_>) -> Vec<(Level, String)> {
    let rows = category_rows(input);
    let figures = |(level, name): &(Level, String)| -> Vec<Option<Estimate>> {
        let of = |run, stage| category_figure(input, run, *level, name, stage);
        let both = |run| [of(run, Stage::Raw), of(run, Stage::Conditional)];
        input.runs.iter().flat_map(both).collect()
    };
    let places = telling_rows(&rows, |row| row.0, |a, b| figures(a) == figures(b));
    places.into_iter().map(|place| rows[place].clone()).collect()
}

/// The L1 names, each followed by its L2 names.
pub(crate) fn category_rows(input: &ReportInput<'_>) -> Vec<(Level, String)> {
    let l2 = category_names(input, Level::L2);
    let mut rows = Vec::new();
    for l1 in category_names(input, Level::L1) {
        let below = l2.iter().filter(|name| l1_of(name) == l1).cloned();
        let below: Vec<_> = below.map(|name| (Level::L2, name)).collect();
        rows.push((Level::L1, l1));
        rows.extend(below);
    }
    rows
}

/// A category's figure in a run; of [`Level::Overall`], the benchmark score.
pub(crate) fn category_figure(
    input: &ReportInput<'_>,
    run: &ReportRun<'_>,
    level: Level,
    name: &str,
    stage: Stage,
) -> Option<Estimate> {
    let figures = input.figures(run);
    if level == Level::Overall {
        return figures.overall.filter(|_| stage == input.stage());
    }
    let figures = if level == Level::L1 { &figures.l1 } else { &figures.l2 };
    figures.iter().find(|figure| figure.name == name)?.at(stage)
}

/// Every category, raw and, where the protocol has it, conditional.
pub(crate) fn categories(input: &ReportInput<'_>) -> ReportTable {
    let stages: &[(Stage, &'static str)] = match input.stage() {
        Stage::Raw => &[(Stage::Raw, "raw")],
        Stage::Conditional => &[(Stage::Raw, "raw"), (Stage::Conditional, "conditional")],
    };
    let mut headings = strings(&["category"]);
    for run in &input.runs {
        let words = |stage: &Stage| match stage {
            Stage::Raw => "before the rule",
            Stage::Conditional => "after the rule",
        };
        headings.extend(stages.iter().map(|(stage, _)| format!("{}, {}", run.name, words(stage))));
    }
    let mut table = ReportTable {
        name: "categories".into(),
        caption: "How often the judge said yes, in percent, by category (±: half of the 95 % interval; a–b: its ends)"
            .into(),
        headings,
        csv_headings: vec![
            "level",
            "name",
            "run",
            "stage",
            "percent",
            "low",
            "high",
            "standard_error",
            "k",
            "n",
            "items",
        ],
        ..ReportTable::default()
    };
    let telling = telling_categories(input);
    for (level, name) in category_rows(input) {
        let is_telling = telling.iter().any(|row| (row.0, &row.1) == (level, &name));
        let mut cells = Vec::new();
        for run in &input.runs {
            for (stage, stage_name) in stages {
                let figure = category_figure(input, run, level, &name, *stage);
                cells.push(figure.as_ref().map_or(NONE.to_owned(), with_margin));
                if let Some(figure) = figure {
                    let mut row = vec![level.name().to_owned(), name.clone(), run.name.clone()];
                    row.push((*stage_name).to_owned());
                    row.extend(error_bar(Some(figure)));
                    row.extend([figure.k, figure.n, figure.items].map(|count| count.to_string()));
                    table.csv_rows.push(row);
                }
            }
        }
        if is_telling {
            let indented = level == Level::L2;
            table.rows.push(TableRow { name, indented, cells, ..TableRow::default() });
        }
    }
    table
}

/// A difference in points with its sign.
pub(crate) fn signed(points: f64) -> String {
    numbers::signed(points, 2).replace('-', "−")
}

/// An end of a difference's interval.
pub(crate) fn signed_end(points: f64) -> String {
    numbers::signed_end(points, 2).replace('-', "−")
}

pub(crate) fn p_value(p: Option<f64>) -> String {
    p.map_or(NONE.to_owned(), |p| numbers::p_value(p).replace('<', "< "))
}

/// A run against the first.
pub(crate) fn difference_table(input: &ReportInput<'_>, found: &Differences) -> ReportTable {
    let (base, other) = (&input.runs[0].name, &input.runs[found.run].name);
    let mut table = ReportTable {
        name: format!("differences-{}", found.run + 1),
        caption: format!(
            "{other} minus {base}, in points, over {} shared items; significant where p, for categories p (Holm), is below 0.05",
            found.items
        ),
        headings: strings(&["number"]),
        csv_headings: vec![
            "level",
            "name",
            "base",
            "run",
            "base_percent",
            "run_percent",
            "difference",
            "low",
            "high",
            "p",
            "p_holm",
        ],
        ..ReportTable::default()
    };
    table.headings.extend([base.clone(), other.clone()]);
    table.headings.extend(strings(&["difference", "95 % interval", "p", "p (Holm)"]));
    for row in found.telling() {
        table.rows.push(TableRow {
            name: row.name.clone(),
            indented: row.level == Level::L2,
            cells: vec![
                numbers::fixed(row.base, 2),
                numbers::fixed(row.other, 2),
                signed(row.points()),
                row.interval.map_or(NONE.into(), |(low, high)| {
                    format!("{} to {}", signed_end(low), signed_end(high))
                }),
                p_value(row.p),
                p_value(row.corrected_p),
            ],
            ..TableRow::default()
        });
    }
    for row in &found.rows {
        let ends = row.interval;
        table.csv_rows.push(vec![
            row.level.name().to_owned(),
            row.name.clone(),
            base.clone(),
            other.clone(),
            row.base.to_string(),
            row.other.to_string(),
            row.points().to_string(),
            full(ends.map(|ends| ends.0)),
            full(ends.map(|ends| ends.1)),
            full(row.p),
            full(row.corrected_p),
        ]);
    }
    table
}

/// One row per item and run; for other programs only.
pub(crate) fn items(input: &ReportInput<'_>) -> ReportTable {
    let mut table = ReportTable {
        name: "items".into(),
        csv_headings: vec![
            "item",
            "prompt_words",
            "questions",
            "run",
            "score",
            "image_standard_deviation",
        ],
        ..ReportTable::default()
    };
    for item in &input.items {
        for run in &input.runs {
            table.csv_rows.push(vec![
                item.id.clone(),
                words(&item.prompt).to_string(),
                item.graph.len().to_string(),
                run.name.clone(),
                full(run.item_score(&item.id)),
                full(run.image_deviation(&item.id)),
            ]);
        }
    }
    table
}
