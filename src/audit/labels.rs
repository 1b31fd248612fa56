//! In: files of labels, as the page saves them and the server writes them. Out: what each annotator said of each question of a
//! sample, or one sentence on the line that does not belong to it. What the labels say of the judge is not this file's.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::folder::{LONGEST_NAME, is_annotator};
use super::sample::AuditSample;
use crate::benchmark::QuestionId;
use crate::near_names::did_you_mean;
use crate::results::atomic_write::name_path;
use crate::results::{FORMAT_VERSION, FormatVersion};

/// What the first line says that the file holds.
pub(super) const KIND: &str = "audit labels";
/// What stands in place of a label where it was taken back.
const WITHDRAWN: &str = "withdrawn";

/// What a person says of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Label {
    /// The image shows it.
    Yes,
    /// It does not.
    No,
    /// It cannot be told from the image.
    CannotTell,
}

impl Label {
    /// All, in the order of the page's buttons.
    pub const ALL: [Self; 3] = [Self::Yes, Self::No, Self::CannotTell];

    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::CannotTell => "cannot_tell",
        }
    }

    /// Whether it says yes; `None` where it cannot be told.
    pub fn is_yes(self) -> Option<bool> {
        match self {
            Self::Yes => Some(true),
            Self::No => Some(false),
            Self::CannotTell => None,
        }
    }
}

/// The first line of a file of labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelHeader {
    /// Version of the file.
    pub format_version: FormatVersion,
    /// `audit labels`.
    pub kind: String,
    /// [`AuditSample::sha256`] of the sample that was labelled.
    pub sample: String,
}

impl LabelHeader {
    /// That of labels of this sample.
    pub fn of(sample: &AuditSample) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            kind: KIND.to_owned(),
            sample: sample.sha256.clone(),
        }
    }
}

/// Any further line: what somebody said of a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelRecord {
    /// Item identifier.
    pub item: String,
    /// Index of the image, from 0.
    pub image: u32,
    /// Number of the question inside the item.
    pub question: QuestionId,
    /// The question, as it was shown.
    pub text: String,
    /// Digest of the pixels of the image that was shown.
    pub pixels_sha256: String,
    /// Who.
    pub annotator: String,
    /// When (RFC 3339), by the clock of the browser.
    pub time: String,
    /// `yes`, `no` or `cannot_tell`; `withdrawn` takes an earlier one back.
    pub label: String,
}

/// What an annotator says of a question: the last that they said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenLabel {
    /// Place of the question in [`AuditSample::questions`].
    pub question: usize,
    /// Who.
    pub annotator: String,
    /// What.
    pub label: Label,
    /// When.
    pub time: Timestamp,
}

/// The labels of a sample.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// One per annotator and question, by annotator, then by the sample's order.
    pub labels: Vec<GivenLabel>,
    /// What was left out of the files, one sentence each.
    pub warnings: Vec<String>,
}

impl Labels {
    /// Reads files of labels. In a file the later line about a question counts, of two files of one annotator the label that was
    /// given at the later time (at the same time: that of the later file).
    ///
    /// # Errors
    /// See [`LabelError`].
    pub fn read(sample: &AuditSample, paths: &[PathBuf]) -> Result<Self, LabelError> {
        let check = LabelCheck::of(sample);
        let mut newest: BTreeMap<(String, usize), Said> = BTreeMap::new();
        let mut warnings = Vec::new();
        for path in paths {
            let bytes = std::fs::read(path).map_err(|error| name_path(error, "read", path))?;
            let file = check.parse(path, &bytes)?;
            warnings.extend(file.warning(path));
            for (key, said) in file.said {
                let is_newer = newest.get(&key).is_none_or(|there| there.time <= said.time);
                if is_newer {
                    newest.insert(key, said);
                }
            }
        }
        let labels = newest.into_iter().filter_map(|((annotator, question), said)| {
            let Said { label, time } = said;
            Some(GivenLabel { question, annotator, label: label?, time })
        });
        let mut labels = Self { labels: labels.collect(), warnings };
        let names = names_but_for_case(&labels.annotators());
        labels.warnings.extend(names);
        Ok(labels)
    }

    /// Who has given a label, in order.
    pub fn annotators(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.labels.iter().map(|label| &*label.annotator).collect();
        names.dedup();
        names
    }

