//! In: a model, a judge and a benchmark. Out: generate, judge and score, one after the other, each
//! going on with what is there.

use std::path::PathBuf;

use super::exit_status::ExitStatus;
use super::live::Live;
use super::shard_choice::ShardArgs;
use super::shared_args::{BenchmarkArgs, SelectionArgs, open_benchmark};
use super::work::{Subject, dealt, open_work};
use super::{generate, interrupt, judge, print_json, say, score};
use crate::judge::catalog as judges;
use crate::results::progress::{Gathered, RunProgress};

/// Arguments of the command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dpg-bench run
  dpg-bench run --model demo-sd --subset 16
  dpg-bench run --model sd15 --judge mplug          # as `dpg-bench fetch sd15 mplug` got them
  dpg-bench run --model sd15 --weights stable-diffusion-v1-5 --judge endpoint \\
      --judge-url http://localhost:8000/v1 --judge-model Qwen/Qwen2.5-VL-7B-Instruct
  dpg-bench run --model sd15 --weights stable-diffusion-v1-5 --limit 20 --out results/trial \\
      --judge scripted --judge-rule hash:0.8
  dpg-bench run --model sd15 --weights stable-diffusion-v1-5 --shard 0/4 --judge mplug \\
      --judge-weights mplug_visual-question-answering_coco_large_en
  dpg-bench run --model sd15 --weights stable-diffusion-v1-5 --devices cuda:0,cuda:1 \\
      --judge blip-vqa --judge-weights blip-vqa-base
  dpg-bench run --model sd15 --weights stable-diffusion-v1-5 --judge mplug \\
      --judge-weights mplug_visual-question-answering_coco_large_en --live

A shard ends without a score: `dpg-bench merge RUN` joins the shards, `dpg-bench score RUN` scores them.
An interrupted run goes on where it stopped when the same command is given again.
Exit status: 0 done, 2 could not, 3 a score is withheld because images or answers are missing.")]
pub struct Args {
    #[command(flatten)]
    benchmark: BenchmarkArgs,
    #[command(flatten)]
    selection: SelectionArgs,
    /// Run directory [default: results/MODEL]
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    /// Tell the score so far while judging, as `watch` does
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    shard: ShardArgs,
    #[command(flatten)]
    generate: generate::GenerateOptions,
    #[command(flatten)]
    judge: judge::JudgeOptions,
    #[command(flatten)]
    score: score::ScoreOptions,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops one of the stages, in one sentence.
pub fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let shard = args.shard.choose()?;
    let judge_options = judge_or_default(&args.judge, &args.generate);
    // What would stop the judge after hours of generation is looked at first.
    judge_options.check()?;
    let benchmark = open_benchmark(&args.benchmark, args.generate.is_shipped())?;
    let selection = args.selection.selection();
    let Some(items) = dealt(benchmark.select(&selection)?, shard) else {
        return Ok(ExitStatus::Done);
    };
    let options = args.generate.with_model_file()?;
    let generator = generate::load(&options)?;
    let out = args.out.clone().unwrap_or_else(|| options.default_out());
    let subject = Subject::new(&benchmark, &selection, options.images)?;
    let mut work = open_work(&out, &subject, items, shard, "run")?;
    let watched = work.items.clone();
    let live = args.live.then(|| Live::new(work.run.path(), &watched));
    let generated =
        generate::execute(&mut work.run, &work.items, generator, &options, live.as_ref())?;
    work.stage_is_over()?;
    if interrupt::requested() {
        return Ok(ExitStatus::Incomplete);
    }
    let judged = judge::execute(&mut work.run, &work.items, &judge_options, live.as_ref())?;
    work.stage_is_over()?;
    if interrupt::requested() {
        return Ok(ExitStatus::Incomplete);
    }
    if shard.is_some() {
        if args.score.json {
            let gathered = Gathered::read(&work.run)?;
            print_json(&RunProgress::of(&gathered, &work.items, options.images)?)?;
        }
        work.say_next();
        return Ok(generated.max(judged));
    }
    let judges = judge_options.chosen()?.into_iter().map(|chosen| chosen.name).collect();
    let score_options = score::ScoreOptions { judges, ..args.score.clone() };
    let scored = score::execute(&work.run, &benchmark, &work.items, &score_options)?;
    let name = options.name.as_ref().unwrap_or(&options.model);
    let words = [out.to_string_lossy(), format!("reports/{name}").into()];
    let [run, report] = words.map(|word| interrupt::quoted(&word));
    say(&format!("report: dpg-bench report {run} --out {report}"));
    Ok(generated.max(judged).max(scored))
}

/// The judge that was named; for the demo's models the demo's judge, where none was.
pub(super) fn judge_or_default(
    judge: &judge::JudgeOptions,
    generate: &generate::GenerateOptions,
) -> judge::JudgeOptions {
    let mut options = judge.clone();
    if options.judge.is_empty() && generate.is_shipped() {
        options.judge = vec![judges::DEMO.to_owned()];
    }
    options.share_devices(&generate.device.devices);
    options
}
