//! In: the newest answers of a run. Out: per item one row of answer states per image, one state per
//! question in file order. What they count as is left to `verdict`.

use crate::benchmark::Item;
use crate::results::NewestAnswers;

use super::verdict::AnswerState;

/// `images` rows with one state per question of the item, in file order.
pub(crate) fn answer_grid<'a>(
    item: &Item,
    images: u32,
    answers: &NewestAnswers<'a>,
) -> Vec<Vec<AnswerState<'a>>> {
    let row = |image: u32| {
        let known = answers.image(&item.id, image);
        let questions = item.graph.questions().iter();
        questions
            .map(|question| {
                let outcome = known.and_then(|known| known.outcome(question.id));
                outcome.map_or(AnswerState::Missing, AnswerState::of)
            })
            .collect()
    };
    (0..images).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::super::test_graphs::{graph, item};
    use super::*;
    use crate::results::{AnswerOutcome, AnswerRecord, QuestionAnswer};

    #[test]
    fn answers_stand_in_file_order_and_gaps_are_missing() {
        let answered =
            AnswerOutcome::Answered { text: "no".into(), raw: None, yes_probability: None };
        let failed = AnswerOutcome::Failed { reason: "time-out".into() };
        let answers = [(2, answered), (7, failed)];
        let answers = answers.map(|(question, outcome)| QuestionAnswer::new(question, outcome));
        let records = [AnswerRecord {
            item: "a".into(),
            image: 1,
            pixels_sha256: None,
            answers: answers.into(),
        }];
        let newest = NewestAnswers::merge(&records).unwrap();
        let item = item("a", graph(&[(7, "0"), (1, "0"), (2, "0")]));
        use AnswerState::{Failed, Missing};
        assert_eq!(
            answer_grid(&item, 2, &newest),
            [vec![Missing; 3], vec![Failed, Missing, AnswerState::said("no")]]
        );
    }
}
