//! In: what the labels of an audit say. Out: that as a text for a terminal, as Markdown and as CSV. Writing them is left to the
//! command.

use comfy_table::{CellAlignment, Table};

use super::numbers::{ends, fixed, signed, signed_ends};
use super::terminal::STYLE;
use crate::audit::correction::{
    CorrectedFigure, CorrectedValue, Correction, JudgeAgainstPeople, Rate, RuleStage,
};
use crate::wording::counted;

/// The counts of labels, how often the judge is right, the figures after and before the rule, and the judges.
pub fn correction_text(found: &Correction) -> String {
    let mut text = labels_text(found);
    text.push_str("\nhow often the judge says what people say\n");
    text.push_str(&drawn(&errors_table(found)));
    for stage in [RuleStage::AfterRule, RuleStage::BeforeRule] {
        text.push_str(&format!("\n{}\n", heading(stage)));
        text.push_str(&drawn(&figures_table(found, stage)));
    }
    if found.figures.iter().any(|figure| figure.corrected_by_probability.is_some()) {
        text.push_str("\ncorrected, with the judge's P(yes) in place of its words\n");
        text.push_str(&drawn(&probability_table(found)));
    }
    if found.judges.len() > 1 {
        text.push_str("\nthe judges of the run beside the labels\n");
        text.push_str(&drawn(&judges_table(found)));
    }
    text.push('\n');
    for line in notes(found) {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// The same for documents.
pub fn correction_markdown(found: &Correction) -> String {
    let mut text = format!("# Audit of `{}`\n\n", found.judge);
    text.push_str(
        &labels_text(found).lines().map(|line| format!("- {line}\n")).collect::<String>(),
    );
    text.push_str("\n## How often the judge says what people say\n\n");
    text.push_str(&piped(&errors_table(found)));
    for stage in [RuleStage::AfterRule, RuleStage::BeforeRule] {
        text.push_str(&format!("\n## Figures {}\n\n", heading(stage)));
        text.push_str(&piped(&figures_table(found, stage)));
    }
    if found.figures.iter().any(|figure| figure.corrected_by_probability.is_some()) {
        text.push_str("\n## Corrected, with the judge's P(yes) in place of its words\n\n");
        text.push_str(&piped(&probability_table(found)));
    }
    if found.judges.len() > 1 {
        text.push_str("\n## The judges of the run beside the labels\n\n");
        text.push_str(&piped(&judges_table(found)));
    }
    text.push('\n');
    text.push_str(&notes(found).map(|line| format!("- {line}\n")).collect::<String>());
    text
}

/// One row per figure: `stage,name,judge_percent,labels,items`, then value, ends, standard error and weight of the judge of labels
/// alone, of both, and of both with P(yes), then `labels_lacking,labels_for_one_point`. What there is not is an empty cell; numbers
/// read back to the same value.
///
/// # Errors
/// The CSV writer refused (a programming error).
pub fn correction_csv(found: &Correction) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut names =
        ["stage", "name", "judge_percent", "labels", "items"].map(str::to_owned).to_vec();
    for kind in ["labels_alone", "corrected", "corrected_by_probability"] {
        let parts = ["percent", "low", "high", "standard_error", "judge_weight"];
        names.extend(parts.map(|part| format!("{kind}_{part}")));
    }
    names.extend(["labels_lacking", "labels_for_one_point"].map(str::to_owned));
    writer.write_record(&names)?;
    for figure in &found.figures {
        let mut row = vec![stage_name(figure.stage).to_owned(), figure.name.clone()];
        row.extend([figure.judge.to_string(), figure.labels.to_string(), figure.items.to_string()]);
        for value in [figure.labels_alone, figure.corrected, figure.corrected_by_probability] {
            row.extend(match value {
                Some(CorrectedValue { percent, low, high, standard_error, judge_weight }) => {
                    [percent, low, high, standard_error, judge_weight].map(|x| x.to_string())
                }
                None => std::array::from_fn(|_| String::new()),
            });
        }
        row.push(figure.labels_lacking.to_string());
        row.push(figure.labels_for_one_point.map(|n| n.to_string()).unwrap_or_default());
        writer.write_record(&row)?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

fn stage_name(stage: RuleStage) -> &'static str {
    match stage {
        RuleStage::BeforeRule => "before_rule",
        RuleStage::AfterRule => "after_rule",
    }
}

pub(super) fn heading(stage: RuleStage) -> &'static str {
    match stage {
        RuleStage::BeforeRule => "before the dependency rule",
        RuleStage::AfterRule => "after the dependency rule",
    }
}

/// Who said what, and how far they agree.
fn labels_text(found: &Correction) -> String {
    let Correction { judge, drawn, labelled, cannot_tell, rule_open, .. } = found;
    let mut text = format!(
        "of {} by `{judge}` {labelled} are labelled yes or no; nobody could tell {cannot_tell}\n",
        counted(*drawn, "drawn answer")
    );
    if *rule_open > 0 {
        text.push_str(&format!(
            "{} below a question without a label count after the rule as the others do\n",
            counted(*rule_open, "yes answer")
        ));
    }
    for who in &found.annotators {
        let (name, yes, no, open) = (&who.name, who.yes, who.no, who.cannot_tell);
        text.push_str(&format!("{name}: {yes} yes, {no} no, {open} cannot tell\n"));
    }
    for pair in &found.annotator_agreement {
        let (one, other) = (&pair.one, &pair.other);
        let kappa = pair.kappa.map_or("undefined".to_owned(), |kappa| fixed(kappa, 3));
        let (equal, questions) = (pair.equal, counted(pair.questions, "question"));
        text.push_str(&format!("{one} / {other}: {equal} of {questions} alike, kappa {kappa}\n"));
    }
    text
}

pub(super) type Rows = Vec<Vec<String>>;

fn errors_table(found: &Correction) -> Rows {
    let heading = ["", "of people's yes", "labels", "of their no", "labels"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for errors in &found.judge_errors {
        let mut row = vec![errors.name.clone()];
        for rate in [&errors.sensitivity, &errors.specificity] {
            row.extend([rate_text(rate.as_ref()), rate_labels(rate.as_ref())]);
        }
        rows.push(row);
    }
    rows
}

fn rate_text(rate: Option<&Rate>) -> String {
    let Some(rate) = rate else { return "-".to_owned() };
    match rate.low.zip(rate.high) {
        Some(found) => format!("{} ({})", fixed(rate.percent, 1), ends(found, 1)),
        None => fixed(rate.percent, 1),
    }
}

fn rate_labels(rate: Option<&Rate>) -> String {
    let Some(rate) = rate else { return "0".to_owned() };
    let digits = usize::from(rate.labels.fract() != 0.0);
    fixed(rate.labels, digits)
}

fn value_text(value: Option<&CorrectedValue>) -> String {
    let Some(value) = value else { return "-".to_owned() };
    format!("{} ({})", fixed(value.percent, 1), ends((value.low, value.high), 1))
}

fn figures_table(found: &Correction, stage: RuleStage) -> Rows {
    let heading = ["", "judge", "labels alone", "corrected", "labels"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(found.figures.iter().filter(|figure| figure.stage == stage).map(|figure| {
        vec![
            figure.name.clone(),
            fixed(figure.judge, 2),
            value_text(figure.labels_alone.as_ref()),
            value_text(figure.corrected.as_ref()),
            figure.labels.to_string(),
        ]
    }));
    rows
}

fn probability_table(found: &Correction) -> Rows {
    let heading = ["", "after the rule", "before the rule"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    let of = |stage: RuleStage| found.figures.iter().filter(move |figure| figure.stage == stage);
    for (after, before) in of(RuleStage::AfterRule).zip(of(RuleStage::BeforeRule)) {
        let values = [after, before].map(|figure| figure.corrected_by_probability.as_ref());
        rows.push(vec![after.name.clone(), value_text(values[0]), value_text(values[1])]);
    }
    rows
}

fn judges_table(found: &Correction) -> Rows {
    let heading = ["", "as people", "of yes", "of no", "score - corrected"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(found.judges.iter().map(|judge| {
        let short = |rate: Option<&Rate>| rate.map_or("-".to_owned(), |r| fixed(r.percent, 1));
        vec![
            judge.judge.clone(),
            rate_text(Some(&judge.agreement)),
            short(judge.sensitivity.as_ref()),
            short(judge.specificity.as_ref()),
            signed(judge.score_less_corrected, 2),
        ]
    }));
    rows
}

/// What the tables do not say by themselves.
fn notes(found: &Correction) -> impl Iterator<Item = String> {
    let score = found.score();
    let lacking: Vec<String> = found
        .figures
        .iter()
        .filter(|figure| figure.stage == RuleStage::AfterRule && figure.labels_lacking > 0)
        .map(|figure| format!("{} {}", figure.name, figure.labels_lacking))
        .collect();
    let lacking = (!lacking.is_empty()).then(|| {
        format!("too few labels to correct by category; still lacking: {}", lacking.join(", "))
    });
    [score.map(gain), score.map(more_labels), lacking, favoured(found)].into_iter().flatten()
}

/// What the judge's answers add to the labels.
fn gain(score: &CorrectedFigure) -> String {
    let Some((alone, both)) = score.labels_alone.zip(score.corrected) else {
        return String::new();
    };
    let length = |value: CorrectedValue| value.high - value.low;
    format!(
        "the corrected score's interval is {} points long, that of the labels alone {}",
        fixed(length(both), 2),
        fixed(length(alone), 2)
    )
}

fn more_labels(score: &CorrectedFigure) -> String {
    match score.labels_for_one_point {
        Some(wanted) if wanted <= score.labels => {
            "it ends no more than about one point to either side".to_owned()
        }
        Some(wanted) => format!(
            "for one point to either side it would take {} in all, {} more",
            counted(wanted, "label"),
            wanted - score.labels
        ),
        None => "no number of labels brings it to one point to either side: the items differ too much among themselves; take more \
                 items"
            .to_owned(),
    }
}

/// Which judge is nearest to people, where there are several.
fn favoured(found: &Correction) -> Option<String> {
    let [best, next, ..] = found.judges.as_slice() else { return None };
    // Of the best two, one is the judge that the differences are taken from, or both are compared with it.
    let is_audited = |judge: &JudgeAgainstPeople| judge.judge == found.judge;
    let difference =
        if is_audited(best) { next.agreement_less_audited } else { best.agreement_less_audited };
    let audited = &found.judge;
    let other = if is_audited(best) { &next.judge } else { &best.judge };
    let difference = difference?;
    let (points, ends) =
        (signed(difference.points, 1), signed_ends((difference.low, difference.high), 1));
    let is_told = difference.low > 0.0 || difference.high < 0.0;
    Some(if is_told {
        format!(
            "the labels favour `{}`: agreement of `{other}` less that of `{audited}` is {points} points ({ends})",
            best.judge
        )
    } else {
        format!(
            "the labels do not tell `{other}` and `{audited}` apart: {points} points of agreement ({ends})"
        )
    })
}

/// For a terminal.
pub(super) fn drawn(rows: &Rows) -> String {
    let mut table = Table::new();
    table.load_style(STYLE);
    let mut rows = rows.iter();
    if let Some(heading) = rows.next() {
        table.set_header(heading);
    }
    rows.for_each(|row| {
        table.add_row(row);
    });
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{}\n", table.trim_fmt())
}

/// For Markdown.
fn piped(rows: &Rows) -> String {
    let line = |row: &Vec<String>| format!("| {} |\n", row.join(" | "));
    let mut text = String::new();
    for (place, row) in rows.iter().enumerate() {
        text.push_str(&line(row));
        if place == 0 {
            let marks: Vec<&str> =
                (0..row.len()).map(|column| if column == 0 { "---" } else { "---:" }).collect();
            text.push_str(&format!("| {} |\n", marks.join(" | ")));
        }
    }
    text
}
