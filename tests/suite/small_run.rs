//! A run of a few items with tiny pictures, made in a moment, for the tests of the judges.

use std::path::Path;

use dpg_bench::benchmark::{Category, DeclaredParent, Item, Question, QuestionGraph};
use dpg_bench::judge::Judge;
use dpg_bench::judge::judge_counts::JudgeCounts;
use dpg_bench::judge::judge_run::judge_images;
use dpg_bench::results::image_store::{pixels_sha256, write_png};
use dpg_bench::results::manifest::BenchmarkIdentity;
use dpg_bench::results::{ImageOutcome, ImageRecord, RunDirectory, Settings};
use dpg_bench::stage_observer::Silent;

/// Images per item of the runs made here.
pub const IMAGES: u32 = 4;

/// Items `item0`.. with 3 questions each, numbered 1, 2 and 5.
pub fn items(count: usize) -> Vec<Item> {
    let question = |item: usize, id: u32| Question {
        id,
        text: format!("Is there a thing {id} in item {item}?"),
        tuple: "entity - whole (thing)".to_owned(),
        category: Category::from_tuple("entity - whole (thing)"),
        declared_parents: vec![DeclaredParent::None],
        row: item * 3 + id as usize,
    };
    (0..count)
        .map(|item| {
            let questions = [1, 2, 5].map(|id| question(item, id)).to_vec();
            let (graph, faults) = QuestionGraph::build(questions);
            assert!(faults.is_empty());
            Item { id: format!("item{item}"), prompt: format!("Prompt {item}"), graph }
        })
        .collect()
}

/// A run with a small picture for every image of `items`, each of other pixels.
pub fn run_with_pictures(path: &Path, items: &[Item]) -> RunDirectory {
    let identity = BenchmarkIdentity {
        path: "made by hand".to_owned(),
        digest: "0".to_owned(),
        official: false,
        items: items.len() as u64,
        questions: items.iter().map(|item| item.graph.len() as u64).sum(),
        lenient: false,
    };
    let run = RunDirectory::open_or_create(path, identity, Settings::new(), IMAGES).unwrap();
    for (index, item) in items.iter().enumerate() {
        for image in 0..IMAGES {
            put_picture(&run, &item.id, image, index as u8);
        }
    }
    run
}

/// Stores a picture of a colour of its own and records it.
pub fn put_picture(run: &RunDirectory, item: &str, image: u32, shade: u8) {
    let pixels = image::RgbImage::from_pixel(4, 4, image::Rgb([shade, image as u8, 7]));
    write_png(&run.image_path(item, image), &pixels, &[]).unwrap();
    let outcome = ImageOutcome::Done {
        pixels_sha256: pixels_sha256(&pixels),
        width: 4,
        height: 4,
        seed: None,
        prompt_tokens: None,
        truncated: None,
        source: None,
        control_sha256: None,
        served: None,
    };
    let (mut journal, _) = run.open_images().unwrap();
    journal.append(&ImageRecord { item: item.to_owned(), image, outcome }).unwrap();
}

/// Judges all of `items` under the name `j`.
pub fn judge_all(
    run: &RunDirectory,
    items: &[Item],
    judge: &dyn Judge,
) -> anyhow::Result<JudgeCounts> {
    judge_images(run, "j", &items.iter().collect::<Vec<_>>(), judge, &Silent)
}

/// The bytes of the journal that [`judge_all`] writes.
pub fn journal(run: &RunDirectory) -> Vec<u8> {
    std::fs::read(run.path().join("answers/j.jsonl")).unwrap()
}
