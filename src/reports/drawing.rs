//! In: shapes, placed by the charts. Out: one picture, as SVG for files, as SVG for the page (which
//! follows its light or dark colours) and as PNG. What to draw is left to the charts.

mod fonts;
mod png_picture;
mod series;
mod shapes;
mod svg_picture;

pub use fonts::{shortened, text_width};
pub(crate) use png_picture::png_picture;
pub use series::MAX_RUNS;
#[cfg(test)]
pub(crate) use series::luma;
pub use shapes::{Anchor, Drawing, Ink, Shape, Text};
pub(crate) use svg_picture::{page_svg, svg_picture};
