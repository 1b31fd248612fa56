//! In: an item's question graph and its answers, image by image. Out: its verdicts and its score
//! under a protocol, or the reason why it has none.

use crate::benchmark::question::SKIPPED_ROW;
use crate::benchmark::{DeclaredParent, QuestionGraph, QuestionId};

use super::dependency_rule::{AbsentParent, in_file_order, in_topological_order};
use super::verdict::{AnswerState, Protocol, Verdict};

/// The verdicts of one image, one per question in file order.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageVerdicts {
    /// Before the dependency rule.
    pub raw: Vec<Verdict>,
    /// After it; the same where the protocol has none.
    pub ruled: Vec<Verdict>,
    score: Option<f64>,
}

impl ImageVerdicts {
    fn new(raw: Vec<Verdict>, ruled: Vec<Verdict>, mean: fn(&[Verdict]) -> Option<f64>) -> Self {
        let score = mean(&ruled);
        Self { raw, ruled, score }
    }

    /// The image's score, in 0..=1: the share of yes after the rule, or the geometric mean of P(yes) under `soft_tifa_gm`;
    /// `None` where nothing is counted.
    pub fn score(&self) -> Option<f64> {
        self.score
    }
}

/// What came of one item under one protocol.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemScore {
    /// Verdicts per image, in image order. Where the reference script stops on an item, the images
    /// that it finished.
    pub images: Vec<ImageVerdicts>,
    /// Mean over images of their scores, in 0..=1.
    pub score: Result<f64, NotScored>,
}

impl ItemScore {
    /// The images' scores, in 0..=1; images of which nothing is counted are left out.
    pub(crate) fn image_scores(&self) -> impl Iterator<Item = f64> {
        self.images.iter().filter_map(ImageVerdicts::score)
    }
}

/// Why an item has no score.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotScored {
    /// Nothing was answered about any of its images.
    #[error("no answers")]
    NoAnswers,
    /// Not under `reference`: every question lacks an answer, its own or a parent's.
    #[error("every question lacks an answer, its own or that of a question it depends on")]
    Undetermined,
    /// The reference protocol scores whole items only.
    #[error("image {image}, question {question}: {}", if *failed { "the judge failed" } else { "no answer" })]
    Unanswered {
        /// Index of the image, from 0.
        image: u32,
        /// Number of the question.
        question: QuestionId,
        /// Whether the judge was asked.
        failed: bool,
    },
    /// The reference script raises `KeyError` and drops the item.
    #[error(
        "image {image}, question {question}: it depends on question {parent}, which the reference script has not read \
         (docs/protocols.md)"
    )]
    AbsentParent {
        /// Index of the image, from 0.
        image: u32,
        /// Number of the question.
        question: QuestionId,
        /// The number looked up.
        parent: i64,
    },
    /// The reference script cannot read a file with such a cell at all; only this item is dropped.
    #[error(
        "question {question}: dependency `{text}` is no integer, which the reference script cannot read"
    )]
    UnreadableParent {
        /// Number of the question.
        question: QuestionId,
        /// The entry.
        text: String,
    },
    /// No question of the item takes part.
    #[error("no question to score")]
    NoQuestions,
}

impl NotScored {
    /// Whether the protocol itself drops the item, however complete its answers are.
    pub fn is_rule(&self) -> bool {
        match self {
            Self::NoAnswers | Self::Undetermined | Self::Unanswered { .. } => false,
            Self::AbsentParent { .. } | Self::UnreadableParent { .. } | Self::NoQuestions => true,
        }
    }
}

