//! In: a run with pictures and the flags of a judge. Out: its answers in the run. Also the execution
//! that `run` shares. The flags themselves are in `judge_options`.

use std::path::PathBuf;

use super::exit_status::ExitStatus;
use super::interrupt;
use super::judge_options::Chosen;
pub use super::judge_options::JudgeOptions;
use super::live::Live;
use super::progress::StageProgress;
use super::shard_choice::ShardArgs;
use super::shared_args::{benchmark_of_run, selected};
use super::work::{Subject, dealt, open_work};
use crate::benchmark::Item;
use crate::judge::Judge;
use crate::judge::judge_counts::JudgeCounts;
use crate::judge::judge_run::judge_images;
use crate::results::{RunDirectory, RunError, RunLock, Sitting};

/// What the lock says of this command.
const WORK: &str = "judge";

const EXAMPLES: &str = "\
Examples:
  dpg-bench judge results/sd15 --judge scripted --judge-rule hash:0.8
  dpg-bench judge results/sd15 --judge scripted --judge-answers answers.csv
  dpg-bench judge results/sd15 --judge endpoint \\
      --judge-url http://localhost:8000/v1 --judge-model Qwen/Qwen2.5-VL-7B-Instruct
  dpg-bench judge results/sd15 --judge mplug \\
      --judge-weights mplug_visual-question-answering_coco_large_en
  dpg-bench judge results/sd15 --judge blip-vqa --judge-weights blip-vqa-base
  dpg-bench judge results/sd15 --judge scripted,blip-vqa --judge-rule yes \\
      --judge-weights blip-vqa=blip-vqa-base
  dpg-bench judge results/sd15 --judge qwen3-vl --judge-weights Qwen3-VL-2B-Instruct
  dpg-bench judge results/sd15 --judge blip-vqa --judge-weights blip-vqa-base --shard 0/4
  dpg-bench judge results/sd15 --judge blip-vqa --judge-weights blip-vqa-base \\
      --judge-device cuda:0,cuda:1

Run the same command again to go on after an interruption, or to ask failed questions again.";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The run directory
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// The run's question file, if it is no longer where it was
    #[arg(long, value_name = "PATH")]
    benchmark: Option<PathBuf>,
    #[command(flatten)]
    shard: ShardArgs,
    #[command(flatten)]
    options: JudgeOptions,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it, in one sentence.
pub fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let run = RunDirectory::open(&args.run)?;
    let benchmark = benchmark_of_run(&run, args.benchmark.as_deref())?;
    let items = selected(&benchmark, &run)?;
    if run.shard().is_some() {
        // A shard named by itself is the whole of the work.
        let lock = RunLock::take(&args.run, WORK)?;
        let mut run = RunDirectory::open(&args.run)?;
        let status = execute(&mut run, &items, &args.options, None);
        drop(lock);
        return status;
    }
    let shard = args.shard.choose()?;
    let Some(items) = dealt(items, shard) else { return Ok(ExitStatus::Done) };
    let mut work = open_work(&args.run, &Subject::of(&run), items, shard, WORK)?;
    let status = execute(&mut work.run, &work.items, &args.options, None)?;
    work.stage_is_over()?;
    if shard.is_some() {
        work.say_next();
    }
    Ok(status)
}

/// Puts every unanswered question about the pictures of `items` to the judges that the options name, one
/// judge after the other, so that no two of them are in memory at a time.
///
/// # Errors
/// The options name no judge or do not fit those that they name; the run has answers of such a judge under
/// other settings; see [`judge_images`] for the rest. Judges that came before keep their answers.
fn execute(
    run: &mut RunDirectory,
    items: &[&Item],
    options: &JudgeOptions,
    live: Option<&Live<'_>>,
) -> anyhow::Result<ExitStatus> {
    let judges = options.chosen()?;
    if judges.len() > 1 {
        // What would stop the second one after hours of the first is looked at first.
        options.check()?;
    }
    ask_each(run, items, options, &judges, live)
}

