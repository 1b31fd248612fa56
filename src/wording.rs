//! In: a count and what is counted. Out: both as a person writes them. Every room may use it.

/// `1 image`, `2 images`, `0 images`: `noun` takes an s for any other number than 1.
pub(crate) fn counted(count: impl TryInto<u64>, noun: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    format!("{count} {}", plural(count, noun))
}

/// `noun`, with an s for any other number than 1.
pub(crate) fn plural(count: u64, noun: &str) -> String {
    if count == 1 { noun.to_owned() } else { format!("{noun}s") }
}

/// `1 point`, `2.5 points`: a number as the user stated it.
pub(crate) fn points(points: f64) -> String {
    if points == 1.0 { "1 point".to_owned() } else { format!("{points} points") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_no_s() {
        assert_eq!(
            [counted(0_u64, "item"), counted(1_usize, "item"), counted(2_u32, "item")],
            ["0 items", "1 item", "2 items"]
        );
        assert_eq!([points(1.0), points(0.0), points(1.5)], ["1 point", "0 points", "1.5 points"]);
    }
}
