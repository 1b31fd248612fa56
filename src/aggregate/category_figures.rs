//! In: the verdicts of a run. Out: the share of yes per category, at both levels.

use serde::{Deserialize, Serialize};

use crate::score::{RunScore, Verdict};

use super::estimate::Estimate;
use super::shares::{CategoryShares, Shares, Stage};

/// What a figure is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The benchmark score.
    Overall,
    /// A broad category.
    L1,
    /// A detailed category.
    L2,
}

impl Level {
    /// The name in exported tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Overall => "overall",
            Self::L1 => "l1",
            Self::L2 => "l2",
        }
    }
}

/// One category's figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CategoryFigure {
    /// L1 name (`attribute`) or L2 name with its L1 (`attribute - color`).
    pub name: String,
    /// Before the dependency rule.
    pub raw: Option<Estimate>,
    /// After the dependency rule; absent under `reference`, whose script has no such figure.
    pub conditional: Option<Estimate>,
}

impl CategoryFigure {
    /// Its estimate at a stage.
    pub fn at(&self, stage: Stage) -> Option<Estimate> {
        match stage {
            Stage::Raw => self.raw,
            Stage::Conditional => self.conditional,
        }
    }
}

/// The figures per L1 and per L2 category, in table order, with intervals at `level`.
pub fn category_figures(shares: &Shares, level: f64) -> (Vec<CategoryFigure>, Vec<CategoryFigure>) {
    let figures = |shares: &[CategoryShares]| -> Vec<CategoryFigure> {
        let categories = shares.iter().map(|category| CategoryFigure {
            name: category.name.clone(),
            raw: Estimate::of_ratio(&category.raw, level),
            conditional: Estimate::of_ratio(&category.conditional, level),
        });
        categories.collect()
    };
    (figures(&shares.l1), figures(&shares.l2))
}

/// Yes and counted questions after the rule, over the images that the protocol scores. Of shares of a yes it is their sum,
/// rounded.
pub(crate) fn counts_after_rule(score: &RunScore<'_>) -> (u64, u64) {
    let scored = score.items.iter().filter(|item| item.outcome.score.is_ok());
    let verdicts = scored.flat_map(|item| &item.outcome.images).flat_map(|image| &image.ruled);
    let (k, n) = verdicts
        .filter_map(|verdict| verdict.weight())
        .fold((0.0, 0), |(k, n), weight| (k + weight, n + 1));
    (k.round() as u64, n)
}

/// How many of a run's questions, counted per image, have this verdict before the rule.
pub(crate) fn count_raw(score: &RunScore<'_>, verdict: Verdict) -> u64 {
    let images = score.items.iter().flat_map(|item| &item.outcome.images);
    images.flat_map(|image| &image.raw).filter(|&&raw| raw == verdict).count() as u64
}
