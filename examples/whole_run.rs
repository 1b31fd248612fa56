//! A whole run through the library: load, generate, judge, score, compare, report.
//!
//! `cargo run --release --example whole_run` does it with the two models that are inside the program.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program of its own")]

use std::path::{Path, PathBuf};

use dpg_bench::{
    Benchmark, Comparison, GeneratorOptions, JudgeOptions, Listener, LoadedGenerator, LoadedJudge,
    ReportOptions, Selection, Session, SessionOptions, Strictness, Summary, compare_runs,
    load_benchmark, report,
};

/// Tells what happens on stderr.
struct Notes;

impl Listener for Notes {
    fn note(&self, text: &str) {
        eprintln!("{text}");
    }
}

fn make_run(
    benchmark: &Benchmark,
    model: &str,
    judge: &LoadedJudge,
    folder: &Path,
) -> anyhow::Result<Summary> {
    let selection = Selection { subset: Some(4), ..Selection::default() };
    let options = SessionOptions { selection, images_per_item: 2, ..SessionOptions::default() };
    let mut session = Session::open(folder, benchmark, &options, &Notes)?;
    let mut generator = GeneratorOptions::new(model);
    generator.sampling.steps = Some(8);
    session.generate(&mut LoadedGenerator::load(&generator, &Notes)?, &Notes)?;
    session.judge(judge, &Notes)?;
    session.score(judge.name(), false)
}

/// Makes two runs below `folder`. Returns how they differ, and the page of the report on both.
pub fn run(folder: &Path) -> anyhow::Result<(Comparison, PathBuf)> {
    let benchmark = load_benchmark("demo".as_ref(), Strictness::Strict)?;
    let judge = LoadedJudge::load(&JudgeOptions::new("demo-judge"), &Notes)?;
    let folders = ["demo-sd", "demo-ella"].map(|model| folder.join(model));
    for (model, folder) in ["demo-sd", "demo-ella"].into_iter().zip(&folders) {
        let summary = make_run(&benchmark, model, &judge, folder)?;
        eprintln!("{model}: {:?}", summary.corrected.overall);
    }
    let comparison = compare_runs(&folders[0], &folders[1], None)?;
    let page = report(&ReportOptions::new(folders, &folder.join("report")))?.written.page;
    Ok((comparison, page))
}

fn main() -> anyhow::Result<()> {
    let (comparison, page) = run("results/whole-run".as_ref())?;
    println!("{:+.2} points\nopen {}", comparison.figures[0].difference, page.display());
    Ok(())
}
