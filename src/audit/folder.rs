//! In: a run and the name of an audit. Out: where its files are: `RUN/audits/NAME/` with `sample.json`, `page.html`,
//! `labels/ANNOTATOR.jsonl` and `corrected.json`. No link leads out of the run.

use std::io;
use std::path::{Path, PathBuf};

use crate::results::RunDirectory;
use crate::results::inside::inside;

/// Longest name of an annotator, in characters.
pub const LONGEST_NAME: usize = 40;

/// The folder of an audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditFolder {
    run: PathBuf,
    name: String,
}

impl AuditFolder {
    /// That of the audit `name` of a run; nothing is made yet. `None` where it cannot be the name of a folder: letters, digits,
    /// `-`, `_` and `.` can, with a letter or digit first.
    pub fn of(run: &RunDirectory, name: &str) -> Option<Self> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let is_good = name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.len() <= 100
            && name.chars().all(is_plain);
        is_good.then(|| Self { run: run.path().to_owned(), name: name.to_owned() })
    }

    /// The audit's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The names of the audits of a run, in order.
    pub fn all_of(run: &RunDirectory) -> Vec<String> {
        let entries = std::fs::read_dir(run.path().join("audits")).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let is_audit = |name: &String| Self::of(run, name).is_some_and(|audit| audit.is_there());
        let mut names: Vec<String> = names.filter(is_audit).collect();
        names.sort();
        names
    }

    /// Whether it has a sample: that is written last.
    pub fn is_there(&self) -> bool {
        self.sample().is_ok_and(|path| path.is_file())
    }

    /// The folder itself.
    ///
    /// # Errors
    /// A symbolic link stands on the way.
    pub fn path(&self) -> io::Result<PathBuf> {
        inside(&self.run, &["audits", &self.name])
    }

    /// `sample.json`.
    ///
    /// # Errors
    /// As [`Self::path`].
    pub fn sample(&self) -> io::Result<PathBuf> {
        inside(&self.run, &["audits", &self.name, "sample.json"])
    }

    /// `page.html`.
    ///
    /// # Errors
    /// As [`Self::path`].
    pub fn page(&self) -> io::Result<PathBuf> {
        inside(&self.run, &["audits", &self.name, "page.html"])
    }

    /// `corrected.ENDING`, what the labels say.
    ///
    /// # Errors
    /// As [`Self::path`].
    pub fn result(&self, ending: &str) -> io::Result<PathBuf> {
        inside(&self.run, &["audits", &self.name, &format!("corrected.{ending}")])
    }

    /// `labels/ANNOTATOR.jsonl`; the name must be one ([`is_annotator`]).
    ///
    /// # Errors
    /// As [`Self::path`].
    pub fn labels(&self, annotator: &str) -> io::Result<PathBuf> {
        inside(&self.run, &["audits", &self.name, "labels", &format!("{annotator}.jsonl")])
    }

    /// The files of labels that the server has written, in order of their names.
    ///
    /// # Errors
    /// As [`Self::path`], or the folder cannot be read.
    pub fn label_files(&self) -> io::Result<Vec<PathBuf>> {
        let folder = inside(&self.run, &["audits", &self.name, "labels"])?;
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
        let is_labels = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "jsonl");
        let mut paths: Vec<PathBuf> = paths.into_iter().filter(is_labels).collect();
        paths.sort();
        Ok(paths)
    }

    /// The run's folder.
    pub fn run(&self) -> &Path {
        &self.run
    }
}

/// Whether a text names an annotator: at most [`LONGEST_NAME`] letters and digits of any script, `-`, `_` and `.`, with a letter
/// or digit first. So it can be the name of a file.
pub fn is_annotator(name: &str) -> bool {
    name.starts_with(char::is_alphanumeric)
        && name.chars().count() <= LONGEST_NAME
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))
}
