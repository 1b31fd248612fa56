//! In: the lines of an answers journal, in file order. Out: for each image the newest outcome per
//! question. What an outcome counts for is left to `score`; which questions to ask again, to `judge`.

use std::collections::HashMap;

use super::records::{AnswerOutcome, AnswerRecord, QuestionAnswer};

/// Two lines of a journal speak of one image but of different pictures.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the answers to {item}, image {image} were given for two different images; delete the lines of \
     the image that is gone, or judge again under another name"
)]
pub struct MixedImages {
    /// Item identifier.
    pub item: String,
    /// Index of the image among the item's images.
    pub image: u32,
}

/// The newest outcome per (item, image, question).
#[derive(Debug, Default)]
pub struct NewestAnswers<'r> {
    items: HashMap<&'r str, Vec<(u32, ImageAnswers<'r>)>>,
}

/// What is known about one image.
#[derive(Debug, Default)]
pub struct ImageAnswers<'r> {
    pixels_sha256: Option<&'r str>,
    answers: Vec<&'r QuestionAnswer>,
}

impl<'r> NewestAnswers<'r> {
    /// Folds the lines of a journal: per question the last answer counts, and a failure never
    /// replaces an answer.
    ///
    /// # Errors
    /// Lines of one image were made for different pictures.
    pub fn merge(records: &'r [AnswerRecord]) -> Result<Self, MixedImages> {
        let mut newest = Self::default();
        for record in records {
            let image = newest.image_mut(&record.item, record.image);
            match (image.pixels_sha256, record.pixels_sha256.as_deref()) {
                (Some(old), Some(new)) if old != new => {
                    return Err(MixedImages { item: record.item.clone(), image: record.image });
                }
                (None, new) => image.pixels_sha256 = new,
                _ => {}
            }
            image.answers.reserve(record.answers.len());
            for answer in &record.answers {
                image.put(answer);
            }
        }
        Ok(newest)
    }

    /// What is known about an image; `None` when no line speaks of it.
    pub fn image(&self, item: &str, image: u32) -> Option<&ImageAnswers<'r>> {
        let images = self.items.get(item)?;
        images.iter().find(|(index, _)| *index == image).map(|(_, answers)| answers)
    }

    /// The newest outcome of one question; `None` when it was never asked.
    pub fn outcome(&self, item: &str, image: u32, question: u32) -> Option<&'r AnswerOutcome> {
        self.image(item, image)?.outcome(question)
    }

    /// Every image that a line speaks of, as (item, image index), in no stated order.
    pub fn images(&self) -> impl Iterator<Item = (&'r str, u32)> {
        self.items.iter().flat_map(|(item, images)| images.iter().map(|(image, _)| (*item, *image)))
    }

    fn image_mut(&mut self, item: &'r str, image: u32) -> &mut ImageAnswers<'r> {
        let images = self.items.entry(item).or_default();
        let at = images.iter().position(|(index, _)| *index == image).unwrap_or_else(|| {
            images.push((image, ImageAnswers::default()));
            images.len() - 1
        });
        &mut images[at].1
    }
}

impl<'r> ImageAnswers<'r> {
    /// Digest of the picture that was looked at; `None` where the answers came without one.
    pub fn pixels_sha256(&self) -> Option<&'r str> {
        self.pixels_sha256
    }

    /// The newest outcome of a question; `None` when it was never asked.
    pub fn outcome(&self, question: u32) -> Option<&'r AnswerOutcome> {
        self.answer(question).map(|answer| &answer.outcome)
    }

    /// The newest entry of a question, with what is noted beside its outcome; `None` when it was never asked.
    pub fn answer(&self, question: u32) -> Option<&'r QuestionAnswer> {
        // A few dozen questions at most: looking through them is quicker than hashing.
        self.answers.iter().find(|answer| answer.question == question).copied()
    }

    fn put(&mut self, answer: &'r QuestionAnswer) {
        match self.answers.iter_mut().find(|old| old.question == answer.question) {
            None => self.answers.push(answer),
            Some(old) => {
                if !old.outcome.is_answered() || answer.outcome.is_answered() {
                    *old = answer;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(text: &str) -> AnswerOutcome {
        AnswerOutcome::Answered { text: text.into(), raw: None, yes_probability: None }
    }

    fn failed() -> AnswerOutcome {
        AnswerOutcome::Failed { reason: "time-out".into() }
    }

    fn record(image: u32, pixels: Option<&str>, answers: &[(u32, AnswerOutcome)]) -> AnswerRecord {
        AnswerRecord {
            item: "a".into(),
            image,
            pixels_sha256: pixels.map(str::to_owned),
            answers: answers
                .iter()
                .map(|(question, outcome)| QuestionAnswer::new(*question, outcome.clone()))
                .collect(),
        }
    }

    #[test]
    fn the_last_answer_counts_and_a_failure_never_replaces_one() {
        let records = [
            record(0, Some("p"), &[(1, answered("yes")), (2, failed()), (7, failed())]),
            record(1, Some("q"), &[(1, failed())]),
            record(0, Some("p"), &[(1, failed()), (2, answered("no")), (7, failed())]),
            record(0, Some("p"), &[(2, answered("yes"))]),
        ];
        let newest = NewestAnswers::merge(&records).unwrap();
        assert_eq!(newest.outcome("a", 0, 1), Some(&answered("yes")));
        assert_eq!(newest.outcome("a", 0, 2), Some(&answered("yes")));
        assert_eq!(newest.outcome("a", 0, 7), Some(&failed()));
        assert_eq!(newest.outcome("a", 0, 3), None);
        assert_eq!(newest.outcome("b", 0, 1), None);
        assert_eq!(newest.image("a", 1).unwrap().pixels_sha256(), Some("q"));
        let mut images: Vec<_> = newest.images().collect();
        images.sort_unstable();
        assert_eq!(images, [("a", 0), ("a", 1)]);
    }

    #[test]
    fn answers_for_two_pictures_are_not_mixed() {
        let records =
            [record(0, Some("p"), &[(1, failed())]), record(0, Some("q"), &[(1, failed())])];
        let error = NewestAnswers::merge(&records).unwrap_err().to_string();
        assert!(error.contains("a, image 0"), "{error}");
        let imported = [record(0, None, &[(1, failed())]), record(0, Some("q"), &[(2, failed())])];
        let newest = NewestAnswers::merge(&imported).unwrap();
        assert_eq!(newest.image("a", 0).unwrap().pixels_sha256(), Some("q"));
    }
}
