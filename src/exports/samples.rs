//! In: a scored run with its answers. Out: each image with its questions, answers and scores, as logs of other tools list
//! samples. How these logs look is left to `lm_eval` and `inspect_log`.

use std::collections::HashMap;

use serde::Serialize;

use crate::aggregate::Protocol;
use crate::benchmark::Item;
use crate::results::{AnswerOutcome, ImageOutcome, ImageRecord, NewestAnswers};
use crate::score::{RunScore, ScoredItem, Verdict};

/// A run as it was scored, with what its images and answers are told from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScoredImages<'a> {
    /// The run under each protocol that is exported.
    pub protocols: &'a [&'a RunScore<'a>],
    /// The selected items, in benchmark order.
    pub items: &'a [&'a Item],
    /// The answers.
    pub answers: &'a NewestAnswers<'a>,
    /// The image journal; empty where answers came without pictures.
    pub images: &'a [ImageRecord],
    /// Images that were asked for of each item.
    pub images_per_item: u32,
}

/// One image that has a score.
#[derive(Debug, Clone)]
pub(crate) struct ImageSample<'a> {
    /// Its number over the whole selection, from 0, those without a score counted too.
    pub number: usize,
    /// The item that it was made for.
    pub item: &'a Item,
    /// Its index among the item's images, from 0.
    pub image: u32,
    /// The file inside the run directory; absent where answers came without pictures.
    pub file: Option<String>,
    /// The seed, where known.
    pub seed: Option<u64>,
    /// The item's questions, in file order.
    pub questions: Vec<JudgedQuestion<'a>>,
    /// Its score in 0..=1 under each protocol that is exported, in their order; absent where the item has none.
    pub scores: Vec<Option<f64>>,
}

/// A question with what the judge said.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct JudgedQuestion<'a> {
    /// Its number inside the item.
    pub id: u32,
    /// Its words.
    pub question: &'a str,
    /// Its category, e.g. `attribute - color`.
    pub category: &'a str,
    /// The numbers of the questions that it depends on, as the question file has them; `0` for none.
    pub depends_on: String,
    /// The answer that is scored; absent where there is none.
    pub answer: Option<&'a str>,
    /// The judge's own words, where `answer` is a reading of them.
    pub said: Option<&'a str>,
    /// The judge's probability of yes, in 0..=1, where it states one.
    pub yes_probability: Option<f64>,
    /// What it counts as after the dependency rule, under each protocol that is exported, in their order.
    #[serde(skip)]
    pub verdicts: Vec<Option<Verdict>>,
}

impl JudgedQuestion<'_> {
    /// What it counts as under the protocol at `place`: a word, or a share of a yes.
    pub(crate) fn counts_as(&self, place: usize) -> String {
        self.verdicts[place].unwrap_or(Verdict::Missing).to_string()
    }
}

impl<'a> ScoredImages<'a> {
    /// The images that have a score under one of the protocols, in benchmark order.
    pub(crate) fn samples(&self) -> Vec<ImageSample<'a>> {
        let scored: Vec<_> = self.protocols.iter().map(|score| score.by_id()).collect();
        let pictures: HashMap<(&str, u32), Option<u64>> = self
            .images
            .iter()
            .filter_map(|record| match &record.outcome {
                ImageOutcome::Done { seed, .. } => Some(((&*record.item, record.image), *seed)),
                _ => None,
            })
            .collect();
        let mut samples = Vec::new();
        let mut number = 0;
        for &item in self.items {
            let of_item: Vec<_> =
                scored.iter().map(|found| found.get(item.id.as_str()).copied()).collect();
            for image in 0..self.images_per_item {
                let scores: Vec<_> =
                    of_item.iter().map(|scored| score_of(*scored, image)).collect();
                if scores.iter().any(Option::is_some) {
                    let picture = pictures.get(&(item.id.as_str(), image));
                    samples.push(ImageSample {
                        number,
                        item,
                        image,
                        file: picture.map(|_| format!("images/{}/{image}.png", item.id)),
                        seed: picture.copied().flatten(),
                        questions: self.questions(item, image, &of_item),
                        scores,
                    });
                }
                number += 1;
            }
        }
        samples
    }

    /// Images that were asked for.
    pub(crate) fn expected(&self) -> usize {
        self.items.len() * self.images_per_item as usize
    }

    fn questions(
        &self,
        item: &'a Item,
        image: u32,
        scored: &[Option<&ScoredItem<'_>>],
    ) -> Vec<JudgedQuestion<'a>> {
        let known = self.answers.image(&item.id, image);
        let questions = item.graph.questions().iter().enumerate();
        questions
            .map(|(place, question)| {
                let outcome = known.and_then(|known| known.outcome(question.id));
                let (answer, said, yes_probability) = match outcome {
                    Some(AnswerOutcome::Answered { text, raw, yes_probability }) => {
                        (Some(text.as_str()), raw.as_deref(), *yes_probability)
                    }
                    _ => (None, None, None),
                };
                let verdict = |scored: &Option<&ScoredItem<'_>>| {
                    let images = &scored.as_ref()?.outcome.images;
                    Some(images.get(image as usize)?.ruled[place])
                };
                JudgedQuestion {
                    id: question.id,
                    question: &question.text,
                    category: question.category.l2(),
                    depends_on: question.dependency(),
                    answer,
                    said,
                    yes_probability: yes_probability.filter(|share| share.is_finite()),
                    verdicts: scored.iter().map(verdict).collect(),
                }
            })
            .collect()
    }
}

/// The score of an image that its item's score is made of.
fn score_of(scored: Option<&ScoredItem<'_>>, image: u32) -> Option<f64> {
    let outcome = &scored?.outcome;
    outcome.score.as_ref().ok()?;
    outcome.images.get(image as usize)?.score()
}

/// How many images have a score under the protocol at `place`.
pub(crate) fn scored_under(samples: &[ImageSample<'_>], place: usize) -> usize {
    samples.iter().filter(|sample| sample.scores[place].is_some()).count()
}

/// The protocols by their names.
pub(crate) fn names(protocols: &[&RunScore<'_>]) -> Vec<&'static str> {
    protocols.iter().map(|score| Protocol::name(score.protocol)).collect()
}
