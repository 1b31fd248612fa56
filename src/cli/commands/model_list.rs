//! In: `run --model-list`, one command line a model. Out: a run of each over the same items and seeds, all judged by one loaded
//! judge, and what comes of them together: the paper's table, comparisons and a report (docs/model-lists.md).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::aggregate::Protocol;
use crate::aggregate::readable::Withheld;
use crate::benchmark::{Benchmark, Item};
use crate::cli::args::compared::ComparedArgs;
use crate::cli::args::shared::open_benchmark;
use crate::cli::commands::run::judges_or_default;
use crate::cli::commands::{compare, generate, report, run, score};
use crate::cli::interrupt;
use crate::cli::output::console::{Console, say_work};
use crate::cli::output::exit_status::ExitStatus;
use crate::cli::output::print::{print, say, warn};
use crate::reports::paper_table::PaperOptions;
use crate::results::RunDirectory;
use crate::session::benchmarks::selected;
use crate::session::generator::LoadedGenerator;
use crate::session::generator_options::GeneratorOptions;
use crate::session::judge_options::JudgeOptions;
use crate::session::loaded_judge::LoadedJudge;
use crate::session::reporting::ReportOptions;
use crate::session::scoring::score_judges;
use crate::session::side_by_side::WhileGenerating;
use crate::session::{Session, SessionOptions};

/// What stands beside the runs in their folder; no model is called so.
const COMPARISON: &str = "comparison";
const REPORT: &str = "report";

/// A model of the list, as its file and the command line describe it.
pub(crate) struct ListedModel {
    /// Its name, where the list says one.
    pub name: Option<String>,
    /// File and line, for messages.
    pub at: String,
    /// The flags of its run.
    pub args: run::Args,
}

/// A run that is to be made.
struct Planned {
    options: GeneratorOptions,
    folder: PathBuf,
}

/// Runs the models that `list` describes.
///
/// # Errors
/// Whatever stops one of the stages, in one sentence; all models are looked at before the first is run.
pub(crate) fn run_all(list: &Path, models: &[ListedModel]) -> anyhow::Result<ExitStatus> {
    // The demo's models bring benchmark and judge of their own, which are those of the list where it has no others.
    let is_other = |model: &&ListedModel| !model.args.generate.is_demo();
    let all = models.iter().find(is_other).or(models.first());
    let all = &all.with_context(|| format!("{} lists no model", list.display()))?.args;
    check_together(all)?;
    let stem = list.file_stem().unwrap_or_default();
    let folder = all.folder.named().unwrap_or_else(|| Path::new("results").join(stem));
    let planned = plan(models, &folder)?;
    let judges = judges_or_default(&all.judge, &all.generate)?;
    judges.iter().try_for_each(JudgeOptions::check)?;
    let benchmark = open_benchmark(&all.benchmark, all.generate.is_demo())?;
    let about = SessionOptions {
        selection: all.selection.selection(),
        images_per_item: all.generate.images,
        shard: None,
        work: "run".to_owned(),
    };
    let items = benchmark.select(&about.selection)?;
    for Planned { options, .. } in &planned {
        LoadedGenerator::check_items(options, &items)
            .with_context(|| format!("model {}", options.run_name()))?;
    }
    let suit = |size| judges.iter().try_for_each(|judge| judge.check_made_for(&benchmark, size));
    planned.iter().try_for_each(|model| suit(model.options.stated_size()))?;
    let names: Vec<String> = judges.iter().map(|judge| judge.filed_as().to_owned()).collect();
    let console = Console::default();

    let mut status = ExitStatus::Done;
    for (place, Planned { options, folder }) in planned.iter().enumerate() {
        say(&format!("model {} of {}: {}", place + 1, planned.len(), options.run_name()));
        let mut generator = generate::load(options)?;
        suit(generator.image_size())?;
        let judges: Vec<&str> = names.iter().map(String::as_str).collect();
        let model = Some(options.run_name());
        say_work(&benchmark, items.len(), about.images_per_item, model, &judges, folder);
        let mut session = Session::open(folder, &benchmark, &about, &console)?;
        session.allow_other_products(all.others.allow_other_products);
        status = status.max(generate::status(&session.generate(&mut generator, &console)?));
        if interrupt::requested() {
            return Ok(ExitStatus::Incomplete);
        }
    }
    for options in &judges {
        let judge = LoadedJudge::load(options, &console)?;
        for Planned { folder, .. } in &planned {
            let mut session = Session::of_run(folder, &benchmark, None, "run", &console)?;
            session.allow_other_products(all.others.allow_other_products);
            if !session.judge(&judge, &console)?.is_complete() {
                status = ExitStatus::Incomplete;
            }
            if interrupt::requested() {
                return Ok(ExitStatus::Incomplete);
            }
        }
    }
    let folders: Vec<PathBuf> = planned.into_iter().map(|model| model.folder).collect();
    let scored = score_all(&folders, &benchmark, &names, &all.score)?;
    let together = put_together(&folders, &folder, names.first().cloned(), &all.score)?;
    Ok(status.max(scored).max(together))
}

