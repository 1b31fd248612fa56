//! In: the place of a run on the command line. Out: how its marks look: shape, dash and colour. Any one of the
//! three is enough to find a run, so that a chart is read in grey print and by colour-blind readers.

use std::f64::consts::TAU;

/// Maximum number of runs in a report: so many looks are distinct.
pub const MAX_RUNS: usize = 7;

/// How the marks of a run look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Series {
    /// Shape of its points.
    pub mark: Mark,
    /// Lengths of strokes and gaps of its lines, in pixels; none for a solid line.
    pub dash: &'static [f64],
    /// Red, green and blue on a white ground.
    pub colour: [u8; 3],
}

/// Shape of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Round.
    Circle,
    /// Four corners, upright.
    Square,
    /// Its tip is above.
    TriangleUp,
    /// Four corners, on its tip.
    Diamond,
    /// Its tip is below.
    TriangleDown,
    /// A plus.
    Plus,
    /// A plus on its side.
    Cross,
}

/// On white. Brightness is spread out: no two are the same grey.
const SERIES: [Series; MAX_RUNS] = [
    Series { mark: Mark::Circle, dash: &[], colour: [0, 72, 140] },
    Series { mark: Mark::Square, dash: &[9.0, 4.0], colour: [222, 112, 20] },
    Series { mark: Mark::TriangleUp, dash: &[2.0, 3.0], colour: [0, 120, 85] },
    Series { mark: Mark::Diamond, dash: &[9.0, 3.0, 2.0, 3.0], colour: [84, 10, 80] },
    Series { mark: Mark::TriangleDown, dash: &[16.0, 4.0], colour: [174, 112, 0] },
    Series { mark: Mark::Plus, dash: &[5.0, 3.0], colour: [40, 112, 200] },
    Series { mark: Mark::Cross, dash: &[9.0, 3.0, 2.0, 3.0, 2.0, 3.0], colour: [20, 20, 20] },
];

/// The look of the run at `place`, counted from 0.
pub(crate) fn series(place: usize) -> Series {
    SERIES[place % MAX_RUNS]
}

impl Mark {
    /// Corners of the shape about a point, of about the area of a disc of that radius (pixels); `None` for a
    /// circle.
    pub(crate) fn corners(self, x: f64, y: f64, radius: f64) -> Option<Vec<(f64, f64)>> {
        let regular = |count: usize, size: f64, turn: f64| {
            (0..count)
                .map(|corner| {
                    let angle = TAU * (corner as f64 / count as f64 + turn);
                    (x + size * radius * angle.cos(), y + size * radius * angle.sin())
                })
                .collect()
        };
        Some(match self {
            Self::Circle => return None,
            Self::Square => regular(4, 1.25, 0.125),
            Self::TriangleUp => regular(3, 1.4, -0.25),
            Self::Diamond => regular(4, 1.35, 0.0),
            Self::TriangleDown => regular(3, 1.4, 0.25),
            Self::Plus => bars(x, y, radius, 0.0),
            Self::Cross => bars(x, y, radius, 0.125),
        })
    }
}

/// Two bars across each other, turned by a share of a full turn.
fn bars(x: f64, y: f64, radius: f64, turn: f64) -> Vec<(f64, f64)> {
    let (long, half) = (1.35 * radius, 0.45 * radius);
    let (sin, cos) = (TAU * turn).sin_cos();
    let arm = [(half, -half), (long, -half), (long, half)];
    (0..4)
        .flat_map(|quarter| {
            arm.map(|(a, b)| match quarter {
                0 => (a, b),
                1 => (-b, a),
                2 => (-a, -b),
                _ => (b, -a),
            })
        })
        .map(|(a, b)| (x + a * cos - b * sin, y + a * sin + b * cos))
        .collect()
}

/// Brightness of a colour in grey print, 0..=255.
#[cfg(test)]
pub(crate) fn luma([red, green, blue]: [u8; 3]) -> f64 {
    0.299 * f64::from(red) + 0.587 * f64::from(green) + 0.114 * f64::from(blue)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_seven_series_differ_in_each_of_shape_dash_and_grey() {
        for one in 0..MAX_RUNS {
            for other in 0..one {
                let (a, b) = (series(one), series(other));
                assert!(a.mark != b.mark && a.dash != b.dash, "{one} and {other}");
                let apart = (luma(a.colour) - luma(b.colour)).abs();
                assert!(apart >= 15.0, "{one} and {other}: {apart} of 255");
            }
        }
        assert_eq!(series(MAX_RUNS), series(0));
        // The two that nearly every report has are far apart.
        assert!((luma(series(0).colour) - luma(series(1).colour)).abs() > 60.0);
    }

    #[test]
    fn every_colour_is_seen_on_white() {
        // Contrast of graphics in WCAG 2: 3 to 1.
        for place in 0..MAX_RUNS {
            let [red, green, blue] = series(place).colour.map(|part| {
                let part = f64::from(part) / 255.0;
                if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
            });
            let contrast = 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05);
            assert!(contrast >= 3.0, "{place}: {contrast}");
        }
    }

    #[test]
    fn shapes_stand_about_their_point_and_differ() {
        let shapes: Vec<_> = (0..MAX_RUNS)
            .map(|place| series(place).mark.corners(10.0, 20.0, 4.0).unwrap_or_default())
            .collect();
        for (place, corners) in shapes.iter().enumerate() {
            assert!(shapes[..place].iter().all(|other| other != corners));
            let count = corners.len().max(1) as f64;
            let middle = corners.iter().fold((0.0, 0.0), |sum, at| (sum.0 + at.0, sum.1 + at.1));
            let off = (middle.0 / count - 10.0).hypot(middle.1 / count - 20.0);
            assert!(corners.is_empty() || off < 1e-9, "{place}: {off}");
        }
    }
}
