//! In: a journal that somebody appends to meanwhile. Out: at each look the records that have come since the
//! last one. When it is worth to look is left to its users.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::marker::PhantomData;
use std::path::PathBuf;

use super::atomic_write::name_path;
use super::journal::{JournalError, JournalRecord, parse};

/// Reads a journal while it grows, each record once. The journal must not be replaced meanwhile.
#[derive(Debug)]
pub struct JournalTail<R> {
    path: PathBuf,
    /// Bytes and lines that were read, all of them whole.
    bytes: u64,
    lines: usize,
    record: PhantomData<R>,
}

impl<R: JournalRecord> JournalTail<R> {
    /// Of the journal at `path`, from its beginning; nothing is read yet.
    pub fn of(path: PathBuf) -> Self {
        Self { path, bytes: 0, lines: 0, record: PhantomData }
    }

    /// The records that have come since the last look. A last line that is not whole yet is left for the next
    /// one; a journal that is not there holds none.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn more(&mut self) -> Result<Vec<R>, JournalError> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(name_path(error, "read", &self.path).into()),
        };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(self.bytes))
            .and_then(|_| file.read_to_end(&mut bytes))
            .map_err(|error| name_path(error, "read", &self.path))?;
        let (records, whole) = parse(&self.path, &bytes, self.lines)?;
        if whole > 0 {
            let header = usize::from(self.lines == 0);
            self.lines += header + records.len();
            self.bytes += whole as u64;
        }
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::journal::Journal;
    use super::super::records::{ImageOutcome, ImageRecord};
    use super::*;

    fn record(image: u32) -> ImageRecord {
        let outcome = ImageOutcome::Failed { reason: "no picture".into() };
        ImageRecord { item: "a".into(), image, outcome }
    }

    #[test]
    fn every_record_is_seen_once_and_half_a_line_waits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images.jsonl");
        let mut tail = JournalTail::<ImageRecord>::of(path.clone());
        assert_eq!(tail.more().unwrap(), []);
        let (mut journal, _) = Journal::open(&path).unwrap();
        assert_eq!(tail.more().unwrap(), []);
        journal.append(&record(0)).unwrap();
        journal.append(&record(1)).unwrap();
        assert_eq!(tail.more().unwrap(), [record(0), record(1)]);
        assert_eq!(tail.more().unwrap(), []);
        drop(journal);
        let line = serde_json::to_vec(&record(2)).unwrap();
        let (half, rest) = line.split_at(9);
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(half).unwrap();
        assert_eq!(tail.more().unwrap(), []);
        file.write_all(rest).unwrap();
        file.write_all(b"\n{\"item\":\n").unwrap();
        let error = tail.more().unwrap_err().to_string();
        assert!(error.contains("images.jsonl, line 5"), "{error}");
    }
}
