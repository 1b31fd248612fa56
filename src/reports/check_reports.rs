//! In: a check. Out: its verdicts for a terminal, as JUnit XML and for GitHub Actions.

use crate::check::{Check, CheckedFigure, Outcome};

use super::comparison_tables::printed_p;
use super::escape::escape;
use super::exported_tables::escape_markdown;

/// One line a figure, and what they rest on.
pub fn check_terminal(check: &Check) -> String {
    let mut text = String::new();
    for figure in &check.figures {
        text.push_str(&format!(
            "{:<9}  {}: {}\n",
            figure.outcome.name(),
            figure.name,
            sentence(figure, check)
        ));
    }
    for note in notes(check) {
        text.push_str(&note);
        text.push('\n');
    }
    text
}

/// What came of a figure, in one sentence.
fn sentence(figure: &CheckedFigure, check: &Check) -> String {
    let CheckedFigure { baseline, run, drop, .. } = figure;
    let moved = match *drop {
        drop if drop > 0.0 => format!("dropped by {drop:.2} points"),
        drop if drop < 0.0 => format!("rose by {:.2} points", -drop),
        _ => "did not change".to_owned(),
    };
    let mut text = format!("{baseline:.2} -> {run:.2}, {moved}");
    if let (Some(least), Some(most)) = (figure.least_drop, figure.most_drop) {
        let level = 100.0 * (1.0 - 2.0 * check.alpha);
        text.push_str(&format!(" ({level:.0} % interval of the drop: {least:.2} to {most:.2}"));
        if let Some(p) = figure.p {
            text.push_str(&format!(", p {}", printed_p(p)));
        }
        text.push(')');
    }
    match (figure.outcome, figure.items_needed) {
        (Outcome::Undecided, Some(needed)) => text.push_str(&format!(
            "; {} items are too few to tell a drop of {} points, {needed} would do",
            figure.items, check.max_drop
        )),
        (Outcome::Undecided, None) => text.push_str("; too few items to tell"),
        (Outcome::Failed, _) => {
            text.push_str(&format!("; more than the {} points that are tolerated", check.max_drop));
        }
        (Outcome::Passed, _) => {}
    }
    text
}

fn notes(check: &Check) -> Vec<String> {
    let mut notes = vec![format!(
        "{}: {} against {}, protocol {}, {} shared items, tolerated drop {} points, alpha {}",
        check.outcome.name(),
        check.run,
        check.baseline,
        check.protocol.name(),
        check.items,
        check.max_drop,
        check.alpha
    )];
    notes.extend(check.warnings.iter().map(|warning| format!("note: {warning}")));
    notes
}

/// JUnit XML: one test case a figure; an undecided one is skipped, with its reason. The reason stands there twice,
/// as an attribute, which Jenkins and junitparser show, and as text, which GitLab and GitHub's actions show. Those
/// actions want a time; there is none to tell.
pub fn check_junit(check: &Check) -> String {
    let count = |outcome| check.figures.iter().filter(|figure| figure.outcome == outcome).count();
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    text.push_str(&format!(
        "<testsuites>\n  <testsuite name=\"dpg-bench check\" tests=\"{}\" failures=\"{}\" skipped=\"{}\" \
         errors=\"0\" time=\"0\">\n",
        check.figures.len(),
        count(Outcome::Failed),
        count(Outcome::Undecided)
    ));
    for figure in &check.figures {
        let (name, class) = (escape(&figure.name), escape(&check.run));
        let reason = escape(&sentence(figure, check));
        text.push_str(&format!("    <testcase classname=\"{class}\" name=\"{name}\" time=\"0\">"));
        text.push_str(&match figure.outcome {
            Outcome::Failed => format!("<failure message=\"{reason}\">{reason}</failure>"),
            Outcome::Undecided => format!("<skipped message=\"{reason}\">{reason}</skipped>"),
            Outcome::Passed => format!("<system-out>{reason}</system-out>"),
        });
        text.push_str("</testcase>\n");
    }
    text.push_str("  </testsuite>\n</testsuites>\n");
    text
}

/// A section for GitHub's step summary.
pub fn check_github_summary(check: &Check) -> String {
    let mut text = format!("### dpg-bench check: {}\n\n", check.outcome.name());
    text.push_str(
        "| | outcome | baseline | run | drop | |\n| --- | --- | ---: | ---: | ---: | --- |\n",
    );
    for figure in &check.figures {
        text.push_str(&format!(
            "| {} | {} | {:.2} | {:.2} | {:+.2} | {} |\n",
            escape_markdown(&figure.name),
            figure.outcome.name(),
            figure.baseline,
            figure.run,
            figure.drop,
            escape_markdown(&sentence(figure, check))
        ));
    }
    text.push('\n');
    for note in notes(check) {
        text.push_str(&format!("- {}\n", escape_markdown(&note)));
    }
    text
}

/// Workflow commands: an error for each failed figure, a warning for each undecided one.
pub fn check_github_annotations(check: &Check) -> String {
    let mut text = String::new();
    for figure in &check.figures {
        let command = match figure.outcome {
            Outcome::Failed => "error",
            Outcome::Undecided => "warning",
            Outcome::Passed => continue,
        };
        // Workflow commands end with the line and read percent signs as escapes.
        let encode =
            |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
        let title = encode(&figure.name).replace(':', "%3A").replace(',', "%2C");
        let message = encode(&sentence(figure, check));
        text.push_str(&format!("::{command} title=dpg-bench {title}::{message}\n"));
    }
    text
}
