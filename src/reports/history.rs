//! In: runs of one model at several steps of its training, ready to be compared. Out: the score against the step, with
//! intervals, and which change is more than noise: as a table for a terminal, Markdown and CSV, and as a chart.

use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::drawing::{Anchor, Drawing, Ink, png_picture, svg_picture};
use super::exported_tables::escape_markdown;
use super::figure_table::few_items_note;
use super::numbers::{ends, fixed, signed, signed_ends};
use super::report_tables::p_value;
use super::run_charts::{Axis, Chart, tick_label};
use super::terminal::STYLE;
use crate::aggregate::{Baseline, Protocol};
use crate::compare::{CompareError, Comparison, Labelled, Options, compare};
use crate::statistics::ItemRatio;
use crate::statistics::paired_test::holm;
use crate::wording::counted;

/// Endings of its files.
pub(crate) const FILES: [&str; 5] = ["csv", "md", "json", "svg", "png"];
/// A change is called more than noise below this p-value, after Holm's correction.
const ALPHA: f64 = 0.05;

/// Scores of a model while it is trained.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct History {
    /// Rules of the scores.
    pub protocol: Protocol,
    /// In the order of their steps.
    pub points: Vec<HistoryPoint>,
    /// The last against the first, where there are more than two.
    pub whole: Option<Change>,
    /// What makes the runs hard to compare.
    pub warnings: Vec<String>,
    #[serde(skip)]
    about: String,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct HistoryPoint {
    /// Steps of training.
    pub step: u64,
    /// The run's path.
    pub run: String,
    /// Benchmark score in percent over the run's items; absent where no item has one.
    pub score: Option<f64>,
    /// Ends of its 95 % interval; absent below two items.
    pub interval: Option<(f64, f64)>,
    /// Items with a score.
    pub items: usize,
    /// Whether all images and answers are there.
    pub complete: bool,
    /// Since the run before; absent of the first.
    pub change: Option<Change>,
}

/// The later score minus the earlier one, over the items of both.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Change {
    /// In points.
    pub difference: f64,
    /// Ends of its 95 % interval; absent below two items.
    pub interval: Option<(f64, f64)>,
    /// Two-sided p-value of the swap test.
    pub p: Option<f64>,
    /// The same by Holm's correction among the changes from run to run; of the whole, `p` itself.
    pub p_holm: Option<f64>,
    /// Whether that is below 0.05.
    pub more_than_noise: bool,
    /// Items with a score in both.
    pub items: usize,
}

impl Change {
    fn of(found: &Comparison) -> Option<Self> {
        let score = found.figures.first()?;
        let interval = score.low.zip(score.high);
        let (difference, p) = (score.difference, score.p);
        let change = Self {
            difference,
            interval,
            p,
            p_holm: None,
            more_than_noise: false,
            items: found.items,
        };
        Some(change.corrected(p))
    }

    fn corrected(self, p_holm: Option<f64>) -> Self {
        Self { p_holm, more_than_noise: p_holm.is_some_and(|p| p < ALPHA), ..self }
    }
}

impl History {
    /// The history of `runs`, each with its step, in any order.
    ///
    /// # Errors
    /// Two neighbours are not to be compared.
    pub(crate) fn new(
        mut runs: Vec<(u64, Labelled)>,
        options: &Options,
    ) -> Result<Self, CompareError> {
        runs.sort_by_key(|(step, _)| *step);
        let mut warnings = Vec::new();
        let mut changes = vec![None];
        for pair in runs.windows(2) {
            let found = compare(&pair[0].1, &pair[1].1, options)?;
            changes.push(Change::of(&found));
            warnings.extend(found.warnings);
        }
        let p_values: Vec<Option<f64>> = changes.iter().map(|change| (*change)?.p).collect();
        let changes = changes.into_iter().zip(holm(&p_values));
        let changes: Vec<Option<Change>> =
            changes.map(|(change, p_holm)| Some(change?.corrected(p_holm))).collect();
        let whole = match runs.as_slice() {
            [first, _, .., last] => Change::of(&compare(&first.1, &last.1, options)?),
            _ => None,
        };
        warnings.dedup();
        let protocol = runs.first().map_or(Protocol::Corrected, |(_, run)| run.run.protocol);
        let about = runs.first().map_or(String::new(), |(_, first)| about(&first.run, runs.len()));
        let points = runs.into_iter().zip(changes).map(|((step, run), change)| {
            let ratio = ItemRatio::mean_of(run.run.items.iter().map(|item| item.score));
            let interval = ratio.interval(options.level);
            HistoryPoint {
                step,
                score: ratio.value().map(|score| 100.0 * score),
                interval: interval.map(|found| (100.0 * found.low, 100.0 * found.high)),
                items: run.run.items.iter().filter(|item| item.score.is_some()).count(),
                complete: run.run.is_complete(),
                run: run.label,
                change,
            }
        });
        Ok(Self { protocol, points: points.collect(), whole, warnings, about })
    }

