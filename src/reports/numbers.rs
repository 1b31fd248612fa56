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

/// Two ends of a difference's interval with signs, `-1.00 to +2.00`.
pub(crate) fn signed_ends((low, high): (f64, f64), digits: usize) -> String {
    format!("{} to {}", signed_end(low, digits), signed_end(high, digits))
}

/// One end. Zero is printed for zero alone, since it matters on which side of it an end lies: `+0.003`, with more digits
/// than asked for.
pub(crate) fn signed_end(value: f64, digits: usize) -> String {
    let shown = (digits..=MOST_DIGITS).map(|digits| signed(value, digits));
    let mut shown = shown.skip_while(|text| is_zero(&text[1..]));
    shown.next().unwrap_or_else(|| signed(0.0, digits))
}

/// A p-value with two digits that count. What is below 0.05 is not rounded up to it.
pub(crate) fn p_value(p: f64) -> String {
    match p {
        ..0.001 => "<0.001".to_owned(),
        0.0495..0.05 => "<0.050".to_owned(),
        _ => format!("{p:.3}"),
    }
}

/// What is smaller is rounding.
const MOST_DIGITS: usize = 8;

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
        assert_eq!(signed_ends((0.0, -0.2), 2), "+0.00 to -0.20");
        assert_eq!(signed(f64::NAN, 2), "+NaN");
    }

    #[test]
    fn an_end_beside_zero_and_a_p_below_the_level_are_not_rounded_onto_it() {
        let printed = [0.0, -0.0, 1e-12, -0.001, 0.0049, -0.00004, 0.005_01, -1.0, 12.345]
            .map(|end| signed_end(end, 2));
        let expected =
            ["+0.00", "+0.00", "+0.00", "-0.001", "+0.005", "-0.00004", "+0.01", "-1.00", "+12.35"];
        assert_eq!(printed, expected.map(str::to_owned));
        let printed = [0.0004, 0.001, 0.04949, 0.0496, 0.049_999, 0.05, 0.0504, 1.0].map(p_value);
        let expected = ["<0.001", "0.001", "0.049", "<0.050", "<0.050", "0.050", "0.050", "1.000"];
        assert_eq!(printed, expected.map(str::to_owned));
    }
}
