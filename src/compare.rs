//! In: two scored runs. Out: their differences, item by item over the items that both have, with
//! intervals and p-values. Loading the runs is left to the command line, paper to `reports`.

mod alike;
pub mod differences;
mod soft;

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;

use self::alike::check_alike;
pub use self::alike::{Allowed, CompareError, Labelled};
pub(crate) use self::alike::{Facts, differing_facts, tolerated};
pub use self::differences::{Difference, Figure, Paired, paired_differences};
pub use self::soft::{ItemsNeeded, SoftComparison};
pub use crate::aggregate::Level;
use crate::aggregate::baseline::Baseline;
use crate::aggregate::category_order::table_order;
use crate::aggregate::run_settings::{SettingDifference, differing, run_settings};
use crate::aggregate::shares::Shares;
use crate::aggregate::{Protocol, Stage};
use crate::benchmark::category::l1_of;
use crate::results::Settings;
use crate::statistics::{PermutationTest, PowerAnalysis, numpy_mean};

/// Two runs compared. Differences are `other - base`, in points.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The run that stands for zero.
    pub base: Side,
    /// The run compared with it.
    pub other: Side,
    /// The rules of both.
    pub protocol: Protocol,
    /// Items with a score in both.
    pub items: usize,
    /// Items with a score in the base alone.
    pub only_base: usize,
    /// Items with a score in the other alone.
    pub only_other: usize,
    /// What makes the runs differ beside what is compared; nothing in a clean comparison.
    pub warnings: Vec<String>,
    /// The settings in which they differ, by name: of benchmark, selection, generation and judge.
    pub differing_settings: Vec<SettingDifference>,
    /// How often an interval is to hold the true difference.
    pub level: f64,
    /// Random rounds of the test that p-values and intervals come of; with few items every pattern is tried.
    pub draws: usize,
    /// The benchmark score, the L1 and the L2 categories (after the dependency rule under
    /// `corrected`), in table order.
    pub figures: Vec<Difference>,
    /// The smallest true difference in the benchmark score that so many items find with a probability
    /// of 80 % at a level of 5 %, in points; `None` below [`FEWEST_ITEMS`].
    pub detectable: Option<f64>,
    /// The items, largest loss first.
    pub items_by_difference: Vec<ItemDifference>,
    /// The same runs under the protocols of P(yes); empty where a judge states none, or another protocol was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub soft: Vec<SoftComparison>,
}

/// One of the runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Side {
    /// What the user calls it.
    pub label: String,
    /// The model, where known.
    pub model: Option<String>,
    /// The judge's name in the run.
    pub judge: String,
    /// Whether every selected question has an answer.
    pub complete: bool,
}

/// One item's scores, in percent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ItemDifference {
    /// Item id.
    pub item: String,
    /// Of the base.
    pub base: f64,
    /// Of the other.
    pub other: f64,
    /// `other - base`.
    pub difference: f64,
}

/// How two runs are compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// P-values and intervals.
    pub test: PermutationTest,
    /// How often an interval is to hold the true difference.
    pub level: f64,
    /// Tolerated differences.
    pub allowed: Vec<Allowed>,
}

impl Default for Options {
    /// 10,000 rounds, intervals at 95 %, no difference tolerated.
    fn default() -> Self {
        Self { test: PermutationTest { rounds: 10_000, seed: 0 }, level: 0.95, allowed: Vec::new() }
    }
}

/// What both runs have, item by item.
pub(crate) struct Shared {
    /// Ids, in the base's order.
    pub(crate) ids: Vec<String>,
    pub(crate) base: Shares,
    pub(crate) other: Shares,
    /// The benchmark scores of both in 0..=1, each added up in its own run's order.
    means: Option<[f64; 2]>,
    only_base: usize,
    only_other: usize,
    pub(crate) warnings: Vec<String>,
}

