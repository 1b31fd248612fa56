//! In: the figures of a category table. Out: for each whether it can be a count over the questions
//! that a complete run of the reference script really has, and what that says of the table.

use serde::Serialize;

use super::fractions::{Printed, chance_of_passing};
use super::pasted_table::{PastedTable, UnreadCell};
use crate::benchmark::category::l1_of;

/// Category, questions of it that a complete run of the reference script scores, and questions of it in the
/// official file; the script drops the file's first item (`docs/protocols.md`).
#[rustfmt::skip]
pub const KNOWN_COUNTS: [(&str, u32, u32); 18] = [
    ("global", 329, 329),
    ("global -", 329, 329),
    ("entity", 6_190, 6_200),
    ("entity - part", 512, 512),
    ("entity - state", 947, 947),
    ("entity - whole", 4_731, 4_741),
    ("attribute", 5_019, 5_020),
    ("attribute - color", 1_993, 1_993),
    ("attribute - other", 902, 903),
    ("attribute - shape", 229, 229),
    ("attribute - size", 242, 242),
    ("attribute - texture", 1_653, 1_653),
    ("relation", 2_585, 2_593),
    ("relation - non-spatial", 159, 159),
    ("relation - spatial", 2_426, 2_434),
    ("other", 250, 250),
    ("other - count", 200, 200),
    ("other - text", 50, 50),
];

/// All questions that a complete run of the reference script scores.
pub const TOTAL: u32 = 14_373;

/// Which questions stand behind a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    /// Those that the script scores.
    ByTheScript,
    /// All of the official file, as a mended script scores them.
    WholeFile,
}

impl Counted {
    /// Questions of a category; `None` for what is no category.
    fn of(self, category: &str) -> Option<u32> {
        let known = KNOWN_COUNTS.iter().find(|known| known.0 == category)?;
        Some(match self {
            Self::ByTheScript => known.1,
            Self::WholeFile => known.2,
        })
    }
}

/// What is found out about one table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TableFinding {
    /// The model's name, where the table has one.
    pub label: Option<String>,
    /// Which questions its figures were held against: those that the script scores, unless only all of them
    /// explain it.
    pub counted: Counted,
    /// Per figure, in the table's order.
    pub findings: Vec<Finding>,
    /// Cells of the table whose figures are missing here.
    pub unread: Vec<UnreadCell>,
    /// What does not fit between figures, one sentence each.
    pub contradictions: Vec<String>,
    /// Whether every figure that can be checked holds; `None` where none can be.
    pub consistent: Option<bool>,
    /// Chance that figures drawn at random with these decimals would all hold.
    pub chance: f64,
}

/// What is found out about one figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// Category.
    pub category: &'static str,
    /// The value, in percent.
    pub percent: f64,
    /// Digits printed after the point.
    pub decimals: u32,
    /// Questions that a complete run has; absent for what is no category.
    pub n: Option<u32>,
    /// The count that the figure stands for, if it can.
    pub k: Option<u32>,
    /// Whether it can; `None` for what is no category.
    pub holds: Option<bool>,
    /// Chance that a random figure with these decimals would hold.
    pub chance: Option<f64>,
    /// For a figure printed in full: the fraction with the smallest denominator that explains it.
    /// The number of questions behind it is that denominator or a multiple.
    pub fraction: Option<(u32, u32)>,
}

/// Examines a table.
pub fn examine(table: &PastedTable) -> TableFinding {
    let by_the_script = examine_as(table, Counted::ByTheScript);
    if by_the_script.consistent == Some(false) {
        let whole = examine_as(table, Counted::WholeFile);
        if whole.consistent == Some(true) {
            return whole;
        }
    }
    by_the_script
}

fn examine_as(table: &PastedTable, counted: Counted) -> TableFinding {
    let full_precision = table.figures.iter().any(|figure| figure.printed.is_full());
    let findings: Vec<Finding> = table
        .figures
        .iter()
        .map(|figure| {
            // Python prints no trailing zeros: beside figures in full, `83.6` is exact too.
            let exact = if full_precision {
                Printed { decimals: 12, ..figure.printed }
            } else {
                figure.printed
            };
            let n = counted.of(figure.category);
            let k = n.and_then(|n| exact.count_of(n));
            // The benchmark score is a mean of means, no count over questions.
            let has_counts = figure.category != "overall" && full_precision;
            Finding {
                category: figure.category,
                percent: figure.printed.percent,
                decimals: figure.printed.decimals,
                n,
                k,
                holds: n.map(|_| k.is_some()),
                chance: n.map(|n| chance_of_passing(n, exact.decimals)),
                fraction: has_counts.then(|| exact.simplest_fraction(TOTAL)).flatten(),
            }
        })
        .collect();
    let contradictions = contradictions(&findings);
    let checked: Vec<&Finding> =
        findings.iter().filter(|finding| finding.holds.is_some()).collect();
    let consistent = (!checked.is_empty()).then(|| {
        contradictions.is_empty() && checked.iter().all(|finding| finding.holds == Some(true))
    });
    // `global -` is `global` once more: it does not make a random table less likely to pass.
    let distinct = checked.iter().filter(|finding| finding.category != "global -");
    let chance = distinct.filter_map(|finding| finding.chance).product();
    let (label, unread) = (table.label.clone(), table.unread.clone());
    TableFinding { label, counted, findings, unread, contradictions, consistent, chance }
}

