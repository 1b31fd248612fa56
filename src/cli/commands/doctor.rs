//! In: the flags of a run. Out: whether this machine can make it, what it will cost in time and space, and
//! what to do about what stands in the way. Nothing is written.

mod checks;
mod cost;
mod published;
mod stages;

use std::path::PathBuf;

use anstyle::Style;
use serde::Serialize;

use self::checks::{Check, State};
use self::cost::{Cost, Counts};
use crate::benchmark::{Benchmark, Item};
use crate::cli::args::generator::{GeneratorArgs, RunFolderArgs};
use crate::cli::args::judge::JudgeArgs;
use crate::cli::args::shared::{BenchmarkArgs, OutputArgs, SelectionArgs, open_benchmark};
use crate::cli::commands::run::{self, WhileGeneratingArg};
use crate::cli::output::exit_status::ExitStatus;
use crate::cli::output::print::{BAD, GOOD, print_json, print_words};
use crate::session::benchmarks::DEMO;

/// Arguments of the command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dpg-bench doctor
  dpg-bench doctor --model sd15 --judge mplug
  dpg-bench doctor --model sd15 --judge mplug --verify   # read all weights
  dpg-bench doctor --model sdxl --judge blip-vqa --quick --json
  dpg-bench doctor --model sd15 --judge mplug \\
      --measured gpu.json   # times of another machine

It takes the flags of `run`, makes parts of one image and lets each local judge answer about one, and \
says what was measured and what is an estimate. Exit status: 0 nothing stands in the way, 1 something does.")]
pub(crate) struct Args {
    #[command(flatten)]
    generate: GeneratorArgs,
    #[command(flatten)]
    benchmark: BenchmarkArgs,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    folder: RunFolderArgs,
    #[command(flatten)]
    judge: JudgeArgs,
    /// When `run` is to judge; what goes on while images are made takes no time of its own
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, help_heading = "Judge")]
    judge_while_generating: WhileGeneratingArg,
    /// Hold every byte of fetched weights against its digest
    #[arg(long, help_heading = "Doctor")]
    verify: bool,
    /// Load and measure nothing; times are estimates
    #[arg(long, help_heading = "Doctor", conflicts_with = "verify")]
    quick: bool,
    /// Take times from this file, which `dpg-bench measure --out` made on the machine of the run
    #[arg(long, help_heading = "Doctor", value_name = "FILE", conflicts_with = "quick")]
    measured: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Report {
    /// Whether nothing stands in the way of a run.
    fine: bool,
    checks: Vec<Check>,
    /// Of the run that the flags describe; absent where its benchmark cannot be read.
    cost: Option<Cost>,
    /// Of all of the benchmark, where the run takes a part of it.
    cost_of_all: Option<CostOfAll>,
}

#[derive(Serialize)]
struct CostOfAll {
    /// What the benchmark is called.
    benchmark: String,
    #[serde(flatten)]
    cost: Cost,
}

/// Runs the command.
///
/// # Errors
/// The model file cannot be read, or stdout is closed. What stands in the way of a run is no error here.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let options = args.generate.options()?;
    let (images, is_demo) = (args.generate.images, args.generate.is_demo());
    let chosen = run::judges_or_default(&args.judge, &args.generate);
    let wanted = chosen.as_deref().unwrap_or_default();
    let out = args.folder.path(&options);
    let mut found = Vec::new();
    checks::machine(&options, &mut found);
    let benchmark = open_benchmark(&args.benchmark, is_demo);
    let selection = args.selection.selection();
    let items = checks::benchmark(&benchmark, &selection, is_demo, &mut found);
    let model = checks::model(&options, args.verify, &mut found);
    checks::control_images(&options, items.as_deref(), &mut found);
    let about = (benchmark.as_ref().ok(), options.stated_size());
    let judges = checks::judges(&args.judge, chosen.as_deref(), about, args.verify, &mut found);
    let prompt = items.as_deref().and_then(cost::middle_item);
    let record = checks::record(args.measured.as_deref(), &mut found)?;
    let mut measured = match &record {
        Some(record) => stages::recorded(record, &options, wanted, model.as_ref()),
        None => stages::measure(&options, wanted, model, judges, prompt, args.quick, &mut found),
    };
    if options.control.controlnet.is_some() && (args.quick || record.is_some()) {
        found.push(Check::note(
            "controlnet",
            "estimated and recorded times leave it out",
            "without --quick and --measured the model is timed with it",
        ));
    }
    let beside = stages::beside(args.judge_while_generating.into(), &options, wanted);
    for stage in &mut measured.stages {
        stage.beside = beside.iter().any(|name| stage.what == stages::judging(name));
    }
    let counts = items.as_deref().map(|items| Counts::of(items, images));
    let cost = counts.map(|counts| measured.cost(counts));
    let all = all_of(benchmark.as_ref().ok(), is_demo, images);
    let cost_of_all = all
        .filter(|(_, all)| counts != Some(*all))
        .map(|(benchmark, all)| CostOfAll { benchmark, cost: measured.cost(all) });
    checks::disk(&out, cost.as_ref(), &mut found);
    let fine = found.iter().all(|check| check.state != State::Problem);
    let report = Report { fine, checks: found, cost, cost_of_all };
    if args.output.json {
        print_json(&report)?;
    } else {
        print_words(&in_words(&report))?;
    }
    Ok(if fine { ExitStatus::Done } else { ExitStatus::CheckFailed })
}

/// What all of the benchmark is called and how much it is. Without a benchmark it is DPG-Bench, of which all other models
/// than the demo's are asked; `None` for those.
fn all_of(benchmark: Option<&Benchmark>, for_demo: bool, images: u32) -> Option<(String, Counts)> {
    let Some(benchmark) = benchmark else {
        return (!for_demo).then(|| ("DPG-Bench".to_owned(), Counts::of_dpg_bench(images)));
    };
    let path = &benchmark.source.path;
    let name = match benchmark.source.official {
        true => "DPG-Bench".to_owned(),
        false if path.as_os_str() == DEMO => "the demo".to_owned(),
        false => path.display().to_string(),
    };
    let items: Vec<&Item> = benchmark.items.iter().collect();
    Some((name, Counts::of(&items, images)))
}

fn in_words(report: &Report) -> String {
    let mut text = String::new();
    for check in &report.checks {
        let (style, mark) = match check.state {
            State::Fine => (GOOD, "ok     "),
            State::Note => (Style::new(), "note   "),
            State::Problem => (BAD, "PROBLEM"),
        };
        text.push_str(&format!("{style}{mark}{style:#}  {:<10}  {}\n", check.name, check.found));
        if let Some(advice) = &check.advice {
            text.push_str(&format!("{:21}-> {advice}\n", ""));
        }
    }
    if let Some(cost) = &report.cost {
        text.push_str(&format!("\nThis run\n{}", cost.in_words()));
    }
    if let Some(CostOfAll { benchmark, cost }) = &report.cost_of_all {
        text.push_str(&format!("\nAll of {benchmark}\n{}", cost.in_words()));
    }
    let problems = report.checks.iter().filter(|check| check.state == State::Problem).count();
    text.push_str(&match problems {
        0 => "\nNothing stands in the way of this run.\n".to_owned(),
        1 => "\nOne problem stands in the way of this run.\n".to_owned(),
        several => format!("\n{several} problems stand in the way of this run.\n"),
    });
    text
}
