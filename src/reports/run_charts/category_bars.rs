//! In: the category figures of the runs. Out: bars with intervals, every category a row.

use crate::aggregate::Estimate;
use crate::aggregate::shares::Stage;
use crate::reports::drawing::{Anchor, Drawing, Ink, shortened, text_width};
use crate::reports::figure_table::Level;
use crate::reports::report_input::ReportInput;
use crate::reports::report_tables::{category_figure, telling_categories};

use super::axis::Axis;
use super::chart::{Chart, Key, NARROW, Room, about_all, head, row_name, run_entries};

const BAR: f64 = 9.0;

/// Draws the chart.
pub(super) fn chart(input: &ReportInput<'_>) -> Chart {
    let note = match input.stage() {
        Stage::Raw => {
            "Bars: how often the judge said yes. Lines: 95 % intervals. Numbers at the right: the values of the bars."
        }
        Stage::Conditional => {
            "Faint bars: how often the judge said yes, before the dependency rule. Strong bars: after it (where a question \
             counts as 0, the questions that depend on it do too). Lines: 95 % intervals after the rule. Numbers at the \
             right: values after the rule."
        }
    };
    Chart {
        name: "categories".into(),
        title: title(input).into(),
        note: note.into(),
        about: about_all(input),
        drawing: draw(input, Room::Wide),
        narrow: Some(draw(input, Room::Narrow)),
    }
}

fn title(input: &ReportInput<'_>) -> &'static str {
    match input.stage() {
        Stage::Raw => {
            "Score, and share of yes by category (last image, before the dependency rule)"
        }
        Stage::Conditional => "Score, and share of yes by category (after the dependency rule)",
    }
}

fn draw(input: &ReportInput<'_>, room: Room) -> Drawing {
    let mut rows = vec![(Level::Overall, "DPG-Bench score".to_owned())];
    rows.extend(telling_categories(input));
    let runs = input.runs.len();
    let width_of = |(level, name): &(Level, String)| {
        text_width(&row_name(room, *level, name), 13.0, *level != Level::L2)
    };
    let longest = rows.iter().map(width_of).fold(room.pick(120.0, 60.0), f64::max);
    let left = longest.min(room.pick(260.0, 112.0)) + room.pick(28.0, 22.0);
    // On a narrow screen there is no room for those of many runs; the table below has them.
    let has_numbers = room == Room::Wide || runs <= 2;
    let number = room.pick(50.0, 44.0);
    let numbers = if has_numbers { number * runs as f64 + 16.0 } else { 16.0 };
    let width = room.pick(left + 480.0 + numbers, NARROW);
    let row_height = (BAR * runs as f64 + 9.0).max(22.0);
    let mut drawing = Drawing::new(width, 0.0, title(input));
    let top = head(&mut drawing, Key::Bar, &run_entries(input)) + 16.0;
    let bottom = top + row_height * rows.len() as f64;
    drawing.height = bottom + 34.0;
    let axis = Axis { from: 0.0, to: 100.0, start: left, end: width - numbers - 14.0 };
    for tick in axis.ticks(room.pick(5.0, 2.0)) {
        let x = axis.at(tick);
        drawing.line(&[(x, top - 4.0), (x, bottom)], Ink::Grid, 1.0);
        drawing.words(x, bottom + 14.0, Anchor::Middle, Ink::Soft, false, format!("{tick:.0} %"));
    }
    let number_at = |run: usize| width - 12.0 - number * (runs - 1 - run) as f64;
    for run in (0..runs).filter(|_| has_numbers) {
        let right = number_at(run);
        drawing.mark(right - 15.0, top - 7.0, 4.5, run, false);
    }
    for (place, (level, name)) in rows.iter().enumerate() {
        let middle = top + row_height * (place as f64 + 0.5);
        let is_broad = *level != Level::L2;
        if is_broad && place > 0 {
            let y = middle - row_height / 2.0;
            drawing.line(&[(12.0, y), (width - 12.0, y)], Ink::Grid, 1.0);
        }
        let words =
            shortened(&row_name(room, *level, name), left - room.pick(28.0, 22.0), is_broad);
        let ink = if is_broad { Ink::Text } else { Ink::Soft };
        drawing.words(left - 10.0, middle, Anchor::End, ink, is_broad, words);
        for (run, scored) in input.runs.iter().enumerate() {
            let bar_top = middle + BAR * (run as f64 - runs as f64 / 2.0);
            let at = |stage| category_figure(input, scored, *level, name, stage);
            let bar = |drawing: &mut Drawing, figure: Option<Estimate>, opacity: f64| {
                let Some(figure) = figure else { return };
                let ends = [left, bar_top + 0.5, axis.at(figure.mean), bar_top + BAR - 0.5];
                drawing.bar(ends, Ink::Run(run), opacity);
            };
            if input.stage() == Stage::Conditional {
                bar(&mut drawing, at(Stage::Raw), 0.3);
            }
            let figure = at(input.stage());
            bar(&mut drawing, figure, 1.0);
            if figure.is_some() {
                drawing.mark_in(left + 7.0, bar_top + BAR / 2.0, 3.0, run, Ink::Ground, false);
            }
            if let Some((low, high)) = figure.and_then(|figure| Some((figure.low?, figure.high?))) {
                let (low, high) = (axis.at(low), axis.at(high));
                // Seen on a dark bar too.
                drawing.line(
                    &[(low - 1.0, bar_top + BAR / 2.0), (high + 1.0, bar_top + BAR / 2.0)],
                    Ink::Ground,
                    2.5,
                );
                drawing.interval(bar_top + BAR / 2.0, low, high, false, Ink::Text);
            }
            if has_numbers {
                let number =
                    figure.map_or("–".to_owned(), |figure| format!("{:.1}", figure.mean));
                drawing.text(number_at(run), middle, Anchor::End, number);
            }
        }
    }
    drawing
}
