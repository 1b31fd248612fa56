//! In: one or more runs over one benchmark. Out: a folder with a page, tables and charts about them. The work is in
//! `session::reporting`.

use std::path::PathBuf;

use crate::reports::paper_table::PaperOptions;
use crate::session::reporting::{Report, ReportOptions, report_to};

use crate::cli::commands::score::ProtocolName;
use crate::cli::output::console::Console;
use crate::cli::output::exit_status::ExitStatus;
use crate::cli::output::print::{print, say, warn};

/// Arguments of the command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dpg-bench report results/sd15 --out reports/sd15
  dpg-bench report results/sd15 results/ella-sd15 --out reports/ella
  dpg-bench report results/sd15 --out reports/one-file \\
      --inline --protocol reference
  dpg-bench report results/sd15 --out reports/sd15 --link-images
  dpg-bench report results/sd15 results/ella-sd15 --out reports/paper \\
      --intervals --both-protocols

The first run is the one that the others are compared with. All runs must be about one benchmark.

Exit status: 0 done, 2 error, 3 done, but a run's score is withheld because images or answers are missing, or too many \
answers are neither yes nor no.")]
pub(crate) struct Args {
    /// Run directories
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Folder of the report
    #[arg(short, long, alias = "output", alias = "output-dir", value_name = "DIR")]
    out: PathBuf,
    /// Whose answers the numbers are made of [default: those of each run's only judge]
    #[arg(short, long, value_name = "NAME")]
    judge: Option<String>,
    /// Rules of the numbers
    #[arg(long, value_enum, value_name = "NAME", default_value = "corrected")]
    protocol: ProtocolName,
    /// Put the thumbnails into the page, which is then one large file
    #[arg(long)]
    inline: bool,
    /// Link each thumbnail to the run's full image; the links hold as long as report and runs stay where
    /// they are to each other
    #[arg(long)]
    link_images: bool,
    /// Add the 95 % intervals to tables/paper.*: ± half of the width, or both ends where they are uneven
    #[arg(long)]
    intervals: bool,
    /// Both protocols in tables/paper.*: `reference` stands below `corrected`
    #[arg(long)]
    both_protocols: bool,
    /// Show a benchmark score even where images or answers are missing
    #[arg(long)]
    allow_incomplete: bool,
    /// Replace a report about other runs; a folder that is no report is kept as DIR.before
    #[arg(long)]
    force: bool,
    /// Where the benchmark is now, if it is not where the runs were made with it
    #[arg(long, value_name = "PATH")]
    benchmark: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it, in one sentence.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let options = ReportOptions {
        runs: args.runs.clone(),
        out: args.out.clone(),
        judge: args.judge.clone(),
        protocol: args.protocol.into(),
        inline: args.inline,
        link_images: args.link_images,
        paper: PaperOptions { intervals: args.intervals, both_protocols: args.both_protocols },
        allow_incomplete: args.allow_incomplete,
        force: args.force,
        benchmark: args.benchmark.clone(),
    };
    make(&options)
}

/// Makes the report, and says where it is.
///
/// # Errors
/// As [`report_to`].
pub(super) fn make(options: &ReportOptions) -> anyhow::Result<ExitStatus> {
    let Report { written, warnings, is_withheld } = report_to(options, &Console::default())?;
    warnings.iter().for_each(|warning| warn(warning));
    for reason in written.unreadable.iter().take(5) {
        warn(&format!("no thumbnail of {reason}"));
    }
    if let Some(more) = written.unreadable.len().checked_sub(5).filter(|more| *more > 0) {
        warn(&format!("and of {more} more images"));
    }
    if let Some(kept) = &written.kept {
        say(&format!("what stood there is now {}", kept.display()));
    }
    let megabytes = written.page_bytes as f64 / 1e6;
    say(&format!("the page is {megabytes:.1} MB; tables and charts stand beside it"));
    print(&written.page.display().to_string())?;
    Ok(if is_withheld { ExitStatus::Incomplete } else { ExitStatus::Done })
}
