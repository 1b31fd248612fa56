//! In: a drawing and the runs. Out: a chart: the entries that say which mark is which run, and, for files that stand
//! alone, its title above and below it what it shows of which runs.

use crate::reports::drawing::{Anchor, Drawing, Ink, Shape, Text, shortened, text_width};
use crate::reports::figure_table::{Level, short_name};
use crate::reports::paper_table::incomplete_note;
use crate::reports::report_input::ReportInput;

/// A chart of the report.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Name of its files, without their endings.
    pub name: String,
    /// Its heading.
    pub title: String,
    /// How to read it.
    pub note: String,
    /// What it is made of: models, judges, protocol, number of items.
    pub about: String,
    /// The picture, without the texts above.
    pub drawing: Drawing,
    /// The same for a narrow screen, where the page has one.
    pub narrow: Option<Drawing>,
}

/// How much room a picture has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// Of a page or a file.
    Wide,
    /// Of a narrow screen: [`NARROW`] pixels, with letters of the same size.
    Narrow,
}

/// Width of the pictures for narrow screens.
pub(crate) const NARROW: f64 = 360.0;

impl Room {
    /// One value or the other.
    pub(crate) fn pick<T>(self, wide: T, narrow: T) -> T {
        if self == Self::Wide { wide } else { narrow }
    }
}

impl Chart {
    /// The drawing with title, note and what it is made of: all that a reader of the file alone needs.
    pub(crate) fn whole(&self) -> Drawing {
        let mut whole = self.drawing.clone();
        let mut shapes = vec![heading(&self.title, whole.width)];
        shapes.extend(whole.shapes.into_iter().map(|shape| shape.moved(TITLE)));
        let mut y = TITLE + whole.height + LINE / 2.0;
        for text in [&self.note, &self.about] {
            for words in lines(text, whole.width - 2.0 * MARGIN) {
                shapes.push(line_of_text(y, SMALL, false, Ink::Soft, words));
                y += LINE;
            }
        }
        whole.height = y + 4.0;
        whole.shapes = shapes;
        whole
    }
}

fn heading(title: &str, width: f64) -> Shape {
    let words = shortened(title, (width - 2.0 * MARGIN) * 13.0 / 16.0, true);
    line_of_text(24.0, 16.0, true, Ink::Text, words)
}

fn line_of_text(y: f64, size: f64, bold: bool, ink: Ink, words: String) -> Shape {
    let (x, anchor, halo) = (MARGIN, Anchor::Start, false);
    Shape::Text(Text { x, y, size, bold, anchor, ink, halo, words })
}

/// Breaks a text between words into lines of at most that width in pixels.
fn lines(text: &str, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let word = shortened(word, width, false);
        if let Some(line) = lines.last_mut() {
            let longer = format!("{line} {word}");
            if text_width(&longer, SMALL, false) <= width {
                *line = longer;
                continue;
            }
        }
        lines.push(word);
    }
    lines
}

/// A run's name as a label.
pub(crate) fn label(input: &ReportInput<'_>, run: usize) -> String {
    shortened(&input.runs[run].name, NAME_WIDTH, false)
}

/// What a chart of some of the runs is made of. `items`: how many it shows.
pub(crate) fn about(input: &ReportInput<'_>, runs: &[usize], items: usize) -> String {
    let judge = |run: usize| input.runs[run].summary.judge.name.as_str();
    let same = runs.iter().all(|run| judge(*run) == judge(runs[0]));
    let mut parts = Vec::new();
    for run in runs {
        let model = input.runs[*run].summary.run.model.as_deref().unwrap_or("imported");
        let mut part = label(input, *run);
        let mut inside: Vec<&str> = Vec::new();
        if model != input.runs[*run].name {
            inside.push(model);
        }
        let by = format!("judged by {}", judge(*run));
        if !same {
            inside.push(&by);
        }
        let incomplete = incomplete_note(&input.runs[*run].summary, input.protocol);
        let incomplete = incomplete.trim_matches([' ', '(', ')']);
        if !incomplete.is_empty() {
            inside.push(incomplete);
        }
        if !inside.is_empty() {
            part.push_str(&format!(" ({})", inside.join(", ")));
        }
        parts.push(part);
    }
    let judged = if same { format!(" Judge: {}.", judge(runs[0])) } else { String::new() };
    let (run, item) = (
        if runs.len() == 1 { "Model" } else { "Models" },
        if items == 1 { "item" } else { "items" },
    );
    format!(
        "{run}: {}.{judged} Protocol: {}. {items} {item}.",
        parts.join(", "),
        input.protocol.name()
    )
}

