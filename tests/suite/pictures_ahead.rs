//! A generator that leaves the processor free makes its next pictures while the last ones are written; one
//! that does not waits, so that a kill costs as little as it can. The run's bytes are the same.

use std::path::Path;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use dpg_bench::benchmark::{Item, QuestionGraph};
use dpg_bench::generate::generate_run::{GenerationPlan, generate_run};
use dpg_bench::generate::noise::seeds::SeedMode;
use dpg_bench::generate::{GeneratedImage, ImageGenerator};
use dpg_bench::results::{BenchmarkIdentity, RunDirectory, Settings};
use dpg_bench::stage_observer::StageObserver;
use image::{Rgb, RgbImage};

use super::generate_run::files;

/// How many groups of pictures have been begun, and word of each.
#[derive(Default)]
struct Begun {
    count: Mutex<usize>,
    changed: Condvar,
}

struct Painter<'a> {
    begun: &'a Begun,
    elsewhere: bool,
}

impl ImageGenerator for Painter<'_> {
    fn settings(&self) -> Settings {
        [("model".to_owned(), "painter".into())].into()
    }

    fn runs_on_gpu(&self) -> bool {
        self.elsewhere
    }

    fn generate(&mut self, prompt: &str, seeds: &[u64]) -> anyhow::Result<Vec<GeneratedImage>> {
        *self.begun.count.lock().unwrap() += 1;
        self.begun.changed.notify_all();
        let paint = |&seed: &u64| GeneratedImage {
            pixels: RgbImage::from_pixel(4, 3, Rgb([seed as u8, prompt.len() as u8, 9])),
            seed,
            prompt_tokens: None,
            truncated: None,
            served: None,
        };
        Ok(seeds.iter().map(paint).collect())
    }
}

/// Notes how many groups were begun when an image was done; where `awaits` is set, the first image is not
/// let go before the second group has been begun.
struct Slow<'a> {
    begun: &'a Begun,
    awaits: bool,
    seen: Mutex<Vec<usize>>,
}

impl StageObserver for Slow<'_> {
    fn image_done(&self, _: &str, _: u32) {
        let mut seen = self.seen.lock().unwrap();
        let mut count = self.begun.count.lock().unwrap();
        if self.awaits && seen.is_empty() {
            // The limit only keeps a fault from hanging the tests.
            let limit = Duration::from_secs(60);
            (count, _) = self.begun.changed.wait_timeout_while(count, limit, |n| *n < 2).unwrap();
        }
        seen.push(*count);
    }
}

fn run(folder: &Path, elsewhere: bool) -> Vec<usize> {
    let identity = BenchmarkIdentity {
        path: "items".into(),
        digest: "d".into(),
        official: false,
        items: 3,
        questions: 0,
        lenient: false,
    };
    let items = ["x", "y", "z"].map(|id| Item {
        id: id.to_owned(),
        prompt: format!("a picture of {id}"),
        graph: QuestionGraph::build(vec![]).0,
    });
    let items: Vec<&Item> = items.iter().collect();
    let begun = Begun::default();
    let observer = Slow { begun: &begun, awaits: elsewhere, seen: Mutex::default() };
    let mut painter = Painter { begun: &begun, elsewhere };
    let plan =
        GenerationPlan { seed: 7, seed_mode: SeedMode::Hashed, batch: 2, one_thread_each: false };
    let mut run = RunDirectory::open_or_create(folder, identity, Settings::new(), 2).unwrap();
    let summary = generate_run(&mut run, &items, &mut painter, plan, "easel", &observer).unwrap();
    assert_eq!(summary.done, 6);
    observer.seen.into_inner().unwrap()
}

#[test]
fn pictures_are_made_while_the_last_ones_are_written_where_that_is_free() {
    let [waiting, overlapped] = [false, true].map(|elsewhere| {
        let folder = tempfile::tempdir().unwrap();
        (run(folder.path(), elsewhere), files(folder.path()))
    });
    // Two images a group: nothing is begun before what was made is written ...
    assert_eq!(waiting.0, [1, 1, 2, 2, 3, 3]);
    // ... or the second group before the first image is, but never more than one group ahead.
    assert!(overlapped.0[0] == 2 && overlapped.0[1] == 2, "{:?}", overlapped.0);
    assert!(overlapped.0.iter().enumerate().all(|(image, begun)| *begun <= image / 2 + 2));
    assert_eq!(waiting.1, overlapped.1);
    assert!(waiting.1.len() > 6);
}
