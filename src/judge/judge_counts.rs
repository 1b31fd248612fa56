//! In: nothing. Out: how many answers a judge has given, and of which kind.

use crate::results::{AnswerOutcome, QuestionAnswer};

/// What the journal holds about the selected items after a sitting, earlier sittings included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JudgeCounts {
    /// Images with an answer to every question.
    pub images_done: u64,
    /// Images with a picture but without some answer.
    pub images_failed: u64,
    /// Images that have no picture to look at.
    pub images_missing: u64,
    /// Images with questions that were not put, because the judging was asked to stop.
    pub images_left: u64,
    /// Questions answered.
    pub answers: u64,
    /// Of these, answers that are neither `yes` nor `no`.
    pub unparsable: u64,
    /// Answers out of a reply that the limit on its tokens cut.
    pub replies_cut: u64,
    /// Questions about existing pictures that have no answer.
    pub failed_questions: u64,
    /// Questions of the selected items of which the judge reads only the beginning.
    pub questions_cut: u64,
    /// Images that this sitting asked about and finished.
    pub finished_now: u64,
    /// Images that this sitting asked about and left with a failed question.
    pub failed_now: u64,
}

impl JudgeCounts {
    /// Whether every question about every image has an answer.
    pub fn is_complete(&self) -> bool {
        self.images_failed == 0 && self.images_missing == 0 && self.images_left == 0
    }

    /// Adds what is known of some images to what is known of others.
    pub(crate) fn add(&mut self, known: &Self) {
        self.images_done += known.images_done;
        self.images_missing += known.images_missing;
        self.answers += known.answers;
        self.unparsable += known.unparsable;
        self.replies_cut += known.replies_cut;
    }

    pub(super) fn count_answer(&mut self, answer: &QuestionAnswer) {
        self.answers += 1;
        self.unparsable += u64::from(unparsable(answer).is_some());
        self.replies_cut += u64::from(answer.reply_cut);
    }

    /// Counts one image's outcomes and returns what to say of it if some question failed.
    pub(crate) fn count_image(&mut self, answers: &[QuestionAnswer]) -> Option<String> {
        let mut failures = Vec::new();
        for answer in answers {
            match &answer.outcome {
                AnswerOutcome::Answered { .. } => self.count_answer(answer),
                AnswerOutcome::Failed { reason } => failures.push((answer.question, reason)),
            }
        }
        self.failed_questions += failures.len() as u64;
        let Some((question, reason)) = failures.first() else {
            self.images_done += 1;
            self.finished_now += 1;
            return None;
        };
        self.images_failed += 1;
        self.failed_now += 1;
        let asked = answers.len();
        Some(format!(
            "{} of {asked} questions failed; question {question}: {reason}",
            failures.len()
        ))
    }
}

/// The text of an answer that is neither yes nor no.
pub(crate) fn unparsable(answer: &QuestionAnswer) -> Option<&str> {
    match &answer.outcome {
        AnswerOutcome::Answered { text, .. } if !matches!(text.as_str(), "yes" | "no") => {
            Some(text)
        }
        _ => None,
    }
}
