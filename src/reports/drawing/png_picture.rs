//! In: a picture's shapes. Out: a PNG of them on white, with twice the pixels, for documents that take
//! no SVG.

use anyhow::Context;
use tiny_skia::{
    Color, FillRule, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, Stroke, StrokeDash,
    Transform,
};

use super::fonts::outline;
use super::shapes::BASELINE;
use super::{Drawing, Ink, Shape};

/// Pixels of the PNG per pixel of the picture.
const SCALE: f64 = 2.0;

/// Draws the picture.
///
/// # Errors
/// It has no size, or the PNG encoder refused (programming errors).
pub(crate) fn png_picture(drawing: &Drawing) -> anyhow::Result<Vec<u8>> {
    let size = |length: f64| (length * SCALE).ceil() as u32;
    let (width, height) = (size(drawing.width), size(drawing.height));
    let mut pixels = Pixmap::new(width, height).context("a chart without size")?;
    pixels.fill(Color::WHITE);
    for shape in &drawing.shapes {
        draw(&mut pixels, shape);
    }
    let rgb: Vec<u8> =
        pixels.pixels().iter().flat_map(|p| [p.red(), p.green(), p.blue()]).collect();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&rgb)?;
    writer.finish()?;
    Ok(bytes)
}

fn draw(pixels: &mut Pixmap, shape: &Shape) {
    match shape {
        Shape::Line { points, ink, width, dash } => {
            stroke(pixels, path(points, false), *ink, *width, dash);
        }
        Shape::Polygon { points, ink, opacity, width } => {
            fill(pixels, path(points, true), *ink, *opacity);
            if *width > 0.0 {
                stroke(pixels, path(points, true), *ink, *width, &[]);
            }
        }
        Shape::Dot { x, y, radius, ink, opacity, hollow } => {
            let circle = PathBuilder::from_circle(*x as f32, *y as f32, *radius as f32);
            match hollow {
                true => stroke(pixels, circle, *ink, 1.8, &[]),
                false => fill(pixels, circle, *ink, *opacity),
            }
        }
        Shape::Text(text) => {
            let [left, ..] = text.bounds();
            let baseline = text.y + BASELINE * text.size;
            let letters = outline(&text.words, text.size, text.bold, left, baseline);
            if text.halo {
                stroke(pixels, letters.clone(), Ink::Ground, 4.0, &[]);
            }
            fill(pixels, letters, text.ink, 1.0);
        }
    }
}

fn path(points: &[(f64, f64)], closed: bool) -> Option<Path> {
    let mut path = PathBuilder::new();
    for (place, (x, y)) in points.iter().enumerate() {
        match place {
            0 => path.move_to(*x as f32, *y as f32),
            _ => path.line_to(*x as f32, *y as f32),
        }
    }
    if closed {
        path.close();
    }
    path.finish()
}

fn paint(ink: Ink, opacity: f64) -> Paint<'static> {
    let [r, g, b] = ink.rgb();
    let mut paint = Paint { anti_alias: true, ..Paint::default() };
    paint.set_color_rgba8(r, g, b, (opacity * 255.0).round() as u8);
    paint
}

fn scaled() -> Transform {
    Transform::from_scale(SCALE as f32, SCALE as f32)
}

fn fill(pixels: &mut Pixmap, path: Option<Path>, ink: Ink, opacity: f64) {
    if let Some(path) = path {
        pixels.fill_path(&path, &paint(ink, opacity), FillRule::Winding, scaled(), None);
    }
}

fn stroke(pixels: &mut Pixmap, path: Option<Path>, ink: Ink, width: f64, dash: &[f64]) {
    let stroke = Stroke {
        width: width as f32,
        line_cap: LineCap::Butt,
        line_join: LineJoin::Round,
        dash: StrokeDash::new(dash.iter().map(|length| *length as f32).collect(), 0.0),
        ..Stroke::default()
    };
    if let Some(path) = path {
        pixels.stroke_path(&path, &paint(ink, 1.0), &stroke, scaled(), None);
    }
}
