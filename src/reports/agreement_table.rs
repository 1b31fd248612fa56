//! In: how the judges of a run compare. Out: that as a text for a terminal and as CSV. Writing them is
//! left to the command.

use comfy_table::{CellAlignment, Table};

use crate::aggregate::{
    AgreementReport, CategoryAgreement, EnsembleRule, EnsembleScore, Estimate, ItemDispute,
    PairAgreement, ProbabilityAgreement, Protocol, QuestionDispute, ScoreDifference,
};

use super::figure_table::with_margin;
use super::numbers::{self, fixed, p_value, signed, signed_ends};
use super::terminal::{STYLE, interval_note};
use crate::wording::{counted, plural};

/// Questions of an item shown one by one; the JSON file has them all.
const SHOWN_QUESTIONS: usize = 3;

/// The scores of all judges, then for every two of them a table by category and the items over which
/// they disagree most.
pub(crate) fn agreement_text(report: &AgreementReport) -> String {
    let mut text = scores(report) + "\n" + &ensembles(report);
    for pair in &report.pairs {
        text.push('\n');
        text.push_str(&pair_text(pair));
    }
    text.push('\n');
    text.push_str(&interval_note(report.intervals, true, true));
    let has_stated = report.pairs.iter().any(|pair| pair.probabilities.is_some());
    text.push_str(&format!(
        "\nof kappa{}: {} bootstrap draws of whole items; of differences: swapping the judges item by item\n",
        if has_stated { " and P(yes)" } else { "" },
        report.draws
    ));
    text
}

fn scores(report: &AgreementReport) -> String {
    let mut table = Table::new();
    table.load_style(STYLE);
    let headings = Protocol::ALL.map(|protocol| format!("{} score", protocol.name()));
    table.set_header(std::iter::once("judge".to_owned()).chain(headings));
    for judge in &report.judges {
        let score = |protocol: Protocol| match judge.score(protocol) {
            Some(score) => with_margin(&score),
            None if judge.gaps.contains_key(protocol.name()) => "withheld".to_owned(),
            None => "-".to_owned(),
        };
        table.add_row(std::iter::once(judge.judge.name.clone()).chain(Protocol::ALL.map(score)));
    }
    finished(table)
}

/// What all judges score together: a column for each way.
fn ensembles(report: &AgreementReport) -> String {
    let all = &report.ensembles;
    let mut table = Table::new();
    table.load_style(STYLE);
    let heading = |one: &EnsembleScore| match (one.rule, one.protocol) {
        (EnsembleRule::Majority, _) => "majority",
        (EnsembleRule::MeanProbability, Protocol::Soft) => "mean P(yes), soft",
        (EnsembleRule::MeanProbability, _) => "mean P(yes) > 0.5",
    };
    table.set_header(std::iter::once("together").chain(all.iter().map(heading)));
    let cell = |figure: Option<Estimate>| figure.map_or("-".to_owned(), |one| with_margin(&one));
    let scores = all.iter().map(|one| cell(one.score));
    table.add_row(std::iter::once("score".to_owned()).chain(scores));
    for category in &all[0].l1 {
        let figures = all.iter().map(|one| {
            let found = one.l1.iter().find(|found| found.name == category.name);
            cell(found.and_then(|found| found.conditional))
        });
        table.add_row(std::iter::once(category.name.clone()).chain(figures));
    }
    let asked =
        all.iter().map(|one| format!("{} of {}", one.answered, counted(one.questions, "question")));
    table.add_row(std::iter::once("over".to_owned()).chain(asked));
    // Within 80 columns.
    for column in table.column_iter_mut().skip(1) {
        column.set_padding((1, 0));
    }
    let mut text = finished(table);
    text.push_str(&format!(
        "over the questions that all {} judges answered; categories after the rule\n\
         majority: yes where more than half say yes, so that a tie is not yes\n",
        report.judges.len()
    ));
    if all.len() == 1 {
        text.push_str("no mean P(yes): not all of them state one\n");
    }
    text
}

