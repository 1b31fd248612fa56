//! In: runs or baseline files of one model at several steps of its training. Out: the score against the step, as table
//! and chart.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use crate::cli::args::compared::ComparedArgs;
use crate::cli::output::exit_status::ExitStatus;
use crate::cli::output::prefixed_files::PrefixedFiles;
use crate::cli::output::print::{print_json, print_words};
use crate::reports::history::{FILES, History};
use crate::results::replaceable::Standing;
use crate::wording::counted;

/// Arguments of the command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dpg-bench history results/step-1000 results/step-2000 results/step-3000
  dpg-bench history baselines/1000.json baselines/2000.json \\
      --out reports/history
  dpg-bench history results/a results/b --steps 500,1500

Exit status: 0 done; 2 error; 3 done, but images or answers of a run are missing.")]
pub(crate) struct Args {
    /// Run directories or baseline files, in any order
    #[arg(value_name = "RUN", required = true, num_args = 2..)]
    runs: Vec<PathBuf>,
    /// Training step of each run, in the order of the runs [default: the last number in each one's name]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    steps: Vec<u64>,
    #[command(flatten)]
    compared: ComparedArgs,
    /// Write PREFIX.csv, PREFIX.md, PREFIX.json, PREFIX.svg and PREFIX.png as well
    #[arg(short, long, alias = "output", alias = "output-dir", value_name = "PREFIX")]
    out: Option<PathBuf>,
    /// Replace files of --out that hold no history
    #[arg(long, requires = "out")]
    force: bool,
    /// Print one JSON document on stdout instead of the table
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it, in one sentence.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let steps = steps(&args.runs, &args.steps)?;
    let files = args.out.as_deref().map(|prefix| files(prefix, args.force));
    if let Some(files) = files {
        // Over those of a history of whatever runs, since it grows.
        files.check(|bytes| if is_history(bytes) { Standing::Same } else { Standing::Foreign })?;
    }
    let mut runs = Vec::new();
    for (step, path) in steps.into_iter().zip(&args.runs) {
        runs.push((step, args.compared.load(path)?));
    }
    let history = History::new(runs, &args.compared.options())?;
    if args.json {
        print_json(&history)?;
    } else {
        print_words(&history.terminal())?;
    }
    if let Some(files) = files {
        files.write(history.files()?)?;
    }
    let complete = history.points.iter().all(|point| point.complete);
    Ok(if complete { ExitStatus::Done } else { ExitStatus::Incomplete })
}

/// The step of each run; no two may be the same.
fn steps(runs: &[PathBuf], named: &[u64]) -> anyhow::Result<Vec<u64>> {
    ensure!(
        named.is_empty() || named.len() == runs.len(),
        "--steps names {} for {}; name one for each, in their order",
        counted(named.len(), "step"),
        counted(runs.len(), "run")
    );
    let steps = match named {
        [] => runs.iter().map(|run| step_of(run)).collect::<anyhow::Result<Vec<u64>>>()?,
        named => named.to_vec(),
    };
    for (place, step) in steps.iter().enumerate() {
        if let Some(before) = steps[..place].iter().position(|other| other == step) {
            bail!(
                "{} and {} are both of step {step}; name the step of each with --steps",
                runs[before].display(),
                runs[place].display()
            );
        }
    }
    Ok(steps)
}

/// The last number in the name of a run or baseline file.
fn step_of(run: &Path) -> anyhow::Result<u64> {
    let name = if run.is_dir() { run.file_name() } else { run.file_stem() };
    let name = name.unwrap_or_default().to_string_lossy().into_owned();
    let number = name.rsplit(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty());
    number.and_then(|digits| digits.parse().ok()).with_context(|| {
        format!(
            "the name of {} holds no step; name the step of each run with --steps",
            run.display()
        )
    })
}

fn files(prefix: &Path, force: bool) -> PrefixedFiles<'_> {
    PrefixedFiles { command: "history", prefix, endings: &FILES, force }
}

fn is_history(bytes: &[u8]) -> bool {
    let there: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    there["points"].as_array().is_some_and(|points| points.iter().all(|one| one["step"].is_u64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_is_the_last_number_of_the_name() {
        let step = |name: &str| step_of(Path::new(name)).map_err(|error| error.to_string());
        assert_eq!(step("results/sd15-step2000"), Ok(2000));
        assert_eq!(step("runs/7/checkpoint-300-ema"), Ok(300));
        assert_eq!(step("baselines/000500.json"), Ok(500));
        assert!(step("results/7/final").unwrap_err().contains("--steps"));
    }

    #[test]
    fn each_run_has_a_step_of_its_own() {
        let runs = ["a-1", "b-1"].map(PathBuf::from);
        assert_eq!(steps(&runs, &[5, 3]).unwrap(), [5, 3]);
        let refused = |named: &[u64]| steps(&runs, named).unwrap_err().to_string();
        assert!(refused(&[]).contains("a-1 and b-1 are both of step 1"));
        assert!(refused(&[3]).contains("--steps names 1 step for 2 runs"));
    }
}
