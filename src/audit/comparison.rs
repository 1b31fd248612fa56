//! In: two scored runs, each with the sample and the labels of its audit. Out: the differences of their corrected figures, over the
//! items that both have. Whether such runs may be compared at all is for whoever calls.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::correction::{
    Audited, CorrectedValue, CorrectionError, Difference, FEWEST_ITEMS, FEWEST_LABELS, LEVEL,
    RuleStage, SCORE, ScoredRun, correct_if_enough, labelled,
};
use super::figures::{Answered, Figure};
use super::labels::Labels;
use super::sample::AuditSample;
use crate::aggregate::Stage;
use crate::aggregate::category_order::table_order;
use crate::benchmark::Item;
use crate::score::RunScore;
use crate::statistics::holm;
use crate::statistics::prediction_powered::{CorrectedDifference, Unit, difference};

/// The corrected figures of two runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditComparison {
    /// Items that both have.
    pub items: usize,
    /// Items of the base alone.
    pub only_base: usize,
    /// Items of the other alone.
    pub only_other: usize,
    /// Figures that both have labels enough for: before the dependency rule, then after it, each with the benchmark score first.
    pub figures: Vec<CorrectedComparison>,
    /// The others.
    pub left_out: Vec<LeftOut>,
}

/// A figure of two audited runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CorrectedComparison {
    /// `before_rule` or `after_rule`.
    pub stage: RuleStage,
    /// `DPG-Bench score`, or a broad category.
    pub name: String,
    /// Of the base.
    pub base: CorrectedValue,
    /// Of the other.
    pub other: CorrectedValue,
    /// `other - base`.
    pub difference: Difference,
    /// Two-sided p-value of no difference.
    pub p: f64,
    /// The same by Holm's correction among the broad categories of its stage; of the score the same.
    pub p_holm: f64,
}

/// A figure that one of the runs has too few labels for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// `before_rule` or `after_rule`.
    pub stage: RuleStage,
    /// A broad category.
    pub name: String,
    /// Labels of the base.
    pub base: LabelCounts,
    /// Labels of the other.
    pub other: LabelCounts,
}

/// Labels that a figure rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LabelCounts {
    /// Labelled answers.
    pub labels: u64,
    /// Items that these are about.
    pub items: u64,
}

/// The corrected figures of two runs over the items that both have, the other less the base. Items are the same where their
/// identifiers are.
///
/// # Errors
/// A sample was drawn from other answers, the runs have no item in common, or too few answers about the shared items are labelled.
pub fn compare_corrected(
    base: (&ScoredRun<'_, '_>, &AuditSample, &Labels),
    other: (&ScoredRun<'_, '_>, &AuditSample, &Labels),
) -> Result<AuditComparison, CorrectionError> {
    let numbers = shared_numbers([base.0.run.items, other.0.run.items]);
    let shared = numbers
        .each_ref()
        .map(|numbers| numbers.iter().map(Option::is_some).collect::<Vec<bool>>());
    let items = shared[0].iter().filter(|is_shared| **is_shared).count();
    if items == 0 {
        return Err(CorrectionError::NothingShared);
    }
    let base_audit = Audited::of(base.0, base.1, base.2)?;
    let other_audit = Audited::of(other.0, other.1, other.2)?;
    let sides = [
        Side {
            answered: Answered { only: Some(&shared[0]), ..base_audit.answered() },
            score: base.0.corrected,
            numbers: &numbers[0],
        },
        Side {
            answered: Answered { only: Some(&shared[1]), ..other_audit.answered() },
            score: other.0.corrected,
            numbers: &numbers[1],
        },
    ];
    for side in &sides {
        let (labels, items) = labelled(&side.units(Figure::Score, Stage::Conditional).0);
        if labels < FEWEST_LABELS || items < FEWEST_ITEMS {
            return Err(CorrectionError::TooFew { labels, items });
        }
    }
    let mut categories: Vec<&str> =
        sides.iter().flat_map(|side| side.answered.categories()).collect();
    categories.sort_by(|a, b| table_order(a, b));
    categories.dedup();
    let mut found = AuditComparison {
        items,
        only_base: shared[0].len() - items,
        only_other: shared[1].len() - items,
        figures: Vec::new(),
        left_out: Vec::new(),
    };
    for stage in RuleStage::ALL {
        found.add(stage, &sides, &categories);
    }
    Ok(found)
}

impl AuditComparison {
    /// Adds the figures of a stage.
    fn add(&mut self, stage: RuleStage, sides: &[Side<'_, '_>; 2], categories: &[&str]) {
        let first = self.figures.len();
        let kinds =
            [Figure::Score].into_iter().chain(categories.iter().copied().map(Figure::Category));
        for kind in kinds {
            let name = match kind {
                Figure::Score => SCORE.to_owned(),
                Figure::Category(name) => name.to_owned(),
            };
            let units = sides.each_ref().map(|side| side.units(kind, stage.stage()));
            let [one, two] = units.each_ref().map(|(units, leans)| correct_if_enough(units, leans));
            let (Some(one), Some(two)) = (one, two) else {
                let [base, other] = units.map(|(units, _)| {
                    let (labels, items) = labelled(&units);
                    LabelCounts { labels, items }
                });
                self.left_out.push(LeftOut { stage, name, base, other });
                continue;
            };
            let CorrectedDifference { value, interval, p, .. } = difference(&one, &two, LEVEL);
            let [points, low, high] = [value, interval.low, interval.high].map(|x| 100.0 * x);
            self.figures.push(CorrectedComparison {
                stage,
                name,
                base: CorrectedValue::of(&one),
                other: CorrectedValue::of(&two),
                difference: Difference { points, low, high },
                p,
                p_holm: p,
            });
        }
        let categories = self.figures[first..].iter_mut().filter(|figure| figure.name != SCORE);
        let mut categories: Vec<&mut CorrectedComparison> = categories.collect();
        let p: Vec<Option<f64>> = categories.iter().map(|figure| Some(figure.p)).collect();
        for (figure, corrected) in categories.iter_mut().zip(holm(&p)) {
            figure.p_holm = corrected.unwrap_or(figure.p);
        }
    }
}

/// Per item of each run its number among those that both have, in the base's order; `None` of the others.
fn shared_numbers(items: [&[&Item]; 2]) -> [Vec<Option<usize>>; 2] {
    let ids = items.map(|items| items.iter().map(|item| item.id.as_str()).collect::<Vec<&str>>());
    let of_other: HashSet<&str> = ids[1].iter().copied().collect();
    let shared = ids[0].iter().copied().filter(|id| of_other.contains(id));
    let numbers: HashMap<&str, usize> =
        shared.enumerate().map(|(number, id)| (id, number)).collect();
    ids.map(|ids| ids.into_iter().map(|id| numbers.get(id).copied()).collect())
}

/// A run that is compared.
struct Side<'a, 'r> {
    /// Its shared items.
    answered: Answered<'a, 'r>,
    score: &'r RunScore<'a>,
    /// Per item of the run its number among the shared ones.
    numbers: &'r [Option<usize>],
}

impl Side<'_, '_> {
    /// The units of a figure over the shared items, and their leans. Which items these are is known of all units, so those of a stratum
    /// are a random sample of its units about them.
    fn units(&self, figure: Figure<'_>, stage: Stage) -> (Vec<Unit>, Vec<f64>) {
        let mut units = self.answered.units(self.score, figure, stage);
        for unit in &mut units {
            unit.cluster = self.numbers[unit.cluster].unwrap_or(unit.cluster);
        }
        let leans = self.answered.leans(&units, stage);
        (units, leans)
    }
}
