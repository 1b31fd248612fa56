//! In: the PREFIX of `--out`, and what a command found. Out: `PREFIX.csv`, `PREFIX.json` and so on. The JSON document says
//! what the files are about.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::print::say;
use crate::results::atomic_write::atomic_write;
use crate::results::replaceable::{NewFile, Standing};

/// Files of one command that differ in their endings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PrefixedFiles<'a> {
    /// The command.
    pub command: &'static str,
    /// What the names of all begin with.
    pub prefix: &'a Path,
    /// The endings; `json` is among them.
    pub endings: &'static [&'static str],
    /// Whether files that are about something else are replaced.
    pub force: bool,
}

impl PrefixedFiles<'_> {
    /// Whether they may be written; `json` says what a JSON document is that stands there.
    ///
    /// # Errors
    /// A file is about something else, or not the command's.
    pub(crate) fn check(self, json: impl Fn(&[u8]) -> Standing) -> anyhow::Result<()> {
        let document = self.path("json");
        let others = self.endings.iter().filter(|ending| **ending != "json");
        for ending in std::iter::once(&"json").chain(others) {
            let path = &self.path(ending);
            NewFile { path, command: self.command, flag: "--out", force: self.force }.check(
                |bytes| match *ending {
                    "json" => json(bytes),
                    _ if document.exists() => Standing::Same,
                    _ => Standing::Foreign,
                },
            )?;
        }
        Ok(())
    }

    /// Writes them, in the order of their endings, and says so.
    ///
    /// # Errors
    /// The disk said no.
    pub(crate) fn write<const FILES: usize>(self, files: [Vec<u8>; FILES]) -> anyhow::Result<()> {
        for (ending, bytes) in self.endings.iter().zip(files) {
            let path = self.path(ending);
            atomic_write(&path, &bytes)
                .with_context(|| format!("{} cannot be written", path.display()))?;
        }
        let [prefix, endings] = [self.prefix.display().to_string(), self.endings.join(", .")];
        say(&format!("written: {prefix}.{endings}"));
        Ok(())
    }

    /// The prefix and an ending, whatever points are in it.
    fn path(self, ending: &str) -> PathBuf {
        let mut path = self.prefix.to_owned().into_os_string();
        path.push(format!(".{ending}"));
        path.into()
    }
}
