//! In: a run, a baseline and how large a drop is tolerated. Out: for each figure passed, failed, or
//! undecided, with the number of items that would decide it. Printing and exit codes are left to the
//! command line.

use serde::Serialize;

use crate::aggregate::Protocol;
use crate::compare::{
    CompareError, Labelled, Level, Options, Shared, compared, deviation, differences, share,
};
use crate::statistics::{Demand, ItemRatio};

/// What is tolerated.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// Largest tolerated drop, in points.
    pub max_drop: f64,
    /// Probability of failing a figure that has not dropped.
    pub alpha: f64,
    /// Categories that are checked beside the benchmark score, L1 or L2.
    pub categories: Vec<String>,
}

/// How a figure fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Surely no larger drop than is tolerated.
    Passed,
    /// A larger drop than is tolerated, and no noise.
    Failed,
    /// The run is too small to tell.
    Undecided,
}

impl Outcome {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Undecided => "undecided",
        }
    }
}

/// One checked figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckedFigure {
    /// Category, or `DPG-Bench score`.
    pub name: String,
    /// How it fared.
    pub outcome: Outcome,
    /// Of the baseline, in percent.
    pub baseline: f64,
    /// Of the run, in percent.
    pub run: f64,
    /// `baseline - run`, in points; negative where the run is better.
    pub drop: f64,
    /// Smallest and largest drop that the run allows for, each missed with the probability `alpha`.
    pub least_drop: Option<f64>,
    /// See `least_drop`.
    pub most_drop: Option<f64>,
    /// Probability of so large a drop where neither run is better (swap test, one-sided).
    pub p: Option<f64>,
    /// Yes and counted questions (one per image) of the run; items for the benchmark score.
    pub n: f64,
    /// Items that take part.
    pub items: usize,
    /// For an undecided figure: items with which a drop of `max_drop` is told from none with a
    /// probability of 80 %.
    pub items_needed: Option<u64>,
}

/// The whole check.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// The worst of the figures' outcomes: failed, then undecided.
    pub outcome: Outcome,
    /// Label of the run.
    pub run: String,
    /// Label of the baseline.
    pub baseline: String,
    /// The rules.
    pub protocol: Protocol,
    /// Largest tolerated drop, in points.
    pub max_drop: f64,
    /// Level of the test.
    pub alpha: f64,
    /// Items with a score in both.
    pub items: usize,
    /// What makes the runs differ beside what is checked.
    pub warnings: Vec<String>,
    /// The benchmark score, then the categories as asked for.
    pub figures: Vec<CheckedFigure>,
}

/// Why a check cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The runs cannot be compared.
    #[error(transparent)]
    Compare(#[from] CompareError),
    /// There is no such category.
    #[error("there is no category `{name}` in both runs; there are {there}")]
    UnknownCategory {
        /// As it was asked for.
        name: String,
        /// Those that there are.
        there: String,
    },
}

/// Checks `run` against `baseline`.
///
/// A figure fails where its drop is larger than tolerated and the test calls it no noise. It passes
/// where even the largest drop that the data allow for is tolerated. Everything between is undecided.
///
/// # Errors
/// The runs cannot be compared, or a category is not there.
pub fn check(
    baseline: &Labelled,
    run: &Labelled,
    gate: &Gate,
    options: &Options,
) -> Result<Check, CheckError> {
    let shared = share(baseline, run, &options.allowed)?;
    let protocol = run.run.protocol;
    // An interval of 1 - 2 alpha leaves alpha on either side.
    let mut options = options.clone();
    options.bootstrap.level = 1.0 - 2.0 * gate.alpha;
    let found = differences(&shared, protocol, &options);
    for name in &gate.categories {
        if !found.iter().any(|row| row.level != Level::Overall && row.name == *name) {
            let there = found.iter().filter(|row| row.level != Level::Overall);
            return Err(CheckError::UnknownCategory {
                name: name.clone(),
                there: there.map(|row| format!("`{}`", row.name)).collect::<Vec<_>>().join(", "),
            });
        }
    }
    let wanted = |level: Level, name: &str| {
        level == Level::Overall || gate.categories.iter().any(|category| category == name)
    };
    let figures: Vec<CheckedFigure> = found
        .iter()
        .filter(|row| wanted(row.level, &row.name))
        .map(|row| {
            // Not a minus sign alone: that makes -0.00 of no change.
            let drop = 0.0 - row.difference;
            // By symmetry of the test, half of the two-sided probability lies on each side.
            let p = row.p.map(|p| if drop > 0.0 { p / 2.0 } else { 1.0 - p / 2.0 });
            let most_drop = row.low.map(|low| 0.0 - low);
            let outcome = if drop > gate.max_drop && p.is_some_and(|p| p < gate.alpha) {
                Outcome::Failed
            } else if most_drop.is_some_and(|most| most <= gate.max_drop) {
                Outcome::Passed
            } else {
                Outcome::Undecided
            };
            let needed = || items_needed(&shared, protocol, row.level, &row.name, gate);
            CheckedFigure {
                name: row.name.clone(),
                outcome,
                baseline: row.base.percent,
                run: row.other.percent,
                drop,
                least_drop: row.high.map(|high| 0.0 - high),
                most_drop,
                p,
                n: row.other.n,
                items: row.other.items,
                items_needed: (outcome == Outcome::Undecided).then(needed).flatten(),
            }
        })
        .collect();
    let any = |outcome| figures.iter().any(|figure| figure.outcome == outcome);
    Ok(Check {
        outcome: [Outcome::Failed, Outcome::Undecided]
            .into_iter()
            .find(|&outcome| any(outcome))
            .unwrap_or(Outcome::Passed),
        run: run.label.clone(),
        baseline: baseline.label.clone(),
        protocol,
        max_drop: gate.max_drop,
        alpha: gate.alpha,
        items: shared.ids.len(),
        warnings: shared.warnings,
        figures,
    })
}

/// Items that tell a drop of the tolerated size from none. Of a category, the difference of two ratios
/// spreads over its items as its standard error says.
fn items_needed(
    shared: &Shared,
    protocol: Protocol,
    level: Level,
    name: &str,
    gate: &Gate,
) -> Option<u64> {
    let demand = Demand { alpha: gate.alpha, power: 0.8, two_sided: false };
    let difference = gate.max_drop / 100.0;
    if level == Level::Overall {
        return demand.items_for(deviation(shared)?, difference);
    }
    let (.., base, other) =
        compared(shared, protocol).into_iter().find(|row| row.0 == level && row.1 == name)?;
    demand.items_for(linearised_deviation(base, other)?, difference)
}

/// Standard deviation of the items' shares in the difference of two ratios: each item's residuals,
/// over the mean denominators.
fn linearised_deviation(base: &ItemRatio, other: &ItemRatio) -> Option<f64> {
    let residuals = |ratio: &ItemRatio| -> Option<Vec<f64>> {
        let value = ratio.value()?;
        let mean = ratio.denominators.iter().sum::<f64>() / ratio.items() as f64;
        let pairs = ratio.numerators.iter().zip(&ratio.denominators);
        Some(pairs.map(|(yes, counted)| (yes - value * counted) / mean).collect())
    };
    let (base, other) = (residuals(base)?, residuals(other)?);
    let differences = ItemRatio::mean_of(base.iter().zip(&other).map(|(a, b)| Some(b - a)));
    Some(differences.standard_error()? * (differences.clusters() as f64).sqrt())
}
