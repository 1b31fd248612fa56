//! In: answers of a judge to all questions of a survey, and those of people to a random part of them. Out: the share of yes that
//! people would give to all, by prediction-powered inference (Angelopoulos et al., Science 382, 2023), with an interval.
//!
//! The estimate solves the weighted least squares of PPI++ (Angelopoulos, Duchi and Zrnic, arXiv 2311.01453) for a ratio: with
//! `F`, `N` the judge's yes and the sizes of all units, `y`, `f`, `n` those of the labelled ones and `w` how many units each stands
//! for, it is `(l F + sum w (y - l f)) / (l N + (1 - l) sum w n)`. `l` is the weight of the judge: 0 takes the labels alone, 1 is
//! the first form of the method.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::interval::Interval;
use super::share_interval::{clopper_pearson, effective_size};

/// A question about an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unit {
    /// Its cluster, from 0: units of one resemble each other.
    pub cluster: usize,
    /// Its stratum, from 0, of which the labelled units are a simple random sample (or one of whole groups of units).
    pub stratum: usize,
    /// What it adds to the figure's denominator; 0 where the figure says nothing of it.
    pub size: f64,
    /// What the judge's answer adds to the numerator, in `0..=size`.
    pub judged: f64,
    /// What people's adds, in `0..=size`; `None` where nobody labelled it.
    pub labelled: Option<f64>,
}

/// How far the judge is trusted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Weight {
    /// So far, in 0..=1.
    Fixed(f64),
    /// As far as makes the variance smallest, over units as if they were independent: `cov(y, f) / var(f)` of the strata in 0..=1,
    /// which is the estimate of PPI++.
    Tuned,
}

/// A figure made right by labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Corrected {
    /// The share, in 0..=1.
    pub value: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// Degrees of freedom of that.
    pub freedom: f64,
    /// Weight of the judge, in 0..=1.
    pub weight: f64,
    /// Labelled units of which the figure says something.
    pub labelled: usize,
    /// Clusters that these are in.
    pub clusters: usize,
    /// What each cluster adds to the error: their squares add up to the variance, but for what `standard_error` has at least.
    pub influence: Vec<f64>,
    /// The part of the variance that more labels make smaller, in proportion to one over their number.
    pub of_labels: f64,
    /// How many independent answers the labelled clusters are worth at least (Kish).
    worth: f64,
}

/// Why there is no such figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooFewClusters {
    /// Clusters with labels of which the figure says something.
    pub clusters: usize,
}

/// The figure that people's labels of some units and the judge's answers to all give together.
///
/// A stratum with labels in fewer than two clusters is joined with the one before it, the first with the one behind it. Where
/// labels are missing by chance, those of the same stratum stand for them.
///
/// # Errors
/// Fewer than two clusters have labels.
pub fn correct(units: &[Unit], weight: Weight) -> Result<Corrected, TooFewClusters> {
    correct_leaning(units, &[], weight)
}

/// As [`correct`] where some labels are means of others: `leans` says of each unit (of none: nothing) how far its label moves the
/// numerator by way of these. They add up to 0, and are part of the error alone: the variance of an estimate with filled-in means by
/// linearisation (Shao and Steel, JASA 94, 1999; Kim and Rao, Biometrika 96, 2009).
///
/// # Errors
/// As there.
pub fn correct_leaning(
    units: &[Unit],
    leans: &[f64],
    weight: Weight,
) -> Result<Corrected, TooFewClusters> {
    let labelled_clusters = distinct(units.iter().filter(|unit| unit.counts()).map(|u| u.cluster));
    if labelled_clusters < 2 {
        return Err(TooFewClusters { clusters: labelled_clusters });
    }
    let strata = joined_strata(units);
    let survey = Survey { leans, ..Survey::of(units, &strata) };
    let first = survey.ratio(1.0);
    let weight = match weight {
        Weight::Fixed(weight) => weight,
        Weight::Tuned => survey.tuned(first),
    };
    let value = survey.ratio(weight);
    let clusters = units.iter().map(|unit| unit.cluster + 1).max().unwrap_or(0);
    let influence = survey.influence(value, weight, clusters);
    let labelled = units.iter().filter(|unit| unit.counts()).count();
    let of_labels = survey.label_variance(value, weight, clusters);
    // As few as show no error of the judge do not show that it makes none: half an answer more that is wrong.
    let least = 0.25 / (labelled * labelled) as f64;
    let squares: f64 = influence.iter().map(|z| z * z).sum();
    let variance = (squares - of_labels).max(0.0) + of_labels.max(least);
    Ok(Corrected {
        value,
        standard_error: variance.sqrt(),
        freedom: freedom(&influence, labelled_clusters),
        weight,
        labelled,
        clusters: labelled_clusters,
        of_labels: of_labels.max(least),
        worth: survey.worth(clusters),
        influence,
    })
}

