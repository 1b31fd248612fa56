//! Scoring a whole run of the official question file: 1,065 items, 4 images each, 14,392 questions, so 57,568
//! answers, from the journal on disk to the summary. The file is read from the shared data beside the
//! checkout; without it, made-up items of the same number are scored.
//!
//!     cargo bench --bench score
//!
//! `benches/reference_script_time.py` times the reference script's rules on data of the same shape.

#![allow(clippy::expect_used, clippy::print_stderr)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use divan::{Bencher, black_box};
use dpg_bench::aggregate::score_table::score_table;
use dpg_bench::aggregate::{JudgeIdentity, Protocol, RunIdentity, Summary, SummaryInput};
use dpg_bench::benchmark::{
    Benchmark, Category, DeclaredParent, Item, Question, QuestionGraph, Strictness,
};
use dpg_bench::results::{
    AnswerOutcome, AnswerRecord, BenchmarkIdentity, Journal, NewestAnswers, QuestionAnswer,
    Settings,
};
use dpg_bench::score::score_run;
use sha2::{Digest, Sha256};

const ITEMS: u32 = 1_065;
/// Of the made-up items.
const QUESTIONS: u32 = 14_392;
const IMAGES: u32 = 4;
const TUPLES: [&str; 5] = [
    "entity - whole (thing)",
    "attribute - color (thing, red)",
    "relation - spatial (thing, thing, on)",
    "global - (photo)",
    "other - count (thing, ==2)",
];

struct Data {
    items: Vec<Item>,
    journal: PathBuf,
    _folder: tempfile::TempDir,
}

static DATA: LazyLock<Data> = LazyLock::new(|| make_data().expect("the benchmark's data"));

/// The official items, or as many made-up ones.
fn items() -> std::io::Result<Vec<Item>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/dpg_bench/dpg_bench.csv");
    if path.exists() {
        let benchmark =
            Benchmark::load(&path, Strictness::Lenient).map_err(std::io::Error::other)?;
        return Ok(benchmark.items);
    }
    eprintln!("SKIPPED: {} is not here; made-up items take its place", path.display());
    let mut row = 0;
    let items = (0..ITEMS)
        .map(|item| {
            // 13 questions each, and a 14th for the first few.
            let count = QUESTIONS / ITEMS + u32::from(item < QUESTIONS % ITEMS);
            let questions = (1..=count).map(|id| {
                row += 1;
                let tuple = TUPLES[(id as usize - 1) % TUPLES.len()];
                let parents = if id > 3 { format!("{},1", id / 2) } else { (id / 2).to_string() };
                Question {
                    id,
                    text: format!("Is thing {id} of item {item} there?"),
                    tuple: tuple.into(),
                    category: Category::from_tuple(tuple),
                    declared_parents: DeclaredParent::parse_cell(&parents),
                    // The reference loses row 1: none of these stands there.
                    row: row + 1,
                }
            });
            let graph = QuestionGraph::build(questions.collect()).0;
            Item { id: format!("item{item:04}"), prompt: String::new(), graph }
        })
        .collect();
    Ok(items)
}

fn make_data() -> std::io::Result<Data> {
    let items = items()?;
    let folder = tempfile::tempdir()?;
    let journal = folder.path().join("answers.jsonl");
    drop(Journal::<AnswerRecord>::open(&journal).map_err(std::io::Error::other)?);
    // Appended in one go: a journal syncs each record, which is not what is measured.
    let mut file = std::fs::OpenOptions::new().append(true).open(&journal)?;
    let mut text = Vec::new();
    for item in &items {
        for image in 0..IMAGES {
            let answers = item.graph.questions().iter().map(|question| {
                let text = answer(&item.id, image, question.id).into();
                let outcome = AnswerOutcome::Answered { text, raw: None, yes_probability: None };
                QuestionAnswer::new(question.id, outcome)
            });
            let pixels_sha256 = Some(format!("{:064x}", image));
            let item = item.id.clone();
            let record = AnswerRecord { item, image, pixels_sha256, answers: answers.collect() };
            serde_json::to_writer(&mut text, &record)?;
            text.push(b'\n');
        }
    }
    file.write_all(&text)?;
    Ok(Data { items, journal, _folder: folder })
}

/// Yes with probability 0.8.
fn answer(item: &str, image: u32, question: u32) -> &'static str {
    let digest = Sha256::digest(format!("bench|{item}|{image}|{question}"));
    if digest[0] < 205 { "yes" } else { "no" }
}

fn main() {
    divan::main();
}

fn read() -> Vec<AnswerRecord> {
    Journal::read(&DATA.journal).expect("the journal was just written")
}

fn summarise(items: &[&Item], records: &[AnswerRecord], with_table: bool) -> (Summary, Vec<u8>) {
    let answers = NewestAnswers::merge(records).expect("one picture an image");
    let reference = score_run(items, &answers, IMAGES, Protocol::Reference);
    let corrected = score_run(items, &answers, IMAGES, Protocol::Corrected);
    let table = match with_table {
        true => {
            score_table(items, IMAGES, &[], &answers, [&reference, &corrected]).expect("a table")
        }
        false => Vec::new(),
    };
    let summary = Summary::new(SummaryInput {
        run: RunIdentity {
            model: None,
            generation: None,
            benchmark: BenchmarkIdentity {
                path: "bench".into(),
                digest: "bench".into(),
                official: false,
                items: items.len() as u64,
                questions: questions(items),
                lenient: false,
            },
            selection: Settings::new(),
            images_per_item: IMAGES,
        },
        judge: JudgeIdentity { name: "bench".into(), settings: Settings::new() },
        items,
        images: &[],
        answers: &answers,
        reference: &reference,
        corrected: &corrected,
        soft: None,
        allow_incomplete: false,
        chance: None,
    });
    assert_eq!(summary.coverage.questions_answered, questions(items) * u64::from(IMAGES));
    (summary, table)
}

fn questions(items: &[&Item]) -> u64 {
    items.iter().map(|item| item.graph.len() as u64).sum()
}

/// Journal reading alone.
#[divan::bench]
fn read_journal(bencher: Bencher<'_, '_>) {
    LazyLock::force(&DATA);
    bencher.bench(read);
}

/// Both protocols and all figures, from records in memory.
#[divan::bench]
fn score_and_aggregate(bencher: Bencher<'_, '_>) {
    let items: Vec<&Item> = DATA.items.iter().collect();
    let records = read();
    bencher.bench(|| summarise(black_box(&items), black_box(&records), false));
}

/// Journal reading, both protocols, all figures: the aim is below 100 ms.
#[divan::bench]
fn whole(bencher: Bencher<'_, '_>) {
    let items: Vec<&Item> = DATA.items.iter().collect();
    bencher.bench(|| summarise(black_box(&items), &read(), false));
}

/// The same with the long table as Parquet.
#[divan::bench]
fn whole_with_parquet(bencher: Bencher<'_, '_>) {
    let items: Vec<&Item> = DATA.items.iter().collect();
    bencher.bench(|| summarise(black_box(&items), &read(), true));
}
