//! In: a run, a baseline and how large a drop is tolerated. Out: for each figure passed, failed, or
//! undecided, and why. Both verdicts are tests against the tolerated drop, not against none: a figure
//! fails where a drop of that size would hardly show so much, and passes where it would hardly show so
//! little (non-inferiority). Printing and exit codes are left to the command line.

use serde::Serialize;

use crate::aggregate::Protocol;
use crate::compare::differences::swaps;
use crate::compare::{CompareError, Labelled, Level, Options, Paired, compared, share};
use crate::near_names::{category_named, did_you_mean_category};
use crate::statistics::{PermutationResult, PowerAnalysis, holm};

/// Fewer items than this pass nothing: a harm that strikes every seventh item is missed by nineteen one time
/// in twenty.
const MIN_ITEMS: usize = 20;

/// More items than this are no advice.
const TOO_MANY_ITEMS: u64 = 1_000_000;

/// What is tolerated.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// Largest tolerated drop, in points.
    pub max_drop: f64,
    /// Probability of failing a run of which no figure has truly dropped by more than is tolerated; and of
    /// passing a figure that has.
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

/// Why a figure is undecided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Undecided {
    /// It would pass, or could not fail whatever it was, for it has fewer than `MIN_ITEMS` items.
    FewItems,
    /// Alone it would fail, but not among so many figures (Holm).
    ManyFigures,
    /// More items are likely to settle it.
    MoreItems,
    /// It has dropped by about as much as is tolerated: more items will hardly settle it.
    AtTheMargin,
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
    /// Probability of so large a drop where the true one is the tolerated one (swap test, one-sided).
    pub p: Option<f64>,
    /// The same by Holm's correction among all checked figures: the figure fails where it is below `alpha`.
    pub p_holm: Option<f64>,
    /// The smallest that `p` can come to with so many items.
    pub least_p: Option<f64>,
    /// Yes and counted questions (one per image) of the run; items for the benchmark score.
    pub n: f64,
    /// Items that take part.
    pub items: usize,
    /// Why it is undecided, if it is.
    pub undecided: Option<Undecided>,
    /// For an undecided figure: items that settle it with a probability of 80 % if its drop is truly what it
    /// is in the run; absent at the margin.
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
    #[error(
        "there is no category `{name}`{} in both runs; there are {}",
        did_you_mean_category(name, there),
        there.iter().map(|there| format!("`{there}`")).collect::<Vec<_>>().join(", ")
    )]
    UnknownCategory {
        /// As it was asked for.
        name: String,
        /// Those that there are.
        there: Vec<String>,
    },
}

/// Checks `run` against `baseline`.
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
    let rows: Vec<Paired<'_>> =
        compared(&shared, protocol).into_iter().filter(|row| row.figures().is_some()).collect();
    let categories = || rows.iter().filter(|row| row.level != Level::Overall);
    let mut chosen = Vec::new();
    for name in &gate.categories {
        let meant = category_named(name, categories().map(|row| row.name));
        chosen.push(meant.ok_or_else(|| CheckError::UnknownCategory {
            name: name.clone(),
            there: categories().map(|row| row.name.to_owned()).collect(),
        })?);
    }
    let rows: Vec<Paired<'_>> = rows
        .iter()
        .copied()
        .filter(|row| row.level == Level::Overall || chosen.contains(&row.name))
        .collect();
    let swaps = swaps(&rows, options.test);
    let tolerated = -gate.max_drop / 100.0;
    let p: Vec<Option<f64>> =
        swaps.iter().map(|swaps| Some(swaps.as_ref()?.p_below(tolerated))).collect();
    let figures: Vec<CheckedFigure> = rows
        .iter()
        .zip(swaps.iter().zip(p.iter().zip(holm(&p))))
        .filter_map(|(row, (swaps, (p, p_holm)))| {
            let found = Found { row, swaps: swaps.as_ref()?, p: (*p)?, p_holm: p_holm? };
            found.checked(gate, rows.len())
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

/// What the test says of a figure.
struct Found<'a> {
    row: &'a Paired<'a>,
    swaps: &'a PermutationResult,
    p: f64,
    p_holm: f64,
}

impl Found<'_> {
    fn checked(&self, gate: &Gate, figures: usize) -> Option<CheckedFigure> {
        let Self { row, swaps, p, p_holm } = *self;
        let [base, other] = row.figures()?;
        let tolerated = -gate.max_drop / 100.0;
        let items = row.base.clusters().min(row.other.clusters());
        // Not a minus sign alone: that makes -0.00 of no change.
        let drop = 0.0 - (other.percent - base.percent);
        let bounds = swaps.interval(1.0 - 2.0 * gate.alpha, tolerated);
        let surely_above = swaps.surely_above(gate.alpha);
        // The same in every item is no matter of chance, even where nothing is tolerated.
        let is_unchanged = row.base == row.other;
        let would_pass = is_unchanged || surely_above >= tolerated;
        let cannot_fail = swaps.least_p() >= gate.alpha / figures as f64;
        let (outcome, undecided) = if p_holm < gate.alpha && drop > gate.max_drop {
            (Outcome::Failed, None)
        } else if would_pass && items >= MIN_ITEMS {
            (Outcome::Passed, None)
        } else if would_pass || (items < MIN_ITEMS && cannot_fail) {
            (Outcome::Undecided, Some(Undecided::FewItems))
        } else if p < gate.alpha {
            (Outcome::Undecided, Some(Undecided::ManyFigures))
        } else {
            (Outcome::Undecided, Some(Undecided::MoreItems))
        };
        let needed = || {
            let fewest = MIN_ITEMS.max(items + 1) as u64;
            let needed = match undecided {
                Some(Undecided::FewItems) if would_pass => fewest,
                _ => items_needed(row, gate, drop, figures)?.max(fewest),
            };
            (needed <= TOO_MANY_ITEMS).then_some(needed)
        };
        let items_needed = undecided.and_then(|_| needed());
        let at_the_margin = undecided == Some(Undecided::MoreItems) && items_needed.is_none();
        Some(CheckedFigure {
            name: row.name.to_owned(),
            outcome,
            baseline: base.percent,
            run: other.percent,
            drop,
            least_drop: Some(0.0 - 100.0 * bounds.high),
            most_drop: Some(0.0 - 100.0 * bounds.low.min(surely_above)),
            p: Some(p),
            p_holm: Some(p_holm),
            least_p: Some(swaps.least_p()),
            n: other.n,
            items,
            undecided: if at_the_margin { Some(Undecided::AtTheMargin) } else { undecided },
            items_needed,
        })
    }
}

/// Items that tell a drop of the size seen from the tolerated one.
fn items_needed(row: &Paired<'_>, gate: &Gate, drop: f64, figures: usize) -> Option<u64> {
    // To fail it must stand out among all figures; passing is asked of each alone.
    let figures = if drop > gate.max_drop { figures as f64 } else { 1.0 };
    let demand = PowerAnalysis { alpha: gate.alpha / figures, power: 0.8, two_sided: false };
    demand.items_for(row.deviation()?, (gate.max_drop - drop) / 100.0)
}