fn pair_text(pair: &PairAgreement) -> String {
    let PairAgreement { first, second, .. } = pair;
    // Two tables, so that each fits a terminal of 80 columns.
    let [mut shares, mut answers] = [Table::new(), Table::new()];
    shares.load_style(STYLE);
    shares.set_header(["", "agree", "k/n", "kappa"]);
    answers.load_style(STYLE);
    answers.set_header(["answers", "yes/yes", "yes/no", "no/yes", "no/no", "unparsable"]);
    for row in std::iter::once(&pair.overall).chain(&pair.l1) {
        let name = || std::iter::once(row.name.clone());
        shares.add_row(name().chain(figures(row)));
        let counts = [row.yes_yes, row.yes_no, row.no_yes, row.no_no, row.unparsable];
        answers.add_row(name().chain(counts.map(|count| count.to_string())));
    }
    let mut text = format!("{first} / {second}\n{}{}", finished(shares), finished(answers));
    for protocol in Protocol::ALL {
        text.push_str(&match pair.score_differences.get(protocol.name()) {
            Some(found) => format!(
                "{}: {first} minus {second} is {} points{}\n",
                protocol.name(),
                signed(found.points, 2),
                evidence(found)
            ),
            None => format!(
                "{}: no difference of scores, for one has none or is withheld (`dpg-bench score RUN` says why)\n",
                protocol.name()
            ),
        });
    }
    if let Some(stated) = &pair.probabilities {
        text.push_str(&probabilities_text(stated, pair));
    }
    text.push_str(&format!("they disagree over {}", counted(pair.items_in_dispute, "item")));
    text.push_str(if pair.worst.is_empty() { "\n" } else { ", most over\n" });
    for dispute in &pair.worst {
        text.push_str(&dispute_text(dispute, pair));
    }
    text
}

/// `P(yes): correlation 0.912 (0.880 to 0.934); a minus b is +0.031 (+0.012 to +0.050), over 96 questions`.
fn probabilities_text(stated: &ProbabilityAgreement, pair: &PairAgreement) -> String {
    let within = |ends: Option<(f64, f64)>, shown: fn((f64, f64), usize) -> String| {
        ends.map_or(String::new(), |ends| format!(" ({})", shown(ends, 3)))
    };
    let correlation = match stated.correlation {
        Some(found) => fixed(found, 3),
        None => "undefined".to_owned(),
    };
    let ends = stated.correlation_low.zip(stated.correlation_high);
    let correlation = correlation + &within(ends, numbers::ends);
    let ends = stated.difference_low.zip(stated.difference_high);
    format!(
        "P(yes): correlation {correlation}\nP(yes): {} minus {} is {}{}, over {}\n",
        pair.first,
        pair.second,
        signed(stated.difference, 3),
        within(ends, signed_ends),
        counted(stated.questions, "question")
    )
}

/// The interval of a difference and its p-value, where there are any.
fn evidence(found: &ScoreDifference) -> String {
    match (found.low, found.high, found.p) {
        (Some(low), Some(high), Some(p)) => {
            format!(" ({}, p {})", signed_ends((low, high), 2), p_value(p))
        }
        _ => String::new(),
    }
}

/// Share, its counts and kappa with its interval.
fn figures(row: &CategoryAgreement) -> [String; 3] {
    let absent = || "-".to_owned();
    let [share, counts] = match row.agreement {
        Some(share) => [with_margin(&share), format!("{}/{}", share.k, share.n)],
        None => [absent(), "0/0".to_owned()],
    };
    let ends = row.kappa_low.zip(row.kappa_high);
    let ends = ends.map_or(String::new(), |found| format!(" ({})", numbers::ends(found, 3)));
    [share, counts, row.kappa.map_or_else(absent, |kappa| format!("{}{ends}", fixed(kappa, 3)))]
}