/// As `execute`, of these judges, whose options were looked at.
///
/// # Errors
/// As there.
pub fn ask_each(
    run: &mut RunDirectory,
    items: &[&Item],
    options: &JudgeOptions,
    judges: &[Chosen],
    live: Option<&Live<'_>>,
) -> anyhow::Result<ExitStatus> {
    let mut status = ExitStatus::Done;
    for chosen in judges {
        if interrupt::requested() {
            return Ok(ExitStatus::Incomplete);
        }
        let mut judge = LoadedJudge::load(options, chosen)?.begin(run)?;
        let progress = StageProgress::new("judging", live.map(|live| live.part(&chosen.name)));
        let asked = judge.ask(|name, judge| judge_images(run, name, items, judge, &progress));
        status = status.max(judge.finish(run, &asked?)?);
    }
    Ok(status)
}

/// A judge in memory.
pub struct LoadedJudge {
    /// Name that its answers are filed under.
    pub name: String,
    judge: Box<dyn Judge>,
    device: String,
    sitting: Option<Sitting>,
}

impl LoadedJudge {
    /// Loads it; nothing is asked or written.
    ///
    /// # Errors
    /// As [`JudgeOptions::build`].
    pub fn load(options: &JudgeOptions, chosen: &Chosen) -> anyhow::Result<Self> {
        let (judge, device) = options.build(chosen)?;
        Ok(Self { name: chosen.name.clone(), judge, device, sitting: None })
    }

    /// Notes in the manifest that it begins.
    ///
    /// # Errors
    /// The run has its answers under other settings, or the disk said no.
    pub fn begin(mut self, run: &mut RunDirectory) -> anyhow::Result<Self> {
        let name = &self.name;
        let sitting = run.begin_judge(name, self.judge.settings(), &self.device).map_err(|error| {
            let other_settings = matches!(error, RunError::SettingsChanged { .. });
            let error = anyhow::Error::from(error);
            if other_settings {
                error.context(format!(
                    "`{name}` has answered in this run under other settings; --judge-name files these \
                     answers under another name"
                ))
            } else {
                error
            }
        })?;
        self.sitting = Some(sitting);
        Ok(self)
    }

    /// Has it asked; what `ask` takes is its name and itself.
    pub fn ask<T>(&mut self, ask: impl FnOnce(&str, &dyn Judge) -> T) -> T {
        let answers = ask(&self.name, self.judge.as_ref());
        self.sitting.iter_mut().for_each(Sitting::stop);
        answers
    }

    /// Notes in the manifest how it ended, and says so.
    ///
    /// # Errors
    /// The disk said no.
    pub fn finish(
        self,
        run: &mut RunDirectory,
        counts: &JudgeCounts,
    ) -> anyhow::Result<ExitStatus> {
        if let Some(sitting) = &self.sitting {
            run.finish(sitting, counts.finished_now, counts.failed_now)?;
        }
        let journal = run.path().join("answers").join(format!("{}.jsonl", self.name));
        super::output::say(&format!("{}: {}", journal.display(), described(counts)));
        for remark in self.judge.remarks() {
            super::output::say(&format!("{}: {remark}", self.name));
        }
        Ok(if counts.is_complete() { ExitStatus::Done } else { ExitStatus::Incomplete })
    }
}

/// `13 of 16 images judged, 52 answers (1 unparsable), 3 questions failed, 2 images missing`.
fn described(counts: &JudgeCounts) -> String {
    let all =
        counts.images_done + counts.images_failed + counts.images_missing + counts.images_left;
    let mut text = format!(
        "{} of {all} images judged, {} answers ({} unparsable)",
        counts.images_done, counts.answers, counts.unparsable
    );
    if counts.failed_questions > 0 {
        text.push_str(&format!(
            ", {} questions failed (the same command asks them again)",
            counts.failed_questions
        ));
    }
    if counts.replies_cut > 0 {
        text.push_str(&format!(
            ", {} replies cut by the limit on tokens (--judge-max-tokens)",
            counts.replies_cut
        ));
    }
    if counts.questions_cut > 0 {
        text.push_str(&format!(
            ", {} questions are longer than the judge reads",
            counts.questions_cut
        ));
    }
    if counts.images_left > 0 {
        text.push_str(&format!(", {} images left", counts.images_left));
    }
    if counts.images_missing > 0 {
        text.push_str(&format!(", {} images missing", counts.images_missing));
    }
    text
}
