//! In: a run's answers. Out: its figures on stdout, and its summary, long table, exported tables and
//! chart in the run directory. Nothing is judged again.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::aggregate::{NoProbability, Protocol, Summary};
use crate::benchmark::{Benchmark, Item};
use crate::reports::paper_table::{paper_latex, paper_table, published_line};
use crate::reports::terminal_table;
use crate::results::RunDirectory;
use crate::session::benchmarks::{benchmark_of_run, selected};
use crate::session::dropped::ToDrop;
use crate::session::scoring::{choose_judges, score_judges, score_without};
use crate::session::work::ensure_merged;

use crate::cli::output::console::say_report;
use crate::cli::output::exit_status::ExitStatus;
use crate::cli::output::print::{print, print_json, print_words, say};

/// Arguments of the command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dpg-bench score results/sd15
  dpg-bench score results/sd15 --judge endpoint --protocol reference
  dpg-bench score results/sd15 --judge mplug,blip-vqa
  dpg-bench score results/sd15 --json | jq .corrected.overall

Exit status: 0 done, 2 error, 3 a score is withheld because images or answers are missing, or too many \
answers are neither yes nor no.")]
pub(crate) struct Args {
    /// Run directory
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Whose answers, one judge or several (comma list) [default: those of the only judge]
    #[arg(short, long, value_name = "NAME,..", value_delimiter = ',')]
    judge: Vec<String>,
    /// Where the benchmark is now, if it is not where the run was made with it
    #[arg(long, value_name = "PATH")]
    benchmark: Option<PathBuf>,
    /// Leave out the questions that this file names (CSV: item, question), as `control` lists them; then nothing is
    /// written, and the run's own files stay those of all questions
    #[arg(long, value_name = "FILE")]
    drop_questions: Option<PathBuf>,
    #[command(flatten)]
    options: ScoreOptions,
}

/// How to score; shared with `run`.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct ScoreOptions {
    /// Whose answers; none named: those of the only judge. Set by the command, which has its own flag.
    #[arg(skip)]
    pub judges: Vec<String>,
    /// Show the numbers of one protocol only (all files hold all)
    #[arg(long, value_enum, value_name = "NAME")]
    pub protocol: Option<ProtocolName>,
    /// Print the benchmark score even where images or answers are missing, or neither yes nor no
    #[arg(long)]
    pub allow_incomplete: bool,
    /// Wider table (120 columns): before and after the dependency rule, all counts, whole category names
    #[arg(long, conflicts_with_all = ["json", "table"])]
    pub wide: bool,
    /// Print the summary as one JSON document instead of the table; of several judges, a list
    #[arg(long)]
    pub json: bool,
    /// Print this table instead; `paper` has one row a model [protocol: corrected]
    #[arg(long, value_enum, value_name = "NAME", conflicts_with = "json")]
    pub table: Option<TableName>,
    /// How the table of `--table` is written
    #[arg(long, value_enum, value_name = "NAME", default_value = "md", requires = "table")]
    pub format: TableFormat,
    /// Add the 95 % intervals to the table of `--table`: ± half of the width, or both ends where they are uneven
    #[arg(long, requires = "table")]
    pub intervals: bool,
    /// Both protocols in the table of `--table`: `reference` stands below `corrected`
    #[arg(long, requires = "table", conflicts_with = "protocol")]
    pub both_protocols: bool,
}

/// A table on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TableName {
    /// One row a model: overall and the broad categories
    Paper,
}

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum TableFormat {
    /// Markdown
    #[default]
    Md,
    /// LaTeX, needs the package booktabs
    Tex,
    /// Comma-separated values in full precision, with counts
    Csv,
}

/// A protocol on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ProtocolName {
    /// What the published script computes when run in one process, quirks included
    Reference,
    /// All questions about all images; a question counts as 0 where one above it does
    Corrected,
    /// As corrected, but a question counts with the judge's P(yes), times that of those above it
    Soft,
    /// The geometric mean of P(yes) of an image's questions (GenEval 2); no categories
    #[value(name = "soft_tifa_gm")]
    SoftTifaGm,
}

impl From<Protocol> for ProtocolName {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Reference => Self::Reference,
            Protocol::Corrected => Self::Corrected,
            Protocol::Soft => Self::Soft,
            Protocol::SoftTifaGm => Self::SoftTifaGm,
        }
    }
}

