//! In: a check. Out: its verdicts for a terminal, as JUnit XML and for GitHub Actions.

use crate::check::{Check, CheckedFigure, Outcome, Undecided};

use super::escape::escape;
use super::exported_tables::escape_markdown;
use super::figure_table::few_items_note;
use super::numbers::{fixed, p_value, signed, signed_ends};
use crate::wording::{counted, points};

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
        drop if drop > 0.0 => format!("dropped by {} points", fixed(drop, 2)),
        drop if drop < 0.0 => format!("rose by {} points", fixed(-drop, 2)),
        _ => "no change shown".to_owned(),
    };
    let mut text = format!("{} -> {}, {moved}", fixed(*baseline, 2), fixed(*run, 2));
    if let (Some(least), Some(most)) = (figure.least_drop, figure.most_drop) {
        let level = 100.0 * (1.0 - 2.0 * check.alpha);
        let level = format!("{level:.4}");
        let level = level.trim_end_matches('0').trim_end_matches('.');
        // Not a minus sign alone: that makes -0.00 of no change.
        let ends = signed_ends((0.0 - most, 0.0 - least), 2);
        text.push_str(&format!(" ({level} % interval of the change: {ends}"));
        if let Some(p) = figure.p_holm {
            let tolerated = points(check.max_drop);
            text.push_str(&format!(", p {} for a true drop of {tolerated}", p_value(p)));
            if check.figures.len() > 1 {
                text.push_str(&format!(" (Holm, {} numbers)", check.figures.len()));
            }
        }
        text.push(')');
    }
    if figure.outcome == Outcome::Failed {
        text.push_str(&format!("; more than the {} tolerated", points(check.max_drop)));
    }
    if let Some(why) = figure.undecided {
        text.push_str(&undecided(figure, why, check));
    }
    text
}

/// Why nothing can be said, and what would help.
fn undecided(figure: &CheckedFigure, why: Undecided, check: &Check) -> String {
    let (items, tolerated) = (counted(figure.items, "item"), points(check.max_drop));
    let mut text = match why {
        Undecided::FewItems => {
            format!("; {items} {} too few to pass", if figure.items == 1 { "is" } else { "are" })
        }
        Undecided::ManyFigures => {
            format!("; alone it would fail, among {} numbers it may be chance", check.figures.len())
        }
        Undecided::MoreItems => {
            format!("; {items} cannot decide whether it dropped by more than {tolerated}")
        }
        Undecided::AtTheMargin => format!(
            "; it dropped by about the {tolerated} tolerated: more items will hardly decide it, another \
             --max-drop would"
        ),
    };
    let least = figure.least_p.filter(|least| *least >= check.alpha / check.figures.len() as f64);
    if let Some(least) = least {
        text.push_str(&format!(
            ", nor can they fail at --alpha {}: their smallest possible p is {}",
            check.alpha,
            p_value(least)
        ));
    }
    if let Some(needed) = figure.items_needed {
        text.push_str(&match why {
            Undecided::FewItems => format!("; at least {needed} are needed"),
            _ => {
                let truly = match figure.drop {
                    drop if drop > 0.0 => "the drop is truly of this size",
                    drop if drop < 0.0 => "the rise is truly of this size",
                    _ => "there is truly no change",
                };
                format!(", about {needed} can if {truly}")
            }
        });
    }
    text
}

fn notes(check: &Check) -> Vec<String> {
    let mut notes = vec![format!(
        "{}: {} against {}, protocol {}, {}, tolerated drop {}, alpha {}",
        check.outcome.name(),
        check.run,
        check.baseline,
        check.protocol.name(),
        counted(check.items, "shared item"),
        points(check.max_drop),
        check.alpha
    )];
    notes.extend(few_items_note(check.items as u64));
    notes.extend(check.warnings.iter().map(|warning| format!("note: {warning}")));
    notes
}

/// How the only suite of [`check_junit`]'s files begins.
pub(crate) const JUNIT_SUITE: &str = "<testsuite name=\"dpg-bench check\"";

/// JUnit XML: one test case a figure; an undecided one is skipped, with its reason. The reason stands there twice,
/// as an attribute, which Jenkins and junitparser show, and as text, which GitLab and GitHub's actions show. Those
/// actions want a time; there is none to tell.
pub fn check_junit(check: &Check) -> String {
    let count = |outcome| check.figures.iter().filter(|figure| figure.outcome == outcome).count();
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    text.push_str(&format!(
        "<testsuites>\n  {JUNIT_SUITE} tests=\"{}\" failures=\"{}\" skipped=\"{}\" \
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
        "| | outcome | baseline | run | change | |\n| --- | --- | ---: | ---: | ---: | --- |\n",
    );
    for figure in &check.figures {
        text.push_str(&format!(
            "| {} | {} | {} | {} | {} | {} |\n",
            escape_markdown(&figure.name),
            figure.outcome.name(),
            fixed(figure.baseline, 2),
            fixed(figure.run, 2),
            signed(-figure.drop, 2),
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