impl Unit {
    /// Whether it is labelled and the figure says something of it.
    fn counts(&self) -> bool {
        self.labelled.is_some() && self.size > 0.0
    }
}

impl Corrected {
    /// Its interval at `level` such as 0.95: Clopper and Pearson's for as many independent answers as the share is worth, with the
    /// degrees of freedom of its variance; at least as many as the labelled clusters are worth.
    pub fn interval(&self, level: f64) -> Interval {
        let value = self.value.clamp(0.0, 1.0);
        let variance = self.standard_error * self.standard_error;
        let size = effective_size(value, variance, [f64::INFINITY, self.freedom.max(1.0)], level);
        clopper_pearson(value, size.max(self.worth), level)
    }

    /// How many labels in all, drawn in the same way, would make its interval at `level` end `half` (in 0..=1) to either side, by
    /// the normal distribution; `None` where no number would, since the items themselves differ too much.
    pub fn labels_for(&self, half: f64, level: f64) -> Option<f64> {
        let wanted = (half / super::power::upper_quantile((1.0 - level) / 2.0)).powi(2);
        let rest = (self.standard_error.powi(2) - self.of_labels).max(0.0);
        (wanted > rest).then(|| self.labelled as f64 * self.of_labels / (wanted - rest))
    }
}

/// Per unit how many of its stratum it stands for; 0 where it is not labelled. Thin strata are joined as in [`correct`].
pub fn stands_for(units: &[Unit]) -> Vec<f64> {
    let survey = Survey::of(units, &joined_strata(units));
    survey.weighted().map(|(_, _, stands_for)| stands_for).collect()
}

/// A difference of two corrected figures over the same clusters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CorrectedDifference {
    /// `other - base`.
    pub value: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// Ends of its interval.
    pub interval: Interval,
    /// Two-sided p-value of a difference of none, by Student's distribution.
    pub p: f64,
}

/// The difference of two figures whose units are in the same clusters, with an interval at `level`.
pub fn difference(base: &Corrected, other: &Corrected, level: f64) -> CorrectedDifference {
    let count = base.influence.len().max(other.influence.len());
    let of = |figure: &Corrected, place: usize| figure.influence.get(place).copied().unwrap_or(0.0);
    let both: Vec<f64> = (0..count).map(|place| of(other, place) - of(base, place)).collect();
    let missed = |figure: &Corrected| {
        let squares: f64 = figure.influence.iter().map(|z| z * z).sum();
        let variance = figure.standard_error.powi(2);
        // Less is rounding, which would print an interval of no length as one.
        Some(variance - squares).filter(|more| *more > 1e-12 * variance).unwrap_or(0.0)
    };
    let squares: f64 = both.iter().map(|z| z * z).sum();
    let standard_error = (squares + missed(base) + missed(other)).sqrt();
    let freedom = freedom(&both, base.clusters.min(other.clusters)).max(1.0);
    let value = other.value - base.value;
    let half = super::share_interval::t_quantile((1.0 - level) / 2.0, freedom) * standard_error;
    let p = match StudentsT::new(0.0, 1.0, freedom) {
        _ if value == 0.0 => 1.0,
        Ok(student) if standard_error > 0.0 => 2.0 * student.sf((value / standard_error).abs()),
        _ => 0.0,
    };
    let interval = Interval { low: value - half, high: value + half };
    CorrectedDifference { value, standard_error, interval, p }
}

/// Units with the numbers of their strata.
struct Survey<'a> {
    units: &'a [Unit],
    stratum: Vec<usize>,
    /// Per stratum: units, labelled ones.
    sizes: Vec<[f64; 2]>,
    /// Per unit its part in labels that were filled in; may be none.
    leans: &'a [f64],
}

