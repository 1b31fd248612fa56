//! In: the answers of two judges about the same images. Out: how far their P(yes) go together, and how far they are apart.

use serde::Serialize;

use crate::benchmark::Item;
use crate::results::NewestAnswers;
use crate::score::{AnswerState, answer_grid};
use crate::statistics::Bootstrap;

/// P(yes) of two judges beside each other. The intervals are made of the same draws of items as those of kappa.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct ProbabilityAgreement {
    /// Questions, one per image, of which both state P(yes).
    pub questions: u64,
    /// Pearson's correlation; absent where one of them always states the same.
    pub correlation: Option<f64>,
    /// Lower end of its interval; absent below two items.
    pub correlation_low: Option<f64>,
    /// Upper end of it.
    pub correlation_high: Option<f64>,
    /// Mean of the first judge's P(yes) less that of the second's.
    pub difference: f64,
    /// Lower end of its interval; absent below two items.
    pub difference_low: Option<f64>,
    /// Upper end of it.
    pub difference_high: Option<f64>,
}

impl ProbabilityAgreement {
    /// Over `images` images of each item; `None` where there is no question of which both state P(yes).
    pub(crate) fn of(
        answers: [&NewestAnswers<'_>; 2],
        items: &[&Item],
        images: u32,
    ) -> Option<Self> {
        // Of each item the number of questions and the sums of x, y, xx, yy and xy.
        let mut columns = [(); 6].map(|()| vec![0.0; items.len()]);
        for (place, item) in items.iter().enumerate() {
            let [first, second] = answers.map(|answers| answer_grid(item, images, answers));
            for (x, y) in first.iter().flatten().zip(second.iter().flatten()) {
                let (Some(x), Some(y)) = (stated(x), stated(y)) else { continue };
                for (column, term) in columns.iter_mut().zip([1.0, x, y, x * x, y * y, x * y]) {
                    column[place] += term;
                }
            }
        }
        let totals: Vec<f64> = columns.iter().map(|column| column.iter().sum()).collect();
        let difference = difference(&totals)?;
        let clusters = columns[0].iter().filter(|&&count| count > 0.0).count();
        let tables = [(columns.each_ref().map(Vec::as_slice), clusters)];
        let bootstrap = Bootstrap::default();
        let ends = |figure: fn(&[f64]) -> Option<f64>| bootstrap.intervals(&tables, figure)[0];
        let correlation = pearson(&totals);
        let of_correlation = ends(pearson).filter(|_| correlation.is_some());
        let of_difference = ends(self::difference);
        Some(Self {
            questions: totals[0] as u64,
            correlation,
            correlation_low: of_correlation.map(|ends| ends.low),
            correlation_high: of_correlation.map(|ends| ends.high),
            difference,
            difference_low: of_difference.map(|ends| ends.low),
            difference_high: of_difference.map(|ends| ends.high),
        })
    }
}

fn stated(answer: &AnswerState<'_>) -> Option<f64> {
    match answer {
        AnswerState::Answered { yes_probability, .. } => *yes_probability,
        _ => None,
    }
}

/// The mean of x less that of y.
fn difference(sums: &[f64]) -> Option<f64> {
    (sums[0] > 0.0).then(|| (sums[1] - sums[2]) / sums[0])
}

fn pearson(sums: &[f64]) -> Option<f64> {
    let &[n, x, y, xx, yy, xy] = sums else { return None };
    let (of_x, of_y) = (n * xx - x * x, n * yy - y * y);
    // What rounding leaves of numbers that are all the same.
    let varies = of_x > 1e-12 * n * xx && of_y > 1e-12 * n * yy;
    varies.then(|| ((n * xy - x * y) / (of_x.sqrt() * of_y.sqrt())).clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlation_and_difference_of_three_points() {
        let sums = |points: &[(f64, f64)]| {
            points.iter().fold(vec![0.0; 6], |mut sums, &(x, y)| {
                let terms = [1.0, x, y, x * x, y * y, x * y];
                sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
                sums
            })
        };
        // By hand: deviations -1/4, 0, 1/4 and 0, -1/4, 1/4 give (1/16) / (1/8).
        let found = sums(&[(0.25, 0.5), (0.5, 0.25), (0.75, 0.75)]);
        assert!((pearson(&found).unwrap() - 0.5).abs() < 1e-12);
        assert_eq!(difference(&found), Some(0.0));
        let same = sums(&[(0.9, 0.1), (0.9, 0.6), (0.9, 0.3)]);
        assert_eq!(pearson(&same), None);
        assert!((difference(&same).unwrap() - (0.9 - 1.0 / 3.0)).abs() < 1e-12);
        assert_eq!(difference(&[0.0; 6]), None);
    }
}
