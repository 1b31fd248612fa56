//! In: the images journal of a run. Out: which images are done, and one more record for each that is
//! made. Making the pictures is left to its users.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;

use super::served_counts::ServedCounts;
use crate::benchmark::Item;
use crate::results::image_store::{pixels_sha256, read_image};
use crate::results::{ImageOutcome, ImageRecord, Journal, JournalError, RunDirectory};

/// The journal of a run's images with the last outcome of each.
pub(crate) struct ImageLedger {
    journal: Journal<ImageRecord>,
    latest: BTreeMap<(String, u32), ImageOutcome>,
}

impl ImageLedger {
    /// Opens the journal of a run.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub(crate) fn open(run: &RunDirectory) -> Result<Self, JournalError> {
        let (journal, records) = run.open_images()?;
        let latest = records
            .into_iter()
            .map(|record| ((record.item, record.image), record.outcome))
            .collect();
        Ok(Self { journal, latest })
    }

    /// Whether the image is recorded as done and its picture is there with those very pixels. Then it gets the thumbnail that
    /// it may lack.
    ///
    /// # Errors
    /// The thumbnail cannot be written.
    pub(crate) fn is_present(
        &self,
        run: &RunDirectory,
        item: &str,
        image: u32,
    ) -> std::io::Result<bool> {
        let Some(digest) = self.digest(item, image) else { return Ok(false) };
        let picture = File::open(run.image_path(item, image))
            .ok()
            .and_then(|file| read_image(BufReader::new(file)).ok())
            .filter(|picture| pixels_sha256(picture) == digest);
        if let Some(picture) = &picture {
            run.see_to_thumbnail(item, image, picture)?;
        }
        Ok(picture.is_some())
    }

    /// Digest of the pixels of an image that is recorded as done.
    pub(crate) fn digest(&self, item: &str, image: u32) -> Option<&str> {
        match self.latest.get(&(item.to_owned(), image))? {
            ImageOutcome::Done { pixels_sha256, .. } => Some(pixels_sha256),
            _ => None,
        }
    }

    /// The images whose prompt a content filter refused.
    pub(crate) fn filtered_images(&self) -> impl Iterator<Item = (String, u32)> {
        let is_filtered = |outcome: &ImageOutcome| matches!(outcome, ImageOutcome::Filtered { .. });
        self.latest
            .iter()
            .filter(move |(_, outcome)| is_filtered(outcome))
            .map(|(image, _)| image.clone())
    }

    /// Of the first `images` of each item: how many a content filter refused, and what servers told of the others.
    pub(crate) fn of_servers(&self, items: &[&Item], images: u32) -> (u64, ServedCounts) {
        let ids: BTreeSet<&str> = items.iter().map(|item| item.id.as_str()).collect();
        let (mut filtered, mut counts) = (0, ServedCounts::default());
        for ((item, image), outcome) in &self.latest {
            if *image >= images || !ids.contains(item.as_str()) {
                continue;
            }
            match outcome {
                ImageOutcome::Filtered { .. } => filtered += 1,
                ImageOutcome::Done { served: Some(served), .. } => {
                    counts.count(served);
                }
                _ => {}
            }
        }
        (filtered, counts)
    }

    /// Appends a record, unless the last one of this image says the same: a lost picture that was
    /// made again, or a failure that came again, leaves the journal as it was.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub(crate) fn record(
        &mut self,
        item: &str,
        image: u32,
        outcome: ImageOutcome,
    ) -> Result<(), JournalError> {
        self.record_all(vec![ImageRecord { item: item.to_owned(), image, outcome }])
    }

    /// As [`Self::record`], of several images in order.
    ///
    /// # Errors
    /// See [`JournalError`]; then none of them is recorded.
    pub(crate) fn record_all(&mut self, mut records: Vec<ImageRecord>) -> Result<(), JournalError> {
        records.retain(|record| {
            self.latest.get(&(record.item.clone(), record.image)) != Some(&record.outcome)
        });
        self.journal.append_all(&records)?;
        let latest = records.into_iter().map(|one| ((one.item, one.image), one.outcome));
        self.latest.extend(latest);
        Ok(())
    }

    /// Item of each image whose prompt the text encoder saw only in part.
    pub(crate) fn truncated_items(&self) -> impl Iterator<Item = &str> {
        self.latest
            .iter()
            .filter(|(_, outcome)| {
                matches!(outcome, ImageOutcome::Done { truncated: Some(true), .. })
            })
            .map(|((item, _), _)| item.as_str())
    }
}
