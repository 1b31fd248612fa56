//! In: why directories cannot be merged. Out: one sentence that names them and says what to do.

use std::path::PathBuf;

use super::journal::JournalError;
use super::manifest::Difference;
use super::other_products;
use super::run_directory::RunError;

/// So many of a list are shown.
const SHOWN: usize = 5;

/// Why directories cannot be merged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// One of them cannot be used.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A journal is damaged.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The disk said no; the message names the path.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// They were made in different ways.
    #[error(
        "{} and {} cannot be merged, they differ in {what}:{}{}",
        first.display(),
        other.display(),
        listed(differences),
        other_products::advice_on_merging(differences)
    )]
    Differ {
        /// A directory.
        first: PathBuf,
        /// One that differs from it.
        other: PathBuf,
        /// The part of the settings.
        what: String,
        /// Each setting that differs.
        differences: Vec<Difference>,
    },
    /// They tell different things of one image.
    #[error(
        "{} and {} hold different {what} of {}; one of them was made with other weights or on another \
         kind of device: merge without it, or make its part again",
        first.display(),
        other.display(),
        some(images)
    )]
    Contradiction {
        /// Where the merged run is.
        first: PathBuf,
        /// The part that does not fit what was merged before it.
        other: PathBuf,
        /// `images` or `answers of JUDGE`.
        what: String,
        /// Item and index of each image.
        images: Vec<(String, u32)>,
    },
    /// Pictures are gone or not those that the journals speak of.
    #[error(
        "these images are missing or not those of their journals: {}; give the command again that \
         made them, which makes them anew, then merge again",
        some_paths(paths)
    )]
    BadPictures {
        /// The files.
        paths: Vec<PathBuf>,
    },
    /// A journal speaks of an item that the run has not.
    #[error("{}: its journals speak of `{item}`, which is not among the run's items", path.display())]
    ForeignItem {
        /// The directory.
        path: PathBuf,
        /// The item.
        item: String,
    },
    /// Its answers came from a log.
    #[error(
        "{}: its answers came from a log and have an order of their own; they cannot be merged",
        path.display()
    )]
    FromLog {
        /// The directory.
        path: PathBuf,
    },
}

fn listed(differences: &[Difference]) -> String {
    let line = |d: &Difference| {
        format!("\n  {}: {} in the first, {} in the other", d.setting, d.recorded, d.requested)
    };
    differences.iter().map(line).collect()
}

fn some(images: &[(String, u32)]) -> String {
    let shown = images.iter().take(SHOWN).map(|(item, image)| format!("{item}, image {image}"));
    with_rest(shown.collect(), images.len())
}

fn some_paths(paths: &[PathBuf]) -> String {
    let shown = paths.iter().take(SHOWN).map(|path| path.display().to_string());
    with_rest(shown.collect(), paths.len())
}

fn with_rest(shown: Vec<String>, all: usize) -> String {
    let more = all - shown.len();
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", shown.join("; "))
}
