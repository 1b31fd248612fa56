//! In: a run with a judge's answers, and the judge's flags. Out: what the judge says about images that do not fit the questions, in
//! `controls/` of the run, and how often it says yes to them. The work is in `session`.

use std::path::PathBuf;

use anyhow::ensure;

use crate::cli::args::judge::JudgeArgs;
use crate::cli::interrupt;
use crate::cli::output::console::Console;
use crate::cli::output::exit_status::ExitStatus;
use crate::cli::output::print::{print_json, print_words, say};
use crate::reports::control_text;
use crate::results::{ControlKind, RunDirectory};
use crate::session::Session;
use crate::session::benchmarks::benchmark_of_run;
use crate::session::controls::{
    ask_control, check_control, check_was_asked, control_report, possible_kinds,
};
use crate::session::judge_options::JudgeOptions;
use crate::session::loaded_judge::LoadedJudge;
use crate::session::work::ensure_merged;

/// Arguments of the command.
#[derive(Debug, clap::Args)]
// As in `judge`: the model's flags are not beside it, so the judge's have their short names too.
#[command(
    after_help = "Examples:
  dpg-bench control results/demo-ella --judge demo-judge
  dpg-bench control results/sd15 --judge mplug --kinds swapped
  dpg-bench control results/sd15 --judge blip-vqa --seed 1 \\
      --weights Salesforce/blip-vqa-base

A judge that says yes to a question about any image says nothing about the images. `swapped` asks the run's images \
the questions of other items with a similar mix of categories: its score is chance, and stands beside the score \
from then on. `grey` asks about grey images. Give the judge the flags that it had in `judge`. Run the same command \
again to go on after an interruption.
Exit status: 0 done, 2 error, 3 questions are open, or a score is withheld.",
    mut_arg("judge_device", |arg| arg.visible_alias("device")),
    mut_arg("judge_force", |arg| arg.visible_alias("force")),
    mut_arg("judge_dtype", |arg| arg.visible_alias("dtype").alias("torch-dtype")),
    mut_arg("judge_products", |arg| arg.visible_alias("products")),
    mut_arg("judge_weights", |arg| arg.visible_alias("weights"))
)]
pub(crate) struct Args {
    /// The run directory
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// What is asked about (comma list) [default: all that there are of the benchmark]
    #[arg(
        long,
        value_enum,
        value_name = "KIND,..",
        value_delimiter = ',',
        help_heading = "Controls"
    )]
    kinds: Vec<KindName>,
    /// swapped: which items are asked whose questions
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Controls")]
    seed: u64,
    /// The run's question file, if it is no longer where it was
    #[arg(long, value_name = "PATH", help_heading = "Benchmark")]
    benchmark: Option<PathBuf>,
    /// Print what is written as one JSON document instead of tables; of several judges, a list
    #[arg(long, help_heading = "Output")]
    json: bool,
    #[command(flatten)]
    options: JudgeArgs,
}

/// A kind of control on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum KindName {
    /// The run's own images, asked the questions of other items
    Swapped,
    /// A grey image for each item
    Grey,
    /// The images that the prompts describe; the demo alone has them
    True,
}

impl From<KindName> for ControlKind {
    fn from(name: KindName) -> Self {
        match name {
            KindName::Swapped => Self::Swapped,
            KindName::Grey => Self::Grey,
            KindName::True => Self::True,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it, in one sentence.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let run = RunDirectory::open(&args.run)?;
    ensure!(
        run.shard().is_none(),
        "{} is a shard of a run, whose images would be asked the questions of its own few items; merge the shards, and name the run",
        args.run.display()
    );
    ensure_merged(&run)?;
    let benchmark = benchmark_of_run(&run, args.benchmark.as_deref())?;
    let kinds = match args.kinds.as_slice() {
        [] => possible_kinds(&benchmark)?,
        named => ControlKind::ALL
            .into_iter()
            .filter(|kind| named.iter().any(|name| ControlKind::from(*name) == *kind))
            .collect(),
    };
    let judges = args.options.options()?;
    for judge in &judges {
        check_was_asked(&run, judge.filed_as())?;
        judge.check_made_for_run(&run)?;
    }
    if judges.len() > 1 {
        judges.iter().try_for_each(JudgeOptions::check)?;
    }
    kinds.iter().try_for_each(|kind| check_control(&run, &benchmark, *kind, args.seed))?;
    if args.kinds.is_empty() && !kinds.contains(&ControlKind::True) {
        say("true: left out, since only the demo has images that are known to fit its prompts");
    }
    let console = Console::default();
    // Held until the end: nobody else changes the images meanwhile.
    let session = Session::of_run(&args.run, &benchmark, None, "control", &console)?;
    let mut reports = Vec::new();
    let mut status = ExitStatus::Done;
    for options in &judges {
        let judge = LoadedJudge::load(options, &console)?;
        for kind in &kinds {
            if interrupt::requested() {
                return Ok(ExitStatus::Incomplete);
            }
            say(&format!("control {}, judge {}", kind.name(), judge.name()));
            let counts =
                ask_control(session.run(), &benchmark, *kind, args.seed, &judge, &console)?;
            if !counts.is_complete() {
                status = ExitStatus::Incomplete;
            }
        }
        if interrupt::requested() {
            return Ok(ExitStatus::Incomplete);
        }
        let files = control_report(session.run(), &benchmark, judge.name())?;
        files.write(session.run())?;
        reports.push(files.report);
    }
    match (args.json, reports.as_slice()) {
        (true, [only]) => print_json(only)?,
        (true, several) => print_json(&several)?,
        (false, several) => {
            let tables: Vec<String> = several.iter().map(control_text).collect();
            print_words(&tables.join("\n"))?
        }
    };
    for report in &reports {
        let [json, csv] = session.run().control_files(&report.judge.name)?;
        say(&format!("written: {}", json.display()));
        if report.always_yes.is_some() {
            say(&format!("written: {} (for score --drop-questions)", csv.display()));
        }
        if report.has_gap() {
            status = ExitStatus::Incomplete;
        }
    }
    Ok(status)
}