impl<'a> Survey<'a> {
    fn of(units: &'a [Unit], joined: &[usize]) -> Self {
        let stratum: Vec<usize> = units.iter().map(|unit| joined[unit.stratum]).collect();
        let mut sizes = vec![[0.0; 2]; joined.iter().max().map_or(0, |last| last + 1)];
        for (unit, &stratum) in units.iter().zip(&stratum) {
            sizes[stratum][0] += 1.0;
            sizes[stratum][1] += f64::from(u8::from(unit.labelled.is_some()));
        }
        Self { units, stratum, sizes, leans: &[] }
    }

    /// As [`Self::weighted`], with what each unit adds to the error by way of labels that were filled in.
    fn leaning(&self) -> impl Iterator<Item = (&'a Unit, usize, f64, f64)> {
        let leans = self.leans.iter().copied().chain(std::iter::repeat(0.0));
        self.weighted()
            .zip(leans)
            .map(|((unit, stratum, stands_for), lean)| (unit, stratum, stands_for, lean))
    }

    /// Units with the place of their stratum and how many units each stands for.
    fn weighted(&self) -> impl Iterator<Item = (&'a Unit, usize, f64)> {
        self.units.iter().zip(&self.stratum).map(|(unit, &stratum)| {
            let [all, labelled] = self.sizes[stratum];
            (unit, stratum, if unit.labelled.is_some() { all / labelled } else { 0.0 })
        })
    }

    fn total(&self) -> f64 {
        self.units.iter().map(|unit| unit.size).sum()
    }

    /// The estimate with that weight of the judge.
    fn ratio(&self, weight: f64) -> f64 {
        let judged: f64 = self.units.iter().map(|unit| unit.judged).sum();
        let labels = self.weighted().map(|(unit, _, stands_for)| {
            stands_for * (unit.labelled.unwrap_or(0.0) - weight * unit.judged)
        });
        (weight * judged + labels.sum::<f64>()) / self.denominator(weight)
    }

    fn denominator(&self, weight: f64) -> f64 {
        let labelled = self.weighted().map(|(unit, _, stands_for)| stands_for * unit.size);
        weight * self.total() + (1.0 - weight) * labelled.sum::<f64>()
    }

    /// Weight of the judge that makes the variance smallest, at the first estimate `value`.
    fn tuned(&self, value: f64) -> f64 {
        let strata = self.sizes.len();
        // Per stratum: means of people's and the judge's residuals where labelled, and of the judge's over all.
        let mut means = vec![[0.0; 3]; strata];
        for (unit, stratum, stands_for) in self.weighted() {
            let [all, labelled] = self.sizes[stratum];
            let of_judge = unit.judged - value * unit.size;
            means[stratum][2] += of_judge / all;
            if let (Some(label), true) = (unit.labelled, stands_for > 0.0) {
                means[stratum][0] += (label - value * unit.size) / labelled;
                means[stratum][1] += of_judge / labelled;
            }
        }
        let mut sums = vec![[0.0; 2]; strata];
        for (unit, stratum, _) in self.weighted() {
            let [all, labelled] = self.sizes[stratum];
            let of_judge = unit.judged - value * unit.size;
            if let Some(label) = unit.labelled {
                let of_people = label - value * unit.size - means[stratum][0];
                sums[stratum][0] += of_people * (of_judge - means[stratum][1]) / labelled;
            }
            sums[stratum][1] += (of_judge - means[stratum][2]).powi(2) / (all - 1.0).max(1.0);
        }
        let (mut covariance, mut variance) = (0.0, 0.0);
        for ([all, labelled], [both, judge]) in self.sizes.iter().zip(sums) {
            let missing = all * all * (1.0 / labelled - 1.0 / all);
            covariance += missing * both;
            variance += missing * judge;
        }
        // Of a judge that answers all alike, or where all is labelled, every weight gives the same.
        let scale = self.total().powi(2);
        if variance <= 1e-14 * scale { 1.0 } else { (covariance / variance).clamp(0.0, 1.0) }
    }

