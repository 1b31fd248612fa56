//! In: nothing. Out: the ways in which pictures made elsewhere are named.

use serde::Serialize;

/// How the pictures of a folder are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// `<item>/<k>.png`: one folder per item.
    Folders,
    /// `<item>_<k>.png`, as UniGenBench has it.
    Flat,
    /// `<item>.png`: a 2x2 grid per item, as the reference script reads it, or, with one image per
    /// item, the image itself.
    OnePerItem,
    /// `<item>/samples/<k>.png`, as GenEval's script writes them.
    Samples,
    /// `<item>_grid.png`: a grid per item.
    Grids,
    /// `p<prompt>_s<k>.png`, as UniRL has it: the prompt is the number of its text among the different ones
    /// of the question file, from 0.
    Prompts,
    /// Listed in a JSON Lines file.
    Map,
}

impl Layout {
    /// A file name of this layout.
    pub fn example(self) -> &'static str {
        match self {
            Self::Folders => "<item>/<k>.png",
            Self::Flat => "<item>_<k>.png",
            Self::OnePerItem => "<item>.png",
            Self::Samples => "<item>/samples/<k>.png",
            Self::Grids => "<item>_grid.png",
            Self::Prompts => "p<prompt>_s<k>.png",
            Self::Map => "a map",
        }
    }

    /// Whether a file may hold several images.
    pub(crate) fn may_hold_several(self) -> bool {
        matches!(self, Self::OnePerItem | Self::Grids)
    }
}
