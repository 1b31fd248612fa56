//! In: `generate --model M`. Out: the images of a run. The work is in `session`.

use crate::cli::args::generator::{GeneratorArgs, RunFolderArgs};
use crate::cli::args::other_products::OtherProductsArgs;
use crate::cli::args::shard::{ShardArgs, has_items};
use crate::cli::args::shared::{BenchmarkArgs, OutputArgs, SelectionArgs, open_benchmark};
use crate::cli::interrupt;
use crate::cli::output::console::{Console, say_next, say_work};
use crate::cli::output::exit_status::ExitStatus;
use crate::cli::output::print::{print, print_json, say, warn};
use crate::generate::generate_run::GenerationSummary;
use crate::judge::catalog::DEMO;
use crate::session::generator::LoadedGenerator;
use crate::session::generator_options::GeneratorOptions;
use crate::session::{Session, SessionOptions};

/// Arguments of `generate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dpg-bench generate --model sd15 --weights stable-diffusion-v1-5 --limit 10
  dpg-bench generate --model sd15 --weights stable-diffusion-v1-5 \\
      --preset paper --out results/sd15-as-ella
  dpg-bench generate --model ella-sd15 --weights stable-diffusion-v1-5 \\
      --ella ella-sd1.5-tsc-t5xl.safetensors --text-encoder flan-t5-xl \\
      --seed 1001 --seed-mode sequential
  dpg-bench generate --model sd15 --weights dreamshaper_8.safetensors \\
      --base stable-diffusion-v1-5 \\
      --lora detail.safetensors:0.7 --embedding badhands.safetensors
  dpg-bench generate --model-file models/dreamshaper-ella.toml
  dpg-bench generate --model-file models/dreamshaper-ella.toml --dry-run
  dpg-bench generate --model sd15 --shard 0/4
  dpg-bench generate --model sd15 \\
      --weights stable-diffusion-v1-5/stable-diffusion-v1-5 \\
      --devices cuda:0,cuda:1

A run that was interrupted goes on where it stopped when the same command is given again.")]
pub(crate) struct Args {
    /// How.
    #[command(flatten)]
    pub options: GeneratorArgs,
    /// Of which benchmark.
    #[command(flatten)]
    pub benchmark: BenchmarkArgs,
    /// Of which items.
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Where.
    #[command(flatten)]
    pub folder: RunFolderArgs,
    /// Which part of them.
    #[command(flatten)]
    pub shard: ShardArgs,
    /// What may differ.
    #[command(flatten)]
    pub others: OtherProductsArgs,
    /// Load everything, print what was understood of it, and make nothing
    #[arg(long, help_heading = "Output")]
    pub dry_run: bool,
    /// How the outcome is printed.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Runs `generate`.
///
/// # Errors
/// Whatever stops it, in one sentence.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let shard = args.shard.choose()?;
    args.options.check_names()?;
    let options = args.options.options()?;
    LoadedGenerator::check(&options)?;
    let benchmark = open_benchmark(&args.benchmark, args.options.is_demo())?;
    let selection = args.selection.selection();
    let selected = benchmark.select(&selection)?;
    if !has_items(&selected, shard) {
        return Ok(ExitStatus::Done);
    }
    LoadedGenerator::check_items(&options, &selected)?;
    if args.dry_run {
        let loaded = LoadedGenerator::load(&options, &Console::default())?;
        if args.output.json {
            print_json(loaded.understood())?;
        } else {
            print(loaded.understood().to_string().trim_end())?;
        }
        return Ok(ExitStatus::Done);
    }
    let mut generator = load(&options)?;
    let out = args.folder.path(&options);
    let about = SessionOptions {
        selection,
        images_per_item: args.options.images,
        shard,
        work: "generate".to_owned(),
    };
    say_work(
        &benchmark,
        selected.len(),
        about.images_per_item,
        Some(options.run_name()),
        &[],
        &out,
    );
    let mut session = Session::open(&out, &benchmark, &about, &Console::default())?;
    session.allow_other_products(args.others.allow_other_products);
    let summary = session.generate(&mut generator, &Console::default())?;
    if shard.is_some() {
        say_next(&out);
    }
    if args.output.json {
        print_json(&summary)?;
    } else if shard.is_none() && status(&summary) == ExitStatus::Done {
        let judge = if args.options.is_demo() { DEMO } else { "mplug" };
        let run = interrupt::quoted(&out.to_string_lossy());
        say(&format!("next: dpg-bench judge {run} --judge {judge}"));
    }
    Ok(status(&summary))
}

/// Loads the model, and tells what is doubtful about its files.
///
/// # Errors
/// As [`LoadedGenerator::load`].
pub(crate) fn load(options: &GeneratorOptions) -> anyhow::Result<LoadedGenerator> {
    let loaded = LoadedGenerator::load(options, &Console::default())?;
    loaded.understood().warnings.iter().for_each(|warning| warn(warning));
    Ok(loaded)
}

/// How it ended, for the shell.
pub(crate) fn status(summary: &GenerationSummary) -> ExitStatus {
    let complete = summary.failed == 0 && summary.filtered == 0 && !summary.stopped;
    if complete { ExitStatus::Done } else { ExitStatus::Incomplete }
}
