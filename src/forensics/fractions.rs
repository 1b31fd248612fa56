//! In: a percentage as it was printed. Out: the counts that it can stand for.

/// A percentage as printed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Printed {
    /// The value in percent.
    pub percent: f64,
    /// Digits after the decimal point.
    pub decimals: u32,
}

/// From this many decimals on a figure counts as printed in full (`float64` as Python prints it).
pub(crate) const FULL_PRECISION: u32 = 9;

impl Printed {
    /// Half a unit of the last printed digit, and a little for the arithmetic.
    fn tolerance(self) -> f64 {
        // A float printed in full is off by its own rounding only.
        let half_unit = 0.5 * 10_f64.powi(-(self.decimals.min(12) as i32));
        half_unit + 1e-11
    }

    /// Whether it is printed in full.
    pub(crate) fn is_full(self) -> bool {
        self.decimals >= FULL_PRECISION
    }

    /// The `k` for which `k / n` rounds to this figure: at most one where the figure is finer than
    /// `100 / n`, else the one nearest to it.
    pub(crate) fn count_of(self, n: u32) -> Option<u32> {
        let k = (self.percent / 100.0 * f64::from(n)).round();
        let holds = (0.0..=f64::from(n)).contains(&k)
            && (100.0 * k / f64::from(n) - self.percent).abs() <= self.tolerance();
        holds.then_some(k as u32)
    }

    /// The fraction with the smallest denominator up to `limit` that prints as this figure, found in
    /// the Stern-Brocot tree (the continued fraction of the figure, with its intermediate steps).
    pub(crate) fn simplest_fraction(self, limit: u32) -> Option<(u32, u32)> {
        let (low, high) =
            ((self.percent - self.tolerance()) / 100.0, (self.percent + self.tolerance()) / 100.0);
        if low <= 0.0 {
            return (high >= 0.0).then_some((0, 1));
        }
        if low <= 1.0 && 1.0 <= high {
            return Some((1, 1));
        }
        let ((mut a, mut b), (mut c, mut d)) = ((0_u32, 1_u32), (1_u32, 1_u32));
        loop {
            let (k, n) = (a + c, b + d);
            if n > limit {
                return None;
            }
            let value = f64::from(k) / f64::from(n);
            if value < low {
                (a, b) = (k, n);
            } else if value > high {
                (c, d) = (k, n);
            } else {
                return Some((k, n));
            }
        }
    }
}

/// The share of all figures from 0 to 100 with `decimals` digits that some `k / n` rounds to: the
/// chance that a figure drawn at random passes.
pub(crate) fn chance_of_passing(n: u32, decimals: u32) -> f64 {
    let scale = 10_f64.powi(decimals.min(12) as i32);
    let mut printed: Vec<u64> =
        (0..=n).map(|k| (100.0 * f64::from(k) / f64::from(n) * scale).round() as u64).collect();
    printed.dedup();
    printed.len() as f64 / (100.0 * scale + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(percent: f64, decimals: u32) -> Printed {
        Printed { percent, decimals }
    }

    #[test]
    fn a_rounded_count_holds_and_its_neighbours_do_not() {
        // 262 / 329 = 79.63525..., 209 / 250 = 83.6.
        assert_eq!(printed(79.64, 2).count_of(329), Some(262));
        assert_eq!(printed(79.62, 2).count_of(329), None);
        assert_eq!(printed(79.65, 2).count_of(329), None);
        assert_eq!(printed(83.6, 1).count_of(250), Some(209));
        assert_eq!(printed(100.0, 2).count_of(250), Some(250));
        assert_eq!(printed(100.4, 2).count_of(250), None);
    }

    #[test]
    fn the_simplest_fraction_is_the_reduced_one() {
        for (k, n) in
            [(262_u32, 329_u32), (713, 896), (1301, 1665), (1, 7), (0, 5), (14, 14), (9001, 14373)]
        {
            let gcd = (1..=n).rev().find(|g| k % g == 0 && n % g == 0).unwrap();
            let percent = f64::from(k) / f64::from(n) * 100.0;
            assert_eq!(
                printed(percent, 14).simplest_fraction(14_373),
                Some((k / gcd, n / gcd)),
                "{k}/{n}"
            );
        }
        // The square root of one half is no small fraction.
        assert_eq!(printed(70.710_678_118_654_76, 14).simplest_fraction(14_373), None);
    }

    #[test]
    fn the_chance_counts_distinct_printed_figures() {
        // 0.4 steps: 251 figures of 10,001.
        assert!((chance_of_passing(250, 2) - 251.0 / 10_001.0).abs() < 1e-15);
        assert!((chance_of_passing(329, 2) - 330.0 / 10_001.0).abs() < 1e-15);
        // At one decimal a third of all figures passes; at none, every one.
        assert!((chance_of_passing(329, 1) - 330.0 / 1_001.0).abs() < 1e-15);
        assert!((chance_of_passing(250, 0) - 1.0).abs() < 1e-15);
    }
}
