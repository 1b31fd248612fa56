//! The judge beside the generator, as a library: answers come while pictures are made, in the bytes of judging
//! afterwards, whatever fails, is killed, is handed over together or goes on in the other way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use dpg_bench::benchmark::Item;
use dpg_bench::generate::generate_run::{Generation, GenerationPlan, generate_run};
use dpg_bench::generate::noise::seeds::SeedMode;
use dpg_bench::generate::{GeneratedImage, ImageGenerator};
use dpg_bench::judge::judge_counts::JudgeCounts;
use dpg_bench::judge::judge_run::{ImagesInProgress, judge_as_made, judge_images};
use dpg_bench::judge::{Answer, Judge, JudgeRequest};
use dpg_bench::results::{BenchmarkIdentity, RunDirectory, Settings};
use dpg_bench::stage_observer::StageObserver;
use image::{Rgb, RgbImage};

use super::generate_run::files;
use super::small_run::items;

const ITEMS: usize = 6;
const IMAGES: u32 = 4;
/// The limit only keeps a fault from hanging the tests.
const LIMIT: Duration = Duration::from_secs(20);

/// A counter that can be waited for.
#[derive(Default)]
struct Meter {
    count: Mutex<usize>,
    changed: Condvar,
}

impl Meter {
    fn one_more(&self) {
        *self.count.lock().unwrap() += 1;
        self.changed.notify_all();
    }

    fn count(&self) -> usize {
        *self.count.lock().unwrap()
    }

    fn await_count(&self, enough: usize) {
        let count = self.count.lock().unwrap();
        let few = |count: &mut usize| *count < enough;
        let (count, _) = self.changed.wait_timeout_while(count, LIMIT, few).unwrap();
        assert!(*count >= enough, "{count} of {enough} in time");
    }
}

/// Every file but the manifest.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// How a sitting goes.
#[derive(Default)]
struct Sitting {
    /// Beside each other, or one after the other.
    beside: bool,
    /// Whether some pictures and some questions fail.
    fails: bool,
    batch: u32,
    together: usize,
    in_flight: usize,
    /// Lines of each journal after which its stage is torn out, as by a kill.
    images_killed_after: Option<usize>,
    answers_killed_after: Option<usize>,
    /// The last item is not painted before so many images were asked about.
    last_item_awaits: usize,
}

/// What came of it.
struct Outcome {
    counts: Option<JudgeCounts>,
    asked: Vec<(String, u32, u32)>,
}

struct Painter<'a> {
    sitting: &'a Sitting,
    asked: &'a Meter,
}

impl ImageGenerator for Painter<'_> {
    fn settings(&self) -> Settings {
        [("model".to_owned(), "painter".into())].into()
    }

    fn generate(&mut self, prompt: &str, seeds: &[u64]) -> anyhow::Result<Vec<GeneratedImage>> {
        if prompt == format!("Prompt {}", ITEMS - 1) {
            self.asked.await_count(self.sitting.last_item_awaits);
        }
        let is_bad = |seed: &u64| self.sitting.fails && seed.is_multiple_of(5);
        anyhow::ensure!(!seeds.iter().any(is_bad), "out of paint");
        let paint = |&seed: &u64| GeneratedImage {
            pixels: RgbImage::from_pixel(4, 3, Rgb([seed as u8, (seed >> 8) as u8, 9])),
            seed,
            prompt_tokens: None,
            truncated: None,
            served: None,
        };
        Ok(seeds.iter().map(paint).collect())
    }
}

struct Critic<'a> {
    sitting: &'a Sitting,
    met: &'a Meter,
    asked: Mutex<Vec<(String, u32, u32)>>,
}

