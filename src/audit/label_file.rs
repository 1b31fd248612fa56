//! In: labels, one at a time. Out: a file of labels that a kill at any byte leaves readable: each line is whole, and on the disk
//! before the next one is written.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::labels::{LabelCheck, LabelError, LabelHeader, LabelRecord};
use crate::results::atomic_write::{atomic_write, name_path};

/// A file of labels that is open for more.
#[derive(Debug)]
pub struct LabelFile {
    path: PathBuf,
    file: File,
}

impl LabelFile {
    /// Opens the file at `path`, or begins one there. A torn last line is cut off.
    ///
    /// # Errors
    /// It holds something else than labels of the sample, or the disk said no.
    pub fn open(path: &Path, check: &LabelCheck<'_>) -> Result<Self, LabelError> {
        let name = |error| name_path(error, "open", path);
        if !path.exists() {
            let mut line = serde_json::to_vec(&LabelHeader::of(check.sample()))
                .map_err(std::io::Error::from)?;
            line.push(b'\n');
            atomic_write(path, &line)?;
        }
        let bytes = std::fs::read(path).map_err(name)?;
        let whole = check.parse(path, &bytes)?.whole as u64;
        let cut = OpenOptions::new().write(true).open(path).map_err(name)?;
        cut.set_len(whole).map_err(name)?;
        // At the end, wherever that is: two names may lead to one file where letter case does not count.
        let file = OpenOptions::new().append(true).open(path).map_err(name)?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends a label, which was checked, and waits until it is on the disk.
    ///
    /// # Errors
    /// The disk said no. What was appended before stands.
    pub fn append(&mut self, record: &LabelRecord) -> Result<(), LabelError> {
        let name = |error: std::io::Error| name_path(error, "append to", &self.path);
        let mut line = serde_json::to_vec(record).map_err(|error| name(error.into()))?;
        line.push(b'\n');
        let start = self.file.metadata().map_err(name)?.len();
        if let Err(error) = self.file.write_all(&line).and_then(|()| self.file.sync_data()) {
            // A full disk may have taken a part: take it back so that the file stays clean.
            let _ = self.file.set_len(start);
            return Err(name(error).into());
        }
        Ok(())
    }
}
