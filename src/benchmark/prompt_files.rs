//! In: a folder of prompt files, one per item. Out: the prompt of an item, and which files belong to
//! no item. That a prompt file wins over the question file is decided in `load`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::error::BenchmarkError;
use super::finding::{Finding, FindingKind};
use super::rows::ItemRows;

/// The files `<item>.txt` of a `prompts` folder.
pub(super) struct PromptFiles {
    folder: PathBuf,
    /// Item ids that have a file. Empty when there is no folder.
    ids: HashSet<String>,
}

impl PromptFiles {
    /// No prompt files.
    pub(super) fn none() -> Self {
        Self { folder: PathBuf::new(), ids: HashSet::new() }
    }

    /// Lists the folder; one that is not there holds none.
    pub(super) fn find(folder: &Path) -> Result<Self, BenchmarkError> {
        let unreadable = |reason| BenchmarkError::Unreadable { path: folder.to_owned(), reason };
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::none()),
            Err(error) => return Err(unreadable(error)),
        };
        let mut ids = HashSet::new();
        for entry in entries {
            let name = entry.map_err(unreadable)?.file_name();
            if let Some(id) = name.to_str().and_then(|name| name.strip_suffix(".txt"))
                && !id.starts_with('.')
            {
                ids.insert(id.to_owned());
            }
        }
        Ok(Self { folder: folder.to_owned(), ids })
    }

    /// Whether there is any.
    pub(super) fn exist(&self) -> bool {
        !self.ids.is_empty()
    }

    /// The prompt of an item, without blanks and line ends around it; `None` when it has no file.
    pub(super) fn read(&self, id: &str) -> Result<Option<String>, Box<Finding>> {
        if !self.ids.contains(id) {
            return Ok(None);
        }
        let path = self.folder.join(format!("{id}.txt"));
        // `validate` writes findings as records: kind, item and file are their data, the message is text.
        let bad = |reason: String| {
            let message = format!("{}: {reason}", path.display());
            Box::new(Finding::of_file(FindingKind::BadPromptFile, message).item(id))
        };
        let bytes =
            std::fs::read(&path).map_err(|error| bad(format!("it cannot be read: {error}")))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| bad("it is not UTF-8; save it as UTF-8".to_owned()))?;
        let prompt = text.strip_prefix('\u{feff}').unwrap_or(&text).trim();
        if prompt.is_empty() {
            return Err(bad("it is empty; write the prompt or remove the file".to_owned()));
        }
        if prompt.contains('\0') {
            return Err(bad("it holds a NUL byte; remove it".to_owned()));
        }
        Ok(Some(prompt.to_owned()))
    }

    /// One finding per file that belongs to no item, in name order.
    pub(super) fn without_item(&self, items: &[ItemRows]) -> Vec<Finding> {
        let known: HashSet<&str> = items.iter().map(|item| item.id.as_str()).collect();
        let mut extra: Vec<&String> =
            self.ids.iter().filter(|id| !known.contains(id.as_str())).collect();
        extra.sort();
        let message = "there is a prompt file, but no item";
        extra
            .into_iter()
            .map(|id| Finding::of_file(FindingKind::PromptFileWithoutItem, message).item(id))
            .collect()
    }
}
