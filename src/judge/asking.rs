//! In: pictures with the questions that are put about each. Out: what the judge said, as it stands in the
//! journal, failures included. Which questions are put, and the journal itself, are left to others.

use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context, bail, ensure};

use super::open_questions::{Group, Task};
use super::{Answer, Judge, JudgeRequest, JudgedImage};
use crate::benchmark::Question;
use crate::checkpoint::error_words::sentence;
use crate::results::image_store::pixels_sha256;
use crate::results::{AnswerOutcome, QuestionAnswer, RunDirectory};

/// As [`ask`]; an error names the image at which the judge gave up.
pub(super) fn ask_group(
    run: &RunDirectory,
    judge: &dyn Judge,
    group: &Group<'_>,
) -> anyhow::Result<Vec<Vec<QuestionAnswer>>> {
    ask(run, judge, &group.tasks).with_context(|| match group.wanted().next() {
        Some(first) => format!("the judge gave up at {}, image {}", first.item.id, first.image),
        None => "the judge gave up".to_owned(),
    })
}

/// Puts the questions of a group of tasks and makes journal entries of what comes back. A panic in one
/// judge must not take the other images' answers with it: it is a failure like any other.
fn ask(
    run: &RunDirectory,
    judge: &dyn Judge,
    tasks: &[Task<'_>],
) -> anyhow::Result<Vec<Vec<QuestionAnswer>>> {
    let results = match catch_unwind(AssertUnwindSafe(|| answers_of(run, judge, tasks))) {
        Ok(results) => results?,
        Err(panic) => {
            let reason = format!("the judge broke: {}", panic_text(panic.as_ref()));
            tasks.iter().map(|task| all_failed(task, &reason)).collect()
        }
    };
    let entry = |(question, result): (&&Question, Result<Answer, String>)| {
        let (reply_cut, outcome) = match result {
            Ok(Answer { text, raw, yes_probability, reply_cut }) => {
                (reply_cut, AnswerOutcome::Answered { text, raw, yes_probability })
            }
            Err(reason) => (false, AnswerOutcome::Failed { reason }),
        };
        let tokens_cut = judge.question_cut(question).map(|cut| cut.of - cut.seen);
        QuestionAnswer { question: question.id, tokens_cut, reply_cut, outcome }
    };
    Ok(tasks
        .iter()
        .zip(results)
        .map(|(task, results)| task.questions.iter().zip(results).map(entry).collect())
        .collect())
}

/// One result per question of each task, whatever the judge returns.
fn answers_of(
    run: &RunDirectory,
    judge: &dyn Judge,
    tasks: &[Task<'_>],
) -> anyhow::Result<Vec<Vec<Result<Answer, String>>>> {
    let pictures: Vec<_> = tasks.iter().map(|task| read_image(run, task)).collect();
    let with_picture = || {
        tasks.iter().zip(&pictures).filter_map(|(task, image)| Some((task, image.as_ref().ok()?)))
    };
    let requests: Vec<JudgeRequest<'_>> = with_picture()
        .map(|(task, image)| JudgeRequest {
            item: task.item,
            image_index: task.image,
            image,
            questions: &task.questions,
        })
        .collect();
    let mut results = match requests.as_slice() {
        [] => Vec::new(),
        [only] => vec![judge.answer(only)?],
        several => judge.answer_batch(several)?,
    }
    .into_iter();
    let of_task = |(task, image): (&Task<'_>, &anyhow::Result<JudgedImage>)| {
        if let Err(error) = image {
            return all_failed(task, &sentence(error));
        }
        let results = results.next().unwrap_or_default();
        let (got, asked) = (results.len(), task.questions.len());
        if got == asked {
            return results;
        }
        all_failed(task, &format!("the judge gave {got} answers to {asked} questions"))
    };
    Ok(tasks.iter().zip(&pictures).map(of_task).collect())
}

fn all_failed(task: &Task<'_>, reason: &str) -> Vec<Result<Answer, String>> {
    task.questions.iter().map(|_| Err(reason.to_owned())).collect()
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("it panicked")
}

/// Reads the stored picture and makes sure that it is the one that `images.jsonl` speaks of. Its
/// messages go into the journal, so they name the file within the run and no machine's folder.
fn read_image(run: &RunDirectory, task: &Task<'_>) -> anyhow::Result<JudgedImage> {
    let path = run.image_path(&task.item.id, task.image);
    let name = format!("images/{}/{}.png", task.item.id, task.image);
    let png = std::fs::read(&path).with_context(|| format!("cannot read {name}"))?;
    let picture = JudgedImage::stored(path, png);
    let Ok(pixels) = picture.decode() else {
        bail!("{name} is no readable PNG; make or import the image again");
    };
    ensure!(
        pixels_sha256(&pixels) == task.pixels_sha256,
        "{name} is not the image that images.jsonl records; restore it, or make or import it again"
    );
    Ok(picture)
}
