//! In: a run. Out: where its controls are: images that the judges of a run are asked about to see what their yes is worth. Each
//! kind is a run directory of its own inside the run, `controls/<kind>`, whose answers are journals like the run's.

use std::io;
use std::path::PathBuf;

use super::control_kind::ControlKind;
use super::image_files::link_or_copy;
use super::inside::inside;
use super::run_directory::{RunDirectory, RunError, check_judge_name};

/// The folder in the run.
const FOLDER: &str = "controls";

impl RunDirectory {
    /// `controls/<kind>`.
    ///
    /// # Errors
    /// A symbolic link stands on the way.
    pub fn control_path(&self, kind: ControlKind) -> Result<PathBuf, RunError> {
        Ok(inside(self.path(), &[FOLDER, kind.name()])?)
    }

    /// The control of that kind, where it was begun.
    ///
    /// # Errors
    /// It is damaged, or a symbolic link stands on the way.
    pub fn control(&self, kind: ControlKind) -> Result<Option<Self>, RunError> {
        match Self::open(&self.control_path(kind)?) {
            Err(RunError::NoManifest(_)) => Ok(None),
            control => control.map(Some),
        }
    }

    /// `controls/<judge>.json` and `controls/<judge>-always-yes.csv`: what came of a judge's controls.
    ///
    /// # Errors
    /// The judge name is no file name, or a symbolic link stands on the way.
    pub fn control_files(&self, judge: &str) -> Result<[PathBuf; 2], RunError> {
        check_judge_name(judge)?;
        let [json, csv] = [format!("{judge}.json"), format!("{judge}-always-yes.csv")];
        Ok([inside(self.path(), &[FOLDER, &json])?, inside(self.path(), &[FOLDER, &csv])?])
    }

    /// Puts the picture of an image of `other` here as that of another item: as a further name of the same file where the file
    /// system can, which takes no room.
    ///
    /// # Errors
    /// A symbolic link stands on the way, or the disk said no.
    pub(crate) fn link_image(
        &self,
        other: &Self,
        of: (&str, u32),
        item: &str,
        image: u32,
    ) -> io::Result<()> {
        let to = self.checked_image_path(item, image)?;
        link_or_copy(&other.image_path(of.0, of.1), &to)
    }
}
