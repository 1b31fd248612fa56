//! In: the figures of the broad categories. Out: a radar chart of them.

use std::f64::consts::TAU;

use crate::aggregate::shares::Stage;
use crate::reports::drawing::{Anchor, Drawing, Ink, Shape, Text, shortened};
use crate::reports::figure_table::Level;
use crate::reports::report_input::ReportInput;
use crate::reports::report_tables::{category_figure, category_names};

use super::chart::{Chart, Key, NARROW, Room, about_all, head, run_entries};

const WIDTH: f64 = 640.0;
/// Of more runs nobody sees a profile.
const MAX_SHOWN: usize = 3;

/// Draws the chart; `None` of more than three runs, and below three categories that all runs have.
pub(super) fn chart(input: &ReportInput<'_>) -> Option<Chart> {
    let stage = input.stage();
    let names: Vec<String> = category_names(input, Level::L1)
        .into_iter()
        .filter(|name| (0..input.runs.len()).all(|run| mean(input, run, name).is_some()))
        .collect();
    if names.len() < 3 || input.runs.len() > MAX_SHOWN {
        return None;
    }
    Some(Chart {
        name: "radar".into(),
        title: TITLE.into(),
        note: format!(
            "From the middle outwards: how often the judge said yes, {}; rings at 20, 40, 60, 80 and 100 %. It shows the \
             profile of a model; read sizes off the bars, since areas mislead.",
            match stage {
                Stage::Raw => "of the last image's questions, before the dependency rule",
                Stage::Conditional => "after the dependency rule",
            }
        ),
        about: about_all(input),
        drawing: draw(input, &names, Room::Wide),
        narrow: Some(draw(input, &names, Room::Narrow)),
    })
}

const TITLE: &str = "Share of yes by broad category";

/// A run's figure of a broad category.
fn mean(input: &ReportInput<'_>, run: usize, name: &str) -> Option<f64> {
    let figure = category_figure(input, &input.runs[run], Level::L1, name, input.stage());
    figure.map(|figure| figure.mean)
}

fn draw(input: &ReportInput<'_>, names: &[String], room: Room) -> Drawing {
    let (width, radius) = room.pick((WIDTH, 170.0), (NARROW, 90.0));
    let mut drawing = Drawing::new(width, 0.0, format!("{TITLE}: share of yes in percent"));
    let top = head(&mut drawing, Key::Line, &run_entries(input)) + 34.0;
    let middle = (width / 2.0, top + radius);
    drawing.height = top + 2.0 * radius + 40.0;
    let at = |axis: f64, share: f64| {
        let angle = TAU * (axis / names.len() as f64 - 0.25);
        (middle.0 + radius * share * angle.cos(), middle.1 + radius * share * angle.sin())
    };
    let around = |share: &dyn Fn(usize) -> f64| -> Vec<(f64, f64)> {
        (0..names.len()).map(|axis| at(axis as f64, share(axis))).collect()
    };
    for ring in 1..=5 {
        let share = f64::from(ring) / 5.0;
        let mut points = around(&|_| share);
        points.push(points[0]);
        drawing.line(&points, Ink::Grid, 1.0);
    }
    for (axis, name) in names.iter().enumerate() {
        drawing.line(&[middle, at(axis as f64, 1.0)], Ink::Grid, 1.0);
        let (x, y) = at(axis as f64, 1.0 + 18.0 / radius);
        let anchor = match x - middle.0 {
            side if side.abs() < 1.0 => Anchor::Middle,
            side if side > 0.0 => Anchor::Start,
            _ => Anchor::End,
        };
        drawing.words(x, y, anchor, Ink::Text, true, shortened(name, room.pick(120.0, 74.0), true));
    }
    for run in 0..input.runs.len() {
        let points = around(&|axis| mean(input, run, &names[axis]).unwrap_or_default() / 100.0);
        let (inside, ink) = (points.clone(), Ink::Run(run));
        drawing.shapes.push(Shape::Polygon { points: inside, ink, opacity: 0.1, width: 0.0 });
        let mut line = points.clone();
        line.extend(points.first());
        drawing.run_line(&line, run);
        for (x, y) in points {
            drawing.mark(x, y, 4.0, run, false);
        }
    }
    // Between two axes, where runs have no corners.
    for ring in (1..=5).step_by(room.pick(1, 2)) {
        let (a, b) = (at(0.0, f64::from(ring) / 5.0), at(1.0, f64::from(ring) / 5.0));
        let (x, y) = ((a.0 + b.0) / 2.0, (a.1 + b.1) / 2.0);
        let words = (ring * 20).to_string();
        let (anchor, ink) = (Anchor::Middle, Ink::Soft);
        drawing.shapes.push(Shape::Text(Text {
            x,
            y,
            size: 12.0,
            bold: false,
            anchor,
            ink,
            halo: true,
            words,
        }));
    }
    drawing
}
