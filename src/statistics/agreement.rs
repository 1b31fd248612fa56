//! In: how often two raters said yes or no to the same questions. Out: how far they agree, and how far
//! beyond what their habits alone would bring about (Cohen, Educational and Psychological Measurement
//! 20, 1960).

/// Judgements of two raters on the same questions: the first one's word stands first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TwoByTwo {
    /// Both said yes.
    pub yes_yes: u64,
    /// The first said yes, the second no.
    pub yes_no: u64,
    /// The first said no, the second yes.
    pub no_yes: u64,
    /// Both said no.
    pub no_no: u64,
}

impl TwoByTwo {
    /// Counts one question.
    pub(crate) fn add(&mut self, first: bool, second: bool) {
        match (first, second) {
            (true, true) => self.yes_yes += 1,
            (true, false) => self.yes_no += 1,
            (false, true) => self.no_yes += 1,
            (false, false) => self.no_no += 1,
        }
    }

    /// The table of whole numbers in the order of the fields, such as sums of counts; `None` of another
    /// number of them.
    pub(crate) fn of_sums(sums: &[f64]) -> Option<Self> {
        let &[yes_yes, yes_no, no_yes, no_no] = sums else { return None };
        let [yes_yes, yes_no, no_yes, no_no] =
            [yes_yes, yes_no, no_yes, no_no].map(|count| count as u64);
        Some(Self { yes_yes, yes_no, no_yes, no_no })
    }

    /// Questions counted.
    pub(crate) fn total(&self) -> u64 {
        self.agreed() + self.yes_no + self.no_yes
    }

    /// Questions to which both said the same.
    pub(crate) fn agreed(&self) -> u64 {
        self.yes_yes + self.no_no
    }

    /// Cohen's kappa: `(po - pe) / (1 - pe)` for the share `po` of equal answers and the share `pe`
    /// that two raters with these shares of yes would reach by chance. 1 is full agreement, 0 no more
    /// than chance, below 0 less.
    ///
    /// `None` where it is undefined: without a question, and where both raters say one and the same
    /// word throughout, so that chance alone explains everything (`pe` = 1).
    pub(crate) fn kappa(&self) -> Option<f64> {
        let [n, agreed] = [self.total(), self.agreed()].map(i128::from);
        let first_yes = i128::from(self.yes_yes + self.yes_no);
        let second_yes = i128::from(self.yes_yes + self.no_yes);
        // Multiplied by n * n everything is a whole number, so nothing is lost before the division.
        let by_chance = first_yes * second_yes + (n - first_yes) * (n - second_yes);
        let room = n * n - by_chance;
        (room > 0).then(|| (n * agreed - by_chance) as f64 / room as f64)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        counts: [u64; 4],
        /// Absent where scikit-learn says NaN.
        kappa: Option<f64>,
    }

    fn table([yes_yes, yes_no, no_yes, no_no]: [u64; 4]) -> TwoByTwo {
        TwoByTwo { yes_yes, yes_no, no_yes, no_no }
    }

    fn cases() -> Vec<Case> {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/agreement/kappa.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    fn equals(ours: Option<f64>, golden: Option<f64>) -> bool {
        match (ours, golden) {
            (Some(ours), Some(golden)) => (ours - golden).abs() <= 1e-12,
            (ours, golden) => ours == golden,
        }
    }

    #[test]
    fn kappa_equals_scikit_learn() {
        let cases = cases();
        assert!(cases.len() > 50 && cases.iter().any(|case| case.kappa.is_none()));
        for Case { counts, kappa } in &cases {
            let ours = table(*counts).kappa();
            assert!(equals(ours, *kappa), "{counts:?}: {ours:?} where {kappa:?} is due");
        }
    }

    /// Scott's pi pools the two raters' shares of yes; the raw share knows of no chance.
    #[test]
    fn other_measures_of_agreement_are_told_apart() {
        let pi = |t: TwoByTwo| {
            let n = t.total() as f64;
            let yes = (2 * t.yes_yes + t.yes_no + t.no_yes) as f64 / (2.0 * n);
            let chance = yes * yes + (1.0 - yes) * (1.0 - yes);
            (t.agreed() as f64 / n - chance) / (1.0 - chance)
        };
        let share = |t: TwoByTwo| t.agreed() as f64 / t.total() as f64;
        for wrong in [&pi as &dyn Fn(TwoByTwo) -> f64, &share] {
            let unlike = |case: &&Case| !equals(Some(wrong(table(case.counts))), case.kappa);
            let defined = cases().into_iter().filter(|case| case.kappa.is_some());
            assert!(defined.collect::<Vec<_>>().iter().filter(unlike).count() > 30);
        }
    }

    #[test]
    fn questions_are_counted_where_they_belong() {
        let mut counts = TwoByTwo::default();
        assert_eq!((counts.total(), counts.kappa()), (0, None));
        for (first, second) in [(true, true), (true, false), (true, false), (false, true)] {
            counts.add(first, second);
        }
        assert_eq!(counts, table([1, 2, 1, 0]));
        assert_eq!((counts.total(), counts.agreed()), (4, 1));
        // Counts whose products do not fit 64 bits.
        let large = table([u64::from(u32::MAX), 3, 5, u64::from(u32::MAX)]).kappa().unwrap();
        assert!((0.999_999..1.0).contains(&large));
    }
}
