//! In: summaries of runs with their names. Out: the table of a paper, one row a model: overall and the broad
//! categories; and the line that says which number compares with published ones. Counts are in the CSV only.

use crate::aggregate::shares::Stage;
use crate::aggregate::{Estimate, Protocol, Summary};
use crate::wording::counted;

use super::numbers::fixed;
use super::report_table::{NONE, ReportTable, TableRow};

/// Columns after the benchmark score, as papers order them.
const CATEGORIES: [&str; 5] = ["global", "entity", "attribute", "relation", "other"];

/// What the table of a paper shows beside one number a column.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PaperOptions {
    /// The 95 % intervals, in a row below the numbers.
    pub intervals: bool,
    /// The score under `reference` too, in a row below that under `corrected`.
    pub both_protocols: bool,
}

/// One row a run and protocol; the second protocol stands indented below the first. `intervals` adds a row
/// with the 95 % intervals: ± half of the width in points, or both ends where they lie unevenly. Category numbers are those before the rule under
/// `reference` (as the script prints them) and after it under `corrected`.
pub(crate) fn paper_table(
    runs: &[(String, &Summary)],
    protocols: &[Protocol],
    intervals: bool,
) -> ReportTable {
    let names: Vec<&str> = protocols.iter().map(|protocol| protocol.name()).collect();
    let headings = ["Model", "Overall", "Global", "Entity", "Attribute", "Relation", "Other"];
    let mut table = ReportTable {
        name: "paper".into(),
        caption: format!(
            "DPG-Bench, protocol {}{}",
            names.join(", below it "),
            both_note(protocols)
        ),
        headings: headings.map(str::to_owned).to_vec(),
        csv_headings: vec![
            "model", "protocol", "name", "percent", "low", "high", "k", "n", "items", "complete",
        ],
        ..ReportTable::default()
    };
    for (name, summary) in runs {
        for (place, &protocol) in protocols.iter().enumerate() {
            let found = figures(summary, protocol);
            let cells = found.iter().map(|(_, figure)| {
                figure.as_ref().map_or(NONE.to_owned(), |figure| fixed(figure.mean, 2))
            });
            let named = if place == 0 { name } else { protocol.name() };
            table.rows.push(TableRow {
                name: named.to_owned() + &incomplete_note(summary, protocol),
                indented: place > 0,
                cells: cells.collect(),
                ..TableRow::default()
            });
            if intervals {
                let cells = found.iter().map(|(_, figure)| {
                    figure.as_ref().and_then(interval).unwrap_or(NONE.to_owned())
                });
                table.rows.push(TableRow { cells: cells.collect(), ..TableRow::default() });
            }
            for (column, figure) in &found {
                let Some(figure) = figure else { continue };
                let end = |end: Option<f64>| end.map(|end| end.to_string()).unwrap_or_default();
                table.csv_rows.push(vec![
                    name.clone(),
                    protocol.name().to_owned(),
                    (*column).to_owned(),
                    figure.mean.to_string(),
                    end(figure.low),
                    end(figure.high),
                    figure.k.to_string(),
                    figure.n.to_string(),
                    figure.items.to_string(),
                    summary.protocol(protocol).gap.is_none().to_string(),
                ]);
            }
        }
    }
    table
}

/// That the rows of two protocols hold categories of two kinds.
fn both_note(protocols: &[Protocol]) -> &'static str {
    match protocols {
        [_] => "",
        _ => "; categories under reference: before the dependency rule, under corrected: after it",
    }
}

/// What stands behind the name of a run in which something is missing: ` (9 of 24 items)`.
pub(crate) fn incomplete_note(summary: &Summary, protocol: Protocol) -> String {
    let (own, expected) = (summary.protocol(protocol), summary.coverage.items_expected);
    match own.gap {
        None => String::new(),
        Some(_) if own.items_scored < expected => {
            format!(" ({} of {})", own.items_scored, counted(expected, "item"))
        }
        Some(_) => " (incomplete)".to_owned(),
    }
}

