//! In: a drawing and the runs. Out: a chart with its title, and the entries that say which colour is which run.

use crate::reports::drawing::{Anchor, Drawing, Ink, Shape, Text, shortened, text_width};
use crate::reports::report_input::ReportInput;

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

/// A run's name as a label.
pub(crate) fn label(input: &ReportInput<'_>, run: usize) -> String {
    shortened(&input.runs[run].name, NAME_WIDTH, false)
}

/// Writes the title and below it the runs with their colours, in as many lines as they need. Returns the
/// height that is taken.
pub(crate) fn head(drawing: &mut Drawing, title: &str, entries: &[(Ink, String)]) -> f64 {
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
pub(crate) fn run_entries(input: &ReportInput<'_>) -> Vec<(Ink, String)> {
    (0..input.runs.len()).map(|run| (Ink::Run(run), label(input, run))).collect()
}

/// Widest run name in a chart, in pixels.
const NAME_WIDTH: f64 = 220.0;
