//! In: a run directory with pictures, or one in which they are being made, the benchmark's items and a judge.
//! Out: one line per image in `answers/<judge>.jsonl`, in benchmark order whatever the concurrency, so that a
//! run that was killed and resumed ends in the same bytes. Scoring the answers is left to `score`.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, ensure};

use super::Judge;
use super::asking::ask_group;
use super::judge_counts::JudgeCounts;
use super::open_questions::{Group, ImageDigests, Plan};
use super::unparsable_guard::UnparsableGuard;
use crate::benchmark::Item;
use crate::ordered_work::for_each_in_order;
use crate::results::{
    AnswerRecord, ImageRecord, Journal, JournalError, JournalTail, NewestAnswers, QuestionAnswer,
    RunDirectory,
};
use crate::stage_observer::StageObserver;

/// How many images may be finished ahead of the one that is written next, per image in flight.
const FINISHED_AHEAD: usize = 4;

/// The stage that makes the pictures while they are judged, as far as it concerns the judge.
pub trait ImagesInProgress: Sync {
    /// Waits until pictures begin to be made. `false` where that came to its end before.
    fn await_start(&self) -> bool;

    /// Waits until each image of the item at `place` is recorded, as made or as failed. Returns of how many items,
    /// from the first on, that is so by now; `None` where it will never be, because the making was ended before.
    fn await_item(&self, place: usize) -> Option<usize>;
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
    let mut pictures = ImageDigests::default();
    pictures.take_in(run.read_images()?);
    let (journal, earlier) = run.open_answers(judge_name)?;
    let newest = newest(&earlier, judge_name)?;
    let plan = plan(run, judge_name, items, judge, &newest);
    let mut counts = counts_at_first(items, judge, observer);
    let mut groups = Vec::new();
    for number in 0..plan.len() {
        let group = plan.group(number, &pictures)?;
        counts.add(&group.known);
        if group.is_open() {
            groups.push(group);
        }
    }
    let open: usize = groups.iter().map(|group| group.wanted().count()).sum();
    let total = counts.images_done + open as u64;
    ensure_pictures(run, total)?;
    judge.on_sitting_start(plan.has_answers());
    observer.started(total, counts.images_done);
    let mut answer_journal = AnswerJournal::new(&plan, journal, counts, judge, observer);
    let finished = for_each_in_order(
        groups.len(),
        judge.images_in_flight(),
        FINISHED_AHEAD,
        |index| ask_group(run, judge, &groups[index]),
        |index, answers| answer_journal.append(&groups[index], answers),
        || observer.stop_requested(),
    );
    observer.finished();
    let mut counts = answer_journal.counts;
    counts.images_left =
        groups[finished?..].iter().map(|group| group.wanted().count() as u64).sum();
    Ok(counts)
}

/// As [`judge_images`], beside the stage that makes the pictures: an item's questions are put as soon as `making`
/// says that its images are recorded. The journal is that of judging afterwards, byte for byte; where the making
/// ends early, it is the beginning of that.
///
/// # Errors
/// As there; that there is no picture at all shows when the last item is through.
pub fn judge_as_made(
    run: &RunDirectory,
    judge_name: &str,
    items: &[&Item],
    judge: &dyn Judge,
    making: &dyn ImagesInProgress,
    observer: &dyn StageObserver,
) -> anyhow::Result<JudgeCounts> {
    let (journal, earlier) = run.open_answers(judge_name)?;
    let newest = newest(&earlier, judge_name)?;
    let plan = plan(run, judge_name, items, judge, &newest);
    let mut counts = counts_at_first(items, judge, observer);
    if !making.await_start() {
        counts.images_missing = plan.images();
        return Ok(counts);
    }
    judge.on_sitting_start(plan.has_answers());
    observer.started(plan.images(), plan.answered());
    let pictures = GrowingImages::of(run);
    let mut answer_journal = AnswerJournal::new(&plan, journal, counts, judge, observer);
    // Groups before this one are in the journal, without a gap: answers to later ones are not entered after the first
    // that did not come to be asked.
    let mut reached = 0;
    let finished = for_each_in_order(
        plan.len(),
        judge.images_in_flight(),
        FINISHED_AHEAD,
        |number| {
            let Some(items) = making.await_item(plan.item_of(number)) else { return Ok(None) };
            let group = pictures.when(items, |pictures| plan.group(number, pictures))??;
            let answers = if group.is_open() { ask_group(run, judge, &group)? } else { Vec::new() };
            Ok(Some((group, answers)))
        },
        |number, asked| {
            let Some((group, answers)) = asked.filter(|_| reached == number) else { return Ok(()) };
            reached = number + 1;
            answer_journal.take_note(&group);
            answer_journal.append(&group, answers)
        },
        || observer.stop_requested(),
    );
    observer.finished();
    let mut counts = answer_journal.counts;
    finished?;
    if reached < plan.len() {
        // The picture in hand belongs to those that are left, if it gets done.
        making.await_item(plan.item_of(plan.len() - 1));
        for number in reached..plan.len() {
            let group = pictures.when(usize::MAX, |pictures| plan.group(number, pictures))??;
            counts.add(&group.known);
            counts.images_left += group.wanted().count() as u64;
        }
    } else {
        ensure_pictures(run, counts.images_done + counts.images_failed)?;
    }
    Ok(counts)
}