/// `±1.31`, or `98.6–99.9` where the figure does not stand in the middle, and `87–97` where these ends lie far apart; short,
/// for the column of a paper.
fn interval(figure: &Estimate) -> Option<String> {
    let (low, high) = figure.low.zip(figure.high)?;
    if let Some(margin) = figure.margin() {
        return Some(format!("±{}", fixed(margin, 2)));
    }
    // Outwards, from the two decimals that other tables have: rounded, it still holds all that it held there.
    let [low, high] = [low, high].map(|end| (100.0 * end).round() / 100.0);
    let [low, high] = match high - low >= WIDE {
        true => [fixed(low.floor(), 0), fixed(high.ceil(), 0)],
        false => [fixed(low, 1), fixed(high, 1).replace("100.0", "100")],
    };
    Some(format!("{low}–{high}"))
}

/// Ends so many points apart are whole numbers: a run of few items has such ends in every column.
const WIDE: f64 = 2.0;

fn figures(summary: &Summary, protocol: Protocol) -> Vec<(&'static str, Option<Estimate>)> {
    let own = summary.protocol(protocol);
    let stage = Stage::of_categories(protocol);
    let category = |name: &'static str| {
        let figure = own.l1.iter().find(|figure| figure.name == name);
        (name, figure.and_then(|figure| figure.at(stage)))
    };
    std::iter::once(("overall", own.overall)).chain(CATEGORIES.map(category)).collect()
}

/// The table for LaTeX, small enough for a column of a two-column article; needs `booktabs`.
pub(crate) fn paper_latex(table: &ReportTable) -> String {
    // A column has no room for a wide indent, nor at its sides.
    let rows = table.latex().replace("\\quad ", "~").replace("{lrrrrrr}", "{@{}lrrrrrr@{}}");
    format!("{{\\scriptsize\\setlength{{\\tabcolsep}}{{1.5pt}}%\n{rows}}}\n")
}

