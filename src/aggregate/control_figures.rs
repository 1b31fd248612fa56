//! In: the verdicts of a judge about some images, its run's own or others. Out: how often it said yes, and what score that gives.

use serde::{Deserialize, Serialize};

use super::benchmark_score::benchmark_score;
use super::category_figures::count_raw;
use super::estimate::Estimate;
use super::readable::unparsable_gap;
use super::shares::Shares;
use crate::score::{RunScore, Verdict};
use crate::statistics::ItemRatio;

/// What a judge said about some images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ControlFigures {
    /// Questions, one per image.
    pub questions: u64,
    /// Those of them with an answer.
    pub answered: u64,
    /// Answers that are neither yes nor no.
    pub unparsable: u64,
    /// Share of yes, before the dependency rule.
    pub yes: Option<Estimate>,
    /// The same by broad category, in table order.
    pub l1: Vec<YesRate>,
    /// The score under `corrected`; absent where it is withheld.
    pub corrected: Option<Estimate>,
    /// The score under `soft`; absent where it is withheld, or the judge states no P(yes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft: Option<Estimate>,
    /// Why a score is withheld.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<String>,
}

/// How often the judge said yes to the questions of a category.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct YesRate {
    /// L1 name.
    pub name: String,
    /// Before the dependency rule.
    pub yes: Option<Estimate>,
}

impl ControlFigures {
    /// Of scores under `corrected` and, where the judge states P(yes), under `soft`, over `images` images an item; with intervals at
    /// `level`.
    pub fn of(
        corrected: &RunScore<'_>,
        soft: Option<&RunScore<'_>>,
        images: u32,
        level: f64,
    ) -> Self {
        let shares = Shares::of(corrected);
        let all = shares.l1.iter().fold(ItemRatio::default(), |sum, one| plus(sum, &one.raw));
        let graphs = corrected.items.iter().map(|item| item.item.graph.len() as u64);
        let questions = graphs.sum::<u64>() * u64::from(images);
        let answered = all.denominators.iter().sum::<f64>() as u64;
        let lacking = (answered < questions)
            .then(|| format!("{answered} of {questions} questions have an answer"));
        let score = |score: &RunScore<'_>| {
            let shares = Shares::of(score);
            benchmark_score(score).map(|score| score.with_error(&shares.overall, level))
        };
        let gap = |score: &RunScore<'_>| lacking.clone().or_else(|| unparsable_gap(score));
        let [gap_corrected, gap_soft] = [Some(corrected), soft].map(|score| score.and_then(gap));
        let rate = |name: &str, ratio| YesRate {
            name: name.to_owned(),
            yes: Estimate::of_ratio(ratio, level),
        };
        Self {
            questions,
            answered,
            unparsable: count_raw(corrected, Verdict::Unparsable),
            yes: Estimate::of_ratio(&all, level),
            l1: shares.l1.iter().map(|category| rate(&category.name, &category.raw)).collect(),
            corrected: score(corrected).filter(|_| gap_corrected.is_none()),
            soft: soft.filter(|_| gap_soft.is_none()).and_then(score),
            gap: gap_corrected.or(gap_soft),
        }
    }
}

/// The sums of two figures, item by item.
fn plus(sum: ItemRatio, other: &ItemRatio) -> ItemRatio {
    if sum.denominators.is_empty() {
        return other.clone();
    }
    let add = |a: Vec<f64>, b: &[f64]| a.iter().zip(b).map(|(a, b)| a + b).collect();
    ItemRatio {
        numerators: add(sum.numerators, &other.numerators),
        denominators: add(sum.denominators, &other.denominators),
    }
}

/// What a run's score would be if the images did not fit the prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chance {
    /// The control that it comes from: `swapped`.
    pub control: String,
    /// The seed by which other items were dealt.
    pub seed: u64,
    /// What the judge said.
    pub figures: ControlFigures,
}