/// Compares `other` with `base`.
///
/// # Errors
/// The runs differ in benchmark, protocol, judge or number of images, which is not allowed, or they
/// have no item in common.
pub fn compare(
    base: &Labelled,
    other: &Labelled,
    options: &Options,
) -> Result<Comparison, CompareError> {
    let shared = share(base, other, &options.allowed)?;
    let protocol = base.run.protocol;
    let rows = compared(&shared, protocol);
    let deviation = rows[0].deviation();
    let figures = paired_differences(&rows, options.test, options.level);
    let scores = shared.base.overall.numerators.iter().zip(&shared.other.overall.numerators);
    let mut items_by_difference: Vec<ItemDifference> = shared
        .ids
        .iter()
        .zip(scores)
        .map(|(item, (base, other))| ItemDifference {
            item: item.clone(),
            base: 100.0 * base,
            other: 100.0 * other,
            difference: 100.0 * (other - base),
        })
        .collect();
    // Stable, so that ties keep the benchmark's order.
    items_by_difference.sort_by(|a, b| a.difference.total_cmp(&b.difference));
    let items = shared.ids.len();
    Ok(Comparison {
        base: side(base),
        other: side(other),
        protocol,
        items,
        only_base: shared.only_base,
        only_other: shared.only_other,
        warnings: shared.warnings,
        differing_settings: differing(&settings(base), &settings(other)),
        level: options.level,
        draws: options.test.rounds,
        figures,
        detectable: deviation.filter(|_| items >= FEWEST_ITEMS).map(|deviation| {
            100.0 * PowerAnalysis::default().smallest_difference(deviation, items as f64)
        }),
        items_by_difference,
        soft: Vec::new(),
    })
}

impl Comparison {
    /// Adds the comparison of the same runs under the protocols of P(yes). What these cannot compare becomes a warning.
    pub(crate) fn add_soft(
        &mut self,
        corrected: [&Labelled; 2],
        soft: [&[Labelled]; 2],
        options: &Options,
    ) {
        for (base, other) in soft[0].iter().zip(soft[1]) {
            let name = base.run.protocol.name();
            match soft_comparison(corrected, [base, other], options) {
                Ok((found, warnings)) => {
                    self.soft.push(found);
                    let warnings = warnings.into_iter().filter(|one| !self.warnings.contains(one));
                    let warnings: Vec<_> = warnings.map(|one| format!("{name}: {one}")).collect();
                    self.warnings.extend(warnings);
                }
                Err(error) => self.warnings.push(format!("{name}: {error}")),
            }
        }
    }
}

fn soft_comparison(
    corrected: [&Labelled; 2],
    soft: [&Labelled; 2],
    options: &Options,
) -> Result<(SoftComparison, Vec<String>), CompareError> {
    let found = compare(soft[0], soft[1], options)?;
    let (of_corrected, of_soft) = (needed(corrected, options)?, needed(soft, options)?);
    let items_needed = of_soft.into_iter().filter_map(|own| {
        let mut all = of_corrected.iter();
        let other = all.find(|other| (other.level, &other.name) == (own.level, &own.name))?;
        let is_same_direction = own.difference * other.difference > 0.0;
        is_same_direction.then_some(ItemsNeeded {
            level: own.level,
            name: own.name,
            corrected: other.items,
            soft: own.items,
        })
    });
    let soft = SoftComparison {
        protocol: soft[0].run.protocol,
        items: found.items,
        detectable: found.detectable,
        items_needed: items_needed.collect(),
        figures: found.figures,
    };
    Ok((soft, found.warnings))
}

/// A figure's difference and the items that find it.
struct Needed {
    level: Level,
    name: String,
    difference: f64,
    items: u64,
}

