//! In: a model, judges and a benchmark. Out: generate, judge and score, one after the other or the first two
//! side by side, each going on with what is there.

use std::path::PathBuf;

use crate::cli::args::generator::{GeneratorArgs, RunFolderArgs};
use crate::cli::args::judge::JudgeArgs;
use crate::cli::args::other_products::OtherProductsArgs;
use crate::cli::args::shard::{ShardArgs, has_items};
use crate::cli::args::shared::{BenchmarkArgs, SelectionArgs, open_benchmark};
use crate::cli::commands::{generate, judge, score};
use crate::cli::interrupt;
use crate::cli::output::console::{Console, say_next, say_work};
use crate::cli::output::exit_status::ExitStatus;
use crate::cli::output::live::Live;
use crate::cli::output::print::print_json;
use crate::judge::catalog as judges;
use crate::results::progress::{Gathered, RunProgress};
use crate::session::generator::LoadedGenerator;
use crate::session::judge_options::JudgeOptions;
use crate::session::loaded_judge::LoadedJudge;
use crate::session::side_by_side::{WhileGenerating, split_judges};
use crate::session::{Session, SessionOptions};

/// Arguments of the command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dpg-bench run
  dpg-bench run --model demo-sd --subset 16
  dpg-bench run --model sd15 --judge mplug   # as `fetch sd15 mplug` got them
  dpg-bench run --model sd15 --weights stable-diffusion-v1-5 \\
      --judge endpoint --judge-url http://localhost:8000/v1 \\
      --judge-model Qwen/Qwen2.5-VL-7B-Instruct
  dpg-bench run --model sd15 --weights stable-diffusion-v1-5 --limit 20 \\
      --out results/trial --judge scripted --judge-rule hash:0.8
  dpg-bench run --model sd15 --weights stable-diffusion-v1-5 --shard 0/4 \\
      --judge mplug \\
      --judge-weights mplug_visual-question-answering_coco_large_en
  dpg-bench run --model sd15 \\
      --weights stable-diffusion-v1-5/stable-diffusion-v1-5 \\
      --devices cuda:0,cuda:1 \\
      --judge blip-vqa --judge-weights Salesforce/blip-vqa-base
  dpg-bench run -m sd15 -j mplug -n 4 -o results/sd15 --live
  dpg-bench run --model sd15 --device cuda:0 \\
      --judge mplug --judge-device cuda:1   # both at the same time
  dpg-bench run --model sd15 --device cuda --judge mplug \\
      --judge-device cuda --judge-while-generating on
  dpg-bench run --model server --server-url http://localhost:8000/v1 \\
      --server-model Qwen/Qwen-Image --judge mplug   # docs/image-servers.md
  dpg-bench run --model-list table.toml --judge mplug   # several models

A shard ends without a score: `dpg-bench merge RUN` joins the shards, `dpg-bench score RUN` scores them. \
An interrupted run goes on where it stopped when the same command is given again.
Exit status: 0 done, 2 error, 3 a score is withheld because images or answers are missing, or too many \
answers are neither yes nor no.")]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) generate: GeneratorArgs,
    /// TOML file that lists several models: they are run over the same items and seeds, one after the other, judged
    /// by one loaded judge, compared and reported (docs/model-lists.md)
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Model",
        conflicts_with_all = ["model", "model_file", "print_config", "json", "wide"]
    )]
    pub model_list: Option<PathBuf>,
    #[command(flatten)]
    pub(super) benchmark: BenchmarkArgs,
    #[command(flatten)]
    pub(super) selection: SelectionArgs,
    #[command(flatten)]
    pub(super) folder: RunFolderArgs,
    /// Show the score so far while judging, as `watch` does
    #[arg(long, help_heading = "Output")]
    pub(super) live: bool,
    #[command(flatten)]
    pub(super) shard: ShardArgs,
    #[command(flatten)]
    pub(super) others: OtherProductsArgs,
    #[command(flatten)]
    pub(super) judge: JudgeArgs,
    /// Put the questions about an item as soon as its images are written, while the next ones are made: the run
    /// then takes as long as the slower of the two, where they do not compete for a device. Every file but
    /// manifest.json is the same either way
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, help_heading = "Judge")]
    pub(super) judge_while_generating: WhileGeneratingArg,
    #[command(flatten)]
    pub(super) score: score::ScoreOptions,
    /// Print the flags that are set, here or in the settings file, as a settings file, and run nothing
    #[arg(long, help_heading = "Settings file")]
    pub print_config: bool,
}

/// Spelling of [`WhileGenerating`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum WhileGeneratingArg {
    /// Where the model is on no device of the judge: an endpoint, `scripted`, `--judge-device` beside `--device`
    #[default]
    Auto,
    /// Also on a device that they share, whose memory must hold both
    On,
    /// Not before all images are made
    Off,
}