/// Whether the flags are ones that a list can take.
fn check_together(all: &run::Args) -> anyhow::Result<()> {
    ensure!(
        all.shard.choose()?.is_none(),
        "--model-list makes whole runs; say --shard none, or run the models one by one with their shards"
    );
    ensure!(
        !matches!(all.judge_while_generating.into(), WhileGenerating::On),
        "--model-list judges when all images are made, with one judge in memory; leave out --judge-while-generating on"
    );
    ensure!(
        !all.live,
        "--model-list shows no score so far; leave out --live, and use `dpg-bench watch`"
    );
    Ok(())
}

/// What is to be made, each in a folder of its own.
fn plan(models: &[ListedModel], folder: &Path) -> anyhow::Result<Vec<Planned>> {
    let mut taken = BTreeSet::new();
    let mut planned = Vec::new();
    for ListedModel { name, at, args } in models {
        let look = || {
            args.generate.check_names()?;
            let mut options = args.generate.options()?;
            options.name = name.clone().or(options.name);
            LoadedGenerator::check(&options)?;
            Ok::<_, anyhow::Error>(options)
        };
        let options = look().with_context(|| at.clone())?;
        let called = options.run_name();
        ensure!(
            is_folder_name(called),
            "{at}: `{called}` is no name for a folder; give the model a `name` of letters, digits, `-`, `_` and `.` that \
             is not `{COMPARISON}` or `{REPORT}`"
        );
        ensure!(
            taken.insert(called.to_lowercase()),
            "{at}: a model above is called `{called}` too; give each a `name` of its own"
        );
        planned.push(Planned { folder: folder.join(called), options });
    }
    Ok(planned)
}

/// Whether a run's folder can be called so.
fn is_folder_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_alphanumeric() || "-_. +".contains(c);
    let is_taken = [COMPARISON, REPORT].iter().any(|taken| name.eq_ignore_ascii_case(taken));
    !name.is_empty()
        && !is_taken
        && name.chars().all(is_plain)
        && !name.starts_with(['.', ' '])
        && !name.ends_with(['.', ' '])
}

/// Scores the runs and prints one table of all of them.
fn score_all(
    folders: &[PathBuf],
    benchmark: &Benchmark,
    judges: &[String],
    options: &score::ScoreOptions,
) -> anyhow::Result<ExitStatus> {
    let mut summaries = Vec::new();
    for folder in folders {
        let run = RunDirectory::open(folder)?;
        let items: Vec<&Item> = selected(benchmark, &run)?;
        summaries.extend(score_judges(&run, benchmark, &items, judges, options.allow_incomplete)?);
    }
    score::ensure_have(&summaries, options.protocol)?;
    print(&score::paper(&summaries, options)?)?;
    Ok(score::status(&summaries, options.protocol))
}

/// Compares the runs with the first, and reports on all of them, by the answers of `judge`.
fn put_together(
    runs: &[PathBuf],
    folder: &Path,
    judge: Option<String>,
    options: &score::ScoreOptions,
) -> anyhow::Result<ExitStatus> {
    let score::ScoreOptions { protocol, intervals, both_protocols, allow_incomplete, .. } =
        *options;
    let mut status = ExitStatus::Done;
    if runs.len() > 1 {
        let compared = ComparedArgs { judge: judge.clone(), protocol, ..ComparedArgs::default() };
        let out = folder.join(COMPARISON);
        status = match compare::run(&compare::Args::of(runs.to_vec(), compared, out)) {
            // The report tells the same of the run, and shows the others.
            Err(error) if error.is::<Withheld>() => {
                warn(&error.to_string());
                ExitStatus::Incomplete
            }
            ended => ended?,
        };
    }
    let report = ReportOptions {
        judge,
        protocol: match protocol.map_or(Protocol::Corrected, Protocol::from) {
            // It has no categories; a report under `soft` shows it too.
            Protocol::SoftTifaGm => Protocol::Soft,
            other => other,
        },
        paper: PaperOptions { intervals, both_protocols },
        allow_incomplete,
        force: true,
        ..ReportOptions::new(runs.to_vec(), &folder.join(REPORT))
    };
    Ok(status.max(report::make(&report)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_folder_beside_comparison_and_report() {
        for name in ["sd15", "SD 1.5", "ella-sd15_fixed+1", "模型"] {
            assert!(is_folder_name(name), "{name}");
        }
        for name in ["", ".", "..", "a/b", "a\\b", " a", "a ", "a.", "report", "Comparison", "a\n"]
        {
            assert!(!is_folder_name(name), "{name}");
        }
    }
}