/// Those of all figures that differ; of none where the items are too few to tell how far they spread.
fn needed([base, other]: [&Labelled; 2], options: &Options) -> Result<Vec<Needed>, CompareError> {
    let shared = share(base, other, &options.allowed)?;
    let rows = compared(&shared, base.run.protocol);
    let found = rows.iter().filter_map(|row| {
        let [base, other] = row.figures()?;
        let difference = (other.percent - base.percent) / 100.0;
        let has_enough = base.items.min(other.items) >= FEWEST_ITEMS;
        let deviation = row.deviation().filter(|deviation| has_enough && *deviation > 0.0)?;
        let items = PowerAnalysis::default().items_for(deviation, difference)?;
        Some(Needed { level: row.level, name: row.name.to_owned(), difference, items })
    });
    Ok(found.collect())
}

fn settings(labelled: &Labelled) -> Settings {
    run_settings(&labelled.run.run, &labelled.run.judge)
}

fn side(labelled: &Labelled) -> Side {
    Side {
        label: labelled.label.clone(),
        model: labelled.run.run.model.clone(),
        judge: labelled.run.judge.name.clone(),
        complete: labelled.run.is_complete(),
    }
}

/// With fewer items no difference has a p-value below 5 %: the smallest is that of one of all 2^n patterns of signs and of its opposite.
pub(crate) const FEWEST_ITEMS: usize = 6;

/// The items with a score in both runs, and their shares.
pub(crate) fn share(
    base: &Labelled,
    other: &Labelled,
    allowed: &[Allowed],
) -> Result<Shared, CompareError> {
    let warnings = check_alike(base, other, allowed)?;
    let scored = |labelled: &Labelled| -> Vec<(String, usize)> {
        let items = labelled.run.items.iter().enumerate();
        items
            .filter(|(_, item)| item.score.is_some())
            .map(|(n, item)| (item.id.clone(), n))
            .collect()
    };
    let (of_base, of_other) = (scored(base), scored(other));
    let places: HashMap<&str, usize> =
        of_other.iter().map(|(id, place)| (id.as_str(), *place)).collect();
    let both: Vec<(&String, usize, usize)> = of_base
        .iter()
        .filter_map(|(id, place)| Some((id, *place, *places.get(id.as_str())?)))
        .collect();
    if both.is_empty() {
        return Err(CompareError::NothingShared {
            base: base.label.clone(),
            other: other.label.clone(),
        });
    }
    let mut l2: Vec<&str> = base
        .run
        .categories
        .iter()
        .chain(&other.run.categories)
        .map(String::as_str)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    l2.sort_by(|a, b| table_order(a, b));
    let mut l1: Vec<&str> = l2.iter().map(|name| l1_of(name)).collect();
    l1.dedup();
    let in_base: Vec<usize> = both.iter().map(|(_, place, _)| *place).collect();
    let in_other: Vec<usize> = both.iter().map(|(_, _, place)| *place).collect();
    let mean = |run: &Baseline, places: &[usize]| {
        let mut own_order = places.to_vec();
        own_order.sort_unstable();
        let scores = own_order.iter().filter_map(|&place| run.items[place].score);
        numpy_mean(&scores.collect::<Vec<_>>())
    };
    let means = mean(&base.run, &in_base).zip(mean(&other.run, &in_other));
    Ok(Shared {
        ids: both.iter().map(|(id, ..)| (*id).clone()).collect(),
        base: base.run.shares(&in_base, &l1, &l2),
        other: other.run.shares(&in_other, &l1, &l2),
        means: means.map(<[f64; 2]>::from),
        only_base: of_base.len() - both.len(),
        only_other: of_other.len() - both.len(),
        warnings,
    })
}

/// The figures that are compared, with the shares of both runs.
pub(crate) fn compared(shared: &Shared, protocol: Protocol) -> Vec<Paired<'_>> {
    let stage = Stage::of_categories(protocol);
    let (base, other) = (&shared.base, &shared.other);
    let mut rows = vec![Paired::score(base, other, stage, shared.means)];
    for (level, base, other) in [(Level::L1, &base.l1, &other.l1), (Level::L2, &base.l2, &other.l2)]
    {
        rows.extend(base.iter().zip(other).map(|(base, other)| {
            Paired::category(level, &base.name, base.stage(stage), other.stage(stage))
        }));
    }
    rows
}
