//! In: an item's questions and the faults of their graph. Out: findings in words. Which of them are
//! errors is left to `load`.

use super::finding::{Finding, FindingKind};
use super::question::{DeclaredParent, QuestionId, SKIPPED_ROW};
use super::question_graph::{GraphFault, LocatedFault};
use super::rows::ItemRows;

/// What a message about a question needs once the question has moved into its graph.
pub(super) struct QuestionPlace {
    row: usize,
    line: usize,
    id: QuestionId,
    dependency: String,
}

/// The places of an item's questions, in file order.
pub(super) fn places(item: &ItemRows) -> Vec<QuestionPlace> {
    item.questions
        .iter()
        .zip(&item.lines)
        .map(|(question, &line)| QuestionPlace {
            row: question.row,
            line,
            id: question.id,
            dependency: question.dependency(),
        })
        .collect()
}

/// A fault in words.
pub(super) fn fault_finding(item: &str, place: &QuestionPlace, fault: &LocatedFault) -> Finding {
    let mend = "write the numbers of the parents, separated by commas, or 0";
    let (kind, message) = match &fault.fault {
        GraphFault::DuplicateId => {
            let message = "another question of the item has that number already; give each its own";
            return Finding::in_row(
                FindingKind::DuplicateQuestionId,
                place.row,
                place.line,
                message,
            )
            .item(item)
            .cell("proposition_id", &place.id.to_string());
        }
        GraphFault::UnreadableParent(text) => {
            (FindingKind::UnreadableParent, format!("`{text}` is no question number; {mend}"))
        }
        GraphFault::MissingParent(id) => (
            FindingKind::MissingParent,
            format!("no question of the item has the number {id}; {mend}"),
        ),
        GraphFault::Cycle(along) => {
            let along: Vec<String> = along.iter().map(ToString::to_string).collect();
            let (edge, along) = (along[..2].join(" -> "), along.join(" -> "));
            (
                FindingKind::Cycle,
                format!(
                    "the questions {along} depend on each other, so {edge} cannot stand; cut one edge"
                ),
            )
        }
    };
    Finding::in_row(kind, place.row, place.line, message)
        .item(item)
        .cell("dependency", &place.dependency)
}

/// What is unusual about an item's questions and edges, though no fault.
pub(super) fn graph_oddities(item: &ItemRows, oddities: &mut Vec<Finding>) {
    if !item.questions.iter().zip(1..).all(|(question, number)| question.id == number) {
        let (row, line) = item.first_row();
        let numbers: Vec<String> =
            item.questions.iter().map(|question| question.id.to_string()).collect();
        let message = "the questions are not numbered 1, 2, 3 and so on";
        oddities.push(
            Finding::in_row(FindingKind::UnusualNumbering, row, line, message)
                .item(&item.id)
                .cell("proposition_id", &numbers.join(",")),
        );
    }
    let skipped = item.questions.first().filter(|first| first.row == SKIPPED_ROW);
    for (index, (question, &line)) in item.questions.iter().zip(&item.lines).enumerate() {
        let mut put = |kind, message: String| {
            let finding = Finding::in_row(kind, question.row, line, message).item(&item.id);
            oddities.push(finding.cell("dependency", &question.dependency()));
        };
        let earlier = &item.questions[..index];
        if let Some(twin) = earlier.iter().find(|other| other.text == question.text) {
            let message = format!("question {} asks the same as question {}", question.id, twin.id);
            put(FindingKind::RepeatedQuestion, message);
        }
        let parents = &question.declared_parents;
        for (at, parent) in parents.iter().enumerate() {
            match parent {
                DeclaredParent::Id(_) if parents[..at].contains(parent) => {
                    put(FindingKind::RepeatedParent, format!("the parent {parent} is named again"));
                }
                DeclaredParent::None if parents.len() > 1 => {
                    put(
                        FindingKind::ZeroBesideParents,
                        "0 means `no parent`, but there are others".into(),
                    );
                }
                DeclaredParent::Id(id) if *id == i64::from(question.id) => {
                    put(FindingKind::SelfLoop, format!("question {id} depends on itself"));
                }
                DeclaredParent::Id(id) => {
                    let stands_at =
                        item.questions.iter().position(|other| i64::from(other.id) == *id);
                    if stands_at.is_some_and(|position| position > index) {
                        let message =
                            format!("question {} stands before its parent {id}", question.id);
                        put(FindingKind::ForwardReference, message);
                    }
                    if skipped.is_some_and(|first| i64::from(first.id) == *id) {
                        let message = format!(
                            "question {} depends on question {id} in the first row, which the reference script \
                             never reads: under `reference` the item has no score (docs/benchmark-format.md)",
                            question.id
                        );
                        put(FindingKind::FirstRowParent, message);
                    }
                }
                _ => {}
            }
        }
    }
}
