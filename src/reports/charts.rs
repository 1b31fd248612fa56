//! In: a summary. Out: an SVG bar chart of its categories: how often the judge said yes, and how often
//! it did with every ancestor's yes.

use std::error::Error;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::aggregate::{Protocol, Summary};

use super::figure_table::{Cell, FigureTable, Level};

const WIDTH: i32 = 900;
/// Width of a letter of the labels, about.
const LETTER: i32 = 7;
const RIGHT: i32 = 190;
const TOP: i32 = 92;
const ROW: i32 = 24;
const BOTTOM: i32 = 34;

const INK: RGBColor = RGBColor(34, 34, 34);
const FAINT: RGBColor = RGBColor(218, 218, 218);
/// Blue and its light tone: told apart in print and by colour-blind readers, as is the dark tick.
const CONDITIONAL: RGBColor = RGBColor(31, 98, 160);
const RAW: RGBColor = RGBColor(166, 202, 232);
const REFERENCE: RGBColor = RGBColor(200, 80, 20);

/// Draws the categories of `corrected` as bars (light: raw, dark: conditional) and those of
/// `reference` as ticks.
///
/// # Errors
/// The drawing library refused (a programming error).
pub fn category_chart(summary: &Summary) -> Result<String, Box<dyn Error + Send + Sync>> {
    let table = FigureTable::new(summary, &Protocol::ALL);
    let rows: Vec<_> = table.rows.iter().filter(|row| row.level != Level::Overall).collect();
    let height = TOP + ROW * rows.len() as i32 + BOTTOM;
    let mut svg = String::new();
    {
        let root =
            SVGBackend::with_string(&mut svg, (WIDTH as u32, height as u32)).into_drawing_area();
        let drawn = draw(&root, summary, &rows, height).and_then(|()| root.present());
        drawn.map_err(|error| error.to_string())?;
    }
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

fn style(
    size: i32,
    weight: FontStyle,
    colour: &'static RGBColor,
    across: HPos,
) -> TextStyle<'static> {
    TextStyle::from(("sans-serif", size, weight).into_font())
        .color(colour)
        .pos(Pos::new(across, VPos::Center))
}

fn draw<'a>(
    root: &Area<'a>,
    summary: &Summary,
    rows: &[&super::figure_table::Row],
    height: i32,
) -> Drawn<'a> {
    root.fill(&WHITE)?;
    let plain = |across| style(13, FontStyle::Normal, &INK, across);
    let title = format!(
        "{}, judged by {}",
        summary.run.model.as_deref().unwrap_or("Imported answers"),
        summary.judge.name
    );
    root.draw_text(&title, &style(18, FontStyle::Bold, &INK, HPos::Left), (16, 24))?;
    legend(root)?;

    let longest = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or_default();
    let left = (40 + LETTER * longest as i32).clamp(140, WIDTH / 2);
    let x_of =
        |percent: f64| left + (percent / 100.0 * f64::from(WIDTH - left - RIGHT)).round() as i32;
    let bottom = height - BOTTOM;
    for percent in [0, 20, 40, 60, 80, 100] {
        let x = x_of(f64::from(percent));
        root.draw(&PathElement::new(vec![(x, TOP - 4), (x, bottom)], FAINT))?;
        root.draw_text(&format!("{percent} %"), &plain(HPos::Center), (x, bottom + 14))?;
    }
    for (index, row) in rows.iter().enumerate() {
        let middle = TOP + ROW * index as i32 + ROW / 2;
        let is_broad = row.level == Level::L1;
        let half = if is_broad { 8 } else { 5 };
        let weight = if is_broad { FontStyle::Bold } else { FontStyle::Normal };
        root.draw_text(&row.name, &style(13, weight, &INK, HPos::Right), (left - 10, middle))?;
        // Columns: reference, corrected raw, corrected conditional.
        for (cell, colour) in row.cells.iter().skip(1).zip([RAW, CONDITIONAL]) {
            if let Cell::Figure(figure) = cell {
                let corners = [(left, middle - half), (x_of(figure.mean), middle + half)];
                root.draw(&Rectangle::new(corners, colour.filled()))?;
            }
        }
        // The interval of the darker bar, which is the shorter one.
        if let Some(Cell::Figure(figure)) = row.cells.get(2)
            && let (Some(low), Some(high)) = (figure.low, figure.high)
        {
            let ends = (x_of(low), x_of(high));
            let mut strokes = vec![vec![(ends.0, middle), (ends.1, middle)]];
            strokes.extend([ends.0, ends.1].map(|x| vec![(x, middle - 3), (x, middle + 3)]));
            for stroke in strokes {
                root.draw(&PathElement::new(stroke, INK))?;
            }
        }
        if let Some(Cell::Figure(figure)) = row.cells.first() {
            let x = x_of(figure.mean);
            root.draw(&Rectangle::new(
                [(x - 1, middle - half - 2), (x + 1, middle + half + 2)],
                REFERENCE.filled(),
            ))?;
        }
        if let [_, Cell::Figure(raw), Cell::Figure(conditional)] = row.cells[..] {
            let counts = match raw.n == conditional.n {
                true => raw.n.to_string(),
                // Unanswered parents leave some questions open.
                false => format!("{}, {}", raw.n, conditional.n),
            };
            let label = format!("{:.1} / {:.1}  n={counts}", raw.mean, conditional.mean);
            root.draw_text(&label, &plain(HPos::Left), (WIDTH - RIGHT + 10, middle))?;
        }
    }
    Ok(())
}

fn legend<'a>(root: &Area<'a>) -> Drawn<'a> {
    let text = style(13, FontStyle::Normal, &INK, HPos::Left);
    let entries = [
        (RAW, 14, "yes, before the dependency rule"),
        (CONDITIONAL, 14, "yes, with every ancestor's yes"),
        (REFERENCE, 3, "reference script (last image)"),
    ];
    let mut x = 16;
    for (colour, width, label) in entries {
        root.draw(&Rectangle::new([(x, 52), (x + width, 66)], colour.filled()))?;
        root.draw_text(label, &text, (x + width + 7, 59))?;
        x += width + 31 + LETTER * label.len() as i32;
    }
    Ok(())
}
