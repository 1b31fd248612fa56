//! In: a question file or a folder that holds one. Out: whether it is valid, what it holds and every
//! oddity; or an example to start a file from. The checks themselves are in `benchmark`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::benchmark::category::l1_of;
use crate::benchmark::official::is_as_published;
use crate::benchmark::{Benchmark, BenchmarkError, Finding, FindingKind, Strictness};
use crate::cli::args::shared::OutputArgs;
use crate::cli::output::exit_status::ExitStatus;
use crate::cli::output::print::{print, print_json, print_words};
use crate::wording::counted;

/// Rows or items shown per kind of oddity; all of them are in the JSON.
const SHOWN_PLACES: usize = 12;

/// A small question file to start from: two prompts, every kind of category.
const EXAMPLE: &str = include_str!("../../../benchmark/example.csv");

/// Arguments of `dpg-bench validate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  dpg-bench validate benchmark/dpg
  dpg-bench validate dsg-1k-anns.csv --lenient --json
  dpg-bench validate my_questions.csv --strict
  dpg-bench validate --example > mine.csv     # a file to start from

Exit status: 0 valid, 1 it has errors (each is printed) or, with --strict, oddities, 2 it cannot be read.")]
pub(crate) struct Args {
    /// Question file, or a folder that holds one (with or without `prompts/<item>.txt`)
    #[arg(value_name = "PATH", required_unless_present_any = ["benchmark", "example"])]
    path: Option<PathBuf>,
    /// The same, spelled as other commands spell it
    #[arg(long, value_name = "PATH", conflicts_with = "path")]
    benchmark: Option<PathBuf>,
    /// Print a small valid question file, to start one of your own from
    #[arg(long, conflicts_with_all = ["path", "benchmark", "lenient", "strict", "json"])]
    example: bool,
    /// Turn errors of the question graphs into oddities: the faulty edges are ignored
    #[arg(long)]
    lenient: bool,
    /// Accept no oddity either (unusual, but no error): for question files of your own
    #[arg(long, conflicts_with = "lenient")]
    strict: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs `dpg-bench validate`.
///
/// # Errors
/// The path cannot be read, or stdout is closed. Invalid data is no error here but the answer `no`.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let named = args.path.as_deref().or(args.benchmark.as_deref());
    let Some(path) = named.filter(|_| !args.example) else {
        return print(EXAMPLE);
    };
    let strictness = if args.lenient { Strictness::Lenient } else { Strictness::Strict };
    match Benchmark::load(path, strictness) {
        Ok(benchmark) if args.strict && !benchmark.oddities.is_empty() => {
            refuse(args, &benchmark.source.question_file, &benchmark.oddities, false)
        }
        Ok(benchmark) => {
            let report = Report::new(&benchmark);
            if args.output.json {
                print_json(&report)
            } else {
                print_words(&in_words(&benchmark, &report))
            }
        }
        Err(BenchmarkError::Invalid { path, problems }) => refuse(args, &path, &problems, true),
        Err(error) => Err(error.into()),
    }
}

/// Prints what is wrong with the file, or only odd in it.
fn refuse(
    args: &Args,
    path: &Path,
    problems: &[Finding],
    has_errors: bool,
) -> anyhow::Result<ExitStatus> {
    let path = path.display().to_string();
    if args.output.json {
        print_json(&Invalid { valid: false, question_file: &path, problems })?;
    } else if args.strict && !has_errors {
        print_words(&odd_in_words(&path, problems))?;
    } else {
        print_words(&invalid_in_words(&path, problems, args.lenient))?;
    }
    Ok(ExitStatus::CheckFailed)
}

/// Smallest, middle and largest of some counts.
#[derive(serde::Serialize)]
struct Spread {
    min: usize,
    median: f64,
    max: usize,
}

impl Spread {
    fn of(counts: impl Iterator<Item = usize>) -> Self {
        let mut counts: Vec<usize> = counts.collect();
        counts.sort_unstable();
        let at = |index: usize| counts.get(index).copied().unwrap_or_default();
        let (low, high) = (at(counts.len().saturating_sub(1) / 2), at(counts.len() / 2));
        Self {
            min: at(0),
            median: (low + high) as f64 / 2.0,
            max: counts.last().copied().unwrap_or_default(),
        }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {}, median {}", self.min, self.max, self.median)
    }
}

/// Questions of one category.
#[derive(serde::Serialize)]
struct CategoryCount {
    l1: String,
    /// Absent in the line that sums up the L1.
    l2: Option<String>,
    questions: usize,
    share: f64,
}

/// What `--json` prints of a valid benchmark.
#[derive(serde::Serialize)]
struct Report<'a> {
    valid: bool,
    question_file: String,
    git_blob_id: &'a str,
    official: bool,
    official_questions: bool,
    prompt_files: usize,
    digest: &'a str,
    items: usize,
    questions: usize,
    questions_per_item: Spread,
    words_per_prompt: Spread,
    categories: Vec<CategoryCount>,
    oddity_counts: BTreeMap<&'static str, usize>,
    oddities: &'a [Finding],
}

/// What `--json` prints of an invalid one.
#[derive(serde::Serialize)]
struct Invalid<'a> {
    valid: bool,
    question_file: &'a str,
    problems: &'a [Finding],
}

