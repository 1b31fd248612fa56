//! A generated run survives any kill: whatever is lost, the resumed run ends in the same bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use dpg_bench::benchmark::{Item, QuestionGraph};
use dpg_bench::generate::generate_run::{
    GenerationPlan, GenerationSummary, generate_on_devices, generate_run,
};
use dpg_bench::generate::noise::seeds::SeedMode;
use dpg_bench::generate::{GeneratedImage, ImageGenerator, ImageRequest};
use dpg_bench::results::{BenchmarkIdentity, ImageOutcome, RunDirectory, Settings};
use dpg_bench::stage_observer::{Silent, StageObserver};
use image::{Rgb, RgbImage};
use sha2::{Digest, Sha256};

/// Paints a picture from prompt and seed; fails on prompts with `broken`.
#[derive(Default)]
struct Painter {
    /// Seeds of each call.
    calls: Vec<Vec<u64>>,
    shade: u8,
}

impl ImageGenerator for Painter {
    fn settings(&self) -> Settings {
        [("model".to_owned(), "painter".into()), ("shade".to_owned(), self.shade.into())].into()
    }

    fn generate(&mut self, prompt: &str, seeds: &[u64]) -> anyhow::Result<Vec<GeneratedImage>> {
        self.calls.push(seeds.to_vec());
        if prompt.contains("broken") {
            // As a tensor error with a backtrace, another one each time.
            let error = anyhow::anyhow!("the brush broke\n   0: frame {}", self.calls.len());
            return Err(error.context("no picture"));
        }
        let paint = |&seed: &u64| {
            let digest = Sha256::digest(format!("{prompt} {seed}"));
            let pixel = |x: u32, y: u32| Rgb([digest[x as usize], digest[y as usize], self.shade]);
            GeneratedImage {
                pixels: RgbImage::from_fn(6, 5, pixel),
                seed,
                prompt_tokens: Some(prompt.len() as u32),
                truncated: Some(prompt.len() > 20),
                served: None,
            }
        };
        Ok(seeds.iter().map(paint).collect())
    }
}

fn item(id: &str, prompt: &str) -> Item {
    Item { id: id.to_owned(), prompt: prompt.to_owned(), graph: QuestionGraph::build(vec![]).0 }
}

fn items() -> Vec<Item> {
    vec![item("b", "a cat"), item("a", "a broken vase"), item("c", "a prompt of some length, cut")]
}

fn plan(batch: u32) -> GenerationPlan {
    GenerationPlan { seed: 7, seed_mode: SeedMode::Hashed, batch, one_thread_each: false }
}

fn open(path: &Path) -> RunDirectory {
    let identity = BenchmarkIdentity {
        path: "items".into(),
        digest: "d".into(),
        official: false,
        items: 3,
        questions: 0,
        lenient: false,
    };
    RunDirectory::open_or_create(path, identity, Settings::new(), 4).unwrap()
}

fn generate(
    path: &Path,
    painter: &mut Painter,
    plan: GenerationPlan,
) -> anyhow::Result<GenerationSummary> {
    let items = items();
    let items: Vec<&Item> = items.iter().collect();
    generate_run(&mut open(path), &items, painter, plan, "easel", &Silent)
}

/// Every file of a run but its manifest.
pub fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().unwrap() != "manifest.json" {
                found.insert(
                    path.strip_prefix(root).unwrap().to_owned(),
                    std::fs::read(path).unwrap(),
                );
            }
        }
    }
    found
}