/// The same of all runs and their shared items.
pub(crate) fn about_all(input: &ReportInput<'_>) -> String {
    let runs: Vec<usize> = (0..input.runs.len()).collect();
    let scored = |id: &str| input.runs.iter().any(|run| run.item_score(id).is_some());
    about(input, &runs, input.items.iter().filter(|item| scored(&item.id)).count())
}

/// What a row of a chart is called: on a narrow screen an L2 by what is behind its L1, below which it stands.
pub(crate) fn row_name(room: Room, level: Level, name: &str) -> String {
    match (room, level) {
        (Room::Wide, _) => name.to_owned(),
        (Room::Narrow, Level::Overall) => "score".to_owned(),
        (Room::Narrow, _) => short_name(level, name).trim_start().to_owned(),
    }
}

/// How runs are marked in a chart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// As a line with a point on it.
    Line,
    /// As a filled bar with a point in it.
    Bar,
}

/// Writes the runs with their marks, in as many lines as they need. Returns the height that is taken.
pub(crate) fn head(drawing: &mut Drawing, key: Key, entries: &[String]) -> f64 {
    let (mut x, mut y) = (MARGIN, 16.0);
    let widest = drawing.width - 2.0 * MARGIN - SAMPLE - 7.0;
    for (run, words) in entries.iter().enumerate() {
        let words = shortened(words, widest, false);
        let width = SAMPLE + 7.0 + text_width(&words, 13.0, false);
        if x > MARGIN && x + width > drawing.width - MARGIN {
            (x, y) = (MARGIN, y + 20.0);
        }
        match key {
            Key::Line => {
                drawing.run_line(&[(x, y), (x + SAMPLE, y)], run);
                drawing.mark(x + SAMPLE / 2.0, y, 4.5, run, false);
            }
            Key::Bar => {
                drawing.bar([x, y - 6.0, x + SAMPLE, y + 6.0], Ink::Run(run), 1.0);
                drawing.mark_in(x + SAMPLE / 2.0, y, 3.5, run, Ink::Ground, false);
            }
        }
        drawing.text(x + SAMPLE + 7.0, y, Anchor::Start, words);
        x += width + 22.0;
    }
    y + 18.0
}

/// The runs' names as entries of [`head`].
pub(crate) fn run_entries(input: &ReportInput<'_>) -> Vec<String> {
    (0..input.runs.len()).map(|run| label(input, run)).collect()
}

/// Widest run name in a chart, in pixels.
const NAME_WIDTH: f64 = 220.0;
/// Room for the title in a file, in pixels.
const TITLE: f64 = 38.0;
/// Pixels left free at both sides.
const MARGIN: f64 = 16.0;
/// Font size and distance of the lines below a chart, in pixels.
const SMALL: f64 = 12.0;
const LINE: f64 = 17.0;
/// Length of a run's mark in the entries: long enough to see its dash.
const SAMPLE: f64 = 38.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_alone_holds_its_title_and_notes_in_lines_that_fit() {
        let mut drawing = Drawing::new(300.0, 50.0, "what it shows");
        drawing.dot(10.0, 20.0, 2.0, Ink::Text, 1.0);
        let chart = Chart {
            name: "a".into(),
            title: "A title".into(),
            note:
                "Lines: 95 % intervals of every number in this chart, one for each run of the two."
                    .into(),
            about: "Models: one, two. Judge: three.".into(),
            drawing,
            narrow: None,
        };
        let whole = chart.whole();
        let texts: Vec<&Text> = whole
            .shapes
            .iter()
            .filter_map(|shape| match shape {
                Shape::Text(text) => Some(text),
                _ => None,
            })
            .collect();
        let words: Vec<&str> = texts.iter().map(|text| text.words.as_str()).collect();
        assert_eq!(words.join(" "), format!("{} {} {}", chart.title, chart.note, chart.about));
        assert!(texts.len() > 3, "{words:?}");
        for text in &texts {
            let [left, top, right, bottom] = text.bounds();
            assert!(left >= 0.0 && top >= 0.0 && right <= 300.0 && bottom <= whole.height);
        }
        // What was drawn lies below the title, as far from it as before.
        assert!(
            whole.shapes.iter().any(|shape| matches!(shape, Shape::Dot { y, .. } if *y == 58.0))
        );
    }
}
