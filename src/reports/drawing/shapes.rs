//! In: nothing. Out: shapes and texts in a list, and what their colours are for.

use super::fonts::text_width;
use super::series::{MAX_RUNS, series};

/// What a colour is for; pictures and page say which colour that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// Text and axes.
    Text,
    /// Secondary text.
    Soft,
    /// Lines of the grid.
    Grid,
    /// What everything stands on.
    Ground,
    /// The run of that place on the command line, counted from 0.
    Run(usize),
}

impl Ink {
    /// Red, green and blue on a white ground.
    pub(crate) fn rgb(self) -> [u8; 3] {
        match self {
            Self::Text => [28, 28, 30],
            Self::Soft => [92, 92, 98],
            Self::Grid => [221, 221, 226],
            Self::Ground => [255, 255, 255],
            Self::Run(place) => series(place).colour,
        }
    }

    /// The class that the page's style sheet gives a colour to.
    pub(crate) fn class(self) -> String {
        match self {
            Self::Text => "ink".to_owned(),
            Self::Soft => "soft".to_owned(),
            Self::Grid => "grid".to_owned(),
            Self::Ground => "ground".to_owned(),
            Self::Run(place) => format!("run{}", place % MAX_RUNS),
        }
    }
}

/// Where a text stands beside its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// To its right.
    Start,
    /// About it.
    Middle,
    /// To its left.
    End,
}

/// One line of text; its middle stands at the height of `y`.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    /// Where.
    pub x: f64,
    /// Where.
    pub y: f64,
    /// Font size in pixels.
    pub size: f64,
    /// Whether in bold.
    pub bold: bool,
    /// On which side of `x`.
    pub anchor: Anchor,
    /// Colour.
    pub ink: Ink,
    /// Whether what lies below is kept away from the letters.
    pub halo: bool,
    /// The words.
    pub words: String,
}

impl Text {
    /// Left, top, right and bottom of the box that it fills.
    pub fn bounds(&self) -> [f64; 4] {
        let width = text_width(&self.words, self.size, self.bold);
        let left = match self.anchor {
            Anchor::Start => self.x,
            Anchor::Middle => self.x - width / 2.0,
            Anchor::End => self.x - width,
        };
        [left, self.y - self.size * 0.5, left + width, self.y + self.size * 0.5]
    }
}

/// One shape; coordinates in pixels from the top left corner.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// An open line.
    Line {
        /// Its corners.
        points: Vec<(f64, f64)>,
        /// Colour.
        ink: Ink,
        /// Thickness in pixels.
        width: f64,
        /// Lengths of strokes and gaps in pixels; none for a solid line.
        dash: &'static [f64],
    },
    /// A filled and, where `width` is above 0, outlined polygon.
    Polygon {
        /// Its corners.
        points: Vec<(f64, f64)>,
        /// Colour of both.
        ink: Ink,
        /// Share of the filling, 0..=1.
        opacity: f64,
        /// Thickness of the outline in pixels.
        width: f64,
    },
    /// A disc, or a ring where it is `hollow`.
    Dot {
        /// Middle.
        x: f64,
        /// Middle.
        y: f64,
        /// Radius.
        radius: f64,
        /// Colour.
        ink: Ink,
        /// Share of the filling, 0..=1.
        opacity: f64,
        /// Whether the ground shows inside.
        hollow: bool,
    },
    /// A line of text.
    Text(Text),
}

impl Shape {
    /// The shape, `down` pixels lower.
    pub(crate) fn moved(mut self, down: f64) -> Self {
        match &mut self {
            Self::Line { points, .. } | Self::Polygon { points, .. } => {
                points.iter_mut().for_each(|point| point.1 += down);
            }
            Self::Dot { y, .. } => *y += down,
            Self::Text(text) => text.y += down,
        }
        self
    }
}

/// A picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawing {
    /// Width in pixels.
    pub width: f64,
    /// Height in pixels.
    pub height: f64,
    /// What it shows, in one sentence, for readers who cannot see it.
    pub description: String,
    /// From back to front.
    pub shapes: Vec<Shape>,
}

impl Drawing {
    /// An empty picture.
    pub fn new(width: f64, height: f64, description: impl Into<String>) -> Self {
        Self { width, height, description: description.into(), shapes: Vec::new() }
    }

    /// Adds an open line.
    pub fn line(&mut self, points: &[(f64, f64)], ink: Ink, width: f64) {
        self.shapes.push(Shape::Line { points: points.to_vec(), ink, width, dash: &[] });
    }

    /// Adds an open line in colour and dash of a run.
    pub(crate) fn run_line(&mut self, points: &[(f64, f64)], run: usize) {
        let (ink, dash) = (Ink::Run(run), series(run).dash);
        self.shapes.push(Shape::Line { points: points.to_vec(), ink, width: 2.0, dash });
    }

    /// Adds a filled rectangle.
    pub(crate) fn bar(&mut self, [left, top, right, bottom]: [f64; 4], ink: Ink, opacity: f64) {
        let points = vec![(left, top), (right, top), (right, bottom), (left, bottom)];
        self.shapes.push(Shape::Polygon { points, ink, opacity, width: 0.0 });
    }

    /// Adds an interval: a line with a stroke at either end, across where `upright` is false.
    pub fn interval(&mut self, middle: f64, from: f64, to: f64, upright: bool, ink: Ink) {
        let turn =
            |along: f64, across: f64| if upright { (across, along) } else { (along, across) };
        self.line(&[turn(from, middle), turn(to, middle)], ink, 1.4);
        for end in [from, to] {
            self.line(&[turn(end, middle - 3.0), turn(end, middle + 3.0)], ink, 1.4);
        }
    }

    /// Adds a disc.
    pub fn dot(&mut self, x: f64, y: f64, radius: f64, ink: Ink, opacity: f64) {
        self.shapes.push(Shape::Dot { x, y, radius, ink, opacity, hollow: false });
    }

    /// Adds a point in the shape of a run; the ground shows inside where it is `hollow`.
    pub(crate) fn mark(&mut self, x: f64, y: f64, radius: f64, run: usize, hollow: bool) {
        self.mark_in(x, y, radius, run, Ink::Run(run), hollow);
    }

    /// Adds a point in the shape of a run and another colour.
    pub(crate) fn mark_in(
        &mut self,
        x: f64,
        y: f64,
        radius: f64,
        run: usize,
        ink: Ink,
        hollow: bool,
    ) {
        let (opacity, width) = if hollow { (0.0, 1.8) } else { (1.0, 0.0) };
        self.shapes.push(match series(run).mark.corners(x, y, radius) {
            None => Shape::Dot { x, y, radius, ink, opacity: 1.0, hollow },
            Some(points) => Shape::Polygon { points, ink, opacity, width },
        });
    }

    /// Adds a plain line of text of 13 pixels.
    pub fn text(&mut self, x: f64, y: f64, anchor: Anchor, words: impl Into<String>) {
        self.words(x, y, anchor, Ink::Text, false, words);
    }

    /// Adds a line of text of 13 pixels.
    pub fn words(
        &mut self,
        x: f64,
        y: f64,
        anchor: Anchor,
        ink: Ink,
        bold: bool,
        words: impl Into<String>,
    ) {
        let words = words.into();
        self.shapes.push(Shape::Text(Text {
            x,
            y,
            size: 13.0,
            bold,
            anchor,
            ink,
            halo: false,
            words,
        }));
    }
}

/// How far the line that letters stand on is below their middle, in font sizes.
pub(crate) const BASELINE: f64 = 0.35;
