//! In: a run and a baseline. Out: whether the run is worse, for people, CI systems and the shell.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, ensure};

use crate::check::{Gate, Outcome, check};
use crate::cli::args::compared::ComparedArgs;
use crate::cli::output::exit_status::ExitStatus;
use crate::cli::output::print::{print, print_json, print_words};
use crate::reports::check_reports::{
    JUNIT_SUITE, check_github_annotations, check_github_summary, check_junit, check_terminal,
};
use crate::results::atomic_write::atomic_write;
use crate::results::replaceable::{NewFile, Standing};
use crate::wording::counted;

/// Where GitHub Actions wants the step summary.
const STEP_SUMMARY: &str = "GITHUB_STEP_SUMMARY";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dpg-bench check results/nightly --baseline baseline.json
  dpg-bench check results/nightly --baseline results/release \\
      --max-drop 0.5 --alpha 0.01
  dpg-bench check results/nightly --baseline baseline.json \\
      --category attribute --category 'other - count' \\
      --junit check.xml --github

A number fails where a true drop of --max-drop would hardly show so large a one, and passes where it would hardly \
show so small a one; between the two it is undecided, and the number of items that would decide it is printed. A \
run that has truly dropped by --max-drop and no more is mostly undecided: it fails and passes at most --alpha of \
the time each. Fewer than 20 items never pass.

Exit status: 0 passed, 1 failed, 2 error, 3 undecided (0 with --undecided-passes).")]
pub(crate) struct Args {
    /// Run directory
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Baseline file, or run directory, to check against
    #[arg(long, value_name = "FILE|RUN")]
    baseline: PathBuf,
    /// Largest tolerated drop, in points
    #[arg(long, default_value_t = 1.0, value_name = "POINTS")]
    max_drop: f64,
    /// Probability of failing a run none of whose checked numbers has truly dropped by more than --max-drop,
    /// and of passing a number that has
    #[arg(long, default_value_t = 0.05, value_name = "P")]
    alpha: f64,
    /// Check these categories as well (comma list, can be repeated): broad (`attribute`) or detailed
    /// (`attribute - color`, or `color` where one ends in it)
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    category: Vec<String>,
    /// Exit with 0 where nothing failed but something is undecided
    #[arg(long)]
    undecided_passes: bool,
    #[command(flatten)]
    compared: ComparedArgs,
    /// Write the outcome as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Replace a --junit file that `check` did not write
    #[arg(long, requires = "junit")]
    force: bool,
    /// Print annotations for GitHub Actions, and append to its step summary
    #[arg(long)]
    github: bool,
    /// Print one JSON document on stdout instead of the lines
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it, in one sentence.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    ensure!(
        args.max_drop.is_finite() && args.max_drop >= 0.0,
        "--max-drop {} is no number of points from 0 on",
        args.max_drop
    );
    ensure!(
        args.alpha > 0.0 && args.alpha < 0.5,
        "--alpha {} is no probability between 0 and 0.5",
        args.alpha
    );
    ensure_can_fail(args)?;
    if let Some(path) = &args.junit {
        // The outcome of an earlier check is what the file is for, whatever run it was of.
        NewFile { path, command: "check", flag: "--junit", force: args.force }.check(|bytes| {
            let is_ours = String::from_utf8_lossy(bytes).contains(JUNIT_SUITE);
            if is_ours { Standing::Same } else { Standing::Foreign }
        })?;
    }
    let gate =
        Gate { max_drop: args.max_drop, alpha: args.alpha, categories: args.category.clone() };
    let baseline = args.compared.load(&args.baseline)?;
    // The baseline says by which rules it was made.
    let mut compared = args.compared.clone();
    if compared.protocol.is_none() {
        compared.protocol = Some(baseline.run.protocol.into());
    }
    let run = compared.load(&args.run)?;
    let found = check(&baseline, &run, &gate, &args.compared.options())?;
    if let Some(path) = &args.junit {
        atomic_write(path, check_junit(&found).as_bytes())?;
    }
    if args.github {
        if let Some(path) = std::env::var_os(STEP_SUMMARY) {
            let shown = PathBuf::from(&path);
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(&path)
                .and_then(|mut file| file.write_all(check_github_summary(&found).as_bytes()))
                .with_context(|| {
                    format!("{STEP_SUMMARY}: {} cannot be written", shown.display())
                })?;
        }
        print(&check_github_annotations(&found))?;
    }
    if args.json {
        print_json(&found)?;
    } else {
        print_words(&check_terminal(&found))?;
    }
    Ok(match found.outcome {
        Outcome::Passed => ExitStatus::Done,
        Outcome::Failed => ExitStatus::CheckFailed,
        Outcome::Undecided if args.undecided_passes => ExitStatus::Done,
        Outcome::Undecided => ExitStatus::Incomplete,
    })
}

/// With fewer random rounds than that, nothing could ever fail.
fn ensure_can_fail(args: &Args) -> anyhow::Result<()> {
    let figures = 1 + args.category.len();
    // The least p-value of a one-sided test is one of twice the rounds and two.
    let least = 1.0 / (2.0 * f64::from(args.compared.draws) + 2.0);
    let level = args.alpha / figures as f64;
    let needed = (0.5 / level).ceil();
    ensure!(
        least < level,
        "--alpha {} for {}: {} rounds show no p below {least:.1e}, so that nothing could fail; \
         {}",
        args.alpha,
        counted(figures, "number"),
        args.compared.draws,
        if needed <= 1e6 {
            format!("give --draws {needed} or more")
        } else {
            "give a larger --alpha".to_owned()
        }
    );
    Ok(())
}
