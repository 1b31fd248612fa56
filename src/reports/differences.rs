//! In: two runs. Out: how much the second scores above the first, figure by figure, over the items that
//! both have scored, with intervals and p-values.

use crate::aggregate::Shares;
use crate::aggregate::readable::unparsable_gap;
use crate::compare::{self, Paired, paired_differences};
use crate::statistics::{PermutationTest, numpy_mean};

use super::figure_table::{Level, telling_rows};
use super::report_input::{ReportInput, ReportRun};

/// How often an interval is to hold the true difference.
const LEVEL: f64 = 0.95;

/// All numbers of a run minus those of the first.
#[derive(Debug, Clone, PartialEq)]
pub struct Differences {
    /// Place of the run in the report.
    pub run: usize,
    /// Items that both have scored.
    pub items: usize,
    /// Overall, unless either score is withheld, then each L1 category with its L2 below it.
    pub rows: Vec<Difference>,
}

impl Differences {
    /// The rows that say something new, for tables and charts.
    pub(crate) fn telling(&self) -> Vec<&Difference> {
        let same = |a: &Difference, b: &Difference| (a.base, a.other) == (b.base, b.other);
        let places = telling_rows(&self.rows, |row| row.level, same);
        places.into_iter().map(|place| &self.rows[place]).collect()
    }
}

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// What it is about.
    pub level: Level,
    /// Category name, or `DPG-Bench score`.
    pub name: String,
    /// The first run's figure over the shared items, in percent.
    pub base: f64,
    /// The other's.
    pub other: f64,
    /// Ends of the interval of the difference, in points; `None` below two items.
    pub interval: Option<(f64, f64)>,
    /// How likely so large a difference is where neither is better.
    pub p: Option<f64>,
    /// The same for a category, with Holm's correction for the number of categories of its level.
    pub corrected_p: Option<f64>,
}

impl From<compare::Difference> for Difference {
    fn from(found: compare::Difference) -> Self {
        Self {
            level: found.level,
            name: found.name,
            base: found.base.percent,
            other: found.other.percent,
            interval: found.low.zip(found.high),
            p: found.p,
            // The score is one question of its own; the categories are many.
            corrected_p: found.p_holm.filter(|_| found.level != Level::Overall),
        }
    }
}

impl Difference {
    /// In points; positive where the other run is better.
    pub fn points(&self) -> f64 {
        self.other - self.base
    }

    /// Its interval, unless that is all that a difference can be.
    pub(crate) fn telling_interval(&self) -> Option<(f64, f64)> {
        self.interval.filter(|(low, high)| *low > -100.0 || *high < 100.0)
    }

    /// Whether it is significant at a level of 5 %, the number of categories considered.
    pub(crate) fn is_significant(&self) -> bool {
        self.corrected_p.or(self.p).is_some_and(|p| p < 0.05)
    }
}

/// Compares every run with the first.
pub fn differences(input: &ReportInput<'_>) -> Vec<Differences> {
    let Some(base) = input.runs.first() else { return Vec::new() };
    let others = input.runs.iter().enumerate().skip(1);
    others.filter_map(|(place, other)| between(input, base, other, place)).collect()
}

fn between(
    input: &ReportInput<'_>,
    base: &ReportRun<'_>,
    other: &ReportRun<'_>,
    run: usize,
) -> Option<Differences> {
    // A withheld score does not come back by this door.
    let with_score = [base, other].iter().all(|run| input.figures(run).overall.is_some());
    let (base, other) = (base.judge()?, other.judge()?);
    // Nor do numbers of answers of which too many cannot be read.
    if [base, other].iter().any(|judged| unparsable_gap(&judged.score).is_some()) {
        return None;
    }
    let mut places = [Vec::new(), Vec::new()];
    for item in &input.items {
        let both = [base.place(&item.id), other.place(&item.id)];
        let [Some(a), Some(b)] = both else { continue };
        let has_score = |place: usize, judged: &super::report_input::JudgedRun<'_>| {
            judged.score.items[place].outcome.score.is_ok()
        };
        if has_score(a, base) && has_score(b, other) {
            places[0].push(a);
            places[1].push(b);
        }
    }
    let items = places[0].len();
    // A score is added up in its own run's order, as everywhere.
    let means = [(base, &places[0]), (other, &places[1])].map(|(judged, places)| {
        let mut places = places.clone();
        places.sort_unstable();
        let scores = places.iter().map(|&place| judged.score.items[place].outcome.score.as_ref());
        numpy_mean(&scores.filter_map(|score| score.ok().copied()).collect::<Vec<_>>())
    });
    let means = means[0].zip(means[1]).map(<[f64; 2]>::from);
    let base = Shares::of(&base.score).of_items(&places[0]);
    let other = Shares::of(&other.score).of_items(&places[1]);
    let rows = rows(input, &base, &other, means.filter(|_| with_score));
    Some(Differences { run, items, rows })
}

fn rows(
    input: &ReportInput<'_>,
    base: &Shares,
    other: &Shares,
    means: Option<[f64; 2]>,
) -> Vec<Difference> {
    let stage = input.stage();
    let mut figures: Vec<Paired<'_>> = Vec::new();
    for (level, a, b) in [(Level::L1, &base.l1, &other.l1), (Level::L2, &base.l2, &other.l2)] {
        for own in a {
            if let Some(theirs) = b.iter().find(|theirs| theirs.name == own.name) {
                let (own_share, theirs) = (own.stage(stage), theirs.stage(stage));
                figures.push(Paired::category(level, &own.name, own_share, theirs));
            }
        }
    }
    if means.is_some() {
        figures.push(Paired::score(base, other, stage, means));
    }
    let found = paired_differences(&figures, PermutationTest::default(), LEVEL);
    found.into_iter().map(Difference::from).collect()
}
