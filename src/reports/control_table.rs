//! In: what a judge said about a run's images and about its controls. Out: that as a text for a terminal, and the questions with a yes to
//! every image as CSV. Writing them is left to others.

use comfy_table::{CellAlignment, Table};

use super::figure_table::with_margin;
use super::numbers::fixed;
use super::terminal::{STYLE, interval_note};
use crate::aggregate::{AlwaysYes, Control, ControlFigures, ControlReport, Estimate};
use crate::wording::counted;

/// What the rows are.
const OWN: &str = "own images";

/// Two tables of a run and its controls, scores and how often the judge said yes, and what is to be said of them.
pub(crate) fn control_text(report: &ControlReport) -> String {
    let own = (OWN, &report.own);
    let controls = report.controls.iter().map(|one| (one.kind.as_str(), &one.figures));
    let asked: Vec<(&str, &ControlFigures)> = std::iter::once(own).chain(controls).collect();
    let mut text = scores(&asked) + "\nyes, before the dependency rule\n" + &categories(&asked);
    for line in lines(report, &asked) {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// A row for each kind of images.
fn scores(asked: &[(&str, &ControlFigures)]) -> String {
    let has_soft = asked.iter().any(|(_, figures)| figures.soft.is_some());
    let mut table = Table::new();
    table.load_style(STYLE);
    let soft = has_soft.then_some("soft");
    table.set_header(["", "yes", "corrected"].into_iter().chain(soft));
    for (name, figures) in asked {
        let score = |score: Option<Estimate>| match (score, &figures.gap) {
            (Some(score), _) => with_margin(&score),
            (None, Some(_)) => "withheld".to_owned(),
            (None, None) => "-".to_owned(),
        };
        let yes = figures.yes.map_or_else(|| "-".to_owned(), |yes| with_margin(&yes));
        let mut row = vec![(*name).to_owned(), yes, score(figures.corrected)];
        row.extend(has_soft.then(|| score(figures.soft)));
        table.add_row(row);
    }
    finished(table)
}

/// A row for each broad category, a column for each kind of images.
fn categories(asked: &[(&str, &ControlFigures)]) -> String {
    let mut table = Table::new();
    table.load_style(STYLE);
    table.set_header(std::iter::once("").chain(asked.iter().map(|(name, _)| *name)));
    let answered = asked.iter().map(|(_, figures)| figures.answered.to_string());
    table.add_row(std::iter::once("questions".to_owned()).chain(answered));
    for category in &asked[0].1.l1 {
        let name = &category.name;
        let cells = asked.iter().map(|(_, figures)| {
            let yes = figures.l1.iter().find(|other| other.name == *name);
            yes.and_then(|other| other.yes).map_or_else(|| "-".to_owned(), |yes| narrow(&yes))
        });
        table.add_row(std::iter::once(name.clone()).chain(cells));
    }
    finished(table)
}

/// A figure and its interval with one digit each, but for 100, so that four fit beside each other.
fn narrow(figure: &Estimate) -> String {
    let fixed = |value: f64, digits| match fixed(value, digits) {
        whole if whole == "100.0" => "100".to_owned(),
        other => other,
    };
    let mean = fixed(figure.mean, 1);
    match (figure.margin(), figure.low.zip(figure.high)) {
        (Some(margin), _) => format!("{mean} ±{}", fixed(margin, 1)),
        (None, Some((low, high))) => format!("{mean} ({}–{})", fixed(low, 1), fixed(high, 1)),
        (None, None) => mean,
    }
}

fn finished(mut table: Table) -> String {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
        column.set_padding((1, 0));
    }
    format!("{}\n", table.trim_fmt())
}

fn lines(report: &ControlReport, asked: &[(&str, &ControlFigures)]) -> Vec<String> {
    let mut lines = vec![interval_note(report.intervals, true, true)];
    for Control { kind, seed, mixes, .. } in &report.controls {
        lines.push(format!("{kind}: {}", meaning(kind)));
        let (Some(seed), Some(mixes)) = (seed, mixes) else { continue };
        lines.push(format!(
            "  seed {seed}; {} of {} get as many questions of each broad category as their own",
            mixes.alike,
            counted(mixes.items, "item")
        ));
        lines.push(format!(
            "  the others: {} more or fewer, summed over categories, of {}",
            mixes.differing,
            counted(mixes.questions, "question")
        ));
    }
    for (name, figures) in asked {
        lines.extend(figures.gap.as_ref().map(|gap| format!("{name}: score withheld, {gap}")));
        if figures.unparsable > 0 {
            let answers = counted(figures.answered, "answer");
            lines.push(format!("{name}: {} of {answers} neither yes nor no", figures.unparsable));
        }
    }
    lines.push(match &report.always_yes {
        Some(always) => format!(
            "yes to own, swapped and grey images alike: {} of {}",
            always.questions,
            counted(always.of, "question")
        ),
        None => {
            "questions with a yes to every image: known once swapped and grey were asked".to_owned()
        }
    });
    lines
}

/// What the images of a kind are.
fn meaning(kind: &str) -> &'static str {
    match kind {
        "swapped" => "the run's images, asked the questions of other items (chance)",
        "grey" => "a grey image for each item, asked the item's questions",
        _ => "the image that each prompt describes, asked the item's questions",
    }
}

/// One row per question, in benchmark order: `item,question,text,own_images,swapped_images,grey_images`. To all of these images the
/// judge said yes. `--drop-questions` reads the first two columns.
///
/// # Errors
/// The CSV writer refused (a programming error).
pub(crate) fn always_yes_csv(questions: &[AlwaysYes<'_>]) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record([
        "item",
        "question",
        "text",
        "own_images",
        "swapped_images",
        "grey_images",
    ])?;
    for AlwaysYes { item, question, text, images } in questions {
        let [question, own, swapped, grey] =
            [u64::from(*question), images[0], images[1], images[2]]
                .map(|number| number.to_string());
        writer.write_record([*item, &question, *text, &own, &swapped, &grey])?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}
