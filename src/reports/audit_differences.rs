//! In: the corrected figures of two runs. Out: their differences as a text for a terminal. Printing it is left to the command.

use super::correction_tables::{Rows, drawn, heading};
use super::numbers::{fixed, p_value, signed, signed_ends};
use crate::audit::comparison::{AuditComparison, LabelCounts, LeftOut};
use crate::audit::correction::{FEWEST_ITEMS, FEWEST_LABELS, RuleStage};
use crate::wording::counted;

/// The corrected figures of two runs and their differences; below them what was left out, and why, and the `warnings`.
pub fn corrected_comparison_text(
    [base, other]: [&str; 2],
    found: &AuditComparison,
    warnings: &[String],
) -> String {
    let mut text = format!("corrected by labels: {other} - {base}\n");
    let headings = ["", "base", "other", "difference", "p", "p (Holm)"];
    for stage in [RuleStage::AfterRule, RuleStage::BeforeRule] {
        let mut table: Rows = vec![headings.map(str::to_owned).to_vec()];
        table.extend(found.figures.iter().filter(|row| row.stage == stage).map(|row| {
            let ends = signed_ends((row.difference.low, row.difference.high), 2);
            vec![
                row.name.clone(),
                fixed(row.base.percent, 2),
                fixed(row.other.percent, 2),
                format!("{} ({ends})", signed(row.difference.points, 2)),
                p_value(row.p),
                p_value(row.p_holm),
            ]
        }));
        text.push_str(&format!("\n{}\n{}", heading(stage), drawn(&table)));
        let left_out = found.left_out.iter().filter(|one| one.stage == stage);
        let left_out: Vec<String> = left_out.map(left_out_text).collect();
        if !left_out.is_empty() {
            text.push_str(&format!(
                "left out, since each run needs {FEWEST_LABELS} labelled answers of {FEWEST_ITEMS} items: {}\n",
                left_out.join("; ")
            ));
        }
    }
    let items = counted(found.items, "item");
    text.push_str(&format!("\nover {items} that both runs have\n"));
    text.push_str(
        "p decides: significant below 0.05, of a category p (Holm) below 0.05, which is corrected for the categories of its table\n",
    );
    warnings.iter().for_each(|warning| text.push_str(&format!("note: {warning}\n")));
    text
}

/// A figure and the labels of both runs.
fn left_out_text(one: &LeftOut) -> String {
    let [base, other] = [one.base, one.other]
        .map(|LabelCounts { labels, items }| format!("{labels} of {}", counted(items, "item")));
    format!("{} ({base}, and {other})", one.name)
}
