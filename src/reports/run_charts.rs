//! In: the runs of a report. Out: its charts, as shapes. Writing them as SVG or PNG is left to `drawing`.

mod axis;
mod category_bars;
mod chart;
mod difference_forest;
mod image_spread;
mod radar;
mod score_against;

pub(crate) use self::axis::{Axis, tick_label};
pub(crate) use self::chart::Chart;
use super::differences::Differences;
use super::report_input::{ReportInput, words};
use crate::benchmark::Item;

/// All charts of a report, in the order of the page. Those that its runs have no data for are left out.
pub(crate) fn charts(input: &ReportInput<'_>, found: &[Differences]) -> Vec<Chart> {
    let mut charts = vec![category_bars::chart(input)];
    charts.extend(radar::chart(input));
    charts.extend(found.iter().filter_map(|found| difference_forest::chart(input, found)));
    let length = |item: &Item| words(&item.prompt) as f64;
    let questions = |item: &Item| item.graph.len() as f64;
    charts.extend(score_against::chart(input, "prompt-length", "words of the prompt", &length));
    charts.extend(score_against::chart(
        input,
        "question-count",
        "questions of the item",
        &questions,
    ));
    charts.extend(image_spread::chart(input));
    charts
}