    /// What an annotator said, as places of questions in the sample with labels, in the sample's order.
    pub fn of(&self, annotator: &str) -> impl Iterator<Item = (usize, Label)> {
        let own = self.labels.iter().filter(move |label| label.annotator == annotator);
        own.map(|label| (label.question, label.label))
    }
}

/// Why files of labels cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabelError {
    /// The disk said no; the message names the path.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The first line is not the header of such a file.
    #[error("{path} is no file of labels: {reason}; name one that the page of the audit has saved", path = path.display())]
    BadHeader {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Written by a newer program.
    #[error(
        "{path} has format version {found}, this program reads {FORMAT_VERSION}; update dpg-bench", path = path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: FormatVersion,
    },
    /// They are about another sample.
    #[error(
        "{path} has labels of another sample ({} there, {} here); name the run and the audit (--name) that they were given for",
        short(theirs),
        short(own),
        path = path.display()
    )]
    OtherSample {
        /// The file.
        path: PathBuf,
        /// The digest of its sample.
        theirs: String,
        /// That of the sample here.
        own: String,
    },
    /// A line that is not one of this sample.
    #[error("{path}, line {line}: {fault}; correct or delete that line", path = path.display())]
    BadLine {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        fault: LabelFault,
    },
}

/// What is wrong with a label.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabelFault {
    /// It cannot be parsed: what the parser said.
    #[error("it is no label ({0})")]
    Unparsable(String),
    /// The sample does not ask this.
    #[error("the sample does not ask question {question} about {item}, image {image}")]
    Unasked {
        /// Item identifier.
        item: String,
        /// Index of the image.
        image: u32,
        /// Number of the question.
        question: QuestionId,
    },
    /// It is about other pixels.
    #[error("it is about another image than the {item}, image {image}, of the sample")]
    OtherImage {
        /// Item identifier.
        item: String,
        /// Index of the image.
        image: u32,
    },
    /// It is about another question.
    #[error("question {question} of {item} reads otherwise in the sample")]
    OtherText {
        /// Item identifier.
        item: String,
        /// Number of the question.
        question: QuestionId,
    },
    /// The label is none.
    #[error(
        "`{0}` is no label{near}; known are `yes`, `no`, `cannot_tell` and `withdrawn`",
        near = did_you_mean(.0, Label::ALL.map(Label::name))
    )]
    UnknownLabel(String),
    /// The time is none.
    #[error("`{0}` is no time (RFC 3339, as 2026-01-31T09:30:00Z)")]
    BadTime(String),
    /// The annotator has no name that can be used.
    #[error(
        "`{0}` names no annotator: use up to {LONGEST_NAME} letters, digits, `-`, `_` and `.`, and begin with a letter or digit"
    )]
    BadAnnotator(String),
}

/// The beginning of a digest, to tell two apart.
fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// What the parser said of one line of a file. It counts lines too, from the one that it was given on, which is no line of the file;
/// and columns in bytes, where editors count characters. Where the line is JSON of another shape, the column is its end.
fn of_one_line(error: &serde_json::Error, line: &[u8]) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let Some(reason) = text.strip_suffix(&place) else { return text };
    if line.is_empty() {
        return "it is empty".to_owned();
    }
    if error.is_data() {
        return reason.to_owned();
    }
    let before = line.get(..error.column()).unwrap_or(line);
    let column = String::from_utf8_lossy(before).chars().count();
    format!("{reason}, at column {column}")
}

/// Names of annotators that differ in letter case alone, one sentence for all that are alike.
fn names_but_for_case(names: &[&str]) -> Vec<String> {
    let mut alike: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in names {
        alike.entry(name.to_lowercase()).or_default().push(format!("`{name}`"));
    }
    let several = alike.into_values().filter(|names| names.len() > 1);
    several
        .map(|names| {
            format!(
                "{} differ in letter case alone and count as {} annotators; if they are one person, give them one name in the files of \
                 labels",
                names.join(" and "),
                names.len()
            )
        })
        .collect()
}

/// What is held against a sample.
#[derive(Debug)]
pub struct LabelCheck<'s> {
    sample: &'s AuditSample,
    places: HashMap<(&'s str, u32, QuestionId), usize>,
}

/// What was said last of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// `None` where it was taken back.
    label: Option<Label>,
    time: Timestamp,
}

/// What a file holds.
#[derive(Debug)]
pub(super) struct ParsedLabels {
    /// The last that each annotator said of each question.
    pub said: BTreeMap<(String, usize), Said>,
    /// Length of its whole lines in bytes.
    pub whole: usize,
    /// Number of the line without an end.
    torn: Option<usize>,
}