fn restore(root: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) {
    let _ = std::fs::remove_dir_all(root.join("images"));
    for (name, bytes) in files {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn a_run_holds_its_images_in_order_and_records_failures() {
    let folder = tempfile::tempdir().unwrap();
    let mut painter = Painter::default();
    let summary = generate(folder.path(), &mut painter, plan(1)).unwrap();
    let expected = GenerationSummary {
        images: 12,
        already_done: 0,
        done: 8,
        failed: 4,
        truncated_prompts: 1,
        ..GenerationSummary::default()
    };
    assert_eq!(summary, expected);
    let run = RunDirectory::open(folder.path()).unwrap();
    let records = run.read_images().unwrap();
    let order: Vec<(&str, u32)> = records.iter().map(|r| (r.item.as_str(), r.image)).collect();
    let all = ["b", "a", "c"].iter().flat_map(|item| (0..4).map(move |image| (*item, image)));
    assert_eq!(order, all.collect::<Vec<_>>());
    for record in &records {
        match &record.outcome {
            ImageOutcome::Done { seed, truncated, prompt_tokens, .. } => {
                assert_eq!(*seed, Some(SeedMode::Hashed.seed(7, &record.item, record.image)));
                assert_eq!(*truncated, Some(record.item == "c"));
                assert_eq!(*prompt_tokens, Some(if record.item == "c" { 28 } else { 5 }));
            }
            ImageOutcome::Failed { reason } => {
                assert_eq!(
                    (record.item.as_str(), reason.as_str()),
                    ("a", "no picture: the brush broke")
                );
            }
            ImageOutcome::Filtered { reason } => panic!("{reason}"),
        }
    }
    let entry = run.manifest().generation.clone().unwrap();
    assert_eq!(entry.settings["seed"], 7);
    assert_eq!(entry.settings["seed_mode"], "hashed");
    assert_eq!(entry.sittings[0].images_done, Some(8));
    assert_eq!(entry.sittings[0].images_failed, Some(4));
}

#[test]
fn a_picture_carries_its_settings_and_no_time() {
    let folder = tempfile::tempdir().unwrap();
    generate(folder.path(), &mut Painter::default(), plan(2)).unwrap();
    let file = std::fs::File::open(folder.path().join("images/c/3.png")).unwrap();
    let reader = png::Decoder::new(std::io::BufReader::new(file)).read_info().unwrap();
    let texts: BTreeMap<String, String> = reader
        .info()
        .utf8_text
        .iter()
        .map(|chunk| (chunk.keyword.clone(), chunk.get_text().unwrap()))
        .collect();
    let seed = SeedMode::Hashed.seed(7, "c", 3).to_string();
    let expected = [
        ("Software", "dpg-bench"),
        ("base_seed", "7"),
        ("batch", "2"),
        ("format_version", "1.0"),
        ("image", "3"),
        ("item", "c"),
        ("model", "painter"),
        ("prompt", "a prompt of some length, cut"),
        ("seed", seed.as_str()),
        ("seed_mode", "hashed"),
        ("shade", "0"),
    ];
    assert_eq!(texts, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
}

#[test]
fn a_journal_cut_anywhere_grows_back_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    for batch in [1, 3] {
        let path = folder.path().join(batch.to_string());
        generate(&path, &mut Painter::default(), plan(batch)).unwrap();
        let whole = files(&path);
        let journal = &whole[Path::new("images.jsonl")];
        for cut in (0..=journal.len()).step_by(131) {
            restore(&path, &whole);
            std::fs::write(path.join("images.jsonl"), &journal[..cut]).unwrap();
            // Pictures whose record is lost: one is gone, one is half written, others are there.
            let _ = std::fs::remove_file(path.join("images/c/2.png"));
            std::fs::write(path.join("images/c/3.png"), b"half").unwrap();
            generate(&path, &mut Painter::default(), plan(batch)).unwrap();
            assert!(files(&path) == whole, "batch {batch}, cut at {cut}");
        }
    }
}

#[test]
fn what_is_done_is_left_alone_and_what_is_lost_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    generate(&path, &mut Painter::default(), plan(1)).unwrap();
    let whole = files(&path);

    let mut painter = Painter::default();
    let summary = generate(&path, &mut painter, plan(1)).unwrap();
    // Only the four failures are tried again.
    assert_eq!((summary.already_done, summary.done, summary.failed), (8, 0, 4));
    assert_eq!(painter.calls.len(), 4);
    assert_eq!(summary.truncated_prompts, 1);
    assert!(files(&path) == whole);

    let damages: [&dyn Fn(); 4] = [
        &|| std::fs::remove_file(path.join("images/b/1.png")).unwrap(),
        &|| std::fs::write(path.join("images/b/1.png"), b"no picture").unwrap(),
        &|| {
            std::fs::write(path.join("images/b/1.png"), &whole[Path::new("images/b/1.png")][..60])
                .unwrap()
        },
        // A picture, but another one.
        &|| {
            std::fs::write(path.join("images/b/1.png"), &whole[Path::new("images/b/2.png")])
                .unwrap()
        },
    ];
    for damage in damages {
        damage();
        let mut painter = Painter::default();
        let summary = generate(&path, &mut painter, plan(1)).unwrap();
        assert_eq!((summary.already_done, summary.done), (7, 1));
        assert_eq!(painter.calls[0], [SeedMode::Hashed.seed(7, "b", 1)]);
        assert!(files(&path) == whole);
    }
}

#[test]
fn a_group_is_made_anew_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    generate(folder.path(), &mut Painter::default(), plan(3)).unwrap();
    std::fs::remove_file(folder.path().join("images/b/1.png")).unwrap();
    std::fs::remove_file(folder.path().join("images/c/3.png")).unwrap();
    let mut painter = Painter::default();
    generate(folder.path(), &mut painter, plan(3)).unwrap();
    let seeds = |item: &str, images: std::ops::Range<u32>| -> Vec<u64> {
        images.map(|image| SeedMode::Hashed.seed(7, item, image)).collect()
    };
    let expected = [seeds("b", 0..3), seeds("a", 0..3), seeds("a", 3..4), seeds("c", 3..4)];
    assert_eq!(painter.calls, expected);
}