    /// What each unit adds to the error, over the figure's denominator: from the mean of the labelled or of the other units of its
    /// stratum, and that of its stratum from the figure.
    fn influence(&self, value: f64, weight: f64, clusters: usize) -> Vec<f64> {
        let strata = self.sizes.len();
        let part = |unit: &Unit, stands_for: f64, lean: f64| {
            let of_judge = unit.judged - value * unit.size;
            let label = unit.labelled.map_or(0.0, |label| label - value * unit.size);
            weight * of_judge + stands_for * (label - weight * of_judge) + lean
        };
        let group =
            |unit: &Unit, stratum: usize| 2 * stratum + usize::from(unit.labelled.is_some());
        let mut sums = vec![[0.0; 2]; 2 * strata];
        let mut members: Vec<(usize, usize)> = Vec::with_capacity(self.units.len());
        for (unit, stratum, stands_for, lean) in self.leaning() {
            let group = group(unit, stratum);
            sums[group][0] += part(unit, stands_for, lean);
            sums[group][1] += 1.0;
            members.push((group, unit.cluster));
        }
        members.sort_unstable();
        members.dedup();
        let mut spread = vec![0.0_f64; 2 * strata];
        members.iter().for_each(|(group, _)| spread[*group] += 1.0);
        let total = self.denominator(weight);
        let mut influence = vec![0.0; clusters];
        for (unit, stratum, stands_for, lean) in self.leaning() {
            let group = group(unit, stratum);
            let own = part(unit, stands_for, lean) - sums[group][0] / sums[group][1];
            // As of a variance over one cluster less than there are.
            let few = (spread[group] / (spread[group] - 1.0).max(1.0)).sqrt();
            let of_stratum =
                (sums[2 * stratum][0] + sums[2 * stratum + 1][0]) / self.sizes[stratum][0];
            influence[unit.cluster] += (own * few + of_stratum) / total;
        }
        influence
    }

    /// The variance that comes of labelling only some units.
    fn label_variance(&self, value: f64, weight: f64, clusters: usize) -> f64 {
        let residual = |unit: &Unit, label: f64| {
            label - value * unit.size - weight * (unit.judged - value * unit.size)
        };
        let part = |unit: &Unit, stands_for: f64, lean: f64| {
            unit.labelled.map(|label| stands_for * residual(unit, label) + lean)
        };
        let mut means = vec![0.0; self.sizes.len()];
        for (unit, stratum, stands_for, lean) in self.leaning() {
            if let Some(part) = part(unit, stands_for, lean) {
                means[stratum] += part / self.sizes[stratum][1];
            }
        }
        let mut sums = vec![0.0; clusters];
        for (unit, stratum, stands_for, lean) in self.leaning() {
            if let Some(part) = part(unit, stands_for, lean) {
                sums[unit.cluster] += part - means[stratum];
            }
        }
        sums.iter().map(|sum| sum * sum).sum::<f64>() / self.denominator(weight).powi(2)
    }

    /// Kish's number of clusters of equal size that the labelled ones are worth.
    fn worth(&self, clusters: usize) -> f64 {
        let mut sizes = vec![0.0; clusters];
        for (unit, _, stands_for) in self.weighted() {
            sizes[unit.cluster] += stands_for * unit.size;
        }
        let total: f64 = sizes.iter().sum();
        total * total / sizes.iter().map(|size| size * size).sum::<f64>()
    }
}

/// Per stratum the number of the one that it is counted in.
fn joined_strata(units: &[Unit]) -> Vec<usize> {
    let strata = units.iter().map(|unit| unit.stratum + 1).max().unwrap_or(0);
    let mut labelled: Vec<(usize, usize)> = units
        .iter()
        .filter(|unit| unit.labelled.is_some())
        .map(|unit| (unit.stratum, unit.cluster))
        .collect();
    labelled.sort_unstable();
    labelled.dedup();
    // Clusters of the strata that a number stands for so far.
    let mut open: Vec<usize> = Vec::new();
    let mut numbers = vec![0; strata];
    let mut number = 0;
    for (stratum, joined) in numbers.iter_mut().enumerate() {
        let own: Vec<usize> =
            labelled.iter().filter(|(of, _)| *of == stratum).map(|(_, cluster)| *cluster).collect();
        if distinct(open.iter().copied()) >= 2 && own.len() >= 2 {
            number += 1;
            open.clear();
        }
        open.extend(own);
        *joined = number;
    }
    numbers
}

fn distinct(numbers: impl Iterator<Item = usize>) -> usize {
    let mut numbers: Vec<usize> = numbers.collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers.len()
}