/// Which number compares with published ones; nothing where none does: they are of the whole official
/// benchmark with four images an item, judged by mPLUG.
pub(crate) fn published_line(summary: &Summary) -> Option<String> {
    let coverage = &summary.coverage;
    let comparable = summary.run.benchmark.official
        && coverage.items_expected == coverage.items_in_benchmark
        && summary.run.images_per_item == 4
        && summary.judge.settings.get("judge").and_then(|judge| judge.as_str()) == Some("mplug")
        && summary.reference.gap.is_none();
    let score = summary.reference.overall.filter(|_| comparable)?;
    Some(format!("to compare with published scores: reference {}", fixed(score.mean, 2)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::summary::IntervalMethod;
    use crate::aggregate::{CategoryFigure, Coverage, JudgeIdentity, ProtocolSummary, RunIdentity};
    use crate::results::{BenchmarkIdentity, FORMAT_VERSION};

    fn protocol(mean: f64, conditional: bool) -> ProtocolSummary {
        let ends = |mean, low, high| Estimate {
            mean,
            low: Some(low),
            high: Some(high),
            ..Estimate::of_counts(3, 4, 2).unwrap()
        };
        ProtocolSummary {
            overall: Some(ends(mean, mean - 7.5, mean + 7.5)),
            gap: None,
            items_scored: 2,
            spread: None,
            dropped: Vec::new(),
            l1: vec![CategoryFigure {
                name: "global".into(),
                raw: Estimate::of_counts(3, 4, 2),
                conditional: conditional.then(|| ends(50.0, 41.02, 62.0)),
            }],
            l2: Vec::new(),
        }
    }

    fn summary() -> Summary {
        let judge = serde_json::json!({"name": "mplug", "settings": {"judge": "mplug"}});
        Summary {
            format_version: FORMAT_VERSION,
            intervals: Some(IntervalMethod::default()),
            run: RunIdentity {
                model: Some("a_b".into()),
                generation: None,
                benchmark: BenchmarkIdentity {
                    path: "benchmark/dpg".into(),
                    digest: "d".into(),
                    official: true,
                    items: 2,
                    questions: 2,
                    lenient: false,
                },
                selection: Default::default(),
                images_per_item: 4,
            },
            judge: serde_json::from_value::<JudgeIdentity>(judge).unwrap(),
            coverage: Coverage {
                items_in_benchmark: 2,
                items_expected: 2,
                images_expected: 8,
                images_present: 8,
                prompts_truncated: 0,
                questions_expected: 8,
                questions_answered: 8,
                questions_unparsable: 0,
                questions_failed: 0,
                questions_missing: 0,
                answers_without_probability: 0,
                images_filtered: 0,
                items_filtered: Vec::new(),
                images_revised: 0,
                images_other_size: 0,
                images_lossy: 0,
            },
            reference: protocol(200.0 / 3.0, false),
            corrected: protocol(65.0, true),
            soft: None,
            chance: None,
            dropped_questions: None,
            soft_tifa_gm: None,
        }
    }

    #[test]
    fn a_row_a_model_with_categories_after_the_rule_under_corrected_and_before_it_under_reference()
    {
        let summary = summary();
        let runs = [("a_b".to_owned(), &summary)];
        let both = paper_table(&runs, &[Protocol::Corrected, Protocol::Reference], true);
        let cells: Vec<String> =
            both.rows.iter().map(|row| format!("{}:{}", row.name, row.cells.join(" "))).collect();
        assert_eq!(
            cells,
            [
                "a_b:65.00 50.00 – – – –",
                ":±7.50 41–62 – – – –",
                "reference:66.67 75.00 – – – –",
                ":±7.50 – – – – –",
            ]
        );
        let csv = String::from_utf8(both.csv().unwrap()).unwrap();
        assert!(csv.contains("a_b,corrected,overall,65,57.5,72.5,3,4,2,true\n"), "{csv}");
        assert!(csv.contains("a_b,reference,global,75,,,3,4,2,true\n"), "{csv}");
        let latex = paper_latex(&both);
        assert!(latex.contains("a\\_b & 65.00 & 50.00"), "{latex}");
        assert!(!latex.contains("3/4") && latex.contains("$\\pm$7.50"), "{latex}");
    }

    #[test]
    fn uneven_ends_far_apart_are_whole_and_rounded_outwards() {
        let printed = |mean, low, high| {
            let ends = Estimate {
                mean,
                low: Some(low),
                high: Some(high),
                ..protocol(mean, false).overall?
            };
            interval(&ends)
        };
        for (mean, low, high, expected) in [
            (50.0, 41.02, 62.0, "41–62"),
            (99.0, 15.81, 99.95, "15–100"),
            (2.0, 0.01, 40.2, "0–41"),
            (99.5, 98.62, 99.91, "98.6–99.9"),
            (99.81, 98.98, 99.99, "99.0–100"),
            (99.2, 97.12, 99.91, "97–100"),
            (50.0, 40.0, 60.0, "±10.00"),
        ] {
            assert_eq!(printed(mean, low, high).as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_row_of_which_something_is_missing_says_so() {
        let mut summary = summary();
        summary.corrected.gap = Some("2 images are missing".into());
        let row = |summary: &Summary| {
            let table = paper_table(&[("m".to_owned(), summary)], &[Protocol::Corrected], false);
            (table.rows[0].name.clone(), table.csv_rows[0].last().cloned())
        };
        assert_eq!(row(&summary), ("m (incomplete)".into(), Some("false".into())));
        summary.coverage.items_expected = 24;
        assert_eq!(row(&summary), ("m (2 of 24 items)".into(), Some("false".into())));
    }

    #[test]
    fn only_a_whole_official_run_by_mplug_compares_with_published_scores() {
        let line = "to compare with published scores: reference 66.67";
        assert_eq!(published_line(&summary()).as_deref(), Some(line));
        let changes: [fn(&mut Summary); 5] = [
            |summary| summary.run.benchmark.official = false,
            |summary| summary.coverage.items_expected = 1,
            |summary| summary.run.images_per_item = 1,
            |summary| summary.judge.settings.clear(),
            |summary| summary.reference.gap = Some("images".into()),
        ];
        for change in changes {
            let mut other = summary();
            change(&mut other);
            assert_eq!(published_line(&other), None);
        }
    }
}