#[test]
fn changed_settings_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    generate(folder.path(), &mut Painter::default(), plan(1)).unwrap();
    let whole = files(folder.path());
    let mut other = Painter { shade: 9, ..Default::default() };
    let message = generate(folder.path(), &mut other, plan(1)).unwrap_err().to_string();
    assert!(message.contains("shade: 0 in the run, 9 now"), "{message}");
    let changed = GenerationPlan { seed: 8, seed_mode: SeedMode::Sequential, ..plan(2) };
    let message =
        generate(folder.path(), &mut Painter::default(), changed).unwrap_err().to_string();
    for name in ["seed: 7", "seed_mode", "batch"] {
        assert!(message.contains(name), "{message}");
    }
    assert!(other.calls.is_empty());
    assert!(files(folder.path()) == whole);
}

/// A picture that turns out otherwise on another machine replaces the record too.
#[test]
fn a_picture_that_comes_out_otherwise_is_recorded_again() {
    struct Drifting(Painter);
    impl ImageGenerator for Drifting {
        fn settings(&self) -> Settings {
            Painter::default().settings()
        }
        fn generate(&mut self, prompt: &str, seeds: &[u64]) -> anyhow::Result<Vec<GeneratedImage>> {
            self.0.generate(prompt, seeds)
        }
    }
    let folder = tempfile::tempdir().unwrap();
    generate(folder.path(), &mut Painter::default(), plan(1)).unwrap();
    std::fs::remove_file(folder.path().join("images/b/0.png")).unwrap();
    let items = items();
    let items: Vec<&Item> = items.iter().collect();
    let mut drifting = Drifting(Painter { shade: 1, ..Default::default() });
    generate_run(&mut open(folder.path()), &items, &mut drifting, plan(1), "other", &Silent)
        .unwrap();
    let records = RunDirectory::open(folder.path()).unwrap().read_images().unwrap();
    assert_eq!(records.len(), 13);
    assert_eq!((records[12].item.as_str(), records[12].image), ("b", 0));
    let again = generate(folder.path(), &mut Painter::default(), plan(1)).unwrap();
    assert_eq!((again.already_done, again.done), (8, 0));
}

#[test]
fn a_disk_that_refuses_stops_the_run() {
    let folder = tempfile::tempdir().unwrap();
    // A file stands where the item's folder must go.
    std::fs::create_dir_all(folder.path().join("images")).unwrap();
    std::fs::write(folder.path().join("images/b"), "").unwrap();
    let mut painter = Painter::default();
    let message = format!("{:#}", generate(folder.path(), &mut painter, plan(1)).unwrap_err());
    assert!(message.contains("images/b"), "{message}");
    assert_eq!(painter.calls.len(), 1);
    assert!(RunDirectory::open(folder.path()).unwrap().read_images().unwrap().is_empty());
}