/// Counts that hold one by one and not together: those of a broad category that are not the sum of its parts.
fn contradictions(findings: &[Finding]) -> Vec<String> {
    // A figure with few digits stands for several counts.
    let count = |finding: &Finding| {
        let n =
            finding.n.filter(|&n| 10_f64.powi(finding.decimals as i32) * 100.0 > f64::from(n))?;
        Some((finding.k?, n))
    };
    let mut found = Vec::new();
    for broad in findings.iter().filter(|finding| !finding.category.contains('-')) {
        let parts: Vec<&Finding> = findings
            .iter()
            .filter(|part| part.category.contains('-') && l1_of(part.category) == broad.category)
            .collect();
        let counts: Option<Vec<(u32, u32)>> = parts.iter().map(|part| count(part)).collect();
        let (Some((whole, n)), Some(counts)) = (count(broad), counts) else { continue };
        let (sum, questions) =
            counts.iter().fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
        if questions == n && sum != whole {
            let named = parts.iter().zip(&counts);
            let named: Vec<String> =
                named.map(|(part, (k, n))| format!("{} ({k}/{n})", part.category)).collect();
            let (category, named) = (broad.category, named.join(", "));
            found.push(format!("{category} is {whole}/{n}, but {named} make {sum}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::pasted_table::read_tables;
    use super::*;

    fn verdict(text: &str) -> TableFinding {
        examine(&read_tables(text).unwrap()[0])
    }

    #[test]
    fn counts_over_the_true_questions_hold() {
        // 262/329 and 209/250.
        let finding = verdict("Global 79.64\nOther 83.60\nEntity 78.69\noverall 74.12");
        assert_eq!(finding.consistent, Some(true));
        assert_eq!(finding.findings[0].k, Some(262));
        assert!(finding.chance < 0.001, "{}", finding.chance);
        // No count of 329 prints as 79.62, none of 250 as 83.67 (the protocol's own 400-item run).
        assert_eq!(verdict("Global 79.62\nOther 83.60").consistent, Some(false));
        assert_eq!(verdict("Global 79.64\nOther 83.67").consistent, Some(false));
        // 4871/6190 is 78.691, 4872/6190 is 78.708.
        assert_eq!(verdict("Entity 78.70").consistent, Some(false));
        assert_eq!(verdict("overall 78.70").consistent, None);
    }

    #[test]
    fn a_mended_script_that_reads_all_rows_is_told_and_not_accused() {
        // 5001/6200, which is no count of 6190; 4500/5020.
        let finding = verdict("entity 80.66129032258065\nattribute 89.64143426294820\nother 83.6");
        assert_eq!((finding.consistent, finding.counted), (Some(true), Counted::WholeFile));
        let finding = verdict("entity 80.66129032258065\nattribute 89.66\nother 83.61");
        assert_eq!((finding.consistent, finding.counted), (Some(false), Counted::ByTheScript));
    }

    #[test]
    fn a_figure_in_full_gives_its_count_away() {
        let scrambled = format!("global: {}\nother: 83.6\n", 713.0 / 896.0 * 100.0);
        let finding = verdict(&scrambled);
        assert_eq!(finding.consistent, Some(false));
        assert_eq!(finding.findings[0].fraction, Some((713, 896)));
        assert_eq!(finding.findings[1].fraction, Some((209, 250)));
    }

    #[test]
    fn parts_must_make_the_whole() {
        assert_eq!(
            verdict("other 83.60\nother - count 84.00\nother - text 82.00").consistent,
            Some(true)
        );
        let finding = verdict("other 83.60\nother - count 84.00\nother - text 80.00");
        assert_eq!(finding.consistent, Some(false));
        let said = "other is 209/250, but other - count (168/200), other - text (40/50) make 208";
        assert_eq!(finding.contradictions, [said]);
        // The same parts with one decimal may stand for other counts too.
        let finding =
            verdict("entity 79.4\nentity - part 80.3\nentity - state 70.1\nentity - whole 80.0");
        assert_eq!(finding.contradictions, [""; 0]);
    }
}