    /// A table for a terminal, with what it means below it.
    pub(crate) fn terminal(&self) -> String {
        let mut table = Table::new();
        table.load_style(STYLE);
        table.set_header(HEADINGS);
        for point in &self.points {
            table.add_row(std::iter::once(shown_run(point)).chain(cells(point)));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut text = table.trim_fmt() + "\n";
        for note in self.notes() {
            text.push_str(&(note + "\n"));
        }
        text
    }

    /// The same as Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("| {} |\n| --- |", HEADINGS.join(" | "));
        text.push_str(&" ---: |".repeat(HEADINGS.len() - 1));
        text.push('\n');
        for point in &self.points {
            let run = escape_markdown(&shown_run(point));
            text.push_str(&format!("| {run} | {} |\n", cells(point).join(" | ")));
        }
        text.push('\n');
        for note in self.notes() {
            text.push_str(&format!("- {}\n", escape_markdown(&note)));
        }
        text
    }

    /// One row a run, numbers in full; what is absent is empty.
    ///
    /// # Errors
    /// The CSV writer refused (a programming error).
    pub(crate) fn csv(&self) -> Result<Vec<u8>, csv::Error> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record([
            "step",
            "run",
            "protocol",
            "score",
            "low",
            "high",
            "items",
            "complete",
            "change",
            "change_low",
            "change_high",
            "p",
            "p_holm",
            "change_items",
        ])?;
        for point in &self.points {
            let number = |value: Option<f64>| value.map(|v| v.to_string()).unwrap_or_default();
            let of = |part: fn(Change) -> Option<f64>| number(point.change.and_then(part));
            writer.write_record([
                point.step.to_string(),
                point.run.clone(),
                self.protocol.name().to_owned(),
                number(point.score),
                number(point.interval.map(|ends| ends.0)),
                number(point.interval.map(|ends| ends.1)),
                point.items.to_string(),
                point.complete.to_string(),
                of(|change| Some(change.difference)),
                of(|change| Some(change.interval?.0)),
                of(|change| Some(change.interval?.1)),
                of(|change| change.p),
                of(|change| change.p_holm),
                point.change.map(|change| change.items.to_string()).unwrap_or_default(),
            ])?;
        }
        writer.into_inner().map_err(|error| error.into_error().into())
    }

    /// Its files, in the order of [`FILES`]: tables, a JSON document and the chart.
    ///
    /// # Errors
    /// The PNG cannot be drawn, or a writer refused (a programming error).
    pub(crate) fn files(&self) -> anyhow::Result<[Vec<u8>; FILES.len()]> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        let chart = self.chart().whole();
        Ok([
            self.csv()?,
            self.markdown().into_bytes(),
            json,
            svg_picture(&chart).into_bytes(),
            png_picture(&chart)?,
        ])
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = vec![
            self.about.clone(),
            "change: the score minus that of the run before, over the items of both, in points; in brackets its 95 % interval, \
             which is not corrected: p decides"
                .to_owned(),
            "p: two-sided, by swapping the runs item by item, by Holm's correction among the changes; *: more than noise \
             (p < 0.05)"
                .to_owned(),
        ];
        if let Some(whole) = self.whole {
            let verdict = if whole.more_than_noise { "more than noise" } else { "may be noise" };
            notes.push(format!(
                "from the first to the last: {}, p {}, {verdict}",
                change_words(&whole),
                p_value(whole.p)
            ));
        }
        let items = self.points.iter().map(|point| point.items as u64).min();
        notes.extend(items.and_then(few_items_note));
        let gaps = self.points.iter().filter(|point| !point.complete).count();
        if gaps > 0 {
            let runs = counted(gaps, "run");
            notes.push(format!("?: images or answers are missing ({runs})"));
        }
        notes.extend(self.warnings.iter().map(|warning| format!("note: {warning}")));
        notes
    }

    /// Score against step.
    pub(crate) fn chart(&self) -> Chart {
        let title = "DPG-Bench score against training step".to_owned();
        let mut drawing = Drawing::new(WIDTH, TOP + HEIGHT + 58.0, title.as_str());
        let scored: Vec<(&HistoryPoint, f64)> =
            self.points.iter().filter_map(|point| Some((point, point.score?))).collect();
        let (first, last) = (
            self.points.first().map_or(0.0, |point| point.step as f64),
            self.points.last().map_or(1.0, |point| point.step as f64),
        );
        let room = ((last - first) * 0.04).max(0.5);
        let across = Axis { from: first - room, to: last + room, start: 64.0, end: WIDTH - 20.0 };
        let values = scored.iter().flat_map(|(point, score)| {
            let (low, high) = point.interval.unwrap_or((*score, *score));
            [low, high, *score]
        });
        let (low, high) = values
            .fold((100.0_f64, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        let margin = ((high - low) * 0.08).max(0.5);
        let (from, to) = ((low - margin).max(0.0), (high + margin).min(100.0));
        let up = Axis { from: from.min(to - 1.0), to, start: TOP + HEIGHT, end: TOP };
        drawing.words(16.0, TOP - 18.0, Anchor::Start, Ink::Text, false, "score");
        for tick in up.ticks(5.0) {
            let y = up.at(tick);
            drawing.line(&[(across.start, y), (across.end, y)], Ink::Grid, 1.0);
            drawing.words(56.0, y, Anchor::End, Ink::Soft, false, tick_label(tick) + " %");
        }
        for tick in across.ticks(8.0).into_iter().filter(|tick| *tick >= 0.0) {
            let x = across.at(tick);
            drawing.line(&[(x, up.start), (x, up.start + 4.0)], Ink::Soft, 1.0);
            drawing.words(x, up.start + 16.0, Anchor::Middle, Ink::Soft, false, tick_label(tick));
        }
        let middle = (across.start + across.end) / 2.0;
        drawing.words(middle, up.start + 40.0, Anchor::Middle, Ink::Text, false, "training step");
        let places: Vec<(f64, f64)> = scored
            .iter()
            .map(|(point, score)| (across.at(point.step as f64), up.at(*score)))
            .collect();
        drawing.run_line(&places, 0);
        for ((point, _), (x, y)) in scored.iter().zip(places) {
            if let Some((low, high)) = point.interval {
                drawing.interval(x, up.at(low), up.at(high), true, Ink::Run(0));
            }
            let is_told_apart = point.change.is_some_and(|change| change.more_than_noise);
            drawing.mark(x, y, 4.5, 0, !is_told_apart);
        }
        let note = "Marks: scores with their 95 % intervals. A full mark differs from the one before it by more than noise \
                    (p < 0.05, Holm's correction; taken item by item, so that overlapping intervals may still differ).";
        let about = format!("{} Protocol: {}.", self.about, self.protocol.name());
        Chart {
            name: "history".to_owned(),
            title,
            note: note.to_owned(),
            about,
            drawing,
            narrow: None,
        }
    }
}

const HEADINGS: [&str; 6] = ["run", "step", "score", "95 % interval", "change", "p (Holm)"];
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
const TOP: f64 = 36.0;
/// Letters of a run's name in the table: its end, which tells runs apart.
const NAME: usize = 24;

fn about(run: &Baseline, runs: usize) -> String {
    let model = run.run.model.as_deref().unwrap_or("imported");
    format!("Model: {model}. Judge: {}. {}.", run.judge.name, counted(runs, "run"))
}

/// The end of a long path, and a mark where something is missing.
fn shown_run(point: &HistoryPoint) -> String {
    let mark = if point.complete { "" } else { " ?" };
    let count = point.run.chars().count();
    let name: String = match count > NAME {
        true => std::iter::once('…').chain(point.run.chars().skip(count + 1 - NAME)).collect(),
        false => point.run.clone(),
    };
    name + mark
}

fn cells(point: &HistoryPoint) -> [String; 5] {
    let none = || "–".to_owned();
    let star = point.change.filter(|change| change.more_than_noise).map_or("", |_| "*");
    [
        point.step.to_string(),
        point.score.map_or_else(none, |score| fixed(score, 2)),
        point.interval.map_or_else(none, |found| ends(found, 2)),
        point.change.as_ref().map_or_else(none, |change| change_words(change) + star),
        point.change.map_or_else(none, |change| p_value(change.p_holm)),
    ]
}

fn change_words(change: &Change) -> String {
    let interval = change.interval.map(|found| format!(" ({})", signed_ends(found, 1)));
    signed(change.difference, 2) + &interval.unwrap_or_default()
}
