//! In: a run directory with pictures, the benchmark's items and a judge. Out: one line per image in
//! `answers/<judge>.jsonl`, in benchmark order whatever the concurrency, so that a run that was killed
//! and resumed ends in the same bytes. Scoring the answers is left to `score`.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard};

use anyhow::{Context, bail, ensure};

use super::{Answer, Judge, JudgeRequest, JudgedImage};
use crate::benchmark::{Item, Question};
use crate::results::image_store::pixels_sha256;
use crate::results::{
    AnswerOutcome, AnswerRecord, ImageOutcome, NewestAnswers, QuestionAnswer, RunDirectory,
};
use crate::stage_observer::StageObserver;

/// How many images may be finished ahead of the one that is written next, per image in flight. It
/// bounds what waits in memory, and what a kill can cost while one image is slow.
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
    /// Questions answered.
    pub answers: u64,
    /// Of these, answers that are neither `yes` nor `no`.
    pub unparsable: u64,
    /// Questions about existing pictures that have no answer.
    pub failed_questions: u64,
    /// Images that this sitting asked about and finished.
    pub finished_now: u64,
    /// Images that this sitting asked about and left with a failed question.
    pub failed_now: u64,
}

impl JudgeCounts {
    /// Whether every question about every image has an answer.
    pub fn is_complete(&self) -> bool {
        self.images_failed == 0 && self.images_missing == 0
    }
}

/// An image with the questions that are still to be put.
struct Task<'a> {
    item: &'a Item,
    image: u32,
    pixels_sha256: &'a str,
    questions: Vec<&'a Question>,
}

/// Puts every unanswered question about every existing picture of `items` to `judge`.
///
/// Images are asked about in the order of `items` and of their index, several at a time as the judge
/// wishes. Failed questions of an earlier sitting are asked again; their new outcome is a further line,
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

    let mut counts = JudgeCounts::default();
    let mut tasks = Vec::new();
    for &item in items {
        for image in 0..run.manifest().images_per_item {
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
            let mut questions = Vec::new();
            for question in item.graph.questions() {
                match known.and_then(|known| known.outcome(question.id)) {
                    Some(AnswerOutcome::Answered { text, .. }) => counts.count_answer(text),
                    _ => questions.push(question),
                }
            }
            if questions.is_empty() {
                counts.images_done += 1;
            } else {
                tasks.push(Task { item, image, pixels_sha256, questions });
            }
        }
    }
    let total = counts.images_done + tasks.len() as u64;
    ensure!(
        total > 0,
        "{} has no picture of the selected items; generate or import them first",
        run.path().display()
    );
    observer.started(total, counts.images_done);
    let finished = for_each_in_order(
        tasks.len(),
        judge.images_in_flight(),
        |index| {
            let task = &tasks[index];
            ask(run, judge, task).with_context(|| {
                format!("the judge gave up at {}, image {}", task.item.id, task.image)
            })
        },
        |index, answers| {
            let task = &tasks[index];
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
            Ok(())
        },
    );
    observer.finished();
    finished?;
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

/// Puts a task's questions and makes journal entries of what comes back. A panic in one judge must
/// not take the other images' answers with it: it is a failure like any other.
fn ask(
    run: &RunDirectory,
    judge: &dyn Judge,
    task: &Task<'_>,
) -> anyhow::Result<Vec<QuestionAnswer>> {
    let results = match catch_unwind(AssertUnwindSafe(|| answers_of(run, judge, task))) {
        Ok(results) => results?,
        Err(panic) => all_failed(task, &format!("the judge broke: {}", panic_text(panic.as_ref()))),
    };
    let outcomes = results.into_iter().map(|result| match result {
        Ok(Answer { text, raw, yes_probability }) => {
            AnswerOutcome::Answered { text, raw, yes_probability }
        }
        Err(reason) => AnswerOutcome::Failed { reason },
    });
    let questions = task.questions.iter().map(|question| question.id);
    Ok(questions
        .zip(outcomes)
        .map(|(question, outcome)| QuestionAnswer { question, outcome })
        .collect())
}

/// One result per question of the task, whatever the judge returns.
fn answers_of(
    run: &RunDirectory,
    judge: &dyn Judge,
    task: &Task<'_>,
) -> anyhow::Result<Vec<Result<Answer, String>>> {
    let image = match read_picture(run, task) {
        Ok(image) => image,
        Err(error) => return Ok(all_failed(task, &format!("{error:#}"))),
    };
    let request = JudgeRequest {
        item: task.item,
        image_index: task.image,
        image: &image,
        questions: &task.questions,
    };
    let results = judge.answer(&request)?;
    let (got, asked) = (results.len(), task.questions.len());
    if got != asked {
        return Ok(all_failed(task, &format!("the judge gave {got} answers to {asked} questions")));
    }
    Ok(results)
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

/// What the threads of [`for_each_in_order`] share.
struct Progress<T> {
    next_to_start: usize,
    next_to_write: usize,
    finished: BTreeMap<usize, anyhow::Result<T>>,
    stopped: bool,
}

/// Lets the threads go when the writing ends, by an error and even by a panic.
struct StopOnDrop<'p, T> {
    progress: &'p Mutex<Progress<T>>,
    changed: &'p Condvar,
}