impl ParsedLabels {
    fn warning(&self, path: &Path) -> Option<String> {
        let line = self.torn?;
        Some(format!("{}, line {line}: it breaks off and is left out", path.display()))
    }
}

impl<'s> LabelCheck<'s> {
    /// For labels of this sample.
    pub fn of(sample: &'s AuditSample) -> Self {
        let asked = sample.questions.iter().enumerate();
        Self { sample, places: asked.map(|(place, asked)| (asked.key(), place)).collect() }
    }

    /// The sample.
    pub fn sample(&self) -> &'s AuditSample {
        self.sample
    }

    /// Makes sure that a label is one of the sample.
    ///
    /// # Errors
    /// See [`LabelFault`].
    pub fn check(&self, record: &LabelRecord) -> Result<(), LabelFault> {
        self.said(record).map(|_| ())
    }

    /// The place of the question, and what is said of it.
    fn said(&self, record: &LabelRecord) -> Result<(usize, Said), LabelFault> {
        let LabelRecord { item, image, question, annotator, time, label, .. } = record;
        let (image, question) = (*image, *question);
        let Some(&place) = self.places.get(&(item.as_str(), image, question)) else {
            return Err(LabelFault::Unasked { item: item.clone(), image, question });
        };
        let asked = &self.sample.questions[place];
        if record.pixels_sha256 != asked.pixels_sha256 {
            return Err(LabelFault::OtherImage { item: item.clone(), image });
        }
        if record.text != asked.text {
            return Err(LabelFault::OtherText { item: item.clone(), question });
        }
        if !is_annotator(annotator) {
            return Err(LabelFault::BadAnnotator(annotator.clone()));
        }
        let named = Label::ALL.into_iter().find(|known| known.name() == label);
        if named.is_none() && label != WITHDRAWN {
            return Err(LabelFault::UnknownLabel(label.clone()));
        }
        let time = time.parse().map_err(|_| LabelFault::BadTime(time.clone()))?;
        Ok((place, Said { label: named, time }))
    }

    /// What the bytes of the file at `path` say. A last line without its end is what a kill leaves: it is left out.
    pub(super) fn parse(&self, path: &Path, bytes: &[u8]) -> Result<ParsedLabels, LabelError> {
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let mut lines = bytes[..whole].split_inclusive(|&byte| byte == b'\n');
        let Some(header) = lines.next() else {
            let reason = "it has no whole line".to_owned();
            return Err(LabelError::BadHeader { path: path.to_owned(), reason });
        };
        self.check_header(path, header.trim_ascii_end())?;
        let mut said = BTreeMap::new();
        let mut last = 1;
        for line in lines {
            let line = line.trim_ascii_end();
            last += 1;
            let bad = |fault| LabelError::BadLine { path: path.to_owned(), line: last, fault };
            let record: LabelRecord = serde_json::from_slice(line)
                .map_err(|reason| bad(LabelFault::Unparsable(of_one_line(&reason, line))))?;
            let (place, newest) = self.said(&record).map_err(bad)?;
            said.insert((record.annotator, place), newest);
        }
        let torn = (whole < bytes.len()).then_some(last + 1);
        Ok(ParsedLabels { said, whole, torn })
    }

    fn check_header(&self, path: &Path, line: &[u8]) -> Result<(), LabelError> {
        let bad = |reason| LabelError::BadHeader { path: path.to_owned(), reason };
        // The version first: a newer file may have another shape.
        #[derive(Deserialize)]
        struct Versioned {
            format_version: FormatVersion,
            kind: String,
        }
        let unparsable = |error: serde_json::Error| {
            bad(format!("its first line is no header ({})", of_one_line(&error, line)))
        };
        let Versioned { format_version: found, kind } =
            serde_json::from_slice(line).map_err(unparsable)?;
        if kind != KIND {
            return Err(bad(format!("it holds `{kind}`")));
        }
        if !FORMAT_VERSION.can_read(found) {
            return Err(LabelError::NewerFormat { path: path.to_owned(), found });
        }
        let header: LabelHeader = serde_json::from_slice(line).map_err(unparsable)?;
        if header.sample != self.sample.sha256 {
            let (theirs, own) = (header.sample, self.sample.sha256.clone());
            return Err(LabelError::OtherSample { path: path.to_owned(), theirs, own });
        }
        Ok(())
    }
}
