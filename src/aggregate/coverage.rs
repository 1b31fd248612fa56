//! In: what was expected of a run and what is there. Out: the counts, and whether a headline figure
//! may stand on them.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::benchmark::Item;
use crate::results::progress::is_zero;
use crate::results::{AnswerOutcome, ImageOutcome, ImageRecord, NewestAnswers};
use crate::score::{Protocol, RunScore, Verdict};
use crate::wording::counted;

/// How much of the selected benchmark a run covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Items of the benchmark.
    pub items_in_benchmark: u64,
    /// Items that the run selected.
    pub items_expected: u64,
    /// Images that these need.
    pub images_expected: u64,
    /// Images that are there; where answers came without pictures, those with answers.
    pub images_present: u64,
    /// Items whose prompt the text encoder saw only in part; known for generated images alone.
    #[serde(default)]
    pub prompts_truncated: u64,
    /// Questions, one per image, that these images raise.
    pub questions_expected: u64,
    /// Questions answered, unparsable answers included.
    pub questions_answered: u64,
    /// Answers that are neither yes nor no (as `corrected` reads them).
    pub questions_unparsable: u64,
    /// Questions at which the judge failed.
    pub questions_failed: u64,
    /// Questions never put to the judge.
    pub questions_missing: u64,
    /// Answers that state no P(yes), of a judge that states it for others.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub answers_without_probability: u64,
    /// Images that are not there because a content filter refused the prompt.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub images_filtered: u64,
    /// Ids of the items of these images, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items_filtered: Vec<String>,
    /// Images that a server made of another prompt than the benchmark's, by its own word.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub images_revised: u64,
    /// Images that a server sent in another size than was asked for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub images_other_size: u64,
    /// Images that a server sent as JPEG or WebP, whose artefacts a judge sees.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub images_lossy: u64,
}

/// An item without a score, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedItem {
    /// Item id.
    pub item: String,
    /// One sentence, as summaries keep it.
    pub reason: String,
    /// Whether the protocol drops it by its own rules, however complete its answers are.
    pub by_rule: bool,
}

impl Coverage {
    /// Counts what is there. `images` is empty where answers came without pictures.
    pub fn count(
        items_in_benchmark: u64,
        items: &[&Item],
        images_per_item: u32,
        images: &[ImageRecord],
        answers: &NewestAnswers<'_>,
        corrected: &RunScore<'_>,
    ) -> Self {
        let mut coverage = Self {
            items_in_benchmark,
            items_expected: items.len() as u64,
            images_expected: items.len() as u64 * u64::from(images_per_item),
            images_present: 0,
            prompts_truncated: truncated_items(items, images),
            questions_expected: 0,
            questions_answered: 0,
            questions_unparsable: super::category_figures::count_raw(
                corrected,
                Verdict::Unparsable,
            ),
            questions_failed: 0,
            questions_missing: 0,
            answers_without_probability: 0,
            images_filtered: 0,
            items_filtered: Vec::new(),
            images_revised: 0,
            images_other_size: 0,
            images_lossy: 0,
        };
        coverage.count_served(items, images_per_item, images);
        let pictures: HashSet<(&str, u32)> = images
            .iter()
            .filter(|record| record.is_done())
            .map(|record| (record.item.as_str(), record.image))
            .collect();
        for item in items {
            for image in 0..images_per_item {
                let known = answers.image(&item.id, image);
                let is_present = match images.is_empty() {
                    true => known.is_some(),
                    false => pictures.contains(&(item.id.as_str(), image)),
                };
                coverage.images_present += u64::from(is_present);
                for question in item.graph.questions() {
                    coverage.questions_expected += 1;
                    let count = match known.and_then(|known| known.outcome(question.id)) {
                        Some(AnswerOutcome::Answered { .. }) => &mut coverage.questions_answered,
                        Some(AnswerOutcome::Failed { .. }) => &mut coverage.questions_failed,
                        None => &mut coverage.questions_missing,
                    };
                    *count += 1;
                }
            }
        }
        coverage
    }