fn newest<'r>(earlier: &'r [AnswerRecord], judge_name: &str) -> anyhow::Result<NewestAnswers<'r>> {
    NewestAnswers::merge(earlier)
        .with_context(|| format!("answers/{judge_name}.jsonl cannot be continued"))
}

fn plan<'a>(
    run: &RunDirectory,
    judge_name: &'a str,
    items: &'a [&'a Item],
    judge: &dyn Judge,
    newest: &'a NewestAnswers<'a>,
) -> Plan<'a> {
    Plan::new(judge_name, items, run.manifest().images_per_item, judge.image_batch_size(), newest)
}

fn counts_at_first(
    items: &[&Item],
    judge: &dyn Judge,
    observer: &dyn StageObserver,
) -> JudgeCounts {
    JudgeCounts {
        questions_cut: report_cut_questions(items, judge, observer),
        ..JudgeCounts::default()
    }
}

fn ensure_pictures(run: &RunDirectory, pictures: u64) -> anyhow::Result<()> {
    ensure!(
        pictures > 0,
        "{} has no image of the selected items; generate or import them first, and see why images failed where that was done",
        run.path().display()
    );
    Ok(())
}

/// The pictures of a run whose journal grows.
struct GrowingImages {
    read: Mutex<(JournalTail<ImageRecord>, ImageDigests, usize)>,
}

impl GrowingImages {
    fn of(run: &RunDirectory) -> Self {
        Self { read: Mutex::new((run.follow_images(), ImageDigests::default(), 0)) }
    }

    /// What `look` makes of the pictures, once all those of the first `items` items are known.
    fn when<T>(
        &self,
        items: usize,
        look: impl FnOnce(&ImageDigests) -> T,
    ) -> Result<T, JournalError> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let (journal, pictures, known) = &mut *read;
        if items > *known {
            pictures.take_in(journal.more()?);
            *known = items;
        }
        Ok(look(pictures))
    }
}

/// The journal of the answers with what is counted of it.
struct AnswerJournal<'a> {
    plan: &'a Plan<'a>,
    journal: Journal<AnswerRecord>,
    counts: JudgeCounts,
    observer: &'a dyn StageObserver,
    parsable: UnparsableGuard,
}

impl<'a> AnswerJournal<'a> {
    fn new(
        plan: &'a Plan<'a>,
        journal: Journal<AnswerRecord>,
        counts: JudgeCounts,
        judge: &dyn Judge,
        observer: &'a dyn StageObserver,
    ) -> Self {
        let parsable = UnparsableGuard::up_to(judge.max_unparsable());
        Self { plan, journal, counts, observer, parsable }
    }

    /// Counts what is known of a group that nobody knew of when the stage began.
    fn take_note(&mut self, group: &Group<'_>) {
        self.counts.add(&group.known);
        for (item, image) in &group.missing {
            if !self.plan.is_answered(item, *image) {
                self.observer.image_missing(&item.id, *image);
            }
        }
    }

    /// Enters the answers of a group, one line for each image.
    fn append(
        &mut self,
        group: &Group<'_>,
        answers: Vec<Vec<QuestionAnswer>>,
    ) -> anyhow::Result<()> {
        for (task, mut answers) in group.tasks.iter().zip(answers) {
            if !task.is_wanted() {
                continue;
            }
            answers.retain(|answer| task.wanted.contains(&answer.question));
            self.parsable.look_at(&answers);
            let failure = self.counts.count_image(&answers);
            let mut record = AnswerRecord {
                item: task.item.id.clone(),
                image: task.image,
                pixels_sha256: Some(task.pixels_sha256.clone()),
                answers,
            };
            // The same failure again says nothing new.
            record
                .answers
                .retain(|answer| self.plan.known(task, answer.question) != Some(&answer.outcome));
            if !record.answers.is_empty() {
                self.journal.append(&record)?;
            }
            match failure {
                Some(reason) => self.observer.image_failed(&task.item.id, task.image, &reason),
                None => self.observer.image_done(&task.item.id, task.image),
            }
        }
        // Answers are entered in order, so it is the same one after which this stops at any concurrency.
        self.parsable.ensure(&self.counts)
    }
}

/// Tells the observer of every question that the judge reads only in part, and counts them.
fn report_cut_questions(items: &[&Item], judge: &dyn Judge, observer: &dyn StageObserver) -> u64 {
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
