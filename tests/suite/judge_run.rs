//! Judging a run: order, resuming, failures, panics and pictures that were made anew.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dpg_bench::benchmark::Item;
use dpg_bench::judge::judge_run::judge_images;
use dpg_bench::judge::pool::JudgePool;
use dpg_bench::judge::scripted::{Rule, ScriptedJudge};
use dpg_bench::judge::{Answer, Judge, JudgeRequest};
use dpg_bench::results::{AnswerOutcome, ImageOutcome, ImageRecord, NewestAnswers, Settings};
use dpg_bench::stage_observer::{Silent, StageObserver};

use super::small_run::{IMAGES, items, journal, judge_all, put_picture, run_with_pictures};

/// Answers `yes`, late by a time that differs from image to image, and notes what it was asked. A
/// closure decides about each (item, image, question) first.
struct Noting<F> {
    in_flight: usize,
    decide: F,
    asked: Mutex<Vec<(String, u32, u32)>>,
}

impl<F> Noting<F> {
    fn new(in_flight: usize, decide: F) -> Self {
        Self { in_flight, decide, asked: Mutex::default() }
    }

    fn asked(&self) -> Vec<(String, u32, u32)> {
        self.asked.lock().unwrap().clone()
    }
}

impl<F> Judge for Noting<F>
where
    F: Fn(&str, u32, u32) -> anyhow::Result<Result<&'static str, &'static str>> + Send + Sync,
{
    fn settings(&self) -> Settings {
        Settings::new()
    }

    fn images_in_flight(&self) -> usize {
        self.in_flight
    }

    fn answer(&self, request: &JudgeRequest<'_>) -> anyhow::Result<Vec<Result<Answer, String>>> {
        let (item, image) = (&request.item.id, request.image_index);
        std::thread::sleep(Duration::from_millis(u64::from((image + 1) * 7 % 4)));
        request
            .questions
            .iter()
            .map(|question| {
                self.asked.lock().unwrap().push((item.clone(), image, question.id));
                Ok((self.decide)(item, image, question.id)?
                    .map(|text| Answer { text: text.to_owned(), ..Answer::default() })
                    .map_err(str::to_owned))
            })
            .collect()
    }
}

#[test]
fn lines_stand_in_benchmark_order_at_any_concurrency() {
    let items = items(5);
    let mut journals = BTreeSet::new();
    for in_flight in [1, 2, 7, 100] {
        let folder = tempfile::tempdir().unwrap();
        let run = run_with_pictures(folder.path(), &items);
        let judge = Noting::new(in_flight, |_: &str, image, id| {
            Ok(Ok(if (image + id) % 2 == 0 { "yes" } else { "perhaps" }))
        });
        let counts = judge_all(&run, &items, &judge).unwrap();
        assert_eq!((counts.images_done, counts.answers, counts.finished_now), (20, 60, 20));
        assert_eq!((counts.unparsable, counts.failed_questions), (30, 0));
        assert!(counts.is_complete());
        let order: Vec<(String, u32)> =
            run.read_answers("j").unwrap().into_iter().map(|r| (r.item, r.image)).collect();
        let expected: Vec<(String, u32)> =
            items.iter().flat_map(|i| (0..IMAGES).map(|k| (i.id.clone(), k))).collect();
        assert_eq!(order, expected);
        journals.insert(journal(&run));
    }
    assert_eq!(journals.len(), 1);
}

/// Stops the process of judging as a kill would: a panic out of the observer, after N lines.
struct KillAfter(AtomicUsize);

impl StageObserver for KillAfter {
    fn image_done(&self, _: &str, _: u32) {
        if self.0.fetch_sub(1, Ordering::SeqCst) == 1 {
            panic!("killed on purpose");
        }
    }
}

#[test]
fn a_run_killed_anywhere_and_resumed_ends_in_the_same_bytes_and_asks_nothing_twice() {
    let items = items(3);
    let borrowed: Vec<&Item> = items.iter().collect();
    let whole = tempfile::tempdir().unwrap();
    let run = run_with_pictures(whole.path(), &items);
    let judge = ScriptedJudge::by_rule(Rule::Hash(0.5), 3);
    judge_all(&run, &items, &judge).unwrap();
    let expected = journal(&run);

    for lines in 1..12 {
        let folder = tempfile::tempdir().unwrap();
        let run = run_with_pictures(folder.path(), &items);
        let killed = std::panic::catch_unwind(|| {
            judge_images(&run, "j", &borrowed, &judge, &KillAfter(AtomicUsize::new(lines)))
        });
        assert!(killed.is_err());
        // A kill may also tear the next line.
        let kept = journal(&run);
        assert!(expected.starts_with(&kept) && kept.len() < expected.len());
        std::fs::write(run.path().join("answers/j.jsonl"), &expected[..kept.len() + 9]).unwrap();
        let counts = judge_all(&run, &items, &judge).unwrap();
        assert_eq!(journal(&run), expected, "killed after {lines} lines");
        assert_eq!((counts.images_done, counts.finished_now), (12, 12 - lines as u64));
    }

    let again = Noting::new(2, |_: &str, _, _| Ok(Ok("yes")));
    let counts = judge_all(&run, &items, &again).unwrap();
    assert_eq!((counts.images_done, counts.answers, counts.finished_now), (12, 36, 0));
    assert!(again.asked().is_empty());
    assert_eq!(journal(&run), expected);
}

