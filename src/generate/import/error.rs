//! In: what an import met. Out: errors that name the file and say what to do.

use std::fmt;
use std::path::PathBuf;

use super::naming::Layout;
use super::tiles::Tiling;
use crate::results::image_store::PictureFault;

/// Why pictures cannot be imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The disk said no; the message names the path.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// No file belongs to an item.
    #[error(
        "no image in {folder} belongs to an item of the benchmark {benchmark} ({items}, such as `{example}`); if they are \
         of another benchmark, give --benchmark FILE, else name them <item>/<k>.png, <item>_<k>.png or <item>.png \
         (a 2x2 grid), or list them in a file given with --map; docs/importing.md has all layouts",
        items = if *items == 1 { "1 item".to_owned() } else { format!("{items} items") }
    )]
    NothingFound {
        /// The folder.
        folder: PathBuf,
        /// Where the benchmark is.
        benchmark: PathBuf,
        /// Its number of items.
        items: usize,
        /// The id of one of them.
        example: String,
    },
    /// The files belong to other items than those selected.
    #[error(
        "no image in {folder} belongs to a selected item; {files} to other items of the benchmark {benchmark}: select them \
         (--items, --subset, --category), or leave the selection out",
        files = if *files == 1 { "1 file belongs".to_owned() } else { format!("{files} files belong") }
    )]
    NothingSelected {
        /// The folder.
        folder: PathBuf,
        /// Where the benchmark is.
        benchmark: PathBuf,
        /// Files of items that are not selected.
        files: usize,
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
        reason: IndexDoubt,
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
        /// What is wrong with it.
        reason: MapLineFault,
    },
    /// Pictures of a size that does not fit.
    #[error("{}", bad_sizes(files, *more))]
    BadSizes {
        /// The first of the files, each with what is wrong with its size.
        files: Vec<(String, SizeFault)>,
        /// How many more there are.
        more: usize,
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
        /// A file.
        example: SizedFile,
    },
    /// Two images per item, and files that are no two squares beside each other.
    #[error(
        "two images per item cannot be told from {example}; say --tiling 2x1 for two beside each other, 1x2 for \
         one above the other, or 2x2 for the first two of a grid"
    )]
    TwoOfWhat {
        /// A file.
        example: SizedFile,
    },
    /// Tiles much longer than wide.
    #[error(
        "{name}: {tiling} tiles of {}x{} pixels would have {}x{}, which is hardly an image; is it a row (--tiling \
         4x1), two images (--tiling 2x1 --images-per-item 2), or one (--images-per-item 1)? --tiling {tiling} \
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
        "the {tiling} grids have different sizes, so some may be single images: {}; take out what is none \
         or say with --map which file is which image, give the side with --resolution, or cut all the same with \
         --tiling {tiling}",
        different_sizes(sizes, *more)
    )]
    DifferentSizes {
        /// Some of the sizes, the rarest first: how many files have it, and one of them.
        sizes: Vec<(usize, SizedFile)>,
        /// How many more sizes there are.
        more: usize,
        /// The tiling.
        tiling: Tiling,
    },
    /// Lines of one colour around and between the tiles.
    #[error(
        "{example} and the others have {padding} pixels of one colour around and between their tiles, as \
         torchvision draws them; say --tile-padding {padding} to leave them out, or --tile-padding 0 if they are \
         part of the images"
    )]
    Padded {
        /// A file.
        example: SizedFile,
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

/// Why it cannot be told from which number images are counted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexDoubt {
    /// Both ends are there.
    #[error("{zero} and {last} are both there for {images} images per item")]
    BothEnds {
        /// A file with the number 0.
        zero: String,
        /// A file with the number of images.
        last: String,
        /// Images per item.
        images: u32,
    },
    /// Neither end is there, and the numbers are too many to be seeds.
    #[error(
        "there is no image 0 and no image {images}, and {numbers} different numbers are too many for the seeds \
         of {images} images per item"
    )]
    TooManyNumbers {
        /// Images per item.
        images: u32,
        /// Different numbers.
        numbers: usize,
    },
    /// Neither end is there, and all numbers lie between them.
    #[error("there is no image 0 and no image {images}, only {first} and so on")]
    NeitherEnd {
        /// Images per item.
        images: u32,
        /// The smallest number.
        first: u64,
    },
}

/// What is wrong with a line of a map.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapLineFault {
    /// It is not of that shape.
    #[error("{0}; write it like {{\"item\": \"x\", \"image\": 0, \"path\": \"x.png\"}}")]
    Unparsable(serde_json::Error),
    /// Its item is none of the benchmark's.
    #[error("the benchmark has no item `{0}`; remove the line or mend the id")]
    UnknownItem(String),
    /// Its path is outside the folder of the pictures.
    #[error("`{0}` leaves the folder of --images; give a path inside it")]
    PathOutside(String),
}

/// Why a picture of some size cannot be taken as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SizeFault {
    /// Its sides are no multiples of the tiles.
    #[error(
        "{}x{} pixels cannot be cut into {tiling} equal images{}",
        size.0, size.1, padding_of(*tiling)
    )]
    NotDivisible {
        /// Width and height.
        size: (u32, u32),
        /// The tiling.
        tiling: Tiling,
    },
    /// It is not of the resolution that was stated.
    #[error(
        "it has {}x{} pixels, but {} of {resolution} pixels{} would have {}x{}; mend \
         --resolution (nothing is cropped)",
        size.0, size.1, images_of(*tiling), padding_of(*tiling), wanted.0, wanted.1
    )]
    OtherResolution {
        /// Width and height.
        size: (u32, u32),
        /// The tiling.
        tiling: Tiling,
        /// Side of an image that was stated.
        resolution: u32,
        /// Width and height that a file of such images has.
        wanted: (u32, u32),
    },
}

fn padding_of(tiling: Tiling) -> String {
    match tiling.padding {
        0 => String::new(),
        padding => format!(" with a padding of {padding}"),
    }
}

fn images_of(tiling: Tiling) -> String {
    if tiling.count() > 1 { format!("{tiling} images") } else { "an image".to_owned() }
}

/// Why a file gives no image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum FileFault {
    /// It cannot be decoded.
    #[error("{0}")]
    Picture(#[from] PictureFault),
    /// Its size does not fit.
    #[error("{0}")]
    Size(#[from] SizeFault),
}

/// A file and its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SizedFile {
    /// Its name.
    pub name: String,
    /// Width and height in pixels.
    pub size: (u32, u32),
}

impl fmt::Display for SizedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}x{} pixels)", self.name, self.size.0, self.size.1)
    }
}

fn bad_sizes(files: &[(String, SizeFault)], more: usize) -> String {
    let mut lines: Vec<String> =
        files.iter().map(|(name, fault)| format!("{name}: {fault}")).collect();
    if more > 0 {
        lines.push(format!("and {more} more files of a size that does not fit"));
    }
    lines.join("\n")
}

fn different_sizes(sizes: &[(usize, SizedFile)], more: usize) -> String {
    let told = |(count, SizedFile { name, size: (width, height) }): &(usize, SizedFile)| match count
    {
        1 => format!("{name} of {width}x{height}"),
        _ => format!("{count} of {width}x{height} ({name}, ...)"),
    };
    let mut parts: Vec<String> = sizes.iter().map(told).collect();
    if more > 0 {
        parts.push(format!("{more} other sizes"));
    }
    parts.join(", ")
}