fn dispute_text(dispute: &ItemDispute, pair: &PairAgreement) -> String {
    let ItemDispute { item, disagreed, compared, questions } = dispute;
    let mut text = format!("  {item}: {disagreed} of {compared} answers\n");
    let mut ordered: Vec<&QuestionDispute> = questions.iter().collect();
    ordered.sort_by_key(|question| {
        std::cmp::Reverse(question.first_yes.len() + question.second_yes.len())
    });
    for question in ordered.iter().take(SHOWN_QUESTIONS) {
        let said = |judge: &str, images: &[u32]| {
            let images: Vec<String> = images.iter().map(u32::to_string).collect();
            let noun = plural(images.len() as u64, "image");
            (!images.is_empty())
                .then(|| format!("only {judge} says yes to {noun} {}", images.join(", ")))
        };
        let parts =
            [said(&pair.first, &question.first_yes), said(&pair.second, &question.second_yes)];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        text.push_str(&format!(
            "    {} {}: {}\n",
            question.question,
            question.text,
            parts.join("; ")
        ));
    }
    if let Some(more) = questions.len().checked_sub(SHOWN_QUESTIONS).filter(|&more| more > 0) {
        text.push_str(&format!("    and {more} more questions\n"));
    }
    text
}

fn finished(mut table: Table) -> String {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{}\n", table.trim_fmt())
}

/// One row per pair and category: `first,second,level,category,answered,unparsable,compared,agreed,
/// agreement_percent,kappa,yes_yes,yes_no,no_yes,no_no,agreement_low,agreement_high,kappa_low,kappa_high`. A
/// figure that is undefined is an empty cell; numbers read back to the same value.
///
/// # Errors
/// The CSV writer refused (a programming error).
pub(crate) fn agreement_csv(report: &AgreementReport) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record([
        "first",
        "second",
        "level",
        "category",
        "answered",
        "unparsable",
        "compared",
        "agreed",
        "agreement_percent",
        "kappa",
        "yes_yes",
        "yes_no",
        "no_yes",
        "no_no",
        "agreement_low",
        "agreement_high",
        "kappa_low",
        "kappa_high",
    ])?;
    for pair in &report.pairs {
        let rows = std::iter::once(("overall", &pair.overall));
        for (level, row) in rows.chain(pair.l1.iter().map(|row| ("l1", row))) {
            let counts = [row.yes_yes, row.yes_no, row.no_yes, row.no_no];
            let number = |value: Option<f64>| value.map(|value| value.to_string());
            let share = row.agreement;
            let names = [pair.first.as_str(), &pair.second, level, &row.name];
            let mut record: Vec<String> = names.map(str::to_owned).into();
            record.extend([row.answered, row.unparsable].map(|count| count.to_string()));
            record.push(counts.iter().sum::<u64>().to_string());
            record.push((row.yes_yes + row.no_no).to_string());
            record.push(number(share.map(|share| share.mean)).unwrap_or_default());
            record.push(number(row.kappa).unwrap_or_default());
            record.extend(counts.map(|count| count.to_string()));
            let low = share.and_then(|share| share.low);
            let high = share.and_then(|share| share.high);
            let ends = [low, high, row.kappa_low, row.kappa_high];
            record.extend(ends.map(|end| number(end).unwrap_or_default()));
            writer.write_record(&record)?;
        }
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

/// One row per ensemble, category and stage: `ensemble,protocol,level,category,stage,percent,low,high,standard_error,k,n,items,answered,
/// questions`. They stand in a file of their own, for the rows of the other are pairs.
///
/// # Errors
/// The CSV writer refused (a programming error).
pub(crate) fn ensembles_csv(report: &AgreementReport) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record([
        "ensemble",
        "protocol",
        "level",
        "category",
        "stage",
        "percent",
        "low",
        "high",
        "standard_error",
        "k",
        "n",
        "items",
        "answered",
        "questions",
    ])?;
    for one in &report.ensembles {
        let score = ("overall", "overall", "conditional", one.score);
        let categories = one.l1.iter().flat_map(|found| {
            [("raw", found.raw), ("conditional", found.conditional)]
                .map(|(stage, figure)| ("l1", found.name.as_str(), stage, figure))
        });
        for (level, name, stage, figure) in std::iter::once(score).chain(categories) {
            let Some(figure) = figure else { continue };
            let names = [one.rule.name(), one.protocol.name(), level, name, stage];
            let ends = [Some(figure.mean), figure.low, figure.high, figure.standard_error];
            let ends = ends.map(|end| end.map(|end| end.to_string()).unwrap_or_default());
            let counts = [figure.k, figure.n, figure.items, one.answered, one.questions];
            let cells = names.map(str::to_owned).into_iter().chain(ends);
            writer.write_record(cells.chain(counts.map(|count| count.to_string())))?;
        }
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}
