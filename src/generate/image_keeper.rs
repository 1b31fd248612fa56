//! In: images that a generator made, or why it made none. Out: their PNG files, and one record for each. Which are made, and
//! when, is `generate_run.rs`.

use std::thread::scope;

use anyhow::{Context, Result};

use super::generate_run::GenerationSummary;
use super::image_ledger::ImageLedger;
use super::image_texts::texts;
use super::{Filtered, GeneratedImage};
use crate::benchmark::Item;
use crate::checkpoint::error_words::sentence;
use crate::results::image_store::pixels_sha256;
use crate::results::{ImageOutcome, ImageRecord, RunDirectory, Settings};
use crate::stage_observer::StageObserver;

/// An image that was asked for.
pub(super) struct Asked<'a> {
    pub(super) item: &'a Item,
    /// Its index within the item.
    pub(super) image: u32,
    /// What came of it.
    pub(super) made: Result<&'a GeneratedImage, &'a anyhow::Error>,
}

/// Keeps the images of a run.
pub(super) struct ImageKeeper<'a> {
    pub(super) run: &'a RunDirectory,
    pub(super) ledger: ImageLedger,
    pub(super) settings: &'a Settings,
}

impl ImageKeeper<'_> {
    /// Keeps what was made, and records what was not. The files first, written at one time, then their records, in order: a
    /// record never stands without its image.
    ///
    /// # Errors
    /// The disk said no; the images before the one that it was about are kept.
    pub(super) fn keep(
        &mut self,
        asked: &[Asked<'_>],
        observer: &dyn StageObserver,
        summary: &mut GenerationSummary,
    ) -> Result<()> {
        let mut records = Vec::new();
        let mut refused = None;
        for (one, outcome) in asked.iter().zip(self.outcomes(asked)) {
            match outcome {
                Ok(outcome) => {
                    let (item, image) = (one.item.id.clone(), one.image);
                    records.push(ImageRecord { item, image, outcome });
                }
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        let kept = records.len();
        self.ledger.record_all(records).context("the record of an image cannot be kept")?;
        for Asked { item, image, made } in &asked[..kept] {
            match made {
                Ok(_) => {
                    summary.done += 1;
                    observer.image_done(&item.id, *image);
                }
                Err(error) => {
                    summary.failed += u64::from(!error.is::<Filtered>());
                    observer.image_failed(&item.id, *image, &in_one_line(error));
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// What is to be recorded of each; the files are written.
    fn outcomes(&self, asked: &[Asked<'_>]) -> Vec<Result<ImageOutcome>> {
        if let [one] = asked {
            return vec![self.outcome(one)];
        }
        // A disk takes several files at a time in little more time than one.
        scope(|scope| {
            let each = asked.iter().map(|one| scope.spawn(move || self.outcome(one)));
            let threads: Vec<_> = each.collect();
            let joined = threads.into_iter().map(|thread| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            joined.collect()
        })
    }

    fn outcome(&self, asked: &Asked<'_>) -> Result<ImageOutcome> {
        match asked.made {
            Ok(picture) => self.written(asked.item, asked.image, picture),
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
        let texts = texts(self.settings, item, image, seed);
        let texts: Vec<(&str, String)> =
            texts.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
        match picture.served.as_ref().and_then(|served| served.png.as_ref()) {
            Some(data) => self.run.write_image_data(&item.id, image, data, &texts)?,
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
            served: picture.served.as_ref().map(|served| served.told.clone()),
        })
    }
}

/// The error and its causes in one line.
fn in_one_line(error: &anyhow::Error) -> String {
    sentence(error).lines().next().unwrap_or_default().to_owned()
}
