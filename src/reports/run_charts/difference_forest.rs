//! In: a run's differences from the first. Out: a forest plot of them.

use crate::reports::differences::{Difference, Differences};
use crate::reports::drawing::{Anchor, Drawing, Ink, shortened, text_width};
use crate::reports::figure_table::Level;
use crate::reports::report_input::ReportInput;
use crate::reports::report_tables::{signed, signed_end};

use super::axis::{Axis, round_step, tick_label};
use super::chart::{Chart, NARROW, Room, about, label, row_name};

const ROW: f64 = 22.0;

/// Draws the chart; `None` where the runs share no scored item.
pub(super) fn chart(input: &ReportInput<'_>, found: &Differences) -> Option<Chart> {
    if found.telling().is_empty() {
        return None;
    }
    Some(Chart {
        name: format!("differences-{}", found.run + 1),
        title: format!("{} minus {}, in points", input.runs[found.run].name, input.runs[0].name),
        note: "Filled: significant, p below 0.05; for categories p with Holm's correction for their number. Hollow: not \
               significant. p decides: the interval of a category has no such correction, so it may leave out 0 where the mark \
               is hollow. Lines, and brackets where there are any: 95 % intervals."
            .into(),
        about: about(input, &[0, found.run], found.items),
        drawing: draw(input, found, Room::Wide),
        narrow: Some(draw(input, found, Room::Narrow)),
    })
}

fn draw(input: &ReportInput<'_>, found: &Differences, room: Room) -> Drawing {
    let rows = found.telling();
    let (base, other) = (label(input, 0), label(input, found.run));
    let width_of = |row: &&Difference| {
        text_width(&row_name(room, row.level, &row.name), 13.0, row.level != Level::L2)
    };
    let longest = rows.iter().map(width_of).fold(room.pick(120.0, 60.0), f64::max);
    let left = longest.min(room.pick(260.0, 112.0)) + room.pick(28.0, 22.0);
    // On a narrow screen the interval's ends are left to the table.
    let numbers = room.pick(190.0, 64.0);
    let width = room.pick(left + 440.0 + numbers, NARROW);
    let title = format!("{other} minus {base}, in points");
    let mut drawing = Drawing::new(width, 0.0, format!("{title}, with 95 % intervals"));
    let top = 8.0;
    let bottom = top + ROW * rows.len() as f64;
    drawing.height = bottom + room.pick(56.0, 76.0);

    let (mut from, mut to) = (-1.0_f64, 1.0_f64);
    for row in &rows {
        // An interval that excludes nothing would leave no room for the others.
        let (low, high) = row.telling_interval().unwrap_or((row.points(), row.points()));
        from = from.min(low).min(row.points());
        to = to.max(high).max(row.points());
    }
    let step = round_step((to - from) / room.pick(6.0, 3.0));
    let axis = Axis {
        from: (from / step).floor() * step,
        to: (to / step).ceil() * step,
        start: left + 10.0,
        end: width - numbers - 20.0,
    };
    for tick in axis.ticks(room.pick(6.0, 3.0)) {
        let x = axis.at(tick);
        let (ink, thick) = if tick == 0.0 { (Ink::Soft, 1.5) } else { (Ink::Grid, 1.0) };
        drawing.line(&[(x, top), (x, bottom)], ink, thick);
        drawing.words(x, bottom + 14.0, Anchor::Middle, Ink::Soft, false, tick_label(tick));
    }
    let half = room.pick((axis.end - axis.start) / 2.0 - 75.0, width - 120.0);
    let cut = |name: &str| shortened(name, half, false);
    let (fewer, more) = (format!("← {} higher", cut(&base)), format!("{} higher →", cut(&other)));
    let y = bottom + 36.0;
    // On a narrow screen the two stand one below the other.
    let (start, end) = room.pick((axis.start, axis.end), (16.0, width - 16.0));
    drawing.words(start, y, Anchor::Start, Ink::Soft, false, fewer);
    drawing.words(end, y + room.pick(0.0, 20.0), Anchor::End, Ink::Soft, false, more);

    for (place, row) in rows.iter().enumerate() {
        let y = top + ROW * (place as f64 + 0.5);
        let is_broad = row.level != Level::L2;
        let name = row_name(room, row.level, &row.name);
        let words = shortened(&name, left - room.pick(28.0, 22.0), is_broad);
        let ink = if is_broad { Ink::Text } else { Ink::Soft };
        drawing.words(left - 10.0, y, Anchor::End, ink, is_broad, words);
        let mut number = signed(row.points());
        if let Some((low, high)) = row.interval {
            // One that leads out of the chart ends at its edge.
            let [low_x, high_x] = [low, high].map(|end| axis.at(end.clamp(axis.from, axis.to)));
            drawing.line(&[(low_x, y), (high_x, y)], Ink::Run(found.run), 2.0);
            if room == Room::Wide {
                number.push_str(&format!(" [{}, {}]", signed_end(low), signed_end(high)));
            }
        }
        let radius = if row.level == Level::Overall { 5.5 } else { 4.0 };
        let x = axis.at(row.points());
        if !row.is_significant() {
            // No line through what is hollow.
            drawing.mark_in(x, y, radius, found.run, Ink::Ground, false);
        }
        drawing.mark(x, y, radius, found.run, !row.is_significant());
        drawing.text(width - numbers, y, Anchor::Start, number);
    }
    drawing
}
