//! In: the items, the pictures that are there and the answers of earlier sittings. Out: which questions are
//! still to be put, image by image, in groups that the judge looks at together. Putting them is left to
//! `asking`.

use std::collections::{BTreeMap, HashMap};

use anyhow::ensure;

use super::judge_counts::JudgeCounts;
use crate::benchmark::question::QuestionId;
use crate::benchmark::{Item, Question};
use crate::results::{AnswerOutcome, ImageOutcome, ImageRecord, NewestAnswers};

/// The digest of each picture that is there.
#[derive(Debug, Default)]
pub(super) struct ImageDigests {
    digests: HashMap<String, BTreeMap<u32, String>>,
}

impl ImageDigests {
    /// Takes in what further lines of the journal say.
    pub(super) fn take_in(&mut self, records: Vec<ImageRecord>) {
        for record in records {
            if let ImageOutcome::Done { pixels_sha256, .. } = record.outcome {
                self.digests.entry(record.item).or_default().insert(record.image, pixels_sha256);
            }
        }
    }

    fn digest(&self, item: &str, image: u32) -> Option<&str> {
        self.digests.get(item)?.get(&image).map(String::as_str)
    }
}

/// An image with the questions that are put about it.
pub(super) struct Task<'a> {
    pub(super) item: &'a Item,
    pub(super) image: u32,
    pub(super) pixels_sha256: String,
    pub(super) questions: Vec<&'a Question>,
    /// Those of them whose answers are not known yet.
    pub(super) wanted: Vec<QuestionId>,
}

impl Task<'_> {
    /// Whether it is asked about for its own sake, and not for that of its neighbours.
    pub(super) fn is_wanted(&self) -> bool {
        !self.wanted.is_empty()
    }
}

/// Images of one item that the judge is handed together.
pub(super) struct Group<'a> {
    pub(super) tasks: Vec<Task<'a>>,
    /// What is known about its images without asking.
    pub(super) known: JudgeCounts,
    /// Its images without a picture.
    pub(super) missing: Vec<(&'a Item, u32)>,
}

impl<'a> Group<'a> {
    /// The images with a question that is open.
    pub(super) fn wanted(&self) -> impl Iterator<Item = &Task<'a>> {
        self.tasks.iter().filter(|task| task.is_wanted())
    }

    /// Whether anything is to be asked.
    pub(super) fn is_open(&self) -> bool {
        self.wanted().next().is_some()
    }
}

/// All groups of the selected items, in benchmark order.
pub(super) struct Plan<'a> {
    judge_name: &'a str,
    items: &'a [&'a Item],
    per_item: u32,
    together: u32,
    newest: &'a NewestAnswers<'a>,
}

impl<'a> Plan<'a> {
    /// Images that are handed over together are neighbours among those of one item, answered or not: so
    /// a resumed run and a shard have the groups of an undisturbed run, and the same rounding.
    pub(super) fn new(
        judge_name: &'a str,
        items: &'a [&'a Item],
        per_item: u32,
        together: usize,
        newest: &'a NewestAnswers<'a>,
    ) -> Self {
        let together = u32::try_from(together).unwrap_or(u32::MAX).max(1);
        Self { judge_name, items, per_item, together, newest }
    }

    /// How many groups there are.
    pub(super) fn len(&self) -> usize {
        self.items.len() * self.groups_of_an_item()
    }

    /// Place of the item that a group's images are of.
    pub(super) fn item_of(&self, group: usize) -> usize {
        group / self.groups_of_an_item().max(1)
    }

    fn groups_of_an_item(&self) -> usize {
        self.per_item.div_ceil(self.together) as usize
    }

    /// The images of all items.
    pub(super) fn images(&self) -> u64 {
        self.items.len() as u64 * u64::from(self.per_item)
    }

    /// The images about which every question was answered in earlier sittings.
    pub(super) fn answered(&self) -> u64 {
        let images = self.items.iter().flat_map(|item| (0..self.per_item).map(move |k| (*item, k)));
        images.filter(|(item, image)| self.is_answered(item, *image)).count() as u64
    }

    /// Whether any question was answered in earlier sittings.
    pub(super) fn has_answers(&self) -> bool {
        self.items.iter().any(|item| {
            (0..self.per_item).any(|image| {
                let known = self.newest.image(&item.id, image);
                let outcome = |question: &Question| known?.outcome(question.id);
                item.graph.questions().iter().filter_map(outcome).any(AnswerOutcome::is_answered)
            })
        })
    }

    /// Whether every question about an image was answered in earlier sittings.
    pub(super) fn is_answered(&self, item: &Item, image: u32) -> bool {
        let known = self.newest.image(&item.id, image);
        item.graph.questions().iter().all(|question| {
            let outcome = known.and_then(|known| known.outcome(question.id));
            outcome.is_some_and(AnswerOutcome::is_answered)
        })
    }

    /// What earlier sittings know of a question.
    pub(super) fn known(&self, task: &Task<'_>, question: QuestionId) -> Option<&AnswerOutcome> {
        self.newest.outcome(&task.item.id, task.image, question)
    }

    /// The group of that number.
    ///
    /// # Errors
    /// An earlier answer was given for another picture than the present one.
    pub(super) fn group(
        &self,
        number: usize,
        pictures: &ImageDigests,
    ) -> anyhow::Result<Group<'a>> {
        let mut group =
            Group { tasks: Vec::new(), known: JudgeCounts::default(), missing: Vec::new() };
        let Some(&item) = self.items.get(self.item_of(number)) else { return Ok(group) };
        let first = (number % self.groups_of_an_item()) as u32 * self.together;
        for image in first..self.per_item.min(first.saturating_add(self.together)) {
            match pictures.digest(&item.id, image) {
                Some(digest) => self.add_image(&mut group, item, image, digest)?,
                None => {
                    group.known.images_missing += 1;
                    group.missing.push((item, image));
                }
            }
        }
        Ok(group)
    }

    fn add_image(
        &self,
        group: &mut Group<'a>,
        item: &'a Item,
        image: u32,
        digest: &str,
    ) -> anyhow::Result<()> {
        let known = self.newest.image(&item.id, image);
        let looked_at = known.and_then(|known| known.pixels_sha256());
        ensure!(
            looked_at.is_none_or(|looked_at| looked_at == digest),
            "answers/{}.jsonl answers for another image of {}, image {image} than the present one; the \
             image was made anew since: judge under another name, or delete that answers file",
            self.judge_name,
            item.id
        );
        let mut open = Vec::new();
        for question in item.graph.questions() {
            match known.and_then(|known| known.answer(question.id)) {
                Some(answer) if answer.outcome.is_answered() => group.known.count_answer(answer),
                _ => open.push(question),
            }
        }
        group.known.images_done += u64::from(open.is_empty());
        let wanted: Vec<QuestionId> = open.iter().map(|question| question.id).collect();
        if self.together > 1 {
            open = item.graph.questions().iter().collect();
        } else if open.is_empty() {
            return Ok(());
        }
        let pixels_sha256 = digest.to_owned();
        group.tasks.push(Task { item, image, pixels_sha256, questions: open, wanted });
        Ok(())
    }
}
