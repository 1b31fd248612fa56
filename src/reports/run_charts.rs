//! In: the runs of a report. Out: its charts, as shapes. Writing them as SVG or PNG is left to `drawing`.

mod axis;
mod category_bars;
mod difference_forest;
mod image_spread;
mod radar;
mod score_against;

use crate::benchmark::Item;

use super::differences::Differences;
use super::drawing::{Anchor, Drawing, Ink, Shape, Text, shortened, text_width};
use super::report_input::{ReportInput, words};

/// A chart of the report.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Name of its files, without their endings.
    pub name: String,
    /// Its heading in the page.
    pub title: String,
    /// How to read it.
    pub note: String,
    /// The picture.
    pub drawing: Drawing,
}

/// All charts of a report, in the order of the page. Those that its runs have no data for are left out.
pub fn charts(input: &ReportInput<'_>, found: &[Differences]) -> Vec<Chart> {
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

/// Widest run name in a chart, in pixels.
const NAME_WIDTH: f64 = 220.0;

/// A run's name as a label.
fn label(input: &ReportInput<'_>, run: usize) -> String {
    shortened(&input.runs[run].name, NAME_WIDTH, false)
}

/// Writes the title and below it the runs with their colours, in as many lines as they need. Returns the
/// height that is taken.
fn head(drawing: &mut Drawing, title: &str, entries: &[(Ink, String)]) -> f64 {
    let words = shortened(title, (drawing.width - 32.0) * 13.0 / 16.0, true);
    drawing.shapes.push(Shape::Text(Text {
        x: 16.0,
        y: 24.0,
        size: 16.0,
        bold: true,
        anchor: Anchor::Start,
        ink: Ink::Text,
        halo: false,
        words,
    }));
    let (mut x, mut y) = (16.0, 52.0);
    for (ink, words) in entries {
        let width = 20.0 + text_width(words, 13.0, false);
        if x > 16.0 && x + width > drawing.width - 16.0 {
            (x, y) = (16.0, y + 20.0);
        }
        drawing.bar([x, y - 6.0, x + 12.0, y + 6.0], *ink, 1.0);
        drawing.text(x + 18.0, y, Anchor::Start, words.as_str());
        x += width + 22.0;
    }
    if entries.is_empty() { 42.0 } else { y + 18.0 }
}

/// The runs as entries of [`head`].
fn run_entries(input: &ReportInput<'_>) -> Vec<(Ink, String)> {
    (0..input.runs.len()).map(|run| (Ink::Run(run), label(input, run))).collect()
}
