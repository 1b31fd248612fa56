//! In: a run directory with pictures, the benchmark's items and a judge. Out: one line per image in
//! `answers/<judge>.jsonl`, in benchmark order whatever the concurrency, so that a run that was killed
//! and resumed ends in the same bytes. Scoring the answers is left to `score`.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context, bail, ensure};

use super::{Answer, Judge, JudgeRequest, JudgedImage};
use crate::benchmark::question::QuestionId;
use crate::benchmark::{Item, Question};
use crate::models::error_words::sentence;
use crate::ordered_work::for_each_in_order;
use crate::results::image_store::pixels_sha256;
use crate::results::{
    AnswerOutcome, AnswerRecord, ImageOutcome, NewestAnswers, QuestionAnswer, RunDirectory,
};
use crate::stage_observer::StageObserver;

/// How many images may be finished ahead of the one that is written next, per image in flight.
const FINISHED_AHEAD: usize = 4;

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
}

/// An image with the questions that are put about it.
struct Task<'a> {
    item: &'a Item,
    image: u32,
    pixels_sha256: &'a str,
    questions: Vec<&'a Question>,
    /// Those of them whose answers are not known yet.
    wanted: Vec<QuestionId>,
}

/// Puts every unanswered question about every existing picture of `items` to `judge`.
///
/// Images are asked about in the order of `items` and of their index, several at a time or together as
/// the judge wishes. Failed questions of an earlier sitting are asked again; their new outcome is a further line,
/// unless it is the same failure.
///
/// # Errors
/// There is no picture at all; an earlier answer was given for another picture than the present one; a
/// journal cannot be read or written; the judge gave up altogether. What was written before stands.
pub fn judge_images(
    run: &RunDirectory,
    judge_name: &str,
    items: &[&Item],
    judge: &dyn Judge,
    observer: &dyn StageObserver,
) -> anyhow::Result<JudgeCounts> {
    let image_records = run.read_images()?;
    let mut pictures: HashMap<(&str, u32), &str> = HashMap::new();
    for record in &image_records {
        if let ImageOutcome::Done { pixels_sha256, .. } = &record.outcome {
            pictures.insert((&record.item, record.image), pixels_sha256);
        }
    }
    let (mut journal, earlier) = run.open_answers(judge_name)?;
    let newest = NewestAnswers::merge(&earlier)
        .with_context(|| format!("answers/{judge_name}.jsonl cannot be continued"))?;

    let mut counts =
        JudgeCounts { questions_cut: tell_cuts(items, judge, observer), ..JudgeCounts::default() };
    // Pictures that are handed over together are neighbours among those of one item, answered or not: so
    // a resumed run and a shard have the groups of an undisturbed run, and the same rounding.
    let together = judge.images_together().max(1);
    let per_item = run.manifest().images_per_item;
    let mut groups: Vec<((usize, usize), Vec<Task<'_>>)> = Vec::new();
    for (number, &item) in items.iter().enumerate() {
        for image in 0..per_item {
            let Some(&pixels_sha256) = pictures.get(&(item.id.as_str(), image)) else {
                counts.images_missing += 1;
                continue;
            };
            let known = newest.image(&item.id, image);
            let looked_at = known.and_then(|known| known.pixels_sha256());
            ensure!(
                looked_at.is_none_or(|digest| digest == pixels_sha256),
                "answers/{judge_name}.jsonl answers for another picture of {}, image {image} than \
                 the present one; the picture was made anew since: judge under another name, or \
                 delete that answers file",
                item.id
            );
            let mut open = Vec::new();
            for question in item.graph.questions() {
                match known.and_then(|known| known.outcome(question.id)) {
                    Some(AnswerOutcome::Answered { text, .. }) => counts.count_answer(text),
                    _ => open.push(question),
                }
            }
            counts.images_done += u64::from(open.is_empty());
            let wanted: Vec<QuestionId> = open.iter().map(|question| question.id).collect();
            if together > 1 {
                open = item.graph.questions().iter().collect();
            } else if open.is_empty() {
                continue;
            }
            let task = Task { item, image, pixels_sha256, questions: open, wanted };
            let group = (number, image as usize / together);
            match groups.last_mut() {
                Some((last, tasks)) if *last == group => tasks.push(task),
                _ => groups.push((group, vec![task])),
            }
        }
    }
    let is_wanted = |task: &Task<'_>| !task.wanted.is_empty();
    groups.retain(|(_, tasks)| tasks.iter().any(is_wanted));
    let open = groups.iter().flat_map(|(_, tasks)| tasks).filter(|task| is_wanted(task)).count();
    let total = counts.images_done + open as u64;
    ensure!(
        total > 0,
        "{} has no picture of the selected items; generate or import them first",
        run.path().display()
    );
    observer.started(total, counts.images_done);
    let finished = for_each_in_order(
        groups.len(),
        judge.images_in_flight(),
        FINISHED_AHEAD,
        |index| {
            let (_, group) = &groups[index];
            let first = group.iter().find(|task| is_wanted(task)).unwrap_or(&group[0]);
            ask(run, judge, group).with_context(|| {
                format!("the judge gave up at {}, image {}", first.item.id, first.image)
            })
        },
        |index, answers| {
            for (task, mut answers) in groups[index].1.iter().zip(answers) {
                if !is_wanted(task) {
                    continue;
                }
                answers.retain(|answer| task.wanted.contains(&answer.question));
                let failure = counts.count_image(&answers);
                let known = newest.image(&task.item.id, task.image);
                let mut record = AnswerRecord {
                    item: task.item.id.clone(),
                    image: task.image,
                    pixels_sha256: Some(task.pixels_sha256.to_owned()),
                    answers,
                };
                // The same failure again says nothing new.
                record.answers.retain(|answer| {
                    known.and_then(|known| known.outcome(answer.question)) != Some(&answer.outcome)
                });
                if !record.answers.is_empty() {
                    journal.append(&record)?;
                }
                match failure {
                    Some(reason) => observer.image_failed(&task.item.id, task.image, &reason),
                    None => observer.image_done(&task.item.id, task.image),
                }
            }
            Ok(())
        },
        || observer.stop_requested(),
    );
    observer.finished();
    let left = groups[finished?..].iter().flat_map(|(_, tasks)| tasks);
    counts.images_left = left.filter(|task| is_wanted(task)).count() as u64;
    Ok(counts)
}

impl JudgeCounts {
    fn count_answer(&mut self, text: &str) {
        self.answers += 1;
        self.unparsable += u64::from(!matches!(text, "yes" | "no"));
    }

    /// Counts one image's outcomes and returns what to say of it if some question failed.
    fn count_image(&mut self, answers: &[QuestionAnswer]) -> Option<String> {
        let mut failures = Vec::new();
        for answer in answers {
            match &answer.outcome {
                AnswerOutcome::Answered { text, .. } => self.count_answer(text),
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

/// Tells the observer of every question that the judge reads only in part, and counts them.
fn tell_cuts(items: &[&Item], judge: &dyn Judge, observer: &dyn StageObserver) -> u64 {
    let mut count = 0;
    for item in items {
        for question in item.graph.questions() {
            if let Some(cut) = judge.question_cut(question) {
                observer.question_cut(&item.id, question.id, cut.seen, cut.of);
                count += 1;
            }
        }
    }
    count
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
        let outcome = match result {
            Ok(Answer { text, raw, yes_probability }) => {
                AnswerOutcome::Answered { text, raw, yes_probability }
            }
            Err(reason) => AnswerOutcome::Failed { reason },
        };
        let tokens_cut = judge.question_cut(question).map(|cut| cut.of - cut.seen);
        QuestionAnswer { question: question.id, tokens_cut, outcome }
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
    let pictures: Vec<_> = tasks.iter().map(|task| read_picture(run, task)).collect();
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
        several => judge.answer_together(several)?,
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
fn read_picture(run: &RunDirectory, task: &Task<'_>) -> anyhow::Result<JudgedImage> {
    let path = run.image_path(&task.item.id, task.image);
    let name = format!("images/{}/{}.png", task.item.id, task.image);
    let png = std::fs::read(&path).with_context(|| format!("cannot read {name}"))?;
    let picture = JudgedImage { path: path.clone(), png };
    let Ok(pixels) = picture.decode() else {
        bail!("{name} is no readable PNG; make or import the picture again");
    };
    ensure!(
        pixels_sha256(&pixels) == task.pixels_sha256,
        "{name} is not the picture that images.jsonl records; restore it, or make or import it again"
    );
    Ok(picture)
}
