//! In: the records of a run or of its shards. Out: how many images are there and how many are judged. What
//! they score is left to others.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::answers::NewestAnswers;
use super::merged_lines::LinesByImage;
use super::records::{AnswerOutcome, AnswerRecord, ImageOutcome, ImageRecord};
use super::run_directory::{RunDirectory, RunError};
use crate::benchmark::Item;

/// What a run and its shards hold together, merged or not.
#[derive(Debug)]
pub(crate) struct Gathered {
    /// Lines about images.
    pub images: Vec<ImageRecord>,
    /// Lines of each judge, by its name.
    pub answers: BTreeMap<String, Vec<AnswerRecord>>,
}

impl Gathered {
    /// Reads the journals of a run and of its shards; nothing is written. Where they contradict each other
    /// the first one counts: a merge says so.
    ///
    /// # Errors
    /// One of them is damaged, or the disk said no.
    pub(crate) fn read(run: &RunDirectory) -> Result<Self, RunError> {
        let shards = run.shards()?;
        let mut answers = BTreeMap::new();
        let judges = std::iter::once(run).chain(&shards).flat_map(RunDirectory::judges);
        for judge in judges.collect::<BTreeSet<_>>() {
            let journals = std::iter::once(run).chain(&shards).map(|run| run.read_answers(&judge));
            let lines = together(journals.collect::<Result<_, _>>()?);
            answers.insert(judge, lines);
        }
        let journals = std::iter::once(run).chain(&shards).map(RunDirectory::read_images);
        let images = together(journals.collect::<Result<_, _>>()?);
        Ok(Self { images, answers })
    }
}

fn together<R: super::merged_lines::ImageLine>(journals: Vec<Vec<R>>) -> Vec<R> {
    let mut journals = journals.into_iter();
    let first = journals.next().unwrap_or_default();
    if journals.len() == 0 {
        // As it stands: the lines of an imported log have an order of their own.
        return first;
    }
    let mut all = LinesByImage::new(first);
    for journal in journals {
        all.take_in(&LinesByImage::new(journal), |_| true);
    }
    all.into_lines()
}

/// How far a run is, its shards included.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct RunProgress {
    /// Its images.
    pub images: StageCount,
    /// The images that each judge has answered about, by its name.
    pub judges: BTreeMap<String, StageCount>,
}

impl RunProgress {
    /// Of these records about `items`.
    ///
    /// # Errors
    /// The answers are about two pictures of one image.
    pub(crate) fn of(
        gathered: &Gathered,
        items: &[&Item],
        per_item: u32,
    ) -> Result<Self, super::MixedImages> {
        let images = StageCount::of_images(items, per_item, &gathered.images);
        let mut judges = BTreeMap::new();
        for (judge, records) in &gathered.answers {
            let answers = NewestAnswers::merge(records)?;
            judges.insert(judge.clone(), StageCount::of_answers(items, per_item, &answers));
        }
        Ok(Self { images, judges })
    }

    /// Whether no image and no answer is missing.
    pub(crate) fn is_complete(&self) -> bool {
        self.images.is_complete() && self.judges.values().all(|count| count.is_complete())
    }
}

/// How far a stage is, in images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub(crate) struct StageCount {
    /// Finished.
    pub done: u64,
    /// Tried without success.
    pub failed: u64,
    /// Refused by a content filter.
    #[serde(skip_serializing_if = "is_zero")]
    pub filtered: u64,
    /// All that the run asks for.
    pub total: u64,
}

/// Whether a count is left out of what is written.
pub(crate) fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl StageCount {
    /// Whether nothing is missing.
    pub(crate) fn is_complete(self) -> bool {
        self.done == self.total
    }

    /// The images of `items` that the newest records call done.
    pub(crate) fn of_images(items: &[&Item], per_item: u32, records: &[ImageRecord]) -> Self {
        let mut newest: HashMap<(&str, u32), &ImageOutcome> = HashMap::new();
        // A later line of a journal replaces an earlier one.
        for record in records {
            newest.insert((&record.item, record.image), &record.outcome);
        }
        let outcome = |item: &Item, image| newest.get(&(item.id.as_str(), image)).copied();
        let is_filtered = |item: &Item, image| {
            matches!(outcome(item, image), Some(ImageOutcome::Filtered { .. }))
        };
        let mut count = Self::count(items, per_item, |item, image| match outcome(item, image)? {
            ImageOutcome::Done { .. } => Some(true),
            ImageOutcome::Failed { .. } => Some(false),
            ImageOutcome::Filtered { .. } => None,
        });
        let images = items.iter().flat_map(|item| (0..per_item).map(move |image| (*item, image)));
        count.filtered = images.filter(|(item, image)| is_filtered(item, *image)).count() as u64;
        count
    }

    /// The images of `items` of which every question is answered; failed are those of which one is not
    /// although it was asked.
    pub(crate) fn of_answers(items: &[&Item], per_item: u32, answers: &NewestAnswers<'_>) -> Self {
        Self::count(items, per_item, |item, image| {
            if item.graph.is_empty() {
                return Some(true);
            }
            let known = answers.image(&item.id, image)?;
            let mut is_whole = true;
            for question in item.graph.questions() {
                match known.outcome(question.id) {
                    Some(AnswerOutcome::Answered { .. }) => {}
                    Some(AnswerOutcome::Failed { .. }) => return Some(false),
                    None => is_whole = false,
                }
            }
            is_whole.then_some(true)
        })
    }

    fn count(items: &[&Item], per_item: u32, is_done: impl Fn(&Item, u32) -> Option<bool>) -> Self {
        let mut count = Self { total: items.len() as u64 * u64::from(per_item), ..Self::default() };
        for item in items {
            for image in 0..per_item {
                match is_done(item, image) {
                    Some(true) => count.done += 1,
                    Some(false) => count.failed += 1,
                    None => {}
                }
            }
        }
        count
    }
}
