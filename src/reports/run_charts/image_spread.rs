//! In: the scores of each item's images. Out: how much they differ from seed to seed, as a histogram.

use crate::reports::drawing::{Anchor, Drawing, Ink, shortened};
use crate::reports::report_input::ReportInput;

use super::axis::{Axis, round_step};
use super::chart::{Chart, Key, NARROW, Room, about, head, label};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 260.0;
/// Width of a bar's range in points.
const STEP: f64 = 5.0;

/// Draws the chart; `None` where no item has two images with scores.
pub(super) fn chart(input: &ReportInput<'_>) -> Option<Chart> {
    let deviations: Vec<Vec<f64>> = input
        .runs
        .iter()
        .map(|run| input.items.iter().filter_map(|item| run.image_deviation(&item.id)).collect())
        .collect();
    let widest = deviations.iter().flatten().copied().reduce(f64::max)?;
    let ranges = (widest / STEP).floor() as usize + 1;
    let shares: Vec<Vec<f64>> = deviations
        .iter()
        .map(|own| {
            let mut counts = vec![0.0; ranges];
            for deviation in own {
                counts[(deviation / STEP).floor() as usize] += 100.0 / own.len() as f64;
            }
            counts
        })
        .collect();
    let title = "How far an item's images differ in score";
    let runs: Vec<usize> = (0..input.runs.len()).collect();
    let items = deviations.iter().map(Vec::len).max().unwrap_or_default();
    Some(Chart {
        name: "seed-variance".into(),
        title: title.into(),
        note: "Each bar: which share of the items has images whose scores differ by so much, in steps of 5 points. Number \
               beside a run: the standard deviation between the images of one item, over all items."
            .into(),
        about: about(input, &runs, items),
        drawing: draw(input, &shares, title, Room::Wide),
        narrow: Some(draw(input, &shares, title, Room::Narrow)),
    })
}

/// `shares` of the items of each run, in percent, by range.
fn draw(input: &ReportInput<'_>, shares: &[Vec<f64>], title: &str, room: Room) -> Drawing {
    let ranges = shares.iter().map(Vec::len).max().unwrap_or_default();
    let highest = shares.iter().flatten().copied().fold(1.0, f64::max);
    let width = room.pick(WIDTH, NARROW);
    let entries: Vec<String> = input
        .runs
        .iter()
        .enumerate()
        .map(|(run, scored)| {
            let spread = input.figures(scored).spread;
            let points = spread.map(|spread| format!(": {:.1} points", spread.between_images));
            let name = label(input, run);
            let name = room.pick(name.clone(), shortened(&name, 140.0, false));
            name + &points.unwrap_or_default()
        })
        .collect();
    let mut drawing = Drawing::new(width, 0.0, title);
    let top = head(&mut drawing, Key::Bar, &entries) + 28.0;
    drawing.words(16.0, top - 18.0, Anchor::Start, Ink::Text, false, "share of the items");
    drawing.height = top + HEIGHT + 58.0;
    let step = round_step(highest / 4.0);
    let limit = (highest / step).ceil() * step;
    let up = Axis { from: 0.0, to: limit, start: top + HEIGHT, end: top };
    let across = Axis { from: 0.0, to: ranges as f64, start: 64.0, end: width - 20.0 };
    for tick in up.ticks(4.0) {
        let y = up.at(tick);
        drawing.line(&[(across.start, y), (across.end, y)], Ink::Grid, 1.0);
        drawing.words(56.0, y, Anchor::End, Ink::Soft, false, format!("{tick:.0} %"));
    }
    // A number takes up to 24 pixels.
    let apart = (24.0 / (across.at(1.0) - across.at(0.0))).ceil().max(1.0) as usize;
    for range in (0..=ranges).step_by(apart) {
        let x = across.at(range as f64);
        let points = format!("{:.0}", range as f64 * STEP);
        drawing.words(x, up.start + 16.0, Anchor::Middle, Ink::Soft, false, points);
    }
    let middle = (across.start + across.end) / 2.0;
    let what = room.pick(
        "standard deviation of the scores of an item's images, in points",
        "standard deviation, in points",
    );
    drawing.words(middle, up.start + 40.0, Anchor::Middle, Ink::Text, false, what);
    let runs = shares.len() as f64;
    for (run, own) in shares.iter().enumerate() {
        for (range, share) in own.iter().enumerate() {
            let free = across.at(1.0) - across.at(0.0) - 6.0;
            let left = across.at(range as f64) + 3.0 + free * run as f64 / runs;
            let ends = [left, up.at(*share), left + free / runs - 1.0, up.start];
            drawing.bar(ends, Ink::Run(run), 1.0);
            let radius = 3.5_f64.min((free / runs - 1.0) / 2.8).max(0.0);
            if up.start - up.at(*share) > 3.0 * radius {
                let middle = left + (free / runs - 1.0) / 2.0;
                drawing.mark_in(middle, up.start - 8.0, radius, run, Ink::Ground, false);
            }
        }
    }
    drawing.line(&[(across.start, up.start), (across.end, up.start)], Ink::Soft, 1.0);
    drawing
}
