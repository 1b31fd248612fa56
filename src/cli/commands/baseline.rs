//! In: a run. Out: the small file that later runs are checked against.

use std::path::PathBuf;

use crate::aggregate::Baseline;
use crate::aggregate::baseline::KIND;
use crate::cli::args::compared::ComparedArgs;
use crate::cli::interrupt;
use crate::cli::output::exit_status::ExitStatus;
use crate::cli::output::print::{say, warn};
use crate::results::atomic_write::atomic_write;
use crate::results::replaceable::{NewFile, Standing};
use crate::wording::counted;

/// Arguments of the command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dpg-bench baseline results/ella-sd15 --out baseline.json
  dpg-bench baseline results/sd15 --judge mplug --protocol reference \\
      --out ci/sd15-reference.json

The file holds every item's score and counts, the settings of the run and of the judge, and the benchmark's \
digest. Commit it, and let CI call `dpg-bench check`.

Exit status: 0 done, 2 error, 3 written, but the run lacks images or answers.")]
pub(crate) struct Args {
    /// Run directory
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Where the baseline goes
    #[arg(short, long, alias = "output", alias = "output-dir", value_name = "FILE")]
    out: PathBuf,
    /// Whose answers [default: those of the only judge]
    #[arg(short, long, value_name = "NAME")]
    judge: Option<String>,
    /// Rules by which the run is scored [default: corrected]
    #[arg(long, value_enum, value_name = "NAME")]
    protocol: Option<crate::cli::commands::score::ProtocolName>,
    /// Where the benchmark is now, if it is not where the run was made with it
    #[arg(long, value_name = "PATH")]
    benchmark: Option<PathBuf>,
    /// Leave out the questions that this file names (CSV: item, question), as `control` lists them
    #[arg(long, value_name = "FILE")]
    drop_questions: Option<PathBuf>,
    /// Replace a FILE that is no baseline, or that of another run
    #[arg(long)]
    force: bool,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it, in one sentence.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let compared = ComparedArgs {
        judge: args.judge.clone(),
        protocol: args.protocol,
        benchmark: args.benchmark.clone(),
        drop_questions: args.drop_questions.clone(),
        ..ComparedArgs::default()
    };
    anyhow::ensure!(args.run.is_dir(), "{} is no run directory", args.run.display());
    let run = compared.load(&args.run)?.run;
    NewFile { path: &args.out, command: "baseline", flag: "--out", force: args.force }
        .check(|bytes| standing(bytes, &run))?;
    // One line an item, so that a change of the file can be read.
    let mut text = serde_json::to_string(&run)?;
    text = text.replace("{\"id\":", "\n{\"id\":");
    text.push('\n');
    atomic_write(&args.out, text.as_bytes())?;
    let scored = run.items.iter().filter(|item| item.score.is_some()).count();
    say(&format!(
        "written: {} ({scored} of {} with a score, {} of {} answered)",
        args.out.display(),
        counted(run.items.len(), "item"),
        run.questions_answered,
        counted(run.questions_expected, "question")
    ));
    if let Some(dropped) = &run.dropped_questions {
        say(&dropped.described());
    }
    if let Some(gap) = run.gap() {
        warn(&format!("{} is incomplete: {gap}", args.run.display()));
    }
    say(&format!("next: {}", next_command(args)));
    Ok(if run.is_complete() { ExitStatus::Done } else { ExitStatus::Incomplete })
}

/// The check of another run against the new baseline: by the same judge, and without the same questions.
fn next_command(args: &Args) -> String {
    let file = interrupt::quoted(&args.out.to_string_lossy());
    let mut command = format!("dpg-bench check OTHER_RUN --baseline {file}");
    let path =
        |path: &Option<PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned());
    for (flag, value) in [
        ("judge", args.judge.clone()),
        ("benchmark", path(&args.benchmark)),
        ("drop-questions", path(&args.drop_questions)),
    ] {
        if let Some(value) = value {
            command += &format!(" --{flag} {}", interrupt::quoted(&value));
        }
    }
    command
}

/// What the bytes of a file are beside the new baseline `run`. Other items, images or rules make no other run of it.
fn standing(bytes: &[u8], run: &Baseline) -> Standing {
    let there: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    if there["kind"] != KIND {
        return Standing::Foreign;
    }
    let own = serde_json::to_value(run).unwrap_or_default();
    let is_alike = |place: &str| there.pointer(place) == own.pointer(place);
    if ["/run/generation", "/run/benchmark/digest", "/judge"].into_iter().all(is_alike) {
        return Standing::Same;
    }
    let name = |place: &str| {
        there.pointer(place).and_then(serde_json::Value::as_str).unwrap_or("not stated").to_owned()
    };
    Standing::Other(format!(
        "the baseline of another run (model {}, judge {})",
        name("/run/model"),
        name("/judge/name")
    ))
}
