//! In: a model, a judge and a benchmark. Out: generate, judge and score, one after the other, each
//! going on with what is there.

use std::path::PathBuf;

use super::exit_status::ExitStatus;
use super::live::Live;
use super::shared_args::{BenchmarkArgs, SelectionArgs, open_benchmark, open_run};
use super::{generate, interrupt, judge, say, score};
use crate::generate::catalog;

/// The rule by which the shipped model's pictures are judged when no judge is named.
const SHIPPED_RULE: &str = "hash:0.7";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dpg-bench run
  dpg-bench run --model sd15 --weights stable-diffusion-v1-5 --judge endpoint \\
      --judge-url http://localhost:8000/v1 --judge-model Qwen/Qwen2.5-VL-7B-Instruct
  dpg-bench run --model sd15 --weights stable-diffusion-v1-5 --limit 20 --out results/trial \\
      --judge scripted --judge-rule hash:0.8
  dpg-bench run --model sd15 --weights stable-diffusion-v1-5 --judge mplug \\
      --judge-weights mplug_visual-question-answering_coco_large_en --live

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
    let judge_options = args.judge_or_default()?;
    // What would stop the judge after hours of generation is looked at first.
    judge_options.check()?;
    let benchmark = open_benchmark(&args.benchmark)?;
    let selection = args.selection.selection();
    let items = benchmark.select(&selection)?;
    let options = args.generate.with_model_file()?;
    let generator = generate::load(&options)?;
    let out = args.out.clone().unwrap_or_else(|| options.default_out());
    let mut run = open_run(&out, &benchmark, &selection, options.images)?;
    let live = args.live.then(|| Live::new(&out, &items));
    let generated = generate::execute(&mut run, &items, generator, &options, live.as_ref())?;
    if interrupt::requested() {
        return Ok(ExitStatus::Incomplete);
    }
    let judged = judge::execute(&mut run, &items, &judge_options, live.as_ref())?;
    if interrupt::requested() {
        return Ok(ExitStatus::Incomplete);
    }
    let judges = judge_options.chosen()?.into_iter().map(|chosen| chosen.name).collect();
    let score_options = score::ScoreOptions { judges, ..args.score.clone() };
    let scored = score::execute(&run, &benchmark, &items, &score_options)?;
    Ok(generated.max(judged).max(scored))
}

impl Args {
    /// The judge that was named. The shipped model's noise needs no eyes: there, a rule answers.
    fn judge_or_default(&self) -> anyhow::Result<judge::JudgeOptions> {
        let mut options = self.judge.clone();
        let shipped = self.generate.model == catalog::SHIPPED && self.generate.model_file.is_none();
        if options.judge.is_empty() && shipped {
            options.judge = vec!["scripted".to_owned()];
            if options.judge_rule.is_none() && options.judge_answers.is_none() {
                options.judge_rule = Some(SHIPPED_RULE.parse().map_err(anyhow::Error::msg)?);
            }
            say(&format!(
                "note: {} has random weights and its judge answers by the rule {SHIPPED_RULE}: this \
                 run shows that everything works, not how good a model is",
                catalog::SHIPPED
            ));
        }
        Ok(options)
    }
}
