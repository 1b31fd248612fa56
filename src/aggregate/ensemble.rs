//! In: the answers of several judges about the same images. Out: the scores of their majority and of their mean P(yes), over the
//! questions that all of them answered.

use serde::Serialize;

use super::benchmark_score::benchmark_score;
use super::category_figures::{CategoryFigure, category_figures};
use super::estimate::Estimate;
use super::shares::Shares;
use crate::benchmark::Item;
use crate::results::NewestAnswers;
use crate::score::{AnswerState, Protocol, RunScore, ScoredItem, Verdict, answer_grid, score_item};

/// How several answers become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EnsembleRule {
    /// Yes where more than half of the judges say so. A tie is not yes, and neither is an answer that is no yes and no no.
    Majority,
    /// The mean of their P(yes). Under `corrected` it is yes above 0.5.
    MeanProbability,
}

impl EnsembleRule {
    /// The name in files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Majority => "majority",
            Self::MeanProbability => "mean_probability",
        }
    }
}

/// What several judges score a run together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct EnsembleScore {
    /// How their answers become one.
    pub rule: EnsembleRule,
    /// The rules of the score.
    pub protocol: Protocol,
    /// Questions (one per image) that the run raises.
    pub questions: u64,
    /// Those that all judges answered, by the mean with a P(yes). The others enter no number.
    pub answered: u64,
    /// The score over these.
    pub score: Option<Estimate>,
    /// Broad categories, in table order.
    pub l1: Vec<CategoryFigure>,
}

/// The ensembles of judges who gave `answers` about `images` images of each item: the majority, and the mean where all of them
/// state P(yes).
pub(crate) fn ensembles(
    answers: &[&NewestAnswers<'_>],
    items: &[&Item],
    images: u32,
    all_state_probability: bool,
    level: f64,
) -> Vec<EnsembleScore> {
    let mean =
        [Protocol::Soft, Protocol::Corrected].map(|one| (EnsembleRule::MeanProbability, one));
    let mean = mean.into_iter().filter(|_| all_state_probability);
    let kinds = std::iter::once((EnsembleRule::Majority, Protocol::Corrected)).chain(mean);
    kinds
        .map(|(rule, protocol)| {
            let scored = items.iter().map(|&item| {
                let grids: Vec<_> =
                    answers.iter().map(|answers| answer_grid(item, images, answers)).collect();
                let joined: Vec<Vec<AnswerState<'_>>> = (0..images as usize)
                    .map(|image| {
                        let rows: Vec<_> = grids.iter().map(|grid| &grid[image]).collect();
                        let said = |place| rows.iter().map(|row| row[place]).collect::<Vec<_>>();
                        (0..item.graph.len()).map(|place| joined(&said(place), rule)).collect()
                    })
                    .collect();
                ScoredItem { item, outcome: score_item(&item.graph, &joined, protocol) }
            });
            of_score(&RunScore { protocol, items: scored.collect() }, rule, images, level)
        })
        .collect()
}

fn of_score(score: &RunScore<'_>, rule: EnsembleRule, images: u32, level: f64) -> EnsembleScore {
    let shares = Shares::of(score);
    let raw = score.items.iter().flat_map(|item| &item.outcome.images).flat_map(|image| &image.raw);
    let graphs = score.items.iter().map(|item| item.item.graph.len() as u64);
    EnsembleScore {
        rule,
        protocol: score.protocol,
        questions: graphs.sum::<u64>() * u64::from(images),
        answered: raw.filter(|raw| raw.weight().is_some()).count() as u64,
        score: benchmark_score(score).map(|score| score.with_error(&shares.overall, level)),
        l1: category_figures(&shares, level).0,
    }
}

/// What the judges say together to one question; nothing where one of them says nothing.
fn joined(said: &[AnswerState<'_>], rule: EnsembleRule) -> AnswerState<'static> {
    let word = |is_yes: bool| if is_yes { "yes" } else { "no" };
    match rule {
        EnsembleRule::Majority => {
            let verdicts = said.iter().map(|answer| Verdict::of(*answer, Protocol::Corrected));
            let yes: Option<Vec<f64>> = verdicts.map(Verdict::weight).collect();
            let is_yes = yes.map(|yes| 2.0 * yes.iter().sum::<f64>() > yes.len() as f64);
            is_yes.map_or(AnswerState::Missing, |is_yes| AnswerState::said(word(is_yes)))
        }
        EnsembleRule::MeanProbability => {
            let stated = said.iter().map(|answer| match answer {
                AnswerState::Answered { yes_probability, .. } => *yes_probability,
                _ => None,
            });
            let stated: Option<Vec<f64>> = stated.collect();
            stated.map_or(AnswerState::Missing, |stated| {
                let mean = stated.iter().sum::<f64>() / stated.len() as f64;
                AnswerState::Answered { text: word(mean > 0.5), yes_probability: Some(mean) }
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stated(text: &'static str, p: f64) -> AnswerState<'static> {
        AnswerState::Answered { text, yes_probability: Some(p) }
    }

    #[test]
    fn a_tie_is_not_yes_and_neither_is_a_word_that_is_neither() {
        let majority = |words: &[&'static str]| {
            let said: Vec<_> = words.iter().map(|word| AnswerState::said(word)).collect();
            joined(&said, EnsembleRule::Majority)
        };
        let [yes, no] = ["yes", "no"].map(AnswerState::said);
        assert_eq!(majority(&["yes", " YES", "no"]), yes);
        assert_eq!(majority(&["yes", "no"]), no);
        assert_eq!(majority(&["yes", "perhaps"]), no);
        assert_eq!(majority(&["yes", "yes", "perhaps"]), yes);
        assert_eq!(majority(&["perhaps", "perhaps", "yes"]), no);
        let open = [AnswerState::said("yes"), AnswerState::said("yes"), AnswerState::Failed];
        assert_eq!(joined(&open, EnsembleRule::Majority), AnswerState::Missing);
    }

    #[test]
    fn a_mean_needs_a_number_of_each_judge_and_is_yes_above_a_half() {
        let mean = |said: &[AnswerState<'static>]| joined(said, EnsembleRule::MeanProbability);
        // Whatever was said.
        assert_eq!(mean(&[stated("no", 1.0), stated("no", 0.25)]), stated("yes", 0.625));
        assert_eq!(mean(&[stated("yes", 0.75), stated("yes", 0.25)]), stated("no", 0.5));
        assert_eq!(mean(&[stated("yes", 1.0), AnswerState::said("yes")]), AnswerState::Missing);
        assert_eq!(mean(&[stated("yes", 1.0), AnswerState::Failed]), AnswerState::Missing);
    }
}
