//! In: a run, and a larger selection or more images per item. Out: the same run about that, without what was
//! computed of the smaller one; or the reason why what it has would not be that of a single run. Whether a
//! selection is larger is left to `session`.

use super::growth_error::{GrowthError, GrowthFault};
use super::manifest::{Earlier, Settings};
use super::run_directory::{RunDirectory, RunError};

impl RunDirectory {
    /// Makes the run one about a selection that holds all its items, and about at least as many images of each.
    /// On the disk nothing changes before a stage begins whose settings are those of the run: then what was
    /// computed of the smaller run goes, and after it the manifest is written. A kill between the two leaves
    /// the smaller run, to be scored again.
    ///
    /// # Errors
    /// Its images may not be those of a run that began with the larger selection; or the disk said
    /// no.
    pub(crate) fn grow(
        &mut self,
        selection: Settings,
        images_per_item: u32,
    ) -> Result<(), RunError> {
        if let Some(reason) = self.growth_fault(images_per_item)? {
            return Err(GrowthError { path: self.path().to_owned(), reason }.into());
        }
        let manifest = &mut self.manifest;
        let selection = std::mem::replace(&mut manifest.selection, selection);
        let images_per_item = std::mem::replace(&mut manifest.images_per_item, images_per_item);
        manifest.grown_from.push(Earlier { selection, images_per_item });
        self.grows = true;
        Ok(())
    }

    /// Whether [`Self::grow`] was called and no stage has begun since.
    pub(crate) fn is_to_grow(&self) -> bool {
        self.grows
    }

    fn growth_fault(&self, images_per_item: u32) -> Result<Option<GrowthFault>, RunError> {
        let manifest = self.manifest();
        if !self.shards()?.is_empty() {
            return Ok(Some(GrowthFault::Shards(self.path().to_owned())));
        }
        let images = manifest.images_per_item;
        let splits = |batch: u64| {
            images != images_per_item && batch > 0 && !u64::from(images).is_multiple_of(batch)
        };
        if let Some(entry) = &manifest.generation {
            match entry.settings.get("seed_mode").and_then(|mode| mode.as_str()) {
                None => return Ok(Some(GrowthFault::Imported)),
                Some("hashed") => {}
                Some(other) => return Ok(Some(GrowthFault::SeedMode(other.to_owned()))),
            }
            if let Some(batch) = number(&entry.settings, "batch").filter(|batch| splits(*batch)) {
                return Ok(Some(GrowthFault::Batch { images, batch }));
            }
        }
        Ok(None)
    }

    /// Takes away what was computed of the smaller run, where this one is about to grow.
    pub(super) fn drop_outgrown(&mut self) -> Result<(), RunError> {
        if !std::mem::take(&mut self.grows) {
            return Ok(());
        }
        self.judges().iter().try_for_each(|judge| self.remove_computed(judge).map(|_| ()))
    }
}

fn number(settings: &Settings, name: &str) -> Option<u64> {
    settings.get(name).and_then(serde_json::Value::as_u64)
}
