//! In: records, one at a time. Out: an append-only JSON Lines file that survives a kill at any byte.
//! What the records mean is left to those who write them.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::atomic_write::{name_path, sync_folder};
use super::{FORMAT_VERSION, FormatVersion};

/// A record that has a journal of its own.
pub trait JournalRecord: Serialize + DeserializeOwned {
    /// Stands in the journal's first line, so that one journal is not taken for another.
    const KIND: &'static str;
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The disk said no; the message names the path.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A line that is neither whole nor the last.
    #[error(
        "{path}, line {line}: {reason}; the journal was edited or damaged, restore it or delete that line"
    )]
    BadLine {
        /// The journal.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What the parser said.
        reason: serde_json::Error,
    },
    /// The first line is not the header of such a journal.
    #[error("{path} is no `{kind}` journal: {reason}")]
    BadHeader {
        /// The journal.
        path: PathBuf,
        /// What was looked for.
        kind: &'static str,
        /// What is wrong.
        reason: HeaderFault,
    },
    /// Written by a newer program.
    #[error(
        "{path} has format version {found}, this program reads {FORMAT_VERSION}; update dpg-bench"
    )]
    NewerFormat {
        /// The journal.
        path: PathBuf,
        /// Its version.
        found: FormatVersion,
    },
}

/// Why a first line is not the header of a journal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderFault {
    /// It cannot be parsed.
    #[error("its first line is no header ({0})")]
    Unparsable(serde_json::Error),
    /// The journal holds records of this kind.
    #[error("it holds `{0}`")]
    OtherKind(String),
}

#[derive(Serialize, Deserialize)]
struct Header {
    format_version: FormatVersion,
    kind: String,
}

/// An append-only file of records. Line 1 is a header, each further line one record in JSON. A last
/// line without its newline is what a kill leaves: it is dropped when the journal is opened.
#[derive(Debug)]
pub struct Journal<R> {
    path: PathBuf,
    file: File,
    record: PhantomData<R>,
}

impl<R: JournalRecord> Journal<R> {
    /// Opens the journal for appending, making it when it is not there, and returns the records that
    /// it holds. A torn last line is cut off.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn open(path: &Path) -> Result<(Self, Vec<R>), JournalError> {
        let name = |error| name_path(error, "open", path);
        let is_new = !path.exists();
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(name)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(name)?;
        let bytes = std::fs::read(path).map_err(name)?;
        let (records, whole) = parse::<R>(path, &bytes, 0)?;
        file.set_len(whole as u64).map_err(name)?;
        file.seek(SeekFrom::Start(whole as u64)).map_err(name)?;
        let mut journal = Self { path: path.to_owned(), file, record: PhantomData };
        if whole == 0 {
            let header = Header { format_version: FORMAT_VERSION, kind: R::KIND.to_owned() };
            journal.write_lines(&[header])?;
        }
        if is_new && let Some(parent) = path.parent() {
            sync_folder(parent).map_err(name)?;
        }
        Ok((journal, records))
    }

    /// Reads the records without touching the file. A journal that is not there holds none.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn read(path: &Path) -> Result<Vec<R>, JournalError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(name_path(error, "read", path).into()),
        };
        Ok(parse::<R>(path, &bytes, 0)?.0)
    }

    /// Whether it holds a record; a journal that is not there does not.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn has_records(path: &Path) -> Result<bool, JournalError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(name_path(error, "read", path).into()),
        };
        let mut reader = BufReader::new(file);
        // The header, and the first record: whole lines both.
        for _ in 0..2 {
            let mut line = Vec::new();
            reader.read_until(b'\n', &mut line).map_err(|error| name_path(error, "read", path))?;
            if !line.ends_with(b"\n") {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes the journal hold exactly these records, all at once; it must not be open. A journal that
    /// holds them already is left alone. Returns whether it changed.
    ///
    /// # Errors
    /// The disk said no.
    pub fn replace<'r>(
        path: &Path,
        records: impl IntoIterator<Item = &'r R>,
    ) -> Result<bool, JournalError>
    where
        R: 'r,
    {
        let name = |error: serde_json::Error| name_path(error.into(), "write", path);
        let header = Header { format_version: FORMAT_VERSION, kind: R::KIND.to_owned() };
        let mut bytes = serde_json::to_vec(&header).map_err(name)?;
        bytes.push(b'\n');
        for record in records {
            serde_json::to_writer(&mut bytes, record).map_err(name)?;
            bytes.push(b'\n');
        }
        if std::fs::read(path).is_ok_and(|there| there == bytes) {
            return Ok(false);
        }
        super::atomic_write::atomic_write(path, &bytes)?;
        Ok(true)
    }

    /// Appends one record and waits until it is on the disk.
    ///
    /// # Errors
    /// The disk said no. What was appended before stands.
    pub fn append(&mut self, record: &R) -> Result<(), JournalError> {
        self.write_lines(&[record])
    }

    /// As [`Journal::append`], with several records in order that reach the disk together.
    ///
    /// # Errors
    /// The disk said no; then none of them stands.
    pub fn append_all(&mut self, records: &[R]) -> Result<(), JournalError> {
        if records.is_empty() { Ok(()) } else { self.write_lines(records) }
    }

    fn write_lines(&mut self, values: &[impl Serialize]) -> Result<(), JournalError> {
        let name = |error: std::io::Error| name_path(error, "append to", &self.path);
        let mut lines = Vec::new();
        for value in values {
            serde_json::to_writer(&mut lines, value).map_err(|error| name(error.into()))?;
            lines.push(b'\n');
        }
        // One write call for all of it: a kill leaves each line whole, absent, or the last one torn at its end.
        let start = self.file.stream_position().map_err(name)?;
        if let Err(error) = self.file.write_all(&lines).and_then(|()| self.file.sync_data()) {
            // A full disk may have taken a part: take it back so that the file stays clean.
            let _ = self.file.set_len(start);
            let _ = self.file.seek(SeekFrom::Start(start));
            return Err(name(error).into());
        }
        Ok(())
    }
}

