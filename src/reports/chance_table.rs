//! In: the runs of a report. Out: the table of their scores beside those that chance gives. How a table is written is left to
//! `report_table`.

use super::figure_table::printed;
use super::numbers;
use super::report_input::ReportInput;
use super::report_table::{NONE, ReportTable, TableRow};
use super::report_tables::{error_bar, full, score_cells, strings};
use crate::aggregate::{Estimate, Protocol, ProtocolSummary};

/// The scores beside those that the same images get with other items' questions; without rows where no judge was asked these.
pub(crate) fn chance(input: &ReportInput<'_>) -> ReportTable {
    let name = if input.protocol.is_soft() { "soft" } else { "corrected" };
    let mut table = ReportTable {
        name: "chance".into(),
        caption: "Chance: the same images asked the questions of other items (yes: share before the dependency rule)".into(),
        headings: strings(&["run", name, "chance", "95 % interval", "yes", "yes by chance"]),
        csv_headings: vec![
            "run",
            "judge",
            "protocol",
            "score",
            "chance",
            "low",
            "high",
            "standard_error",
            "yes_percent",
            "chance_yes_percent",
            "seed",
        ],
        ..ReportTable::default()
    };
    for place in input.ranked() {
        let run = &input.runs[place];
        let Some(chance) = &run.summary.chance else { continue };
        let (protocol, found) = match input.protocol.is_soft() {
            true => (Protocol::Soft, chance.figures.soft),
            false => (Protocol::Corrected, chance.figures.corrected),
        };
        let own = run.summary.protocol(protocol);
        // Of P(yes) too: how often the judge said yes.
        let yes = own_yes(&run.summary.corrected);
        let by_chance = chance.figures.yes;
        let ends = found.and_then(|figure| Some((figure.low?, figure.high?)));
        let percent =
            |figure: Option<Estimate>| figure.map_or(NONE.to_owned(), |figure| printed(&figure).0);
        table.rows.push(TableRow {
            name: run.name.clone(),
            cells: vec![
                score_cells(own)[0].clone(),
                found.map_or("withheld".to_owned(), |figure| printed(&figure).0),
                ends.map_or(NONE.to_owned(), |found| numbers::ends(found, 2)),
                percent(yes),
                percent(by_chance),
            ],
            ..TableRow::default()
        });
        let mut row = strings(&[&run.name, &run.summary.judge.name, protocol.name()]);
        row.push(full(own.overall.map(|figure| figure.mean)));
        row.extend(error_bar(found));
        row.extend([yes, by_chance].map(|figure| full(figure.map(|figure| figure.mean))));
        row.push(chance.seed.to_string());
        table.csv_rows.push(row);
    }
    table
}

/// Share of yes over all broad categories, before the rule.
fn own_yes(figures: &ProtocolSummary) -> Option<Estimate> {
    let counts = figures.l1.iter().filter_map(|category| category.raw);
    let (k, n) = counts.fold((0, 0), |(k, n), figure| (k + figure.k, n + figure.n));
    Estimate::of_counts(k, n, figures.items_scored)
}
