//! In: a model, a judge and a benchmark. Out: generate, judge and score, one after the other or the first two
//! side by side, each going on with what is there.

use std::path::PathBuf;

use super::exit_status::ExitStatus;
use super::judge::LoadedJudge;
use super::live::Live;
use super::output::{print_json, say};
use super::shard_choice::ShardArgs;
use super::shared_args::{BenchmarkArgs, SelectionArgs, open_benchmark};
use super::side_by_side::{self, WhileGenerating};
use super::work::{Subject, Work, dealt, open_work};
use super::{generate, interrupt, judge, score};
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
  dpg-bench run --model sd15 --device cuda:0 --judge mplug --judge-device cuda:1   # both at the same time
  dpg-bench run --model sd15 --device cuda --judge mplug --judge-device cuda --judge-while-generating on

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
    /// Put the questions about an item as soon as its pictures are written, while the next ones are made: the run
    /// then takes as long as the slower of the two, where they do not compete for a device. Every file but
    /// manifest.json is the same either way
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, help_heading = "Judge")]
    judge_while_generating: WhileGenerating,
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
    let when = args.judge_while_generating;
    let made =
        generate_and_judge(&mut work, generator, &options, &judge_options, when, live.as_ref())?;
    if interrupt::requested() {
        return Ok(ExitStatus::Incomplete);
    }
    if shard.is_some() {
        if args.score.json {
            let gathered = Gathered::read(&work.run)?;
            print_json(&RunProgress::of(&gathered, &work.items, options.images)?)?;
        }
        work.say_next();
        return Ok(made);
    }
    let judges = judge_options.chosen()?.into_iter().map(|chosen| chosen.name).collect();
    let score_options = score::ScoreOptions { judges, ..args.score.clone() };
    let scored = score::execute(&work.run, &benchmark, &work.items, &score_options)?;
    let name = options.name.as_ref().unwrap_or(&options.model);
    let words = [out.to_string_lossy(), format!("reports/{name}").into()];
    let [run, report] = words.map(|word| interrupt::quoted(&word));
    say(&format!("report: dpg-bench report {run} --out {report}"));
    Ok(made.max(scored))
}

/// The pictures, beside them the judges that may work there, then the others. Stops after a stage where a signal
/// came.
fn generate_and_judge(
    work: &mut Work<'_>,
    generator: generate::Loaded,
    options: &generate::GenerateOptions,
    judge_options: &judge::JudgeOptions,
    when: WhileGenerating,
    live: Option<&Live<'_>>,
) -> anyhow::Result<ExitStatus> {
    let judges = judge_options.chosen()?;
    let (beside, after) = side_by_side::dealt(judges, when, judge_options, generator.devices())?;
    let beside = beside
        .iter()
        .map(|chosen| LoadedJudge::load(judge_options, chosen))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let (run, items) = (&mut work.run, work.items.as_slice());
    let made = side_by_side::execute(run, items, generator, options, beside, live)?;
    work.stage_is_over()?;
    if interrupt::requested() {
        return Ok(ExitStatus::Incomplete);
    }
    let judged = judge::ask_each(&mut work.run, &work.items, judge_options, &after, live)?;
    work.stage_is_over()?;
    Ok(made.max(judged))
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
    options.share_devices(&generate.device.named());
    options
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    /// The judges of a command line and the devices that they are given.
    fn placed(flags: &[&str]) -> (Vec<String>, Vec<String>) {
        let line = Line::try_parse_from(["x"].iter().chain(flags)).ok().unwrap();
        let options = judge_or_default(&line.args.judge, &line.args.generate);
        (options.judge, options.local.judge_device)
    }

    #[test]
    fn a_judge_that_computes_here_is_where_the_model_is() {
        for (flags, judge, devices) in [
            (&["--device", "cuda:1", "--judge", "mplug"][..], "mplug", &["cuda:1"][..]),
            (&["--device", "cpu", "--judge", "mplug"], "mplug", &["cpu"]),
            (&["--devices", "cuda:0,cuda:1", "--judge", "mplug"], "mplug", &["cuda:0", "cuda:1"]),
            (&["--device", "cuda", "--judge", "mplug", "--judge-device", "cpu"], "mplug", &["cpu"]),
            (&["--device", "cuda", "--judge", "scripted"], "scripted", &[]),
            (&["--device", "cuda"], judges::DEMO, &["cuda"]),
        ] {
            let (found, on) = placed(flags);
            assert_eq!(found, [judge], "{flags:?}");
            assert_eq!(on, devices, "{flags:?}");
        }
    }
}
