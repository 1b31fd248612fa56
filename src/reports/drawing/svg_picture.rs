//! In: a picture's shapes. Out: SVG text, with colours of its own for a file or with the classes of the
//! page's style sheet. Words are escaped.

use super::shapes::BASELINE;
use super::{Anchor, Drawing, Ink, Shape, Text};
use crate::reports::escape::escape;

/// A whole SVG file on white.
pub(crate) fn svg_picture(drawing: &Drawing) -> String {
    let ground = "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n";
    let size = format!(" width=\"{0}\" height=\"{1}\"", drawing.width, drawing.height);
    let halo = " paint-order=\"stroke\" stroke=\"#fff\" stroke-width=\"4\"";
    element(drawing, &size, ground, halo, |ink, what| {
        let [r, g, b] = ink.rgb();
        format!("{what}=\"#{r:02x}{g:02x}{b:02x}\"")
    })
}

/// How much larger a chart may stand in the page, which makes it smaller where there is no room.
const LARGER: f64 = 1.3;

/// An SVG element for the page.
pub(crate) fn page_svg(drawing: &Drawing) -> String {
    let size = format!(" class=\"chart\" width=\"{:.0}\"", LARGER * drawing.width);
    element(drawing, &size, "", " paint-order=\"stroke\" stroke-width=\"4\"", |ink, what| {
        format!("class=\"{what}-{}\"", ink.class())
    })
}

fn element(
    drawing: &Drawing,
    attributes: &str,
    ground: &str,
    halo: &str,
    paint: impl Fn(Ink, &str) -> String,
) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\"{attributes} role=\"img\" \
         font-family=\"DejaVu Sans, Verdana, Arial, sans-serif\">\n<title>{}</title>\n{ground}",
        drawing.width,
        drawing.height,
        escape(&drawing.description)
    );
    for shape in &drawing.shapes {
        svg.push_str(&match shape {
            Shape::Line { points, ink, width, dash } => format!(
                "<polyline points=\"{}\" fill=\"none\" stroke-width=\"{width}\"{} {}/>\n",
                corners(points),
                dashes(dash),
                paint(*ink, "stroke")
            ),
            Shape::Polygon { points, ink, opacity, width } => {
                let corners = corners(points);
                let mut both = String::new();
                if *opacity > 0.0 {
                    both.push_str(&format!(
                        "<polygon points=\"{corners}\" fill-opacity=\"{opacity}\" {}/>\n",
                        paint(*ink, "fill")
                    ));
                }
                if *width > 0.0 {
                    both.push_str(&format!(
                        "<polygon points=\"{corners}\" fill=\"none\" stroke-width=\"{width}\" {}/>\n",
                        paint(*ink, "stroke")
                    ));
                }
                both
            }
            Shape::Dot { x, y, radius, ink, hollow: false, opacity } => format!(
                "<circle cx=\"{}\" cy=\"{}\" r=\"{radius}\" fill-opacity=\"{opacity}\" {}/>\n",
                short(*x),
                short(*y),
                paint(*ink, "fill")
            ),
            Shape::Dot { x, y, radius, ink, hollow: true, .. } => format!(
                "<circle cx=\"{}\" cy=\"{}\" r=\"{radius}\" fill=\"none\" stroke-width=\"1.8\" {}/>\n",
                short(*x),
                short(*y),
                paint(*ink, "stroke")
            ),
            Shape::Text(text) => words(text, &paint(text.ink, "fill"), halo),
        });
    }
    svg.push_str("</svg>\n");
    svg
}

fn words(text: &Text, paint: &str, ground: &str) -> String {
    let anchor = match text.anchor {
        Anchor::Start => "start",
        Anchor::Middle => "middle",
        Anchor::End => "end",
    };
    let weight = if text.bold { " font-weight=\"bold\"" } else { "" };
    let halo = if text.halo { ground } else { "" };
    format!(
        "<text x=\"{}\" y=\"{}\" font-size=\"{}\" text-anchor=\"{anchor}\"{weight}{halo} {paint}>{}</text>\n",
        short(text.x),
        short(text.y + BASELINE * text.size),
        text.size,
        escape(&text.words)
    )
}

fn dashes(dash: &[f64]) -> String {
    let lengths: Vec<String> = dash.iter().map(f64::to_string).collect();
    match lengths.is_empty() {
        true => String::new(),
        false => format!(" stroke-dasharray=\"{}\"", lengths.join(" ")),
    }
}

fn corners(points: &[(f64, f64)]) -> String {
    let pairs: Vec<String> =
        points.iter().map(|(x, y)| format!("{},{}", short(*x), short(*y))).collect();
    pairs.join(" ")
}

/// Hundredths of a pixel are enough.
fn short(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
