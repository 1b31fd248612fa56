//! In: the demo, with products rounded by the model of the matrix tiles. Checks: how far its images and answers are from those
//! with products in f32.
#![expect(clippy::print_stdout, reason = "measurements, with --nocapture")]

use std::path::Path;

use crate::benchmark::{Benchmark, Selection, Strictness};
use crate::compute::products::{Products, with_the_model_of_tiles};
use crate::results::image_store::read_image;
use crate::results::{AnswerOutcome, RunDirectory};
use crate::session::benchmarks::load_benchmark;
use crate::session::generator::LoadedGenerator;
use crate::session::generator_options::GeneratorOptions;
use crate::session::judge_options::JudgeOptions;
use crate::session::listener::Quiet;
use crate::session::loaded_judge::LoadedJudge;
use crate::session::{Session, SessionOptions};

/// Images as rows of bytes, and answers with their P(yes).
struct Made {
    images: Vec<Vec<u8>>,
    answers: Vec<(String, f64)>,
}

/// A run of `items` of the demo with `images` each, judged with the same products.
fn run(folder: &Path, products: Products, items: usize, images: u32, steps: Option<usize>) -> Made {
    let benchmark: Benchmark = load_benchmark("demo".as_ref(), Strictness::Strict).unwrap();
    let selection = Selection { subset: Some(items), ..Selection::default() };
    let about = SessionOptions { selection, images_per_item: images, ..SessionOptions::default() };
    let mut generator = GeneratorOptions::new("demo-ella");
    generator.products = Some(products);
    generator.sampling.steps = steps;
    generator.devices = vec!["cpu".to_owned()];
    let mut judge = JudgeOptions::new("demo-judge");
    judge.local.products = Some(products);
    let mut session = Session::open(folder, &benchmark, &about, &Quiet).unwrap();
    let loaded = || LoadedGenerator::load(&generator, &Quiet).unwrap();
    session.generate(&mut with_the_model_of_tiles(loaded), &Quiet).unwrap();
    let judge = with_the_model_of_tiles(|| LoadedJudge::load(&judge, &Quiet).unwrap());
    session.judge(&judge, &Quiet).unwrap();
    drop(session);
    let run = RunDirectory::open(folder).unwrap();
    let pixels = |path: &Path| {
        let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
        read_image(file).unwrap().into_raw()
    };
    let mut made = Made { images: Vec::new(), answers: Vec::new() };
    for record in run.read_answers("demo-judge").unwrap() {
        made.images.push(pixels(&run.image_path(&record.item, record.image)));
        for answer in record.answers {
            let AnswerOutcome::Answered { text, yes_probability, .. } = answer.outcome else {
                panic!("{answer:?}")
            };
            made.answers.push((text, yes_probability.unwrap()));
        }
    }
    made
}

/// The largest difference of two images' bytes, how many answers differ, and the largest difference of P(yes).
fn apart(one: &Made, other: &Made) -> (u8, usize, f64) {
    assert_eq!((one.images.len(), one.answers.len()), (other.images.len(), other.answers.len()));
    let bytes = one.images.iter().zip(&other.images).flat_map(|(a, b)| a.iter().zip(b));
    let answers = || one.answers.iter().zip(&other.answers);
    (
        bytes.map(|(a, b)| a.abs_diff(*b)).max().unwrap(),
        answers().filter(|(a, b)| a.0 != b.0).count(),
        answers().map(|(a, b)| (a.1 - b.1).abs()).fold(0.0, f64::max),
    )
}

fn compare(items: usize, images: u32, steps: Option<usize>) -> [(u8, usize, f64); 2] {
    let folder = tempfile::tempdir().unwrap();
    let made = |products: Products| {
        run(&folder.path().join(products.name()), products, items, images, steps)
    };
    let exact = made(Products::F32);
    [Products::Bf16x3, Products::Bf16].map(|products| {
        let apart = apart(&made(products), &exact);
        let (answers, name) = (exact.answers.len(), products.name());
        println!("{name}, {} images, {answers} answers: {apart:?}", exact.images.len());
        apart
    })
}

#[test]
fn images_and_answers_of_the_demo_are_those_of_f32_but_for_rounding() {
    let [two, one] = compare(1, 1, Some(2));
    assert!(two.0 <= 1 && two.1 == 0 && two.2 < 1e-2, "{two:?}");
    // It is rounded indeed.
    assert!(one.0 > two.0 && one.2 > two.2, "{one:?}");
}

/// `cargo test --lib rounded_demo -- --ignored --nocapture`
#[test]
#[ignore = "takes minutes: the model of the tiles is slow"]
fn the_demo_with_rounded_products() {
    let [two, _] = compare(4, 1, None);
    assert!(two.0 <= 1 && two.1 == 0, "{two:?}");
}