#[test]
fn failed_questions_are_recorded_asked_again_and_overruled_by_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let items = items(2);
    let run = run_with_pictures(folder.path(), &items);
    let flaky = Noting::new(3, |item: &str, image, id| {
        Ok(if item == "item1" && image == 2 && id != 2 { Err("time-out") } else { Ok("no") })
    });
    let counts = judge_all(&run, &items, &flaky).unwrap();
    assert_eq!((counts.images_done, counts.images_failed, counts.failed_now), (7, 1, 1));
    assert_eq!((counts.answers, counts.failed_questions), (22, 2));
    assert!(!counts.is_complete());
    let first = journal(&run);

    // The same failure again is no news: the file stays as it is.
    let still = Noting::new(3, |_: &str, _, _| Ok(Err("time-out")));
    let counts = judge_all(&run, &items, &still).unwrap();
    assert_eq!(still.asked(), [("item1".to_owned(), 2, 1), ("item1".to_owned(), 2, 5)]);
    assert_eq!((counts.answers, counts.failed_questions, counts.failed_now), (22, 2, 1));
    assert_eq!(journal(&run), first);

    let well = Noting::new(3, |_: &str, _, _| Ok(Ok("yes")));
    let counts = judge_all(&run, &items, &well).unwrap();
    assert_eq!((counts.images_done, counts.images_failed, counts.answers), (8, 0, 24));
    assert_eq!(well.asked().len(), 2);
    let bytes = journal(&run);
    assert!(bytes.starts_with(&first) && bytes.len() > first.len());
    let records = run.read_answers("j").unwrap();
    let newest = NewestAnswers::merge(&records).unwrap();
    for (id, expected) in [(1, "yes"), (2, "no"), (5, "yes")] {
        match newest.outcome("item1", 2, id) {
            Some(AnswerOutcome::Answered { text, .. }) => assert_eq!(text, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_panic_of_the_judge_costs_one_image() {
    let folder = tempfile::tempdir().unwrap();
    let items = items(3);
    let run = run_with_pictures(folder.path(), &items);
    let judge = Noting::new(4, |item: &str, image, id| {
        assert!(!(item == "item1" && image == 0 && id == 2), "tensor on fire");
        Ok(Ok("yes"))
    });
    let counts = judge_all(&run, &items, &judge).unwrap();
    assert_eq!((counts.images_done, counts.images_failed, counts.failed_questions), (11, 1, 3));
    let text = String::from_utf8(journal(&run)).unwrap();
    assert_eq!(text.matches("the judge broke: tensor on fire").count(), 3);
}

#[test]
fn a_judge_that_gives_up_stops_the_run_and_what_was_before_stands() {
    let folder = tempfile::tempdir().unwrap();
    let items = items(4);
    let run = run_with_pictures(folder.path(), &items);
    let tired = Noting::new(3, |item: &str, image, _| {
        anyhow::ensure!(!(item == "item2" && image == 1), "the key was withdrawn");
        Ok(Ok("yes"))
    });
    let error = format!("{:#}", judge_all(&run, &items, &tired).unwrap_err());
    assert_eq!(error, "the judge gave up at item2, image 1: the key was withdrawn");
    assert_eq!(run.read_answers("j").unwrap().len(), 9);
    judge_all(&run, &items, &Noting::new(3, |_: &str, _, _| Ok(Ok("yes")))).unwrap();

    let straight = tempfile::tempdir().unwrap();
    let other = run_with_pictures(straight.path(), &items);
    judge_all(&other, &items, &Noting::new(1, |_: &str, _, _| Ok(Ok("yes")))).unwrap();
    assert_eq!(journal(&run), journal(&other));
}

#[test]
fn missing_failed_and_damaged_pictures_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let all = items(3);
    let run = run_with_pictures(folder.path(), &all[..2]);
    let (mut journal, _) = run.open_images().unwrap();
    let outcome = ImageOutcome::Failed { reason: "out of memory".to_owned() };
    journal.append(&ImageRecord { item: "item2".to_owned(), image: 0, outcome }).unwrap();
    std::fs::remove_file(run.image_path("item0", 1)).unwrap();
    std::fs::write(run.image_path("item0", 2), b"no picture").unwrap();
    std::fs::copy(run.image_path("item1", 3), run.image_path("item0", 3)).unwrap();
    let judge = ScriptedJudge::by_rule(Rule::Yes, 0);
    let counts = judge_all(&run, &all, &judge).unwrap();
    assert_eq!((counts.images_done, counts.images_failed, counts.images_missing), (5, 3, 4));
    let text = std::fs::read_to_string(run.path().join("answers/j.jsonl")).unwrap();
    for expected in [
        "cannot read images/item0/1.png",
        "images/item0/2.png is no readable PNG",
        "images/item0/3.png is not the image that images.jsonl records",
    ] {
        assert_eq!(text.matches(expected).count(), 3, "{expected}");
    }
    assert!(!text.contains(folder.path().to_str().unwrap()), "a machine's folder in a journal");

    let error = judge_all(&run, &all[2..], &judge).unwrap_err().to_string();
    assert!(error.contains("no image of the selected items"), "{error}");
}

#[test]
fn answers_for_a_picture_that_was_made_anew_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let items = items(2);
    let run = run_with_pictures(folder.path(), &items);
    let judge = ScriptedJudge::by_rule(Rule::Yes, 0);
    judge_all(&run, &items, &judge).unwrap();
    put_picture(&run, "item1", 3, 200);
    let error = judge_all(&run, &items, &judge).unwrap_err().to_string();
    assert!(error.contains("another image of item1, image 3"), "{error}");
    let borrowed: Vec<&Item> = items.iter().collect();
    assert!(judge_images(&run, "other", &borrowed, &judge, &Silent).unwrap().is_complete());
}

/// Takes three pictures at a time, and notes which.
struct Together {
    groups: Mutex<Vec<Vec<(String, u32)>>>,
}

impl Judge for Together {
    fn settings(&self) -> Settings {
        Settings::new()
    }

    fn image_batch_size(&self) -> usize {
        3
    }

    fn answer(&self, request: &JudgeRequest<'_>) -> anyhow::Result<Vec<Result<Answer, String>>> {
        Ok(self.answer_batch(std::slice::from_ref(request))?.remove(0))
    }

    fn answer_batch(
        &self,
        requests: &[JudgeRequest<'_>],
    ) -> anyhow::Result<Vec<Vec<Result<Answer, String>>>> {
        let group = requests.iter().map(|r| (r.item.id.clone(), r.image_index)).collect();
        self.groups.lock().unwrap().push(group);
        let yes = Answer { text: "yes".to_owned(), ..Answer::default() };
        Ok(requests.iter().map(|r| r.questions.iter().map(|_| Ok(yes.clone())).collect()).collect())
    }
}

/// Else a shard, which has other neighbours, would put other pictures together, and round otherwise.
#[test]
fn pictures_that_are_handed_over_together_are_of_one_item() {
    let folder = tempfile::tempdir().unwrap();
    let items = items(3);
    let run = run_with_pictures(folder.path(), &items);
    let judge = Together { groups: Mutex::default() };
    assert!(judge_all(&run, &items, &judge).unwrap().is_complete());
    let of = |item: &str, images: std::ops::Range<u32>| -> Vec<(String, u32)> {
        images.map(|image| (item.to_owned(), image)).collect()
    };
    let expected: Vec<_> =
        items.iter().flat_map(|item| [of(&item.id, 0..3), of(&item.id, 3..4)]).collect();
    assert_eq!(*judge.groups.lock().unwrap(), expected);
}

#[test]
fn a_pool_of_judges_answers_as_one_of_them_and_wants_them_alike() {
    let items = items(5);
    let rule = |rule: &str| -> Box<dyn Judge> {
        Box::new(ScriptedJudge::by_rule(rule.parse().unwrap(), 3))
    };
    let [one, pooled] = [vec!["hash:0.5"], vec!["hash:0.5"; 3]].map(|rules| {
        let folder = tempfile::tempdir().unwrap();
        let run = run_with_pictures(folder.path(), &items);
        let pool = JudgePool::new(rules.into_iter().map(rule).collect()).unwrap();
        assert!(judge_all(&run, &items, &pool).unwrap().is_complete());
        journal(&run)
    });
    assert_eq!(one, pooled);
    let error = JudgePool::new(vec![rule("yes"), rule("no")]).err().unwrap().to_string();
    assert!(error.contains("set differently on the devices"), "{error}");
    assert!(JudgePool::new(Vec::new()).is_err());
}

#[test]
fn a_journal_that_cannot_be_written_stops_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let items = items(1);
    let run = run_with_pictures(folder.path(), &items);
    std::fs::write(run.path().join("answers"), "in the way").unwrap();
    let error = judge_all(&run, &items, &ScriptedJudge::by_rule(Rule::Yes, 0)).unwrap_err();
    assert!(format!("{error:#}").contains("answers/j.jsonl"), "{error:#}");
}
