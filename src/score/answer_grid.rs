//! In: the answer records of a run. Out: per item one row of answer states per image, one state per
//! question in file order. What they count as is left to `verdict`.

use std::collections::HashMap;

use crate::benchmark::{Item, QuestionId};
use crate::results::{AnswerOutcome, AnswerRecord};

use super::verdict::AnswerState;

/// The answers of one judge, by item.
#[derive(Debug, Default)]
pub struct RunAnswers<'a> {
    items: HashMap<&'a str, ItemAnswers<'a>>,
}

#[derive(Debug)]
struct ItemAnswers<'a> {
    first_seen: usize,
    images: Vec<Vec<(QuestionId, &'a AnswerOutcome)>>,
}

impl<'a> RunAnswers<'a> {
    /// Folds the records of a journal: per question the last answer counts, and a failure never
    /// replaces an answer. Images from `images_per_item` on are left out.
    pub fn new(records: &'a [AnswerRecord], images_per_item: u32) -> Self {
        let mut items: HashMap<&str, ItemAnswers<'_>> = HashMap::new();
        for record in records.iter().filter(|record| record.image < images_per_item) {
            let first_seen = items.len();
            let item = items
                .entry(record.item.as_str())
                .or_insert_with(|| ItemAnswers { first_seen, images: Vec::new() });
            let index = record.image as usize;
            if item.images.len() <= index {
                item.images.resize_with(index + 1, Vec::new);
            }
            let image = &mut item.images[index];
            for answer in &record.answers {
                match image.iter_mut().find(|(question, _)| *question == answer.question) {
                    None => image.push((answer.question, &answer.outcome)),
                    Some((_, old)) => {
                        if matches!(answer.outcome, AnswerOutcome::Answered { .. })
                            || matches!(old, AnswerOutcome::Failed { .. })
                        {
                            *old = &answer.outcome;
                        }
                    }
                }
            }
        }
        Self { items }
    }

    /// The outcome recorded for one question about one image.
    pub fn outcome(
        &self,
        item: &str,
        image: u32,
        question: QuestionId,
    ) -> Option<&'a AnswerOutcome> {
        let image = self.items.get(item)?.images.get(image as usize)?;
        image.iter().find(|(id, _)| *id == question).map(|(_, outcome)| *outcome)
    }

    /// Place of the item among those of the journal, in the order of their first records.
    pub fn first_seen(&self, item: &str) -> Option<usize> {
        self.items.get(item).map(|item| item.first_seen)
    }

    /// Whether anything was recorded about this image.
    pub fn has_image(&self, item: &str, image: u32) -> bool {
        self.items
            .get(item)
            .and_then(|item| item.images.get(image as usize))
            .is_some_and(|answers| !answers.is_empty())
    }

    /// `images` rows with one state per question of the item, in file order.
    pub fn grid(&self, item: &Item, images: u32) -> Vec<Vec<AnswerState<'a>>> {
        (0..images)
            .map(|image| {
                item.graph
                    .questions()
                    .iter()
                    .map(|question| match self.outcome(&item.id, image, question.id) {
                        Some(AnswerOutcome::Answered { text, .. }) => AnswerState::Answered(text),
                        Some(AnswerOutcome::Failed { .. }) => AnswerState::Failed,
                        None => AnswerState::Missing,
                    })
                    .collect()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_graphs::{graph, item};
    use super::*;
    use crate::results::QuestionAnswer;

    fn record(image: u32, answers: &[(u32, Option<&str>)]) -> AnswerRecord {
        let outcome = |text: &Option<&str>| match text {
            Some(text) => {
                AnswerOutcome::Answered { text: (*text).into(), raw: None, yes_probability: None }
            }
            None => AnswerOutcome::Failed { reason: "time-out".into() },
        };
        AnswerRecord {
            item: "a".into(),
            image,
            pixels_sha256: None,
            answers: answers
                .iter()
                .map(|(question, text)| QuestionAnswer {
                    question: *question,
                    outcome: outcome(text),
                })
                .collect(),
        }
    }

    #[test]
    fn a_later_answer_counts_and_a_later_failure_does_not() {
        let records = [
            record(1, &[(1, Some("no")), (2, None)]),
            record(1, &[(1, None), (2, Some("yes"))]),
            record(1, &[(2, Some("no"))]),
            record(7, &[(1, Some("yes"))]),
        ];
        let answers = RunAnswers::new(&records, 2);
        let item = item("a", graph(&[(1, "0"), (2, "0"), (3, "0")]));
        use AnswerState::{Answered, Missing};
        assert_eq!(
            answers.grid(&item, 2),
            [vec![Missing; 3], vec![Answered("no"), Answered("no"), Missing]]
        );
        assert!(
            answers.has_image("a", 1) && !answers.has_image("a", 0) && !answers.has_image("a", 7)
        );
    }
}
