//! In: what the user says of a program that makes images. Out: the same as plain options; refused for other models.

use std::path::PathBuf;

use anyhow::bail;

use crate::generate::catalog;

/// A program that makes images: how it is started, and how long it may take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProgramPartOptions {
    /// The command, in words as a shell splits them.
    pub command: Option<String>,
    /// Seconds that it may take to load; 1800 where it is `None`.
    pub start_timeout: Option<u64>,
    /// Seconds that it may take for one image; 600 where it is `None`.
    pub image_timeout: Option<u64>,
    /// Takes what it writes to its standard error.
    pub log: Option<PathBuf>,
}

impl ProgramPartOptions {
    /// Refuses what `model` has no use for.
    ///
    /// # Errors
    /// Something is set.
    pub(crate) fn refuse_for(&self, model: &str) -> anyhow::Result<()> {
        let flag = [
            ("--program", self.command.is_some()),
            ("--program-start-timeout", self.start_timeout.is_some()),
            ("--program-timeout", self.image_timeout.is_some()),
            ("--program-log", self.log.is_some()),
        ]
        .into_iter()
        .find_map(|(flag, given)| given.then_some(flag));
        match flag {
            Some(flag) => bail!("{flag} goes with --model {}, not with {model}", catalog::PROGRAM),
            None => Ok(()),
        }
    }
}