/// The records, and the length in bytes of the whole lines. `bytes` come after so many lines of the file;
/// where these are none, the first one is the header.
pub(super) fn parse<R: JournalRecord>(
    path: &Path,
    bytes: &[u8],
    lines_before: usize,
) -> Result<(Vec<R>, usize), JournalError> {
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    if whole == 0 {
        return Ok((Vec::new(), 0));
    }
    let mut lines = bytes[..whole - 1].split(|&byte| byte == b'\n').enumerate();
    if lines_before == 0 {
        check_header::<R>(path, lines.next().map(|(_, line)| line).unwrap_or_default())?;
    }
    let mut records = Vec::new();
    for (index, line) in lines {
        records.push(serde_json::from_slice(line).map_err(|reason| JournalError::BadLine {
            path: path.to_owned(),
            line: lines_before + index + 1,
            reason,
        })?);
    }
    Ok((records, whole))
}

/// Whether a first line is that of a journal of these records.
fn check_header<R: JournalRecord>(path: &Path, line: &[u8]) -> Result<(), JournalError> {
    let bad_header =
        |reason| JournalError::BadHeader { path: path.to_owned(), kind: R::KIND, reason };
    let header: Header =
        serde_json::from_slice(line).map_err(|error| bad_header(HeaderFault::Unparsable(error)))?;
    if !FORMAT_VERSION.can_read(header.format_version) {
        return Err(JournalError::NewerFormat {
            path: path.to_owned(),
            found: header.format_version,
        });
    }
    if header.kind != R::KIND {
        return Err(bad_header(HeaderFault::OtherKind(header.kind)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::records::{ImageOutcome, ImageRecord};
    use super::*;

    fn record(image: u32) -> ImageRecord {
        let outcome = ImageOutcome::Failed { reason: "line\nbreak \"quoted\"".into() };
        ImageRecord { item: "partiprompts97".into(), image, outcome }
    }

    fn journal_of(count: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images.jsonl");
        let (mut journal, old) = Journal::<ImageRecord>::open(&path).unwrap();
        assert!(old.is_empty());
        for image in 0..count {
            journal.append(&record(image)).unwrap();
        }
        (folder, path)
    }

    #[test]
    fn a_cut_at_any_byte_loses_at_most_the_torn_record_and_resumes_to_the_same_bytes() {
        let (_folder, path) = journal_of(3);
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (mut journal, records) = Journal::<ImageRecord>::open(&path).unwrap();
            let lines = whole[..cut].iter().filter(|&&byte| byte == b'\n').count();
            assert_eq!(records.len(), lines.saturating_sub(1), "cut at byte {cut}");
            for image in records.len() as u32..3 {
                journal.append(&record(image)).unwrap();
            }
            assert_eq!(std::fs::read(&path).unwrap(), whole, "cut at byte {cut}");
        }
    }

    #[test]
    fn a_damaged_line_in_the_middle_is_an_error_that_names_it() {
        let (_folder, path) = journal_of(3);
        let text =
            std::fs::read_to_string(&path).unwrap().replacen("\"image\":1", "\"image\":x", 1);
        std::fs::write(&path, text).unwrap();
        let error = Journal::<ImageRecord>::open(&path).unwrap_err().to_string();
        assert!(error.contains("images.jsonl, line 3"), "{error}");
    }

    #[test]
    fn a_journal_written_at_once_is_the_one_that_was_appended_to() {
        let (folder, path) = journal_of(3);
        let records: Vec<ImageRecord> = (0..3).map(record).collect();
        assert!(!Journal::replace(&path, &records).unwrap());
        let other = folder.path().join("other.jsonl");
        assert!(Journal::replace(&other, &records).unwrap());
        assert_eq!(std::fs::read(&other).unwrap(), std::fs::read(&path).unwrap());
        assert!(Journal::replace(&other, &records[..1]).unwrap());
        assert_eq!(Journal::<ImageRecord>::read(&other).unwrap(), records[..1]);
    }

    #[test]
    fn another_kind_and_a_newer_format_are_refused() {
        let (_folder, path) = journal_of(0);
        std::fs::write(&path, "{\"format_version\":\"1.9\",\"kind\":\"answers\"}\n").unwrap();
        let error = Journal::<ImageRecord>::read(&path).unwrap_err().to_string();
        assert!(error.contains("holds `answers`"), "{error}");
        std::fs::write(&path, "{\"format_version\":\"2.0\",\"kind\":\"images\"}\n").unwrap();
        let error = Journal::<ImageRecord>::read(&path).unwrap_err().to_string();
        assert!(error.contains("format version 2.0"), "{error}");
    }
}
