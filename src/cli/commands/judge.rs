//! In: a run with images and the flags of judges. Out: their answers in the run. The work is in `session`.

use std::path::PathBuf;

use crate::cli::args::judge::JudgeArgs;
use crate::cli::args::other_products::OtherProductsArgs;
use crate::cli::args::shard::{ShardArgs, has_items};
use crate::cli::interrupt;
use crate::cli::output::console::{Console, say_next, say_work};
use crate::cli::output::exit_status::ExitStatus;
use crate::cli::output::live::Live;
use crate::cli::output::print::say;
use crate::results::RunDirectory;
use crate::session::Session;
use crate::session::benchmarks::{benchmark_of_run, selected};
use crate::session::judge_options::JudgeOptions;
use crate::session::loaded_judge::LoadedJudge;
use crate::session::work::remove_judge;

const EXAMPLES: &str = "\
Examples:
  dpg-bench judge results/sd15 --judge scripted --judge-rule hash:0.8
  dpg-bench judge results/sd15 --judge scripted --judge-answers answers.csv
  dpg-bench judge results/sd15 --judge endpoint \\
      --judge-url http://localhost:8000/v1 \\
      --judge-model Qwen/Qwen2.5-VL-7B-Instruct
  dpg-bench judge results/sd15 --judge mplug \\
      --judge-weights mplug_visual-question-answering_coco_large_en
  dpg-bench judge results/sd15 -j blip-vqa --weights Salesforce/blip-vqa-base
  dpg-bench judge results/sd15 --judge scripted,blip-vqa --judge-rule yes \\
      --judge-weights blip-vqa=blip-vqa-base
  dpg-bench judge results/sd15 --judge qwen3-vl \\
      --judge-weights Qwen3-VL-2B-Instruct
  dpg-bench judge results/sd15 --judge blip-vqa --shard 0/4
  dpg-bench judge results/sd15 --judge blip-vqa --device cuda:0,cuda:1

  dpg-bench judge results/sd15 --remove scripted

Run the same command again to go on after an interruption, or to ask failed questions again.";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
// The model's flags are not beside it here, so the judge's have their short names too.
#[command(
    after_help = EXAMPLES,
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
    /// The run's question file, if it is no longer where it was
    #[arg(long, value_name = "PATH", help_heading = "Benchmark")]
    benchmark: Option<PathBuf>,
    /// Take this judge's answers, scores and summary out of the run, and end
    #[arg(long, value_name = "NAME", conflicts_with = "judge", help_heading = "Judge")]
    remove: Option<String>,
    #[command(flatten)]
    shard: ShardArgs,
    #[command(flatten)]
    others: OtherProductsArgs,
    #[command(flatten)]
    options: JudgeArgs,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it, in one sentence.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    if let Some(judge) = &args.remove {
        remove_judge(&args.run, judge)?;
        say(&format!("{}: the answers of {judge} are removed", args.run.display()));
        return Ok(ExitStatus::Done);
    }
    let run = RunDirectory::open(&args.run)?;
    let benchmark = benchmark_of_run(&run, args.benchmark.as_deref())?;
    let items = selected(&benchmark, &run)?;
    let shard = if run.shard().is_some() { None } else { args.shard.choose()? };
    if !has_items(&items, shard) {
        return Ok(ExitStatus::Done);
    }
    let judges = args.options.options()?;
    if judges.len() > 1 {
        // What would stop the second one after hours of the first is looked at first.
        judges.iter().try_for_each(JudgeOptions::check)?;
    }
    judges.iter().try_for_each(|judge| judge.check_made_for_run(&run))?;
    let mut session = Session::of_run(&args.run, &benchmark, shard, "judge", &Console::default())?;
    session.allow_other_products(args.others.allow_other_products);
    let watched = session.items().to_vec();
    let live = Live::of(session.run().path(), &watched, false);
    let console = Console { live: live.as_ref() };
    let names: Vec<&str> = judges.iter().map(JudgeOptions::filed_as).collect();
    let images = run.manifest().images_per_item;
    say_work(&benchmark, session.items().len(), images, None, &names, &args.run);
    let status = ask_each(&mut session, &judges, &console)?;
    if shard.is_some() {
        say_next(&args.run);
    } else {
        let run = interrupt::quoted(&args.run.to_string_lossy());
        say(&format!("next: dpg-bench score {run} --judge {}", names.join(",")));
    }
    Ok(status)
}

/// Puts every unanswered question to these judges, one judge after the other, so that no two of them are in memory
/// at a time.
///
/// # Errors
/// See [`Session::judge`]. Judges that came before keep their answers.
pub(crate) fn ask_each(
    session: &mut Session<'_>,
    judges: &[JudgeOptions],
    console: &Console<'_>,
) -> anyhow::Result<ExitStatus> {
    let mut status = ExitStatus::Done;
    for options in judges {
        if interrupt::requested() {
            return Ok(ExitStatus::Incomplete);
        }
        let counts = session.judge(&LoadedJudge::load(options, console)?, console)?;
        if !counts.is_complete() {
            status = ExitStatus::Incomplete;
        }
    }
    Ok(status)
}