impl<T> Drop for StopOnDrop<'_, T> {
    fn drop(&mut self) {
        lock(self.progress).stopped = true;
        self.changed.notify_all();
    }
}

/// Runs `work(0..count)` on `in_flight` threads and hands each result to `write`, on the calling
/// thread and in order. Stops at the first error of either; work in progress is then awaited. What
/// was begun before the work that failed is still written. `work` must not panic.
fn for_each_in_order<T: Send>(
    count: usize,
    in_flight: usize,
    work: impl Fn(usize) -> anyhow::Result<T> + Sync,
    mut write: impl FnMut(usize, T) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let threads = in_flight.max(1).min(count);
    let window = threads * FINISHED_AHEAD;
    let progress = Mutex::new(Progress {
        next_to_start: 0,
        next_to_write: 0,
        finished: BTreeMap::new(),
        stopped: false,
    });
    let changed = Condvar::new();
    let worker = || {
        loop {
            let index = {
                let mut state = lock(&progress);
                while !state.stopped
                    && state.next_to_start < count
                    && state.next_to_start >= state.next_to_write + window
                {
                    state = changed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
                }
                if state.stopped || state.next_to_start >= count {
                    return;
                }
                state.next_to_start += 1;
                state.next_to_start - 1
            };
            let result = work(index);
            let mut state = lock(&progress);
            if result.is_err() {
                // Nothing after this will be written, so nothing more is begun.
                state.next_to_start = count;
            }
            state.finished.insert(index, result);
            drop(state);
            changed.notify_all();
        }
    };
    std::thread::scope(|scope| {
        let _stop = StopOnDrop { progress: &progress, changed: &changed };
        for _ in 0..threads {
            scope.spawn(worker);
        }
        for index in 0..count {
            let result = {
                let mut state = lock(&progress);
                loop {
                    if let Some(result) = state.finished.remove(&index) {
                        break result;
                    }
                    state = changed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
                }
            };
            write(index, result?)?;
            lock(&progress).next_to_write = index + 1;
            changed.notify_all();
        }
        Ok(())
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn results_come_in_order_and_the_work_is_bounded() {
        let (running, most, started) =
            (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let mut seen = Vec::new();
        for_each_in_order(
            60,
            4,
            |index| {
                started.fetch_add(1, Ordering::SeqCst);
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                // The first is the slowest: the others may run ahead of it, but not without limit.
                let wait = if index == 0 { 60 } else { (index as u64 * 7) % 5 };
                std::thread::sleep(Duration::from_millis(wait));
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(index)
            },
            |index, result| {
                if index == 0 {
                    assert!(started.load(Ordering::SeqCst) <= 4 * FINISHED_AHEAD);
                }
                seen.push(result);
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(seen, (0..60).collect::<Vec<_>>());
        assert_eq!(most.load(Ordering::SeqCst), 4);
    }

    #[test]
    fn an_error_of_the_work_stops_it_and_what_is_before_it_is_written() {
        let (started, mut written) = (AtomicUsize::new(0), Vec::new());
        let error = for_each_in_order(
            1000,
            3,
            |index| {
                started.fetch_max(index, Ordering::SeqCst);
                let wait = if index == 6 { 0 } else { 20 };
                std::thread::sleep(Duration::from_millis(wait));
                if index == 6 { bail!("no key") } else { Ok(index) }
            },
            |_, result| {
                written.push(result);
                Ok(())
            },
        )
        .unwrap_err();
        assert_eq!(error.to_string(), "no key");
        assert_eq!(written, [0, 1, 2, 3, 4, 5]);
        assert!(started.load(Ordering::SeqCst) <= 6 + 3);
    }

    #[test]
    fn an_error_of_the_writer_stops_the_work() {
        let started = AtomicUsize::new(0);
        let error = for_each_in_order(
            1000,
            3,
            |index| Ok(started.fetch_max(index, Ordering::SeqCst)),
            |index, _| if index == 5 { bail!("disk full") } else { Ok(()) },
        )
        .unwrap_err();
        assert_eq!(error.to_string(), "disk full");
        assert!(started.load(Ordering::SeqCst) <= 5 + 3 * FINISHED_AHEAD);
        for_each_in_order(0, 4, |_| Ok(()), |_, ()| bail!("never called")).unwrap();
    }
}