impl Judge for Critic<'_> {
    fn settings(&self) -> Settings {
        Settings::new()
    }

    fn images_in_flight(&self) -> usize {
        self.sitting.in_flight.max(1)
    }

    fn image_batch_size(&self) -> usize {
        self.sitting.together.max(1)
    }

    fn answer(&self, request: &JudgeRequest<'_>) -> anyhow::Result<Vec<Result<Answer, String>>> {
        self.met.one_more();
        let (item, image) = (&request.item.id, request.image_index);
        let pixel = request.image.decode()?.get_pixel(0, 0).0;
        let answer = |id: u32| {
            self.asked.lock().unwrap().push((item.clone(), image, id));
            let draw = (u32::from(pixel[0]) * 7 + u32::from(pixel[1]) + id * 3) % 6;
            match draw {
                0 if self.sitting.fails => Err("time-out".to_owned()),
                0..3 => Ok(Answer { text: "yes".into(), ..Answer::default() }),
                _ => Ok(Answer { text: "no".into(), ..Answer::default() }),
            }
        };
        Ok(request.questions.iter().map(|question| answer(question.id)).collect())
    }
}

/// What a stage says; it is torn out after so many images.
struct Told<'a> {
    making: &'a Making,
    left: Option<AtomicUsize>,
}

impl Told<'_> {
    fn one_more(&self) {
        let is_last = |left: &AtomicUsize| left.fetch_sub(1, Ordering::SeqCst) == 1;
        if self.left.as_ref().is_some_and(is_last) {
            panic!("killed on purpose");
        }
    }
}

impl StageObserver for Told<'_> {
    fn items_finished(&self, count: usize) {
        let mut state = self.making.state.lock().unwrap();
        assert!(state.0.is_none_or(|before| before <= count), "{count} after {state:?}");
        state.0 = Some(count);
        drop(state);
        self.making.changed.notify_all();
    }

    fn image_done(&self, _: &str, _: u32) {
        self.one_more();
    }

    fn image_failed(&self, _: &str, _: u32, _: &str) {
        self.one_more();
    }
}

/// Items that are finished, and whether that is all.
#[derive(Default)]
struct Making {
    state: Mutex<(Option<usize>, bool)>,
    changed: Condvar,
}

impl ImagesInProgress for Making {
    fn await_start(&self) -> bool {
        let waits = |state: &mut (Option<usize>, bool)| state.0.is_none() && !state.1;
        self.changed.wait_while(self.state.lock().unwrap(), waits).unwrap().0.is_some()
    }

    fn await_item(&self, place: usize) -> Option<usize> {
        let waits = |state: &mut (Option<usize>, bool)| state.0 <= Some(place) && !state.1;
        let state = self.changed.wait_while(self.state.lock().unwrap(), waits).unwrap();
        state.0.filter(|count| *count > place)
    }
}

struct Over<'a>(&'a Making);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().1 = true;
        self.0.changed.notify_all();
    }
}

fn sit(folder: &Path, sitting: &Sitting) -> Outcome {
    let identity = BenchmarkIdentity {
        path: "items".into(),
        digest: "d".into(),
        official: false,
        items: ITEMS as u64,
        questions: 3 * ITEMS as u64,
        lenient: false,
    };
    let items = items(ITEMS);
    let items: Vec<&Item> = items.iter().collect();
    let mut run = RunDirectory::open_or_create(folder, identity, Settings::new(), IMAGES).unwrap();
    let met = Meter::default();
    let mut painter = Painter { sitting, asked: &met };
    let critic = Critic { sitting, met: &met, asked: Mutex::default() };
    let plan = GenerationPlan {
        seed: 7,
        seed_mode: SeedMode::Hashed,
        batch: sitting.batch.max(1),
        one_thread_each: false,
    };
    let making = Making::default();
    let [images, answers] = [sitting.images_killed_after, sitting.answers_killed_after]
        .map(|left| Told { making: &making, left: left.map(AtomicUsize::new) });
    let counts = if sitting.beside {
        let generators: Vec<&mut dyn ImageGenerator> = vec![&mut painter];
        let mut generation =
            Generation::begin(&mut run, &items, &generators, plan, "easel").unwrap();
        std::thread::scope(|scope| {
            let (run, items) = (&run, &items);
            let judge = || judge_as_made(run, "j", items, &critic, &making, &answers);
            let judging = scope.spawn(judge);
            scope.spawn(|| {
                let _over = Over(&making);
                // As a kill: nothing else is let go by a panic.
                let make = std::panic::AssertUnwindSafe(|| {
                    generation.make(run, items, generators, &images)
                });
                let made = std::panic::catch_unwind(make);
                assert_eq!(made.is_err(), sitting.images_killed_after.is_some());
            });
            judging.join().ok().map(Result::unwrap)
        })
    } else {
        let run = &mut run;
        let mut work = || {
            generate_run(run, &items, &mut painter, plan, "easel", &images).unwrap();
            judge_images(run, "j", &items, &critic, &answers).unwrap()
        };
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(&mut work)).ok()
    };
    Outcome { counts, asked: critic.asked.into_inner().unwrap() }
}

