//! In: item scores and a number of each item. Out: the one against the other: every item a faint dot, and
//! the means of groups of items with their intervals.

use crate::benchmark::Item;
use crate::reports::drawing::{Anchor, Drawing, Ink};
use crate::reports::report_input::ReportInput;
use crate::statistics::ItemRatio;

use super::axis::{Axis, tick_label};
use super::chart::{Chart, Key, NARROW, Room, about_all, head, run_entries};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
/// Groups are of as many items, about.
const GROUP: usize = 20;
const MOST_GROUPS: usize = 8;
/// Pixels between the marks of two runs in a group, of the width of the chart.
const ASIDE: f64 = 7.0 / 676.0;
/// Where the axes begin, and what is free behind the lower one.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 20.0;

/// Draws the chart; `None` where no item has a score or all have the same number.
pub(super) fn chart(
    input: &ReportInput<'_>,
    name: &str,
    what: &str,
    number: &dyn Fn(&Item) -> f64,
) -> Option<Chart> {
    let mut items: Vec<(f64, &Item)> =
        input.items.iter().map(|item| (number(item), *item)).collect();
    items.retain(|(_, item)| input.runs.iter().any(|run| run.item_score(&item.id).is_some()));
    items.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (first, last) = (items.first()?.0, items.last()?.0);
    if first == last {
        return None;
    }
    let title = format!("Score against {what}");
    let mut note = String::from(
        "Faint dots: one item each, with the mean score of its images. Marks: the mean of a group of items that lie side by \
         side, with its 95 % interval (1.96 standard errors); a group of one item has none.",
    );
    let runs = input.runs.len() as f64;
    if input.runs.len() > 1 {
        let unit = what.split(' ').next().unwrap_or(what);
        let across = across(&items, WIDTH);
        let farthest = ASIDE * (runs - 1.0) / 2.0 * (across.to - across.from);
        // Rounded up: it is a bound.
        let far = match farthest < 0.1 {
            true => "less than 0.1".to_owned(),
            false => format!("up to {:.1}", (farthest * 10.0).ceil() / 10.0),
        };
        note.push_str(&format!(
            " The marks of the runs stand side by side, by {far} {unit} to the left or right of \
             their place, so that none hides another."
        ));
    }
    let draw = |room| draw(input, &items, &title, what, room);
    let (drawing, narrow) = (draw(Room::Wide), Some(draw(Room::Narrow)));
    Some(Chart { name: name.to_owned(), title, note, about: about_all(input), drawing, narrow })
}

/// The axis of the items' numbers, which are sorted.
fn across(items: &[(f64, &Item)], width: f64) -> Axis {
    let ends = [items.first(), items.last()].map(|end| end.map_or(0.0, |(value, _)| *value));
    let free = (ends[1] - ends[0]) * 0.03;
    Axis { from: ends[0] - free, to: ends[1] + free, start: LEFT, end: width - RIGHT }
}

fn draw(
    input: &ReportInput<'_>,
    items: &[(f64, &Item)],
    title: &str,
    what: &str,
    room: Room,
) -> Drawing {
    let width = room.pick(WIDTH, NARROW);
    let mut drawing = Drawing::new(width, 0.0, title);
    let top = head(&mut drawing, Key::Line, &run_entries(input)) + 28.0;
    drawing.words(16.0, top - 18.0, Anchor::Start, Ink::Text, false, "score");
    drawing.height = top + HEIGHT + 58.0;
    let across = across(items, width);
    let up = Axis { from: 0.0, to: 100.0, start: top + HEIGHT, end: top };
    for tick in up.ticks(5.0) {
        let y = up.at(tick);
        drawing.line(&[(across.start, y), (across.end, y)], Ink::Grid, 1.0);
        drawing.words(56.0, y, Anchor::End, Ink::Soft, false, format!("{tick:.0} %"));
    }
    // Both numbers are counts.
    for tick in across.ticks(room.pick(8.0, 4.0)).into_iter().filter(|tick| tick.fract() == 0.0) {
        let x = across.at(tick);
        drawing.line(&[(x, up.start), (x, up.start + 4.0)], Ink::Soft, 1.0);
        drawing.words(x, up.start + 16.0, Anchor::Middle, Ink::Soft, false, tick_label(tick));
    }
    let middle = (across.start + across.end) / 2.0;
    drawing.words(middle, up.start + 40.0, Anchor::Middle, Ink::Text, false, what);

    let opacity = (40.0 / items.len() as f64).clamp(0.14, 0.5);
    for (run, scored) in input.runs.iter().enumerate() {
        for (value, item) in items {
            if let Some(score) = scored.item_score(&item.id) {
                drawing.dot(across.at(*value), up.at(score), 2.0, Ink::Run(run), opacity);
            }
        }
    }
    let groups = groups(items);
    let runs = input.runs.len() as f64;
    for (run, scored) in input.runs.iter().enumerate() {
        // Beside each other, so that no interval hides another.
        let aside = ASIDE * (across.end - across.start) * (run as f64 - (runs - 1.0) / 2.0);
        let mut means = Vec::new();
        for group in &groups {
            let scores = group.iter().map(|(_, item)| scored.item_score(&item.id));
            let ratio = ItemRatio::mean_of(scores);
            let Some(mean) = ratio.value() else { continue };
            let place = group.iter().map(|(value, _)| value).sum::<f64>() / group.len() as f64;
            let x = across.at(place) + aside;
            if let Some(error) = ratio.standard_error() {
                let (low, high) = (mean - 1.96 * error, mean + 1.96 * error);
                let (low, high) = (up.at(low.max(0.0)), up.at(high.min(100.0)));
                drawing.interval(x, low, high, true, Ink::Run(run));
            }
            means.push((x, up.at(mean)));
        }
        drawing.run_line(&means, run);
        for (x, y) in means {
            drawing.mark(x, y, 4.5, run, false);
        }
    }
    drawing
}

/// The place at or near `place` before which the number is another.
fn nearest_change(items: &[(f64, &Item)], place: usize) -> usize {
    let changes = |at: usize| at == 0 || at >= items.len() || items[at].0 != items[at - 1].0;
    let nearest = (0..=items.len()).find_map(|away| {
        let below = place.checked_sub(away).filter(|&at| changes(at));
        below.or_else(|| Some(place + away).filter(|&at| changes(at)))
    });
    nearest.unwrap_or(items.len()).min(items.len())
}

/// Groups of about as many items, those of one number together.
fn groups<'s, 'i>(items: &'s [(f64, &'i Item)]) -> Vec<&'s [(f64, &'i Item)]> {
    let count = (items.len() / GROUP).clamp(3, MOST_GROUPS);
    let mut groups = Vec::new();
    let mut from = 0;
    for number in 1..=count {
        let to = nearest_change(items, items.len() * number / count).max(from);
        if to > from {
            groups.push(&items[from..to]);
        }
        from = to;
    }
    groups
}
