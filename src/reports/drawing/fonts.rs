//! In: words and a font size. Out: how wide they are, and their outlines: DejaVu Sans, cut down to Latin,
//! Greek and Cyrillic letters, so that pictures are the same on every machine. Viewers of an SVG use a
//! sans-serif font of their own; DejaVu is among the widest, so that labels laid out by it do not
//! overlap there either.

use std::sync::LazyLock;

use tiny_skia::{Path, PathBuilder};
use ttf_parser::{Face, OutlineBuilder};

static REGULAR: LazyLock<Option<Face<'static>>> =
    LazyLock::new(|| Face::parse(include_bytes!("font/DejaVuSans.ttf"), 0).ok());
static BOLD: LazyLock<Option<Face<'static>>> =
    LazyLock::new(|| Face::parse(include_bytes!("font/DejaVuSans-Bold.ttf"), 0).ok());

fn face(bold: bool) -> Option<&'static Face<'static>> {
    if bold { BOLD.as_ref() } else { REGULAR.as_ref() }
}

fn advance(face: &Face<'_>, c: char) -> f64 {
    let glyph = face.glyph_index(c).unwrap_or_default();
    f64::from(face.glyph_hor_advance(glyph).unwrap_or_default()) / f64::from(face.units_per_em())
}

/// Width of one line of text in pixels. A character that the font has not counts as the box that is
/// drawn in its place.
pub fn text_width(words: &str, size: f64, bold: bool) -> f64 {
    face(bold).map_or(0.0, |face| words.chars().map(|c| advance(face, c)).sum::<f64>() * size)
}

/// `words`, cut with an ellipsis where they are wider than `width` pixels at 13 pixels.
pub fn shortened(words: &str, width: f64, bold: bool) -> String {
    // Line ends and directional marks have no place in a label.
    let plain: String = words.chars().filter(|c| !c.is_control()).collect();
    if text_width(&plain, 13.0, bold) <= width {
        return plain;
    }
    let mut kept = String::new();
    for c in plain.chars() {
        kept.push(c);
        if text_width(&format!("{kept}…"), 13.0, bold) > width {
            kept.pop();
            break;
        }
    }
    format!("{}…", kept.trim_end())
}

/// The outlines of a line of text whose first letter begins at `left` on the line `baseline`.
pub(super) fn outline(
    words: &str,
    size: f64,
    bold: bool,
    left: f64,
    baseline: f64,
) -> Option<Path> {
    let face = face(bold)?;
    let scale = size / f64::from(face.units_per_em());
    let mut pen = Pen { path: PathBuilder::new(), scale: scale as f32, x: 0.0, y: baseline as f32 };
    let mut x = left;
    for c in words.chars() {
        pen.x = x as f32;
        face.outline_glyph(face.glyph_index(c).unwrap_or_default(), &mut pen);
        x += advance(face, c) * size;
    }
    pen.path.finish()
}

struct Pen {
    path: PathBuilder,
    scale: f32,
    x: f32,
    y: f32,
}

impl Pen {
    fn at(&self, x: f32, y: f32) -> (f32, f32) {
        (self.x + x * self.scale, self.y - y * self.scale)
    }
}

impl OutlineBuilder for Pen {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.path.move_to(x, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.path.line_to(x, y);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let ((x1, y1), (x, y)) = (self.at(x1, y1), self.at(x, y));
        self.path.quad_to(x1, y1, x, y);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let ((x1, y1), (x2, y2), (x, y)) = (self.at(x1, y1), self.at(x2, y2), self.at(x, y));
        self.path.cubic_to(x1, y1, x2, y2, x, y);
    }

    fn close(&mut self) {
        self.path.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_fonts_are_there_and_bold_is_wider() {
        let (plain, bold) = (text_width("Score", 13.0, false), text_width("Score", 13.0, true));
        assert!(plain > 30.0 && bold > plain, "{plain} {bold}");
        assert!(outline("Ag", 13.0, false, 0.0, 20.0).is_some());
    }

    #[test]
    fn a_long_name_is_cut_and_loses_its_control_characters() {
        let cut = shortened(&"wide name ".repeat(20), 100.0, false);
        assert!(cut.ends_with('…') && text_width(&cut, 13.0, false) <= 100.0, "{cut}");
        assert_eq!(shortened("a\nb\u{7}", 100.0, false), "ab");
    }
}
