//! In: numbers. Out: their text with a fixed number of digits. Which numbers stand in which table is left to the tables.

/// `value` with `digits` digits behind the point. What rounds to zero has no minus.
pub fn fixed(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    match text.strip_prefix('-') {
        Some(size) if is_zero(size) => size.to_owned(),
        _ => text,
    }
}

/// The same with a sign in front, which is a plus for what rounds to zero.
pub fn signed(value: f64, digits: usize) -> String {
    let text = fixed(value, digits);
    if text.starts_with('-') { text } else { format!("+{text}") }
}

/// Two ends, `1.00 to 2.00`.
pub fn ends((low, high): (f64, f64), digits: usize) -> String {
    format!("{} to {}", fixed(low, digits), fixed(high, digits))
}

/// Two ends with signs, `-1.00 to +2.00`.
pub(crate) fn signed_ends((low, high): (f64, f64), digits: usize) -> String {
    format!("{} to {}", signed(low, digits), signed(high, digits))
}

fn is_zero(size: &str) -> bool {
    size.chars().all(|c| matches!(c, '0' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rounds_to_zero_has_no_minus() {
        for zero in [0.0, -0.0, 0.004, -0.004, -1e-300] {
            assert_eq!((fixed(zero, 2), signed(zero, 2)), ("0.00".into(), "+0.00".into()));
        }
        assert_eq!(fixed(-0.4, 0), "0");
        assert_eq!((fixed(-0.006, 2), signed(0.006, 2)), ("-0.01".into(), "+0.01".into()));
        assert_eq!((fixed(-10.0, 1), signed(-10.0, 1)), ("-10.0".into(), "-10.0".into()));
        assert_eq!(ends((-0.001, 0.2), 2), "0.00 to 0.20");
        assert_eq!(signed_ends((-0.001, -0.2), 2), "+0.00 to -0.20");
        assert_eq!(signed(f64::NAN, 2), "+NaN");
    }
}