impl From<WhileGeneratingArg> for WhileGenerating {
    fn from(when: WhileGeneratingArg) -> Self {
        match when {
            WhileGeneratingArg::Auto => Self::Auto,
            WhileGeneratingArg::On => Self::On,
            WhileGeneratingArg::Off => Self::Off,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// Whatever stops one of the stages, in one sentence.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let shard = args.shard.choose()?;
    args.generate.check_names()?;
    let options = args.generate.options()?;
    LoadedGenerator::check(&options)?;
    let judges = judges_or_default(&args.judge, &args.generate)?;
    // What would stop a judge after hours of generation is looked at first.
    judges.iter().try_for_each(JudgeOptions::check)?;
    let benchmark = open_benchmark(&args.benchmark, args.generate.is_demo())?;
    let selection = args.selection.selection();
    let selected = benchmark.select(&selection)?;
    if !has_items(&selected, shard) {
        return Ok(ExitStatus::Done);
    }
    LoadedGenerator::check_items(&options, &selected)?;
    let suit = |size| judges.iter().try_for_each(|judge| judge.check_made_for(&benchmark, size));
    suit(options.stated_size())?;
    let generator = generate::load(&options)?;
    suit(generator.image_size())?;
    let out = args.folder.path(&options);
    let about = SessionOptions {
        selection,
        images_per_item: args.generate.images,
        shard,
        work: "run".to_owned(),
    };
    let names: Vec<&str> = judges.iter().map(JudgeOptions::filed_as).collect();
    say_work(
        &benchmark,
        selected.len(),
        about.images_per_item,
        Some(options.run_name()),
        &names,
        &out,
    );
    let mut session = Session::open(&out, &benchmark, &about, &Console::default())?;
    session.allow_other_products(args.others.allow_other_products);
    let watched = session.items().to_vec();
    let live = Live::of(session.run().path(), &watched, args.live);
    let console = Console { live: live.as_ref() };
    let when = args.judge_while_generating.into();
    let made = generate_and_judge(&mut session, generator, &judges, when, &console)?;
    if interrupt::requested() {
        return Ok(ExitStatus::Incomplete);
    }
    if shard.is_some() {
        if args.score.json {
            let gathered = Gathered::read(session.run())?;
            print_json(&RunProgress::of(&gathered, session.items(), args.generate.images)?)?;
        }
        say_next(&out);
        return Ok(made);
    }
    let judges = judges.iter().map(|judge| judge.filed_as().to_owned()).collect();
    let score_options = score::ScoreOptions { judges, ..args.score.clone() };
    let scored = score::execute(session.run(), &benchmark, session.items(), &score_options)?;
    Ok(made.max(scored))
}

/// The images, beside them the judges that may work there, then the others. Stops after a stage where a signal
/// came.
fn generate_and_judge(
    session: &mut Session<'_>,
    generator: LoadedGenerator,
    judges: &[JudgeOptions],
    when: WhileGenerating,
    console: &Console<'_>,
) -> anyhow::Result<ExitStatus> {
    let (beside, after) = split_judges(judges.to_vec(), when, generator.devices())?;
    let beside = beside
        .iter()
        .map(|options| LoadedJudge::load(options, console))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let (summary, counts) = session.generate_and_judge(generator, &beside, console)?;
    // The other judges may need the memory.
    drop(beside);
    let is_complete = counts.iter().all(|counts| counts.is_complete());
    let made = if is_complete { generate::status(&summary) } else { ExitStatus::Incomplete };
    if interrupt::requested() {
        return Ok(ExitStatus::Incomplete);
    }
    Ok(made.max(judge::ask_each(session, &after, console)?))
}

/// The judges that were named; for the demo's models the demo's judge, where none was.
pub(crate) fn judges_or_default(
    judge: &JudgeArgs,
    generate: &GeneratorArgs,
) -> anyhow::Result<Vec<JudgeOptions>> {
    let mut args = judge.clone();
    if args.judge.is_empty() && generate.is_demo() {
        args.judge = vec![judges::DEMO.to_owned()];
    }
    let mut judges = args.options()?;
    let devices = generate.device.named();
    let devices: Vec<&str> = devices.iter().map(String::as_str).collect();
    judges.iter_mut().for_each(|judge| judge.share_devices(&devices));
    Ok(judges)
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
        let judges = judges_or_default(&line.args.judge, &line.args.generate).unwrap();
        let names = judges.iter().map(|judge| judge.judge.clone()).collect();
        (names, judges[0].local.devices.clone())
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
