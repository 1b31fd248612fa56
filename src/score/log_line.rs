//! In: nothing. Out: what the lines of a script's log say, whatever their form.

use crate::benchmark::{Item, QuestionId};

/// What a log holds.
#[derive(Debug, Default)]
pub struct RecoveredLog<'a> {
    /// Every pass over a picture, in the order of their first lines.
    pub passes: Vec<Pass<'a>>,
    /// What could not be read or told, in line order.
    pub notes: Vec<LogNote>,
    /// Images per item: the crops seen.
    pub images: u32,
    /// Width of a crop in pixels: the script's `--resolution`. 0 where the lines have no crop boxes.
    pub resolution: u32,
    /// Whether the lines have no crop boxes, so that each file is one image.
    pub whole_files: bool,
    /// Lines in the file.
    pub lines: usize,
    /// Whether lines of different pictures alternate, i.e. several processes wrote.
    pub interleaved: bool,
}

/// One pass of the script over one picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass<'a> {
    /// The item.
    pub item: &'a Item,
    /// Path of the picture as the log has it.
    pub path: &'a str,
    /// First line, from 1.
    pub first_line: usize,
    /// Per image, question number and answer in the order of the file. `None`: the line is
    /// ambiguous.
    pub answers: Vec<Vec<(QuestionId, Option<&'a str>)>>,
    /// Whether every question of every image is there.
    pub complete: bool,
}

/// A remark on the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogNote {
    /// Lines it is about, from 1, in order.
    pub lines: Vec<usize>,
    /// What it says.
    pub kind: LogNoteKind,
    /// Item id, path or text that it is about.
    pub subject: String,
}

/// What a note says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogNoteKind {
    /// The last line has no end: its answer may be cut.
    Torn,
    /// No `path, (box), question, answer` can be found in it.
    Unreadable,
    /// The path names no item of the benchmark (or of the selection).
    UnknownItem,
    /// The item has no such question.
    UnknownQuestion,
    /// The box is no crop of a 2x2 grid of the resolution that the log began with.
    OtherCrop,
    /// It has a crop box where the first line has none, or none where that has one.
    OtherForm,
    /// The line can be read in several ways; its answer is left out.
    Ambiguous,
    /// Lines are missing before this one.
    LostLines,
    /// The pass ends early: the script failed on this picture, or was stopped.
    CutShort,
    /// The item was gone through again: see the passes.
    Repeated,
}

impl LogNoteKind {
    /// The note in words.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Torn => {
                "the last line is cut off and left out; end it with a line break if it is whole"
            }
            Self::Unreadable => {
                "not of the form `path, (box), question, answer`, nor with a number or None for the box"
            }
            Self::UnknownItem => "no such item among those asked for",
            Self::UnknownQuestion => "the item has no such question",
            Self::OtherCrop => "the box is no crop of a 2x2 grid of the first line's resolution",
            Self::OtherForm => {
                "has a crop box where the first line has none, or none where that has one; left out"
            }
            Self::Ambiguous => "can be read in several ways; the answer is left out",
            Self::LostLines => "lines are missing before this one",
            Self::CutShort => {
                "the answers end early: the script failed on this image or was stopped"
            }
            Self::Repeated => "the item was gone through more than once",
        }
    }
}

/// One way to read a line.
pub(crate) struct Reading<'a> {
    pub path: &'a str,
    pub item: usize,
    /// `None` in a log of whole files.
    pub crop: Option<Crop>,
    /// The number in the file's name, in a log of whole files.
    pub number: Option<u64>,
    /// Places among the asked questions that the text fits, and the answer that remains.
    pub fits: Vec<(usize, &'a str)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crop {
    pub(crate) image: u32,
    pub(crate) resolution: u32,
}

/// The script's key of a picture: the file name up to its first dot.
pub fn item_id(path: &str) -> &str {
    let name = path.rsplit(['/', '\\']).next().unwrap_or_default();
    name.split('.').next().unwrap_or_default()
}

/// The answer, when `rest` begins with this question. Blanks around the question are ignored: a
/// loader may have trimmed them.
pub(crate) fn answer_after<'a>(rest: &'a str, question: &str) -> Option<&'a str> {
    let tail = rest.trim_start().strip_prefix(question.trim())?.trim_start();
    tail.strip_prefix(", ").or_else(|| tail.strip_prefix(',').filter(|answer| answer.is_empty()))
}
