//! In: the text of a result file that the reference script wrote. Out: the item scores and the
//! benchmark score in it, against which a recovered log is checked.
//!
//! A line per picture reads `path, score of image 1, .., average`; the summary comes after them.

use super::log_line::item_id;

/// What the result file says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReferenceResults<'a> {
    /// Item id and average, in 0..=1, in the order in which the pictures were finished.
    pub items: Vec<(&'a str, f64)>,
    /// `DPG-Bench score`, in percent; absent where the script did not come to its end.
    pub overall: Option<f64>,
}

/// Reads a result file of a run with `images` images a picture.
pub fn read_results(text: &str, images: u32) -> ReferenceResults<'_> {
    let mut results = ReferenceResults::default();
    for line in text.lines().map(str::trim_end) {
        if let Some(score) = line.strip_prefix("DPG-Bench score: ") {
            results.overall = score.parse().ok();
            continue;
        }
        // The path may hold commas: the numbers are taken from the right.
        let mut fields = line.rsplitn(images as usize + 2, ", ");
        let numbers: Vec<f64> = fields
            .by_ref()
            .take(images as usize + 1)
            .map_while(|field| field.parse().ok())
            .collect();
        if let (Some(path), true) = (fields.next(), numbers.len() == images as usize + 1) {
            results.items.push((item_id(path), numbers[0]));
        }
    }
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_and_summary_are_read() {
        let text = "a, b/x.1.png, 1.0, 0.5, 0.75\r\na, b/y.png, 0.0, 0.0, 0.0\nModel: m\n\tglobal: 80.0\nDPG-Bench score: 37.5\n";
        let results = read_results(text, 2);
        assert_eq!(results.items, [("x", 0.75), ("y", 0.0)]);
        assert_eq!(results.overall, Some(37.5));
        assert_eq!(read_results("a/x.png, 1.0, 0.5\n", 2), ReferenceResults::default());
    }
}
