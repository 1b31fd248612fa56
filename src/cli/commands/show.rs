//! In: an item id. Out: its prompt and its question graph, for the eye, as Graphviz text or as JSON.

use std::path::Path;

use crate::benchmark::{Item, Selection};
use crate::cli::args::shared::{BenchmarkArgs, OutputArgs, open_benchmark};
use crate::cli::output::exit_status::ExitStatus;
use crate::cli::output::print::{print, print_json};
use crate::cli::output::question_tree::{dot, tree, wrap};
use crate::fetch::BENCHMARK_FOLDER;
use crate::wording::counted;

/// Columns where stdout is no terminal.
const DEFAULT_WIDTH: usize = 100;

/// Arguments of `dpg-bench show`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dpg-bench show square_and_diamond
  dpg-bench show whoops31 --benchmark benchmark/dpg \\
      --dot | dot -Tsvg > whoops31.svg")]
pub(crate) struct Args {
    /// Id of the item
    item: String,
    /// Print the question graph in Graphviz's language
    #[arg(long, conflicts_with = "json")]
    dot: bool,
    #[command(flatten)]
    benchmark: BenchmarkArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs `dpg-bench show`.
///
/// # Errors
/// The benchmark cannot be loaded, or has no such item (ids near it are named).
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let benchmark = open_benchmark(&args.benchmark, !Path::new(BENCHMARK_FOLDER).is_dir())?;
    let selection = Selection { items: vec![args.item.clone()], ..Default::default() };
    for item in benchmark.select(&selection)? {
        if args.output.json {
            print_json(&Shown::new(item))?;
        } else if args.dot {
            print(&dot(item))?;
        } else {
            print(&in_words(item, width()))?;
        }
    }
    Ok(ExitStatus::Done)
}

fn width() -> usize {
    terminal_size::terminal_size().map_or(DEFAULT_WIDTH, |(width, _)| usize::from(width.0))
}

fn in_words(item: &Item, width: usize) -> String {
    let words = item.prompt.split_whitespace().count();
    format!(
        "{} ({}, {})\n\n{}\n\n{}",
        item.id,
        counted(words, "word"),
        counted(item.graph.len(), "question"),
        wrap(&item.prompt, width).join("\n"),
        tree(&item.graph, width)
    )
}

/// What `--json` prints.
#[derive(serde::Serialize)]
struct Shown<'a> {
    id: &'a str,
    prompt: &'a str,
    questions: Vec<ShownQuestion<'a>>,
}

#[derive(serde::Serialize)]
struct ShownQuestion<'a> {
    number: u32,
    question: &'a str,
    tuple: &'a str,
    l1: &'a str,
    l2: &'a str,
    /// The cell of the file; `parents` holds the edges that stand.
    dependency: String,
    parents: Vec<u32>,
    row: usize,
}

impl<'a> Shown<'a> {
    fn new(item: &'a Item) -> Self {
        let questions = item.graph.questions();
        let shown = questions.iter().enumerate().map(|(index, question)| ShownQuestion {
            number: question.id,
            question: &question.text,
            tuple: &question.tuple,
            l1: question.category.l1(),
            l2: question.category.l2(),
            dependency: question.dependency(),
            parents: item.graph.parents(index).iter().map(|&parent| questions[parent].id).collect(),
            row: question.row,
        });
        Self { id: &item.id, prompt: &item.prompt, questions: shown.collect() }
    }
}
