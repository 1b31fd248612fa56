//! In: images that a generator made, or why it made none. Out: their PNG files and thumbnails, and one record for each. Which are
//! made, and when, is `generate_run.rs`.

use std::collections::BTreeMap;
use std::thread::scope;

use anyhow::{Context, Result};

use super::image_ledger::ImageLedger;
use super::image_texts::texts;
use super::{Filtered, GeneratedImage};
use crate::benchmark::Item;
use crate::checkpoint::error_words::sentence;
use crate::results::image_store::pixels_sha256;
use crate::results::{ImageOutcome, ImageRecord, RunDirectory, Settings};
use crate::stage_observer::StageObserver;

/// An image that was asked for, with what came of it.
pub(super) type Asked<'a, M> = (&'a Item, u32, M);

/// How many images were kept as made, and how many as failed; those that a content filter refused are neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Kept {
    pub(super) done: u64,
    pub(super) failed: u64,
}

/// Keeps the records of a run's images.
pub(super) struct ImageKeeper<'a> {
    pub(super) files: ImageFiles<'a>,
    pub(super) ledger: ImageLedger,
}

impl ImageKeeper<'_> {
    /// Records the images whose files were written, and those that were not made, all in order.
    ///
    /// # Errors
    /// The disk said no; the images before the one that it was about are kept.
    pub(super) fn keep(
        &mut self,
        outcomes: Vec<Asked<'_, Result<ImageOutcome>>>,
        observer: &dyn StageObserver,
    ) -> Result<Kept> {
        let mut records = Vec::new();
        let mut refused = None;
        for (item, image, outcome) in outcomes {
            match outcome {
                Ok(outcome) => records.push(ImageRecord { item: item.id.clone(), image, outcome }),
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        let recorded = self.ledger.record_all(records.clone());
        recorded.context("the record of an image cannot be kept")?;
        let mut counts = Kept::default();
        for ImageRecord { item, image, outcome } in records {
            match outcome {
                ImageOutcome::Done { .. } => {
                    counts.done += 1;
                    observer.image_done(&item, image);
                }
                ImageOutcome::Failed { reason } => {
                    counts.failed += 1;
                    observer.image_failed(&item, image, &reason);
                }
                ImageOutcome::Filtered { reason } => {
                    observer.image_failed(&item, image, &Filtered(reason).to_string());
                }
            }
        }
        refused.map_or(Ok(counts), Err)
    }
}

/// Writes the files of a run's images. A record never stands without its file, so this comes first.
#[derive(Clone, Copy)]
pub(super) struct ImageFiles<'a> {
    pub(super) run: &'a RunDirectory,
    pub(super) settings: &'a Settings,
    /// Digests of the items' control images, where they have any.
    pub(super) controls: &'a BTreeMap<String, String>,
}

impl ImageFiles<'_> {
    /// What is to be recorded of each; the files are written, all at one time: a disk takes several in little more time than
    /// one.
    pub(super) fn outcomes<'i>(
        &self,
        asked: Vec<Asked<'i, Result<&GeneratedImage, &anyhow::Error>>>,
    ) -> Vec<Asked<'i, Result<ImageOutcome>>> {
        if asked.len() == 1 {
            let each = asked.into_iter();
            return each
                .map(|(item, image, made)| (item, image, self.outcome(item, image, made)))
                .collect();
        }
        scope(|scope| {
            let each = asked.into_iter().map(|(item, image, made)| {
                (item, image, scope.spawn(move || self.outcome(item, image, made)))
            });
            let threads: Vec<_> = each.collect();
            let joined = threads.into_iter().map(|(item, image, thread)| {
                let outcome =
                    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                (item, image, outcome)
            });
            joined.collect()
        })
    }

    /// What is to be recorded of an image, whose file is written.
    ///
    /// # Errors
    /// The disk said no.
    pub(super) fn outcome(
        &self,
        item: &Item,
        image: u32,
        made: Result<&GeneratedImage, &anyhow::Error>,
    ) -> Result<ImageOutcome> {
        match made {
            Ok(picture) => self.written(item, image, picture),
            Err(error) => Ok(match error.downcast_ref::<Filtered>() {
                Some(Filtered(words)) => ImageOutcome::Filtered { reason: words.clone() },
                None => ImageOutcome::Failed { reason: in_one_line(error) },
            }),
        }
    }

    fn written(&self, item: &Item, image: u32, picture: &GeneratedImage) -> Result<ImageOutcome> {
        let seed = match &picture.served {
            Some(served) => served.seed,
            None => Some(picture.seed),
        };
        let control = self.controls.get(&item.id);
        let texts = texts(self.settings, item, image, seed, control);
        let texts: Vec<(&str, String)> =
            texts.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
        match picture.served.as_ref().and_then(|served| served.png.as_ref()) {
            Some(data) => {
                self.run.write_image_data(&item.id, image, &picture.pixels, data, &texts)?;
            }
            None => self.run.write_image(&item.id, image, &picture.pixels, &texts)?,
        }
        Ok(ImageOutcome::Done {
            pixels_sha256: pixels_sha256(&picture.pixels),
            width: picture.pixels.width(),
            height: picture.pixels.height(),
            seed,
            prompt_tokens: picture.prompt_tokens,
            truncated: picture.truncated,
            source: None,
            control_sha256: control.cloned(),
            served: picture.served.as_ref().map(|served| served.told.clone()),
        })
    }
}

/// The error and its causes in one line.
fn in_one_line(error: &anyhow::Error) -> String {
    sentence(error).lines().next().unwrap_or_default().to_owned()
}