#[test]
fn the_observer_hears_everything() {
    #[derive(Default)]
    struct Notes(Mutex<Vec<String>>);
    impl Notes {
        fn note(&self, text: String) {
            self.0.lock().unwrap().push(text);
        }
    }
    impl StageObserver for Notes {
        fn started(&self, total: u64, already_done: u64) {
            self.note(format!("{already_done}/{total}"));
        }
        fn image_done(&self, item: &str, image: u32) {
            self.note(format!("{item}{image}"));
        }
        fn image_failed(&self, item: &str, image: u32, reason: &str) {
            self.note(format!("{item}{image} {reason}"));
        }
        fn finished(&self) {
            self.note("end".into());
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let items = items();
    let items: Vec<&Item> = items[..2].iter().collect();
    let notes = Notes::default();
    let mut run = open(folder.path());
    generate_run(&mut run, &items, &mut Painter::default(), plan(4), "easel", &notes).unwrap();
    let heard = notes.0.into_inner().unwrap().join(", ");
    let failures =
        (0..4).map(|image| format!("a{image} no picture: the brush broke")).collect::<Vec<_>>();
    assert_eq!(heard, format!("0/8, b0, b1, b2, b3, {}, end", failures.join(", ")));
}

/// Breaks down on one prompt instead of returning.
struct Panicking;

impl ImageGenerator for Panicking {
    fn settings(&self) -> Settings {
        Painter::default().settings()
    }

    fn generate(&mut self, prompt: &str, seeds: &[u64]) -> anyhow::Result<Vec<GeneratedImage>> {
        assert!(prompt != "a cat", "out of paint");
        Painter::default().generate(prompt, seeds)
    }
}

#[test]
fn several_generators_end_in_the_bytes_of_one_and_a_panic_is_a_failure_like_any_other() {
    let items = items();
    let items: Vec<&Item> = items.iter().collect();
    let make = |generators: Vec<&mut dyn ImageGenerator>| {
        let folder = tempfile::tempdir().unwrap();
        let mut run = open(folder.path());
        let summary =
            generate_on_devices(&mut run, &items, generators, plan(2), "easels", &Silent).unwrap();
        (summary, files(folder.path()))
    };
    let one = make(vec![&mut Painter::default()]);
    let mut painters = [Painter::default(), Painter::default(), Painter::default()];
    let three =
        make(painters.iter_mut().map(|painter| painter as &mut dyn ImageGenerator).collect());
    assert_eq!(one, three);
    let calls: usize = painters.iter().map(|painter| painter.calls.len()).sum();
    assert_eq!(calls, 6);

    let (summary, left) = make(vec![&mut Panicking, &mut Panicking]);
    assert_eq!((summary.done, summary.failed), (4, 8));
    let journal = String::from_utf8_lossy(&left[Path::new("images.jsonl")]).into_owned();
    assert!(journal.contains("the model broke: out of paint"), "{journal}");

    let folder = tempfile::tempdir().unwrap();
    let mut other = Painter { shade: 1, ..Painter::default() };
    let unlike: Vec<&mut dyn ImageGenerator> = vec![&mut painters[0], &mut other];
    let error =
        generate_on_devices(&mut open(folder.path()), &items, unlike, plan(2), "easels", &Silent)
            .unwrap_err()
            .to_string();
    assert!(error.contains("shade: 0 on the first, 1 on another"), "{error}");
}

/// One of several that are asked one at a time, and end their pictures, files included, beside each other.
#[derive(Default)]
struct Sharing(Painter);

impl ImageGenerator for Sharing {
    fn settings(&self) -> Settings {
        self.0.settings()
    }

    fn asked_at_a_time(&self) -> Option<usize> {
        Some(1)
    }

    fn generate(&mut self, prompt: &str, seeds: &[u64]) -> anyhow::Result<Vec<GeneratedImage>> {
        self.0.generate(prompt, seeds)
    }

    fn generate_asked(&mut self, request: ImageRequest<'_>) -> anyhow::Result<Vec<GeneratedImage>> {
        (request.came)();
        // The first to be asked are the last to end.
        let pause = u64::from(4 - request.images[0]);
        std::thread::sleep(std::time::Duration::from_millis(3 * pause));
        self.generate(request.prompt, request.seeds)
    }
}

#[test]
fn files_written_out_of_order_end_in_the_bytes_of_one_generator() {
    let items = items();
    let items: Vec<&Item> = items.iter().collect();
    let alone = tempfile::tempdir().unwrap();
    let expected = generate(alone.path(), &mut Painter::default(), plan(1)).unwrap();

    let shared = tempfile::tempdir().unwrap();
    let make = || {
        let mut generators = [(); 4].map(|()| Sharing::default());
        let each = generators.iter_mut().map(|one| one as &mut dyn ImageGenerator).collect();
        generate_on_devices(&mut open(shared.path()), &items, each, plan(1), "easels", &Silent)
    };
    // A file stands where the folder of the last item is to be.
    std::fs::create_dir(shared.path().join("images")).unwrap();
    std::fs::write(shared.path().join("images/c"), "").unwrap();
    let error = format!("{:#}", make().unwrap_err());
    assert!(error.contains("images/c"), "{error}");
    let journal = std::fs::read_to_string(shared.path().join("images.jsonl")).unwrap();
    assert_eq!(journal.lines().count(), 1 + 8, "the two items before it are recorded: {journal}");

    std::fs::remove_file(shared.path().join("images/c")).unwrap();
    let summary = make().unwrap();
    assert_eq!((summary.already_done, summary.done, summary.failed), (4, 4, 4));
    assert_eq!(summary.images, expected.images);
    assert_eq!(files(shared.path()), files(alone.path()));
}