/// Scores one item. `images` has one row per expected image, each with one state per question of
/// the graph in file order.
pub fn score_item(
    graph: &QuestionGraph,
    images: &[Vec<AnswerState<'_>>],
    protocol: Protocol,
) -> ItemScore {
    match protocol {
        Protocol::Reference => score_as_reference(graph, images),
        Protocol::Corrected | Protocol::Soft => {
            score_all(graph, images, protocol, in_topological_order, share_of_yes)
        }
        Protocol::SoftTifaGm => {
            score_all(graph, images, protocol, |_, raw| raw.to_vec(), geometric_mean)
        }
    }
}

fn score_as_reference(graph: &QuestionGraph, images: &[Vec<AnswerState<'_>>]) -> ItemScore {
    let mut done = Vec::with_capacity(images.len());
    let score = reference_images(graph, images, &mut done);
    ItemScore { images: done, score }
}

fn reference_images(
    graph: &QuestionGraph,
    images: &[Vec<AnswerState<'_>>],
    done: &mut Vec<ImageVerdicts>,
) -> Result<f64, NotScored> {
    let read = |index: usize| graph.questions()[index].row != SKIPPED_ROW;
    let asked: Vec<usize> = (0..graph.len()).filter(|&index| read(index)).collect();
    if asked.is_empty() {
        return Err(NotScored::NoQuestions);
    }
    for &index in &asked {
        let question = &graph.questions()[index];
        for declared in &question.declared_parents {
            if let DeclaredParent::Unreadable(text) = declared {
                return Err(NotScored::UnreadableParent {
                    question: question.id,
                    text: text.clone(),
                });
            }
        }
    }
    if images.iter().flatten().all(|answer| *answer == AnswerState::Missing) {
        return Err(NotScored::NoAnswers);
    }
    let mut scores = Vec::with_capacity(images.len());
    for (image, answers) in (0_u32..).zip(images) {
        for &index in &asked {
            if !matches!(answers[index], AnswerState::Answered { .. }) {
                let question = graph.questions()[index].id;
                let failed = answers[index] == AnswerState::Failed;
                return Err(NotScored::Unanswered { image, question, failed });
            }
        }
        let raw: Vec<Verdict> = answers
            .iter()
            .enumerate()
            .map(|(index, answer)| match read(index) {
                true => Verdict::of(*answer, Protocol::Reference),
                false => Verdict::Skipped,
            })
            .collect();
        let ruled = in_file_order(graph, &raw).map_err(|AbsentParent { question, parent }| {
            NotScored::AbsentParent { image, question, parent }
        })?;
        let image = ImageVerdicts::new(raw, ruled, share_of_yes);
        scores.extend(image.score());
        done.push(image);
    }
    mean_left_to_right(&scores).ok_or(NotScored::NoAnswers)
}

/// Scores all images, as far as their questions have answers; `rule` is the dependency rule, `mean` makes an image's score.
fn score_all(
    graph: &QuestionGraph,
    images: &[Vec<AnswerState<'_>>],
    protocol: Protocol,
    rule: fn(&QuestionGraph, &[Verdict]) -> Vec<Verdict>,
    mean: fn(&[Verdict]) -> Option<f64>,
) -> ItemScore {
    let images: Vec<ImageVerdicts> = images
        .iter()
        .map(|answers| {
            let raw: Vec<Verdict> =
                answers.iter().map(|answer| Verdict::of(*answer, protocol)).collect();
            let ruled = rule(graph, &raw);
            ImageVerdicts::new(raw, ruled, mean)
        })
        .collect();
    let scores: Vec<f64> = images.iter().filter_map(ImageVerdicts::score).collect();
    let is_silent =
        || images.iter().flat_map(|image| &image.raw).all(|&raw| raw == Verdict::Missing);
    let score = mean_left_to_right(&scores).ok_or_else(|| match (graph.is_empty(), is_silent()) {
        (true, _) => NotScored::NoQuestions,
        (false, true) => NotScored::NoAnswers,
        (false, false) => NotScored::Undetermined,
    });
    ItemScore { images, score }
}

/// Yes over counted questions, or the mean of their shares; `None` where nothing is counted.
fn share_of_yes(verdicts: &[Verdict]) -> Option<f64> {
    mean_left_to_right(&weights(verdicts))
}

/// The geometric mean of the shares, 0 where one of them is; `None` where nothing is counted.
fn geometric_mean(verdicts: &[Verdict]) -> Option<f64> {
    let logarithms: Vec<f64> = weights(verdicts).into_iter().map(f64::ln).collect();
    // The logarithm of 0 is minus infinity, whose exponential is 0.
    mean_left_to_right(&logarithms).map(f64::exp)
}

fn weights(verdicts: &[Verdict]) -> Vec<f64> {
    verdicts.iter().filter_map(|verdict| verdict.weight()).collect()
}

/// Python's `sum(scores) / len(scores)`, which adds floats from left to right up to Python 3.11
/// (later versions compensate the rounding).
fn mean_left_to_right(scores: &[f64]) -> Option<f64> {
    (!scores.is_empty())
        .then(|| scores.iter().fold(0.0, |sum, score| sum + score) / scores.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::super::test_graphs::{graph, graph_from_row};
    use super::*;

    fn states<'a>(rows: &[&[&'a str]]) -> Vec<Vec<AnswerState<'a>>> {
        let state = |text: &&'a str| match *text {
            "-" => AnswerState::Missing,
            "!" => AnswerState::Failed,
            text => AnswerState::said(text),
        };
        rows.iter().map(|row| row.iter().map(state).collect()).collect()
    }

    #[test]
    fn the_reference_loses_the_first_row_and_then_the_item() {
        let first = graph_from_row(1, &[(1, "0"), (2, "1"), (3, "0")]);
        let answers = states(&[&["yes", "yes", "no"]]);
        assert_eq!(
            score_item(&first, &answers, Protocol::Reference).score,
            Err(NotScored::AbsentParent { image: 0, question: 2, parent: 1 })
        );
        assert_eq!(score_item(&first, &answers, Protocol::Corrected).score, Ok(2.0 / 3.0));
        let unlinked = graph_from_row(1, &[(1, "0"), (2, "0"), (3, "0")]);
        assert_eq!(score_item(&unlinked, &answers, Protocol::Reference).score, Ok(0.5));
        let alone = graph_from_row(1, &[(1, "0")]);
        let outcome = score_item(&alone, &states(&[&["yes"]]), Protocol::Reference).score;
        assert_eq!(outcome, Err(NotScored::NoQuestions));
    }

    #[test]
    fn an_incomplete_item_is_scored_only_by_the_corrected_protocol() {
        let graph = graph(&[(1, "0"), (2, "0")]);
        let half = states(&[&["yes", "no"], &["-", "-"]]);
        assert_eq!(
            score_item(&graph, &half, Protocol::Reference).score,
            Err(NotScored::Unanswered { image: 1, question: 1, failed: false })
        );
        assert_eq!(score_item(&graph, &half, Protocol::Corrected).score, Ok(0.5));
        let failed = states(&[&["yes", "!"]]);
        assert_eq!(
            score_item(&graph, &failed, Protocol::Reference).score,
            Err(NotScored::Unanswered { image: 0, question: 2, failed: true })
        );
        assert_eq!(score_item(&graph, &failed, Protocol::Corrected).score, Ok(1.0));
        let rootless = graph_from_row(101, &[(1, "0"), (2, "1")]);
        let outcome = score_item(&rootless, &states(&[&["-", "yes"]]), Protocol::Corrected);
        assert_eq!(outcome.score, Err(NotScored::Undetermined));
        let none = states(&[&["-", "-"]]);
        for protocol in Protocol::ALL {
            assert_eq!(score_item(&graph, &none, protocol).score, Err(NotScored::NoAnswers));
        }
    }

    #[test]
    fn a_cell_that_is_no_integer_drops_the_item_from_the_reference_only() {
        let graph = graph(&[(1, "0"), (2, "1, right")]);
        let answers = states(&[&["yes", "yes"]]);
        assert_eq!(
            score_item(&graph, &answers, Protocol::Reference).score,
            Err(NotScored::UnreadableParent { question: 2, text: "right".into() })
        );
        assert_eq!(score_item(&graph, &answers, Protocol::Corrected).score, Ok(1.0));
    }

    #[test]
    fn the_geometric_mean_knows_no_rule_and_an_image_with_a_zero_is_zero() {
        let graph = graph(&[(1, "0"), (2, "1"), (3, "2")]);
        let stated = |p: f64| AnswerState::Answered { text: "no", yes_probability: Some(p) };
        let images = vec![
            vec![stated(0.5), stated(0.25), stated(0.125)],
            vec![stated(0.0), stated(1.0), stated(1.0)],
            vec![stated(1.0), AnswerState::Missing, stated(1.0)],
        ];
        let found = score_item(&graph, &images, Protocol::SoftTifaGm);
        let scores: Vec<f64> = found.image_scores().collect();
        assert!((scores[0] - 0.25).abs() < 1e-15 && scores[1..] == [0.0, 1.0], "{scores:?}");
        let soft = score_item(&graph, &images, Protocol::Soft);
        let scores: Vec<f64> = soft.image_scores().collect();
        let by_hand = (0.5 + 0.125 + 0.015_625) / 3.0;
        assert!((scores[0] - by_hand).abs() < 1e-15 && scores[1..] == [0.0, 1.0], "{scores:?}");
    }
}