/// The journals and pictures after these sittings, and the questions asked in each of them.
fn after(sittings: &[Sitting]) -> (Files, Vec<Outcome>) {
    let folder = tempfile::tempdir().unwrap();
    let outcomes = sittings.iter().map(|sitting| sit(folder.path(), sitting)).collect();
    (files(folder.path()), outcomes)
}

fn lines(files: &Files, name: &str) -> usize {
    files[Path::new(name)].iter().filter(|&&byte| byte == b'\n').count()
}

fn sorted(mut asked: Vec<(String, u32, u32)>) -> Vec<(String, u32, u32)> {
    asked.sort();
    asked
}

#[test]
fn an_item_is_judged_before_the_last_one_is_painted() {
    let sitting = Sitting {
        beside: true,
        last_item_awaits: (ITEMS - 1) * IMAGES as usize,
        ..Sitting::default()
    };
    let (there, outcomes) = after(&[sitting]);
    let counts = outcomes[0].counts.unwrap();
    assert_eq!((counts.images_done, counts.finished_now), (24, 24));
    assert!(counts.is_complete());
    assert!(there == after(&[Sitting::default()]).0);
}

/// Pictures and questions that fail in the first sitting and not in the second, in each of the two ways, with
/// groups of pictures on both sides that do not fit into the number of images.
#[test]
fn failures_leave_the_same_bytes_and_are_tried_as_often_in_both_ways() {
    for (batch, together, in_flight) in [(1, 1, 1), (1, 1, 5), (3, 1, 2), (1, 3, 1), (2, 3, 4)] {
        let with = |beside: [bool; 2]| {
            let first =
                Sitting { beside: beside[0], fails: true, ..of_kind(batch, together, in_flight) };
            let second = Sitting { beside: beside[1], ..of_kind(batch, together, in_flight) };
            let third = Sitting { beside: beside[0], ..of_kind(batch, together, in_flight) };
            after(&[first, second, third])
        };
        let (expected, outcomes) = with([false, false]);
        let first = outcomes[0].counts.unwrap();
        assert!(first.images_missing > 0 && first.failed_questions > 0, "{first:?}");
        assert!(outcomes[1].counts.unwrap().is_complete());
        assert!(outcomes[2].asked.is_empty());
        assert!(lines(&expected, "answers/j.jsonl") > 25);
        for beside in [[true, true], [true, false], [false, true]] {
            let (found, others) = with(beside);
            assert!(found == expected, "{batch}, {together}, {in_flight}: {beside:?}");
            for (one, other) in outcomes.iter().zip(others) {
                assert_eq!(one.counts, other.counts);
                assert_eq!(sorted(one.asked.clone()), sorted(other.asked));
            }
        }
    }
}

fn of_kind(batch: u32, together: usize, in_flight: usize) -> Sitting {
    Sitting { batch, together, in_flight, ..Sitting::default() }
}

