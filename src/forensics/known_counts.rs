//! In: the figures of a category table. Out: for each whether it can be a count over the questions
//! that a complete run of the reference script really has, and what that says of the table.

use serde::Serialize;

use super::fractions::{Printed, chance_of_passing};
use super::pasted_table::PastedTable;

/// Questions that a complete run of the reference script scores per category: derived from the
/// full-precision outputs of single-process runs (`docs/protocols.md`). The others are not known.
pub const KNOWN_COUNTS: &[(&str, u32)] = &[
    ("global", 329),
    ("global -", 329),
    ("other", 250),
    ("other - count", 200),
    ("other - text", 50),
];

/// All questions that a complete run of the reference script scores.
pub const TOTAL: u32 = 14_373;

/// What is found out about one table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TableFinding {
    /// The model's name, where the table has one.
    pub label: Option<String>,
    /// Per figure, in the table's order.
    pub findings: Vec<Finding>,
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
    /// Questions that a complete run has, where known.
    pub n: Option<u32>,
    /// The count that the figure stands for, if it can.
    pub k: Option<u32>,
    /// Whether it can; `None` where the number of questions is not known.
    pub holds: Option<bool>,
    /// Chance that a random figure with these decimals would hold.
    pub chance: Option<f64>,
    /// For a figure printed in full: the fraction with the smallest denominator that explains it.
    /// The number of questions behind it is that denominator or a multiple.
    pub fraction: Option<(u32, u32)>,
}

/// Examines a table.
pub fn examine(table: &PastedTable) -> TableFinding {
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
            let n =
                KNOWN_COUNTS.iter().find(|known| known.0 == figure.category).map(|known| known.1);
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
    TableFinding { label: table.label.clone(), findings, contradictions, consistent, chance }
}

/// Counts that hold one by one and not together.
fn contradictions(findings: &[Finding]) -> Vec<String> {
    let of = |category: &str| findings.iter().find(|finding| finding.category == category);
    let k = |category: &str| of(category).and_then(|finding| finding.k);
    let mut found = Vec::new();
    if let (Some(other), Some(count), Some(text)) =
        (k("other"), k("other - count"), k("other - text"))
        && other != count + text
    {
        found.push(format!(
            "other is {other}/250, but other - count ({count}/200) and other - text ({text}/50) make {}",
            count + text
        ));
    }
    if let (Some(broad), Some(detailed)) = (k("global"), k("global -"))
        && broad != detailed
    {
        found.push(format!("global is {broad}/329 and its only detail `global -` {detailed}/329"));
    }
    let denominator = |category| of(category).and_then(|finding| finding.fraction).map(|(_, n)| n);
    if let (Some(entity), Some(attribute), Some(relation)) =
        (denominator("entity"), denominator("attribute"), denominator("relation"))
    {
        let rest = TOTAL - 329 - 250;
        if !can_add_up(rest, [entity, attribute, relation]) {
            found.push(format!(
                "no multiples of {entity} (entity), {attribute} (attribute) and {relation} (relation) add up to the {rest} questions that remain of {TOTAL}"
            ));
        }
    }
    found
}

/// Whether `total` is a sum of positive multiples of the three denominators.
fn can_add_up(total: u32, [a, b, c]: [u32; 3]) -> bool {
    let multiples =
        |step: u32, below: u32| (1..).map(move |m| m * step).take_while(move |&sum| sum < below);
    multiples(a, total).any(|first| {
        let left = total - first;
        multiples(b, left).any(|second| (left - second).is_multiple_of(c))
    })
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
        let finding = verdict("Global 79.64\nOther 83.60\nEntity 78.70");
        assert_eq!(finding.consistent, Some(true));
        assert_eq!(finding.findings[0].k, Some(262));
        assert!(finding.chance < 0.001, "{}", finding.chance);
        // No count of 329 prints as 79.62, none of 250 as 83.67 (the protocol's own 400-item run).
        assert_eq!(verdict("Global 79.62\nOther 83.60").consistent, Some(false));
        assert_eq!(verdict("Global 79.64\nOther 83.67").consistent, Some(false));
        assert_eq!(verdict("Entity 78.70").consistent, None);
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
        assert!(finding.contradictions[0].contains("make 208"), "{:?}", finding.contradictions);
    }

    #[test]
    fn three_denominators_must_leave_room_for_the_total() {
        assert!(can_add_up(13_794, [4_500, 5_000, 4_294]));
        assert!(!can_add_up(13_794, [7_000, 5_000, 4_294]));
    }
}
