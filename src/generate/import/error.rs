//! In: what an import met. Out: errors that name the file and say what to do.

use std::path::PathBuf;

use super::naming::Layout;
use super::tiles::Tiling;

/// Why pictures cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The disk said no; the message names the path.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// No file belongs to an item.
    #[error(
        "no picture in {folder} belongs to an item of the benchmark; name them <item>/<k>.png, \
         <item>_<k>.png or <item>.png (a 2x2 grid), or list them in a file given with --map; docs/importing.md \
         has all layouts"
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
    #[error(
        "a 2x2 grid holds four images, not {images_per_item}; mend --images-per-item, or say with --tiling \
         COLUMNSxROWS what the files hold"
    )]
    GridTooSmall {
        /// Images per item asked for.
        images_per_item: u32,
    },
    /// More images per item than tiles.
    #[error(
        "--tiling {tiling} gives {} tiles, not {images_per_item} images; mend it or --images-per-item",
        tiling.count()
    )]
    TooFewTiles {
        /// The tiling.
        tiling: Tiling,
        /// Images per item asked for.
        images_per_item: u32,
    },
    /// A tiling for files that hold one image each.
    #[error(
        "--tiling and --tile-padding are for <item>.png and <item>_grid.png, but these files are {}, one image \
         each; leave them out",
        layout.example()
    )]
    NothingToCut {
        /// How the files are named.
        layout: Layout,
    },
    /// One image per item, and files that look like grids.
    #[error(
        "with one image per item, {example} would be the image, but it looks like a 2x2 grid; take the first \
         image of each with --tiling 2x2, all with --images-per-item 4, or the whole with --tiling 1x1"
    )]
    ImageOrGrid {
        /// A file and its size.
        example: String,
    },
    /// Two images per item, and files that are no two squares beside each other.
    #[error(
        "two images per item cannot be told from {example}; say --tiling 2x1 for two beside each other, 1x2 for \
         one above the other, or 2x2 for the first two of a grid"
    )]
    TwoOfWhat {
        /// A file and its size.
        example: String,
    },
    /// Tiles much longer than wide.
    #[error(
        "{name}: {tiling} tiles of {}x{} pixels would have {}x{}, which is hardly a picture; is it a row (--tiling \
         4x1), two pictures (--tiling 2x1 --images-per-item 2), or one (--images-per-item 1)? --tiling {tiling} \
         cuts it all the same",
        size.0, size.1, tile.0, tile.1
    )]
    UnlikelyTiles {
        /// The file.
        name: String,
        /// Its width and height.
        size: (u32, u32),
        /// Width and height of a tile.
        tile: (u32, u32),
        /// The tiling.
        tiling: Tiling,
    },
    /// Grids of several sizes.
    #[error(
        "the {tiling} grids have different sizes, so some may be single pictures: {sizes}; take out what is none \
         or say with --map which file is which image, give the side with --resolution, or cut all the same with \
         --tiling {tiling}"
    )]
    DifferentSizes {
        /// The sizes, each with the number of its files or a name.
        sizes: String,
        /// The tiling.
        tiling: Tiling,
    },
    /// Lines of one colour around and between the tiles.
    #[error(
        "{example} and the others have {padding} pixels of one colour around and between their tiles, as \
         torchvision draws them; say --tile-padding {padding} to leave them out, or --tile-padding 0 if they are \
         part of the pictures"
    )]
    Padded {
        /// A file and its size.
        example: String,
        /// The padding in pixels.
        padding: u32,
    },
    /// Prompts counted from 1.
    #[error(
        "the files seem to count the {prompts} different prompts from 1, for there is {beyond} and no p00000; \
         rename them, or list them in a file given with --map"
    )]
    PromptNumbers {
        /// The file whose number is too large.
        beyond: String,
        /// Different prompt texts of the benchmark.
        prompts: usize,
    },
}