/// Each stage in turn is torn out after every number of lines, half a line behind them, and both go on in
/// either way.
#[test]
fn a_kill_at_any_line_of_either_stage_ends_in_the_same_bytes() {
    let sitting = |beside| Sitting { beside, in_flight: 3, ..Sitting::default() };
    let expected = after(&[sitting(false)]).0;
    for killed_after in 1..ITEMS * IMAGES as usize {
        for images in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let killed = Sitting {
                images_killed_after: images.then_some(killed_after),
                answers_killed_after: (!images).then_some(killed_after),
                ..sitting(true)
            };
            let outcome = sit(folder.path(), &killed);
            let there = files(folder.path());
            let (made, judged) = (lines(&there, "images.jsonl"), lines(&there, "answers/j.jsonl"));
            assert!(judged <= made);
            if images {
                assert_eq!(made, killed_after + 1);
                // Whole items only: the one in hand is not finished.
                let whole = (killed_after - 1) / IMAGES as usize * IMAGES as usize;
                assert_eq!(judged - 1, whole);
                let counts = outcome.counts.unwrap();
                assert_eq!(counts.images_done as usize, judged - 1);
                assert_eq!(counts.images_left as usize, killed_after - whole);
                assert_eq!(counts.images_missing as usize, 24 - killed_after);
            } else {
                assert!(outcome.counts.is_none());
                assert_eq!((made, judged), (25, killed_after + 1));
            }
            let journal =
                folder.path().join(if images { "images.jsonl" } else { "answers/j.jsonl" });
            let whole = &expected[journal.strip_prefix(folder.path()).unwrap()];
            let kept = std::fs::read(&journal).unwrap().len();
            std::fs::write(&journal, &whole[..kept + 9]).unwrap();
            sit(folder.path(), &sitting(killed_after % 2 == 0));
            assert!(files(folder.path()) == expected, "{killed_after} lines, images: {images}");
        }
    }
}

/// One of several that ask about an item may be told that it will never come, and the others, a moment later, that
/// it is there.
#[test]
fn no_line_is_written_behind_a_gap() {
    struct Wavering(Mutex<bool>);
    impl ImagesInProgress for Wavering {
        fn await_start(&self) -> bool {
            true
        }
        fn await_item(&self, place: usize) -> Option<usize> {
            let is_first = place == 2 && !std::mem::replace(&mut *self.0.lock().unwrap(), true);
            (!is_first).then_some(ITEMS)
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let sitting = Sitting { in_flight: 6, ..Sitting::default() };
    let expected = after(&[Sitting::default()]).0.remove(Path::new("answers/j.jsonl")).unwrap();
    let items = items(ITEMS);
    let items: Vec<&Item> = items.iter().collect();
    sit(folder.path(), &Sitting::default());
    let mut last = 0;
    for _ in 0..20 {
        std::fs::remove_dir_all(folder.path().join("answers")).unwrap();
        let run = RunDirectory::open(folder.path()).unwrap();
        let met = Meter::default();
        let critic = Critic { sitting: &sitting, met: &met, asked: Mutex::default() };
        let making = Wavering(Mutex::default());
        let silent = dpg_bench::stage_observer::Silent;
        let counts = judge_as_made(&run, "j", &items, &critic, &making, &silent).unwrap();
        let there = std::fs::read(folder.path().join("answers/j.jsonl")).unwrap();
        assert!(expected.starts_with(&there));
        assert_eq!(counts.images_done + counts.images_left, 24);
        last = counts.images_left;
    }
    assert!((13..=16).contains(&last), "{last}");
}

#[test]
fn a_run_without_a_picture_is_refused_as_afterwards() {
    struct NoPictures;
    impl ImagesInProgress for NoPictures {
        fn await_start(&self) -> bool {
            true
        }
        fn await_item(&self, _: usize) -> Option<usize> {
            Some(ITEMS)
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let items = items(ITEMS);
    let run = super::small_run::run_with_pictures(folder.path(), &[]);
    let items: Vec<&Item> = items.iter().collect();
    let (sitting, met) = (Sitting::default(), Meter::default());
    let critic = Critic { sitting: &sitting, met: &met, asked: Mutex::default() };
    let silent = dpg_bench::stage_observer::Silent;
    let error = judge_as_made(&run, "j", &items, &critic, &NoPictures, &silent).unwrap_err();
    assert!(error.to_string().contains("no image of the selected items"), "{error}");
    assert_eq!(met.count(), 0);
}