/// Degrees of freedom of a variance that is a sum of these squares: `2 m / (kurtosis - 1)`, at most one less than the clusters with
/// labels.
fn freedom(influence: &[f64], labelled: usize) -> f64 {
    let (second, fourth) = influence.iter().fold((0.0, 0.0), |(second, fourth), z| {
        let square = z * z;
        (second + square, fourth + square * square)
    });
    let most = (labelled as f64 - 1.0).max(1.0);
    if second == 0.0 {
        return most;
    }
    let clusters = influence.len() as f64;
    let kurtosis = clusters * fourth / (second * second);
    (2.0 * clusters / (kurtosis - 1.0).max(f64::MIN_POSITIVE)).min(most)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rand_pcg::Pcg64;
    use rayon::prelude::*;

    use super::*;
    use crate::statistics::resample::below;
    use crate::statistics::sampling::{Sampler, allocation};

    #[derive(serde::Deserialize)]
    struct Golden {
        level: f64,
        simple: Vec<Simple>,
        weighted: Vec<Weighted>,
        clustered: Vec<Clustered>,
    }

    #[derive(serde::Deserialize)]
    struct Simple {
        labelled: usize,
        people: Vec<f64>,
        judge: Vec<f64>,
        weights: Vec<Case>,
        tuned: f64,
        tuned_value: f64,
    }

    #[derive(serde::Deserialize)]
    struct Case {
        lam: f64,
        value: f64,
        #[serde(default)]
        of_judge: f64,
        #[serde(default)]
        of_labels: f64,
    }

    #[derive(serde::Deserialize)]
    struct Weighted {
        strata: Vec<usize>,
        judge: Vec<f64>,
        people: Vec<f64>,
        labelled: Vec<bool>,
        weights: Vec<Case>,
    }

    #[derive(serde::Deserialize)]
    struct Clustered {
        cluster: Vec<usize>,
        size: Vec<f64>,
        people: Vec<f64>,
        value: f64,
        standard_error: f64,
    }

    fn golden() -> Golden {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = path.join("tests/fixtures/prediction_powered.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    fn assert_near(ours: f64, golden: f64, what: &str) {
        assert!((ours - golden).abs() <= 1e-12, "{what}: {ours} where {golden} is due");
    }

    /// Units that are clusters of their own, the first ones labelled.
    fn simple(case: &Simple) -> Vec<Unit> {
        let units = case.judge.iter().enumerate().map(|(place, &judged)| Unit {
            cluster: place,
            stratum: 0,
            size: 1.0,
            judged,
            labelled: case.people.get(place).copied(),
        });
        units.collect()
    }

    /// ppi_py weighs the judge's mean of the units without labels; here it is that of all.
    fn of_all(case: &Simple, lam: f64) -> f64 {
        lam / (1.0 - case.labelled as f64 / case.judge.len() as f64)
    }

    #[test]
    fn means_equal_ppi_python() {
        // Their weight ends at 1 for the units without labels, ours for all.
        let mut below_one = 0;
        for case in golden().simple {
            let units = simple(&case);
            let (labelled, rest) = (case.labelled as f64, (units.len() - case.labelled) as f64);
            for weight in &case.weights {
                let lam = of_all(&case, weight.lam);
                let ours = correct(&units, Weight::Fixed(lam)).unwrap();
                assert_near(ours.value, weight.value, "value");
                // Theirs divides by the number of units where one less is due.
                let variance = weight.of_judge * rest / (rest - 1.0)
                    + weight.of_labels * labelled / (labelled - 1.0);
                assert_near(ours.standard_error, variance.sqrt(), "standard error");
                assert_eq!((ours.labelled, ours.clusters), (case.labelled, case.labelled));
            }
            let tuned = correct(&units, Weight::Tuned).unwrap();
            let golden = of_all(&case, case.tuned);
            assert_near(tuned.weight, golden.min(1.0), "weight");
            if golden <= 1.0 {
                assert_near(tuned.value, case.tuned_value, "tuned value");
                below_one += 1;
            }
        }
        assert!(below_one >= 2);
    }

    #[test]
    fn weighted_means_equal_ppi_python() {
        let mut furthest = 0.0_f64;
        for case in golden().weighted {
            let units: Vec<Unit> = (0..case.strata.len())
                .map(|place| Unit {
                    cluster: place,
                    stratum: case.strata[place],
                    size: 1.0,
                    judged: case.judge[place],
                    labelled: case.labelled[place].then_some(case.people[place]),
                })
                .collect();
            for weight in &case.weights {
                let ours = correct(&units, Weight::Fixed(weight.lam)).unwrap();
                assert_near(ours.value, weight.value, "value");
            }
            // Without the strata another number comes out.
            let joined: Vec<Unit> = units.iter().map(|unit| Unit { stratum: 0, ..*unit }).collect();
            let wrong = correct(&joined, Weight::Fixed(0.0)).unwrap().value;
            furthest = furthest.max((wrong - case.weights[0].value).abs());
        }
        assert!(furthest > 0.01, "{furthest}");
    }

    #[test]
    fn labels_alone_have_the_clustered_error_of_statsmodels() {
        for case in golden().clustered {
            let units: Vec<Unit> = (0..case.size.len())
                .map(|place| Unit {
                    cluster: case.cluster[place],
                    stratum: 0,
                    size: case.size[place],
                    judged: case.size[place],
                    labelled: Some(case.people[place]),
                })
                .collect();
            let ours = correct(&units, Weight::Fixed(0.0)).unwrap();
            assert_near(ours.value, case.value, "value");
            assert_near(ours.standard_error, case.standard_error, "standard error");
            let alone: Vec<Unit> =
                units.iter().enumerate().map(|(place, u)| Unit { cluster: place, ..*u }).collect();
            let wrong = correct(&alone, Weight::Fixed(0.0)).unwrap().standard_error;
            assert!(wrong < 0.95 * case.standard_error, "{wrong} is without clusters");
        }
    }

    #[test]
    fn the_level_is_that_of_the_goldens() {
        assert_eq!(golden().level, 0.95);
    }

    #[test]
    fn few_labels_are_refused_and_thin_strata_joined() {
        let unit = |cluster, stratum, labelled| Unit {
            cluster,
            stratum,
            size: 1.0,
            judged: 1.0,
            labelled,
        };
        let mut units = vec![unit(0, 0, Some(1.0)), unit(0, 1, Some(0.0)), unit(1, 1, None)];
        assert_eq!(correct(&units, Weight::Tuned), Err(TooFewClusters { clusters: 1 }));
        // A label that says nothing of the figure is none.
        units.push(Unit { size: 0.0, ..unit(2, 0, Some(0.0)) });
        assert_eq!(correct(&units, Weight::Tuned), Err(TooFewClusters { clusters: 1 }));
        units.push(unit(3, 2, Some(1.0)));
        assert!(correct(&units, Weight::Tuned).is_ok());

        let thin = |strata: &[&[usize]]| {
            let units = strata.iter().enumerate().flat_map(|(stratum, clusters)| {
                clusters.iter().map(move |&cluster| unit(cluster, stratum, Some(1.0)))
            });
            joined_strata(&units.collect::<Vec<_>>())
        };
        assert_eq!(thin(&[&[0, 1], &[2, 3], &[4, 5, 6]]), [0, 1, 2]);
        assert_eq!(thin(&[&[0], &[2, 3], &[4, 5]]), [0, 0, 1]);
        assert_eq!(thin(&[&[0, 1], &[3], &[4, 5], &[6]]), [0, 0, 1, 1]);
        // Two units of one cluster are not two clusters.
        assert_eq!(thin(&[&[0, 1], &[3, 3], &[4, 5]]), [0, 0, 1]);
    }

    #[test]
    fn a_judge_that_was_never_seen_to_err_is_not_thought_perfect() {
        let units: Vec<Unit> = (0..1000)
            .map(|place| Unit {
                cluster: place,
                stratum: 0,
                size: 1.0,
                judged: 1.0,
                labelled: (place < 100).then_some(1.0),
            })
            .collect();
        let corrected = correct(&units, Weight::Tuned).unwrap();
        // Clopper and Pearson's of 100 of 100: 0.025 ^ (1 / 100).
        let interval = corrected.interval(0.95);
        assert_near(interval.high, 1.0, "upper end");
        assert!((interval.low - 0.025_f64.powf(0.01)).abs() < 1e-9, "{interval:?}");
    }

    #[test]
    fn more_labels_narrow_the_interval_as_foretold() {
        let audit = Audit { items: 400, labels: 200 };
        let of = |labels| {
            let audit = Audit { labels, ..audit };
            let seeds = 0..40;
            let halves = seeds.map(|seed| {
                let corrected = correct(&audit.units(seed, true), Weight::Tuned).unwrap();
                let interval = corrected.interval(0.95);
                ((interval.high - interval.low) / 2.0, corrected.labels_for(0.025, 0.95))
            });
            halves.collect::<Vec<_>>()
        };
        let foretold = of(200).into_iter().map(|(_, labels)| labels.unwrap());
        let mean = foretold.sum::<f64>() / 40.0;
        assert!((300.0..3000.0).contains(&mean), "{mean}");
        let half = of(mean as usize).into_iter().map(|(half, _)| half).sum::<f64>() / 40.0;
        assert!((half - 0.025).abs() < 0.003, "{half} with {mean} labels");
        // The items' own spread leaves more than that, whatever is labelled.
        let few = Audit { items: 20, labels: 200 };
        let corrected = correct(&few.units(1, true), Weight::Tuned).unwrap();
        assert_eq!(corrected.labels_for(0.01, 0.95), None);
    }

    /// Of 400 units 90 are labelled, and 60 filled in with the mean of these: what is known is what 90 labels say.
    #[test]
    fn labels_that_are_means_of_others_add_nothing_to_what_is_known() {
        let (own, filled, all) = (90.0_f64, 60.0_f64, 400);
        let unit = |place: usize, labelled| Unit {
            cluster: place,
            stratum: 0,
            size: 1.0,
            judged: 1.0,
            labelled,
        };
        let yes = |place: usize| f64::from(u8::from(!place.is_multiple_of(3)));
        let mean = 2.0 / 3.0;
        let part: Vec<Unit> =
            (0..all).map(|place| unit(place, (place < 90).then(|| yes(place)))).collect();
        let whole: Vec<Unit> = (0..all)
            .map(|place| match place {
                ..90 => unit(place, Some(yes(place))),
                90..150 => unit(place, Some(mean)),
                _ => unit(place, None),
            })
            .collect();
        // Each filled-in one stands for 400 / 150, and each label is one 90th of what they are all filled in with.
        let taken = filled * 400.0 / (own + filled);
        let leans: Vec<f64> = (0..all)
            .map(|place| if place < 90 { taken * (yes(place) - mean) / own } else { 0.0 })
            .collect();
        let of_part = correct(&part, Weight::Fixed(0.0)).unwrap();
        let of_whole = correct_leaning(&whole, &leans, Weight::Fixed(0.0)).unwrap();
        assert_near(of_whole.value, of_part.value, "value");
        // As of a variance over one less than there are, here of 150 and there of 90.
        let [few, many] = [own, own + filled].map(|count| count / (count - 1.0));
        let expected = of_part.standard_error * (many / few).sqrt();
        assert_near(of_whole.standard_error, expected, "standard error");
        assert_near(of_whole.of_labels, of_part.of_labels, "of labels");
        // As if all were labels of their own, the error is far too small.
        let wrong = correct(&whole, Weight::Fixed(0.0)).unwrap().standard_error;
        assert!(wrong < 0.7 * expected, "{wrong} of {expected}");
    }

    #[test]
    fn a_difference_has_the_error_of_its_clusters() {
        // Twice the same audit: nothing differs, whatever the figures' own errors are.
        let units = Audit { items: 100, labels: 100 }.units(3, true);
        let one = correct(&units, Weight::Tuned).unwrap();
        let same = difference(&one, &one, 0.95);
        assert_eq!((same.value, same.p, same.standard_error), (0.0, 1.0, 0.0), "{same:?}");
        // Audits of different clusters are independent.
        let moved: Vec<Unit> =
            units.iter().map(|unit| Unit { cluster: unit.cluster + 100, ..*unit }).collect();
        let other = correct(&moved, Weight::Tuned).unwrap();
        let apart = difference(&one, &other, 0.95);
        assert_near(apart.standard_error, one.standard_error * 2.0_f64.sqrt(), "error");
        assert!(apart.interval.low < 0.0 && apart.interval.high > 0.0 && apart.p > 0.999);
    }

    /// A made-up audit: items of 6 to 21 questions about four images each. People say yes to 60 to 100 % of an item's questions. The
    /// judge finds 90 to 100 % of the yes of an item and 50 to 100 % of its no: 0.95 and 0.75 on average.
    #[derive(Clone, Copy)]
    struct Audit {
        items: usize,
        labels: usize,
    }

    const TRUE_SHARE: f64 = 0.8;

    fn random(source: &mut Pcg64) -> f64 {
        below(source, 1 << 30) as f64 / f64::from(1 << 30)
    }

    impl Audit {
        /// Strata are five categories with the judge's word, as many of each drawn as `audit` draws. Without `with_clusters` every
        /// unit says that it is alone.
        fn units(self, seed: u64, with_clusters: bool) -> Vec<Unit> {
            let mut source = Pcg64::new(u128::from(seed), 17);
            let mut units = Vec::new();
            for item in 0..self.items {
                let questions = 6 + below(&mut source, 16);
                let share = TRUE_SHARE + 0.4 * (random(&mut source) - 0.5);
                let finds = 0.9 + 0.1 * random(&mut source);
                let denies = 0.5 + 0.5 * random(&mut source);
                let size = 1.0 / (4 * questions) as f64;
                for _ in 0..4 * questions {
                    let people = random(&mut source) < share;
                    let right = if people { finds } else { denies };
                    let judge = people == (random(&mut source) < right);
                    let category = below(&mut source, 5);
                    units.push(Unit {
                        cluster: if with_clusters { item } else { units.len() },
                        stratum: 2 * category + usize::from(judge),
                        size,
                        judged: size * f64::from(u8::from(judge)),
                        labelled: Some(size * f64::from(u8::from(people))),
                    });
                }
            }
            let mut sizes = [0; 10];
            units.iter().for_each(|unit| sizes[unit.stratum] += 1);
            let roots = sizes.map(|size: u64| (size as f64).sqrt());
            let low = sizes.map(|size| size.min(2));
            let drawn = allocation(self.labels as u64, &roots, &low, &sizes);
            let mut sampler = Sampler::of_seed(seed);
            let mut is_drawn = vec![false; units.len()];
            for (stratum, &count) in drawn.iter().enumerate() {
                let own: Vec<usize> =
                    (0..units.len()).filter(|&unit| units[unit].stratum == stratum).collect();
                let sample = sampler.sample(own.len(), count as usize);
                sample.into_iter().for_each(|place| is_drawn[own[place]] = true);
            }
            for (unit, is_drawn) in units.iter_mut().zip(is_drawn) {
                unit.labelled = unit.labelled.filter(|_| is_drawn);
            }
            units
        }

        /// How many in a hundred intervals hold the true share, by `audits` audits; of the tuned weight and of labels alone.
        fn coverage(self, audits: u64, with_clusters: bool) -> [f64; 2] {
            let hits = (0..audits).into_par_iter().map(|seed| {
                let units = self.units(seed, with_clusters);
                [Weight::Tuned, Weight::Fixed(0.0)].map(|weight| {
                    let interval = correct(&units, weight).unwrap().interval(0.95);
                    u64::from(interval.low <= TRUE_SHARE && TRUE_SHARE <= interval.high)
                })
            });
            let sums = hits.reduce(|| [0; 2], |a, b| [a[0] + b[0], a[1] + b[1]]);
            sums.map(|sum| 100.0 * sum as f64 / audits as f64)
        }
    }

    #[test]
    fn intervals_hold_the_truth_as_often_as_they_say() {
        for (items, labels) in [(10, 100), (30, 200), (100, 50), (100, 400)] {
            let found = Audit { items, labels }.coverage(2000, true);
            let is_right = found.iter().all(|share| (93.0..=97.0).contains(share));
            assert!(is_right, "{items} items, {labels} labels: {found:?}");
        }
    }

    #[test]
    fn intervals_that_know_of_no_clusters_are_too_short() {
        for (items, labels) in [(10, 100), (30, 200), (100, 400)] {
            let [tuned, alone] = Audit { items, labels }.coverage(500, false);
            assert!(tuned < 93.0 && alone < 93.0, "{items}, {labels}: {tuned} {alone}");
        }
    }

    /// All of docs/measurements/audit.md: `cargo test --release --lib every_coverage -- --ignored --nocapture`.
    #[test]
    #[ignore = "minutes"]
    #[expect(clippy::print_stdout, reason = "its table goes into docs/measurements/audit.md")]
    fn every_coverage_is_within_93_and_97() {
        for items in [10, 30, 100, 300, 1065] {
            for labels in [50, 100, 200, 400] {
                let found = Audit { items, labels }.coverage(2000, true);
                println!("| {items} | {labels} | {:.1} | {:.1} |", found[0], found[1]);
                assert!((93.0..=97.0).contains(&found[0]), "{items} {labels}: {found:?}");
            }
        }
    }
}
