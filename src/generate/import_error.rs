//! In: what an import met. Out: errors that name the file and say what to do.

use std::path::PathBuf;

use super::import_layout::Layout;

/// Why pictures cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The disk said no; the message names the path.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// No file belongs to an item.
    #[error(
        "no picture in {folder} belongs to an item of the benchmark; name them <item>/<k>.png, \
         <item>_<k>.png or <item>.png (a 2x2 grid), or list them in a file given with --map"
    )]
    NothingFound {
        /// The folder.
        folder: PathBuf,
    },
    /// Names that can be read in two ways, or pictures of several layouts.
    #[error("{first} is named as {}, {second} as {}; keep one layout or use --map", layouts[0].example(), layouts[1].example())]
    MixedLayouts {
        /// A file of one layout.
        first: String,
        /// A file of another (or the same file, read otherwise).
        second: String,
        /// The two layouts.
        layouts: [Layout; 2],
    },
    /// It cannot be told whether images are counted from 0 or from 1.
    #[error(
        "cannot tell whether the images are numbered from 0 or from 1: {reason}; say it with --first-index"
    )]
    UnclearIndex {
        /// Which numbers are there.
        reason: String,
    },
    /// Two files for one image.
    #[error("{first} and {second} are both image {image} of item `{item}`; remove one")]
    Duplicate {
        /// One file.
        first: String,
        /// The other.
        second: String,
        /// The item.
        item: String,
        /// The image, from 0.
        image: u32,
    },
    /// A line of the map is wrong.
    #[error("{path}, line {line}: {reason}")]
    BadMapLine {
        /// The map.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong and what to do.
        reason: String,
    },
    /// Pictures of a size that does not fit.
    #[error("{}", sizes.join("\n"))]
    BadSizes {
        /// One sentence per file.
        sizes: Vec<String>,
    },
    /// More images per item than a grid holds.
    #[error("a 2x2 grid holds four images, not {images_per_item}; mend --images-per-item")]
    GridTooSmall {
        /// Images per item asked for.
        images_per_item: u32,
    },
    /// One image per item and `<item>.png`: the image, or a grid?
    #[error(
        "with one image per item, {example} can be the image or a 2x2 grid; say which by its side with --resolution"
    )]
    ImageOrGrid {
        /// A file.
        example: String,
    },
}
