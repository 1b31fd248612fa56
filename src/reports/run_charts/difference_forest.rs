//! In: a run's differences from the first. Out: a forest plot of them.

use crate::reports::differences::Differences;
use crate::reports::drawing::{Anchor, Drawing, Ink, shortened, text_width};
use crate::reports::figure_table::Level;
use crate::reports::report_input::ReportInput;
use crate::reports::report_tables::{signed, signed_end};

use super::axis::{Axis, round_step, tick_label};
use super::chart::{Chart, about, label};

const ROW: f64 = 22.0;
const NUMBERS: f64 = 190.0;

/// Draws the chart; `None` where the runs share no scored item.
pub(super) fn chart(input: &ReportInput<'_>, found: &Differences) -> Option<Chart> {
    let rows = found.telling();
    if rows.is_empty() {
        return None;
    }
    let (base, other) = (label(input, 0), label(input, found.run));
    let longest = rows.iter().map(|row| text_width(&row.name, 13.0, row.level != Level::L2));
    let left = longest.fold(120.0, f64::max).min(260.0) + 28.0;
    let width = left + 440.0 + NUMBERS;
    let title = format!("{other} minus {base}, in points");
    let mut drawing = Drawing::new(width, 0.0, format!("{title}, with 95 % intervals"));
    let top = 8.0;
    let bottom = top + ROW * rows.len() as f64;
    drawing.height = bottom + 56.0;

    let (mut from, mut to) = (-1.0_f64, 1.0_f64);
    for row in &rows {
        let (low, high) = row.interval.unwrap_or((row.points(), row.points()));
        from = from.min(low).min(row.points());
        to = to.max(high).max(row.points());
    }
    let step = round_step((to - from) / 6.0);
    let axis = Axis {
        from: (from / step).floor() * step,
        to: (to / step).ceil() * step,
        start: left + 10.0,
        end: width - NUMBERS - 20.0,
    };
    for tick in axis.ticks(6.0) {
        let x = axis.at(tick);
        let (ink, thick) = if tick == 0.0 { (Ink::Soft, 1.5) } else { (Ink::Grid, 1.0) };
        drawing.line(&[(x, top), (x, bottom)], ink, thick);
        drawing.words(x, bottom + 14.0, Anchor::Middle, Ink::Soft, false, tick_label(tick));
    }
    let half = (axis.end - axis.start) / 2.0 - 75.0;
    let cut = |name: &str| shortened(name, half, false);
    let (fewer, more) = (format!("← {} higher", cut(&base)), format!("{} higher →", cut(&other)));
    let y = bottom + 36.0;
    drawing.words(axis.start, y, Anchor::Start, Ink::Soft, false, fewer);
    drawing.words(axis.end, y, Anchor::End, Ink::Soft, false, more);

    for (place, row) in rows.iter().enumerate() {
        let y = top + ROW * (place as f64 + 0.5);
        let is_broad = row.level != Level::L2;
        let words = shortened(&row.name, left - 28.0, is_broad);
        let ink = if is_broad { Ink::Text } else { Ink::Soft };
        drawing.words(left - 10.0, y, Anchor::End, ink, is_broad, words);
        let mut number = signed(row.points());
        if let Some((low, high)) = row.interval {
            drawing.line(&[(axis.at(low), y), (axis.at(high), y)], Ink::Run(found.run), 2.0);
            number.push_str(&format!(" [{}, {}]", signed_end(low), signed_end(high)));
        }
        let radius = if row.level == Level::Overall { 5.5 } else { 4.0 };
        let x = axis.at(row.points());
        if !row.is_significant() {
            // No line through what is hollow.
            drawing.mark_in(x, y, radius, found.run, Ink::Ground, false);
        }
        drawing.mark(x, y, radius, found.run, !row.is_significant());
        drawing.text(width - NUMBERS, y, Anchor::Start, number);
    }
    Some(Chart {
        name: format!("differences-{}", found.run + 1),
        title: format!("{} minus {}, in points", input.runs[found.run].name, input.runs[0].name),
        note: "Filled: significant, p below 0.05; for categories p with Holm's correction for their number. Hollow: not \
               significant. p decides: the interval of a category has no such correction, so it may leave out 0 where the mark \
               is hollow. Lines and brackets: 95 % intervals."
            .into(),
        about: about(input, &[0, found.run], found.items),
        drawing,
    })
}