impl From<ProtocolName> for Protocol {
    fn from(name: ProtocolName) -> Self {
        match name {
            ProtocolName::Reference => Self::Reference,
            ProtocolName::Corrected => Self::Corrected,
            ProtocolName::Soft => Self::Soft,
            ProtocolName::SoftTifaGm => Self::SoftTifaGm,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it, in one sentence.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let run = RunDirectory::open(&args.run)?;
    ensure_merged(&run)?;
    let benchmark = benchmark_of_run(&run, args.benchmark.as_deref())?;
    let items = selected(&benchmark, &run)?;
    let options = ScoreOptions { judges: args.judge.clone(), ..args.options.clone() };
    let Some(file) = &args.drop_questions else {
        return execute(&run, &benchmark, &items, &options);
    };
    let dropped = ToDrop::read(file, &benchmark)?;
    let judges = choose_judges(&run, &options.judges)?;
    let allowed = options.allow_incomplete;
    let summaries = score_without(&run, &benchmark, &dropped, &judges, allowed)?;
    ensure_have(&summaries, options.protocol)?;
    show(&summaries, &options)?;
    if let Some(record) = summaries.iter().find_map(|summary| summary.dropped_questions.as_ref()) {
        say(&format!("{}; nothing is written", record.described()));
    }
    Ok(status(&summaries, options.protocol))
}

/// Scores `items` of a run by each judge asked for, writes what belongs into its directory and prints
/// the figures.
///
/// # Errors
/// A judge is not there or not the only one, or states no P(yes) where that is asked for, a journal is damaged, or the disk
/// said no.
pub(crate) fn execute(
    run: &RunDirectory,
    benchmark: &Benchmark,
    items: &[&Item],
    options: &ScoreOptions,
) -> anyhow::Result<ExitStatus> {
    let judges = choose_judges(run, &options.judges)?;
    let summaries = score_judges(run, benchmark, items, &judges, options.allow_incomplete)?;
    ensure_have(&summaries, options.protocol)?;
    show(&summaries, options)?;
    if !options.json && options.table.is_none() {
        for judge in &judges {
            say(&format!(
                "written: {} (and .csv, .md, .tex, .svg), {}",
                run.summary_path(judge)?.display(),
                run.scores_path(judge)?.display()
            ));
        }
        let silent = summaries.iter().filter(|summary| summary.soft.is_none());
        let silent: Vec<&str> = silent.map(|summary| summary.judge.name.as_str()).collect();
        if !silent.is_empty() && options.protocol.is_none() {
            let silent = silent.join(", ");
            say(&format!("no soft scores: the answers of {silent} state no P(yes)"));
        }
        say_report(
            run.path(),
            judges.first().filter(|_| run.judges().len() > 1).map(String::as_str),
        );
    }
    Ok(status(&summaries, options.protocol))
}

/// Prints the figures.
fn show(summaries: &[Summary], options: &ScoreOptions) -> anyhow::Result<ExitStatus> {
    match (options.json, summaries) {
        (false, several) if options.table.is_some() => print(&paper(several, options)?),
        (true, [only]) => print_json(only),
        (true, several) => print_json(&several),
        (false, several) => {
            let table = |summary: &Summary| {
                let line = published_line(summary).map(|line| line + "\n").unwrap_or_default();
                let asked = options.protocol.map(|name| vec![name.into()]);
                let protocols = asked.unwrap_or_else(|| summary.protocols());
                terminal_table(summary, &protocols, options.wide) + &line
            };
            let tables: Vec<String> = several.iter().map(table).collect();
            print_words(&tables.join("\n"))
        }
    }
}

/// That all summaries have the protocol named.
pub(super) fn ensure_have(
    summaries: &[Summary],
    protocol: Option<ProtocolName>,
) -> Result<(), NoProbability> {
    let Some(protocol) = protocol.map(Protocol::from) else { return Ok(()) };
    summaries.iter().try_for_each(|summary| summary.ensure_has(protocol))
}

/// Whether a score is withheld, under the protocol named or under either of yes and no, for the shell.
pub(super) fn status(summaries: &[Summary], protocol: Option<ProtocolName>) -> ExitStatus {
    let protocols = protocol.map_or(Protocol::ALL.to_vec(), |name| vec![name.into()]);
    let is_withheld = |summary: &Summary| {
        protocols.iter().any(|protocol| summary.protocol(*protocol).is_withheld())
    };
    if summaries.iter().any(is_withheld) { ExitStatus::Incomplete } else { ExitStatus::Done }
}

/// The table of a paper as text.
pub(super) fn paper(summaries: &[Summary], options: &ScoreOptions) -> anyhow::Result<String> {
    let protocols = match options.protocol {
        _ if options.both_protocols => vec![Protocol::Corrected, Protocol::Reference],
        name => vec![name.map_or(Protocol::Corrected, Protocol::from)],
    };
    let judges: BTreeSet<&str> = summaries.iter().map(|one| one.judge.name.as_str()).collect();
    let name = |summary: &Summary| {
        let model = summary.run.model.as_deref().unwrap_or("not stated");
        let name = match judges.len() {
            1 => model.to_owned(),
            _ => format!("{model}, {}", summary.judge.name),
        };
        match &summary.dropped_questions {
            Some(dropped) => format!("{name}, without {}", dropped.counted()),
            None => name,
        }
    };
    let rows: Vec<_> = summaries.iter().map(|summary| (name(summary), summary)).collect();
    let table = paper_table(&rows, &protocols, options.intervals);
    Ok(match options.format {
        TableFormat::Md => table.markdown(),
        TableFormat::Tex => paper_latex(&table),
        TableFormat::Csv => String::from_utf8(table.csv()?)?,
    })
}