    /// Counts what servers refused or changed. A later line of the journal replaces an earlier one.
    fn count_served(&mut self, items: &[&Item], images_per_item: u32, images: &[ImageRecord]) {
        let newest: HashMap<(&str, u32), &ImageOutcome> = images
            .iter()
            .map(|record| ((record.item.as_str(), record.image), &record.outcome))
            .collect();
        for item in items {
            for image in 0..images_per_item {
                match newest.get(&(item.id.as_str(), image)) {
                    Some(ImageOutcome::Filtered { .. }) => {
                        self.images_filtered += 1;
                        if self.items_filtered.last() != Some(&item.id) {
                            self.items_filtered.push(item.id.clone());
                        }
                    }
                    Some(ImageOutcome::Done { served: Some(served), .. }) => {
                        self.images_revised += u64::from(served.revised_prompt.is_some());
                        self.images_other_size += u64::from(served.asked.is_some());
                        self.images_lossy += u64::from(served.format != "png");
                    }
                    _ => {}
                }
            }
        }
    }

    /// What servers refused or changed, one sentence each; none for other models.
    pub fn server_notes(&self) -> Vec<String> {
        const SHOWN: usize = 5;
        let mut notes = Vec::new();
        if self.images_filtered > 0 {
            let mut named = self.items_filtered.iter().take(SHOWN).cloned().collect::<Vec<_>>();
            if self.items_filtered.len() > SHOWN {
                named.push(format!("{} more", self.items_filtered.len() - SHOWN));
            }
            notes.push(format!(
                "{} of {} missing because a content filter refused the prompt: {}",
                self.images_filtered,
                counted(self.images_expected, "image"),
                named.join(", ")
            ));
        }
        for (count, what) in [
            (
                self.images_revised,
                "were made of another prompt than the benchmark's, by the server's own word",
            ),
            (self.images_other_size, "have another size than was asked for"),
            (self.images_lossy, "came as JPEG or WebP, whose artefacts a judge sees"),
        ] {
            if count > 0 {
                notes.push(format!("{count} of {} {what}", counted(self.images_present, "image")));
            }
        }
        notes
    }

    /// `; 3 images refused by a content filter`, where there are such.
    fn filtered_words(&self) -> String {
        match self.images_filtered {
            0 => String::new(),
            count => format!("; {} refused by a content filter", counted(count, "image")),
        }
    }

    /// Why a protocol's headline figure must not be read as that of the selected benchmark; `None`
    /// where it may. `reference` needs every item that it does not drop by rule, the others every answer.
    pub fn gap(&self, protocol: Protocol, dropped: &[DroppedItem]) -> Option<String> {
        match protocol {
            Protocol::Reference => {
                let lost = dropped.iter().filter(|item| !item.by_rule).count();
                (lost > 0).then(|| {
                    let filtered = self.filtered_words();
                    format!(
                        "{lost} of {} lack images or answers{filtered}",
                        counted(self.items_expected, "item")
                    )
                })
            }
            Protocol::Corrected | Protocol::Soft | Protocol::SoftTifaGm => {
                let lost = self.questions_missing + self.questions_failed;
                (lost > 0).then(|| {
                    format!(
                        "{lost} of {} have no answer ({} never asked, {} failed; {} of {} there{})",
                        counted(self.questions_expected, "question"),
                        self.questions_missing,
                        self.questions_failed,
                        self.images_present,
                        counted(self.images_expected, "image"),
                        self.filtered_words()
                    )
                })
            }
        }
    }
}

fn truncated_items(items: &[&Item], images: &[ImageRecord]) -> u64 {
    let is_truncated = |record: &&ImageRecord| {
        matches!(record.outcome, ImageOutcome::Done { truncated: Some(true), .. })
    };
    let cut: HashSet<&str> =
        images.iter().filter(is_truncated).map(|record| record.item.as_str()).collect();
    items.iter().filter(|item| cut.contains(item.id.as_str())).count() as u64
}

/// The items of a run that have no score, in order.
pub fn dropped_items(score: &RunScore<'_>) -> Vec<DroppedItem> {
    let reason = |item: &crate::score::ScoredItem<'_>| {
        item.outcome.score.as_ref().err().map(|reason| DroppedItem {
            item: item.item.id.clone(),
            reason: reason.to_string(),
            by_rule: reason.is_rule(),
        })
    };
    score.items.iter().filter_map(reason).collect()
}
