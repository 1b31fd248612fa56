//! In: a folder. Out: whether it holds a file that a checkpoint cannot do without, and that file in words.

use std::path::Path;

use super::weight_files::{is_weight_file, pickle_stem};

/// A file of a model's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeededFile {
    /// A file of that name, with `/` between folder and file.
    Exactly(&'static str),
    /// Any one of several sets of files, each set whole.
    OneOf(&'static [&'static [&'static str]]),
    /// Weights in a folder: `<stem>.safetensors`, a variant such as `<stem>.fp16.safetensors`, or the index of
    /// a set of shards; or the same as pickles (`.bin`).
    Weights {
        /// Folder in the model's folder.
        folder: &'static str,
        /// How the file names begin.
        stem: &'static str,
    },
}

impl NeededFile {
    /// Whether `root` holds it.
    pub(crate) fn is_in(&self, root: &Path) -> bool {
        match self {
            Self::Exactly(name) => root.join(name).is_file(),
            Self::OneOf(sets) => {
                sets.iter().any(|set| set.iter().all(|name| root.join(name).is_file()))
            }
            Self::Weights { folder, stem } => {
                let Ok(entries) = std::fs::read_dir(root.join(folder)) else { return false };
                entries.flatten().any(|entry| {
                    let name = entry.file_name();
                    name.to_str().is_some_and(|name| is_weight_file(name, stem))
                })
            }
        }
    }
}

impl std::fmt::Display for NeededFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exactly(name) => f.write_str(name),
            Self::OneOf(sets) => {
                let sets: Vec<String> = sets.iter().map(|set| set.join(" + ")).collect();
                f.write_str(&sets.join(" or "))
            }
            Self::Weights { folder, stem } => {
                let pickles = pickle_stem(stem);
                write!(
                    f,
                    "{folder}/{stem}.safetensors (or {stem}.fp16.safetensors, {pickles}.bin, or shards)"
                )
            }
        }
    }
}
