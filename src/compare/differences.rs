//! In: figures of two runs over the same items. Out: their differences, with intervals and p-values that
//! come of the same test. Which items the runs share is left to `compare`.

use serde::Serialize;

use crate::aggregate::category_order::table_order;
use crate::aggregate::shares::Shares;
use crate::aggregate::{Level, Stage};
use crate::statistics::{ItemRatio, Pair, PermutationResult, PermutationTest, holm};

/// What the benchmark score is called among the figures.
pub(crate) const SCORE: &str = "DPG-Bench score";

/// A figure of both runs. Differences are `other - base`, in points.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// What it is about.
    pub level: Level,
    /// Category, or `DPG-Bench score`.
    pub name: String,
    /// Of the base, in percent.
    pub base: Figure,
    /// Of the other, in percent.
    pub other: Figure,
    /// `other - base`, in points.
    pub difference: f64,
    /// Ends of its interval; absent below two items.
    pub low: Option<f64>,
    /// See `low`.
    pub high: Option<f64>,
    /// Two-sided p-value of the swap test.
    pub p: Option<f64>,
    /// The same by Holm's correction among the figures of its level.
    pub p_holm: Option<f64>,
}

/// One run's figure over the shared items.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figure {
    /// In percent.
    pub percent: f64,
    /// Numerator: yes, or for the benchmark score the sum of the item scores.
    pub k: f64,
    /// Denominator: counted questions (one per image), or items.
    pub n: f64,
    /// Items that take part.
    pub items: usize,
}

/// A figure of both runs as its items' shares.
#[derive(Debug, Clone, Copy)]
pub struct Paired<'a> {
    /// What it is about.
    pub level: Level,
    /// Category, or `SCORE`.
    pub name: &'a str,
    /// Of the base.
    pub base: &'a ItemRatio,
    /// Of the other, over the same items in the same order.
    pub other: &'a ItemRatio,
    /// How far one answer moves the figure of an item.
    pub step: f64,
    /// The figures in 0..=1 where the shares do not give them to the last bit: scores that were added up in
    /// another order.
    pub means: Option<[f64; 2]>,
}

impl<'a> Paired<'a> {
    /// A category.
    pub fn category(
        level: Level,
        name: &'a str,
        base: &'a ItemRatio,
        other: &'a ItemRatio,
    ) -> Self {
        let answers = [base, other].into_iter().flat_map(|ratio| &ratio.denominators);
        let step = 1.0 / answers.copied().fold(1.0, f64::max);
        Self { level, name, base, other, step, means: None }
    }

    /// The benchmark score of both, with the means of the item scores as each run's own order rounds them.
    /// `stage` is the one whose category figures are compared.
    pub fn score(
        base: &'a Shares,
        other: &'a Shares,
        stage: Stage,
        means: Option<[f64; 2]>,
    ) -> Self {
        let mut answers = vec![0.0; base.overall.items()];
        for category in base.l1.iter().chain(&other.l1) {
            for (sum, own) in answers.iter_mut().zip(&category.stage(stage).denominators) {
                *sum += own;
            }
        }
        // Both runs' questions were added up.
        let step = 2.0 / answers.into_iter().fold(2.0, f64::max);
        let (base, other) = (&base.overall, &other.overall);
        Self { level: Level::Overall, name: SCORE, base, other, step, means }
    }

    fn pair(&self) -> Pair<'a> {
        Pair { a: self.other, b: self.base, step: self.step }
    }

    /// Standard deviation of the items' differences, in 0..=1. Of a category, the difference of two ratios spreads over its
    /// items as its standard error says. `None` below two items.
    pub(crate) fn deviation(&self) -> Option<f64> {
        match self.level {
            Level::Overall => {
                let pairs = self.base.numerators.iter().zip(&self.other.numerators);
                deviation_of(pairs.map(|(base, other)| other - base))
            }
            _ => {
                let (base, other) = (residuals(self.base)?, residuals(self.other)?);
                deviation_of(base.iter().zip(&other).map(|(base, other)| other - base))
            }
        }
    }

    /// The figure of the base and of the other; `None` where either counts nothing.
    pub(crate) fn figures(&self) -> Option<[Figure; 2]> {
        let figure = |ratio: &ItemRatio, mean: Option<f64>| {
            Some(Figure {
                percent: 100.0 * mean.or_else(|| ratio.value())?,
                k: ratio.numerators.iter().sum(),
                n: ratio.denominators.iter().sum(),
                items: ratio.clusters(),
            })
        };
        let mean = |side: usize| self.means.map(|means| means[side]);
        Some([figure(self.base, mean(0))?, figure(self.other, mean(1))?])
    }
}

/// Each item's residual of a ratio, over the mean denominator.
fn residuals(ratio: &ItemRatio) -> Option<Vec<f64>> {
    let value = ratio.value()?;
    let mean = ratio.denominators.iter().sum::<f64>() / ratio.items() as f64;
    let pairs = ratio.numerators.iter().zip(&ratio.denominators);
    Some(pairs.map(|(yes, counted)| (yes - value * counted) / mean).collect())
}

fn deviation_of(differences: impl Iterator<Item = f64>) -> Option<f64> {
    let ratio = ItemRatio::mean_of(differences.map(Some));
    Some(ratio.standard_error()? * (ratio.clusters() as f64).sqrt())
}

/// The differences of the figures over random sets of items, all over the same sets.
pub(crate) fn swaps(rows: &[Paired<'_>], test: PermutationTest) -> Vec<Option<PermutationResult>> {
    test.swaps(&rows.iter().map(Paired::pair).collect::<Vec<_>>())
}

/// The differences of the figures, with intervals at `level`: the benchmark score first, then each L1 category
/// with its L2 below it. A figure that either side counts nothing for is left out.
pub fn paired_differences(
    rows: &[Paired<'_>],
    test: PermutationTest,
    level: f64,
) -> Vec<Difference> {
    let swaps = swaps(rows, test);
    let mut corrected = vec![None; rows.len()];
    for level in [Level::Overall, Level::L1, Level::L2] {
        let of_level: Vec<usize> =
            (0..rows.len()).filter(|&row| rows[row].level == level).collect();
        let p: Vec<Option<f64>> =
            of_level.iter().map(|&row| swaps[row].as_ref().map(PermutationResult::p)).collect();
        for (row, p) in of_level.into_iter().zip(holm(&p)) {
            corrected[row] = p;
        }
    }
    let mut figures: Vec<Difference> = rows
        .iter()
        .zip(swaps)
        .zip(corrected)
        .filter_map(|((row, swaps), p_holm)| {
            let [base, other] = row.figures()?;
            let swaps = swaps?;
            let enough = row.base.clusters() >= 2 && row.other.clusters() >= 2;
            let interval = enough.then(|| swaps.interval(level, 0.0));
            Some(Difference {
                level: row.level,
                name: row.name.to_owned(),
                difference: other.percent - base.percent,
                base,
                other,
                low: interval.map(|interval| 100.0 * interval.low),
                high: interval.map(|interval| 100.0 * interval.high),
                p: Some(swaps.p()),
                p_holm,
            })
        })
        .collect();
    // Each L1 with its L2 below it.
    figures.sort_by(|a, b| {
        in_table(a.level).cmp(&in_table(b.level)).then(table_order(&a.name, &b.name))
    });
    figures
}

fn in_table(level: Level) -> bool {
    level != Level::Overall
}