impl<'a> Report<'a> {
    fn new(benchmark: &'a Benchmark) -> Self {
        let source = &benchmark.source;
        Self {
            valid: true,
            question_file: source.question_file.display().to_string(),
            git_blob_id: &source.git_blob_id,
            official: source.official,
            official_questions: source.official_questions,
            prompt_files: source.prompt_files,
            digest: &benchmark.digest,
            items: benchmark.items.len(),
            questions: benchmark.question_count(),
            questions_per_item: Spread::of(benchmark.items.iter().map(|item| item.graph.len())),
            words_per_prompt: Spread::of(
                benchmark.items.iter().map(|item| item.prompt.split_whitespace().count()),
            ),
            categories: categories(benchmark),
            oddity_counts: grouped(&benchmark.oddities)
                .into_iter()
                .map(|(kind, found)| (kind.heading(), found.len()))
                .collect(),
            oddities: &benchmark.oddities,
        }
    }
}

/// Each L1 followed by its L2 names, in name order.
fn categories(benchmark: &Benchmark) -> Vec<CategoryCount> {
    let mut by_l1: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for (l2, questions) in benchmark.category_counts() {
        *by_l1.entry(l1_of(l2)).or_default().entry(l2).or_default() += questions;
    }
    let all = benchmark.question_count().max(1) as f64;
    let mut counts = Vec::new();
    for (l1, details) in by_l1 {
        let line = |l2: Option<&str>, questions: usize| CategoryCount {
            l1: l1.to_owned(),
            l2: l2.map(str::to_owned),
            questions,
            share: questions as f64 / all,
        };
        counts.push(line(None, details.values().sum()));
        counts.extend(details.into_iter().map(|(l2, questions)| line(Some(l2), questions)));
    }
    counts
}

fn grouped(findings: &[Finding]) -> BTreeMap<FindingKind, Vec<&Finding>> {
    let mut groups: BTreeMap<FindingKind, Vec<&Finding>> = BTreeMap::new();
    for finding in findings {
        groups.entry(finding.kind).or_default().push(finding);
    }
    groups
}

fn in_words(benchmark: &Benchmark, report: &Report<'_>) -> String {
    let official = match (report.official, report.official_questions) {
        (true, _) => "the official question file",
        (false, true) => "the questions of the official question file, about other prompts",
        (false, false) => "not the official question file",
    };
    let prompts = match report.prompt_files {
        0 => "from the question file".to_owned(),
        count => format!("{count} from files in prompts/"),
    };
    let mut text = format!(
        "{official}\n\
         {} is valid\n\n\
         items          {}\n\
         questions      {} ({} per item)\n\
         prompts        {prompts}; {} words\n\
         digest         {}\n\
         git blob id    {}\n\n\
         {:<32}{:>10}{:>9}\n",
        report.question_file,
        report.items,
        report.questions,
        report.questions_per_item,
        report.words_per_prompt,
        report.digest,
        report.git_blob_id,
        "category",
        "questions",
        "share",
    );
    for category in &report.categories {
        let name = category.l2.as_ref().map_or(category.l1.clone(), |l2| format!("  {l2}"));
        let share = 100.0 * category.share;
        text.push_str(&format!("{name:<32}{:>10}{share:>7.1} %\n", category.questions));
    }
    let groups = grouped(&benchmark.oddities);
    let (known, others): (Vec<_>, Vec<_>) = groups
        .into_iter()
        .partition(|(kind, found)| report.official_questions && is_as_published(*kind, found));
    for (heading, groups) in [("oddities of the file as published", known), ("oddities", others)] {
        if !groups.is_empty() {
            text.push_str(&format!("\n{heading} (all of them with --json):\n"));
        }
        for (kind, found) in groups {
            let (count, heading) = (found.len(), kind.heading());
            text.push_str(&format!("  {heading}: {count}\n    {}\n", places(&found)));
        }
    }
    text.push_str(&match benchmark.oddities.len() {
        0 => "\nno errors, no oddities\n".to_owned(),
        count => format!("\nno errors, {}: the file can be used as it is\n", oddities(count)),
    });
    text
}

/// `1 oddity`, `2 oddities`.
fn oddities(count: usize) -> String {
    if count == 1 { "1 oddity".to_owned() } else { format!("{count} oddities") }
}

/// Where the findings are: rows, or items where they have no row.
fn places(findings: &[&Finding]) -> String {
    let named = |finding: &&Finding| match (finding.row, &finding.value, &finding.item) {
        (Some(row), _, _) => row.to_string(),
        (None, Some(value), _) => format!("`{value}`"),
        (None, None, Some(item)) => item.clone(),
        (None, None, None) => finding.message.clone(),
    };
    let mut names: Vec<String> = findings.iter().map(named).collect();
    names.dedup();
    let more = names.len().saturating_sub(SHOWN_PLACES);
    names.truncate(SHOWN_PLACES);
    let word = match findings.first().is_some_and(|finding| finding.row.is_some()) {
        true if names.len() + more == 1 => "row ",
        true => "rows ",
        false => "",
    };
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{word}{}{rest}", names.join(", "))
}

/// A file that can be used, but not where nothing odd is allowed.
fn odd_in_words(path: &str, found: &[Finding]) -> String {
    let count = oddities(found.len());
    let mut text = format!("{path} has {count}, which --strict does not accept:\n");
    for oddity in found {
        text.push_str(&format!("  {oddity}\n"));
    }
    text + &format!("no errors, {count}: without --strict the file can be used as it is\n")
}

fn invalid_in_words(path: &str, problems: &[Finding], lenient: bool) -> String {
    let count = counted(problems.len(), "error");
    let mut text = format!("{path} is invalid, {count}:\n");
    for problem in problems {
        text.push_str(&format!("  {problem}\n"));
    }
    text.push_str(&format!("{count}; oddities are looked for when there is none\n"));
    if !lenient && problems.iter().all(|problem| problem.kind.is_graph_fault()) {
        text.push_str("--lenient ignores these edges and loads the rest\n");
    }
    text
}
