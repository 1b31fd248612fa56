//! In: runs or baseline files. Out: how each differs from the first, with intervals and p-values.

use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};

use crate::aggregate::readable::Withheld;
use crate::cli::args::compared::ComparedArgs;
use crate::cli::output::exit_status::ExitStatus;
use crate::cli::output::prefixed_files::PrefixedFiles;
use crate::cli::output::print::{print, print_json, print_words, warn};
use crate::cli::output::published::published_table;
use crate::compare::{Comparison, Labelled, compare};
use crate::reports::{
    comparison_csv, comparison_markdown, comparison_terminal, corrected_comparison_text,
};
use crate::results::RunDirectory;
use crate::results::replaceable::Standing;
use crate::session::audit_correction::{ComparedAudits, compare_audits};

/// Items shown that lost and that won most, unless the user says otherwise.
const SWINGS: usize = 10;

/// Arguments of the command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dpg-bench compare results/sd15 results/ella-sd15
  dpg-bench compare results/sd15 results/ella-sd15 results/sdxl \\
      --out reports/comparison
  dpg-bench compare baseline.json results/ella-sd15 --json | jq .[0]
  dpg-bench compare results/ella-sd15 --published
  dpg-bench compare results/sd15 results/ella-sd15 --audit

Differences are other - base, over the items that both runs have; the first run is the base.")]
pub(crate) struct Args {
    /// Run directories or baseline files; the first is the base
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    #[command(flatten)]
    compared: ComparedArgs,
    /// Lay the runs' benchmark scores (protocol `reference`) beside published ones
    #[arg(long)]
    published: bool,
    /// Compare the scores that people's labels correct: those of this audit of both runs
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "audit", conflicts_with_all = [
        "published", "out", "protocol", "judge", "drop_questions", "draws", "statistics_seed", "swings"
    ])]
    audit: Option<String>,
    /// Items shown that lost and that won most
    #[arg(long, default_value_t = SWINGS, value_name = "N")]
    swings: usize,
    /// Write PREFIX.csv, PREFIX.md and PREFIX.json as well
    #[arg(short, long, alias = "output", alias = "output-dir", value_name = "PREFIX")]
    out: Option<PathBuf>,
    /// Replace files of --out that are about other runs, or no comparison
    #[arg(long, requires = "out")]
    force: bool,
    /// Print one JSON document on stdout instead of tables
    #[arg(long)]
    json: bool,
}

impl Args {
    /// The comparison of `runs` with the first of them, in files that begin with `out` too.
    pub(super) fn of(runs: Vec<PathBuf>, compared: ComparedArgs, out: PathBuf) -> Self {
        let (published, audit, swings, json) = (false, None, SWINGS, false);
        Self { runs, compared, published, audit, swings, out: Some(out), force: true, json }
    }
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it, in one sentence.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let [base, others @ ..] = args.runs.as_slice() else { bail!("name the runs to compare") };
    ensure!(
        !others.is_empty() || args.published,
        "one run alone has nothing to be compared with; name another, or add --published"
    );
    if args.published {
        ensure!(!args.json, "--published prints a table only; leave out --json");
        print(&published_table(&args.runs, &args.compared)?)?;
    }
    if others.is_empty() {
        return Ok(ExitStatus::Done);
    }
    if let Some(audit) = &args.audit {
        return compare_labelled(args, audit);
    }
    let files = args.out.as_deref().map(|prefix| {
        let (command, endings, force) = ("compare", &["csv", "md", "json"], args.force);
        PrefixedFiles { command, prefix, endings, force }
    });
    if let Some(files) = files {
        files.check(|bytes| standing(bytes, &args.runs))?;
    }
    let options = args.compared.options();
    let (base, soft_base) = (args.compared.load(base)?, load_soft(args, base)?);
    let mut comparisons: Vec<Comparison> = Vec::new();
    for path in others {
        let other = args.compared.load(path)?;
        let mut found = compare(&base, &other, &options)?;
        if !soft_base.is_empty() {
            let soft_other = load_soft(args, path)?;
            found.add_soft([&base, &other], [&soft_base, &soft_other], &options);
        }
        comparisons.push(found);
    }
    if args.json {
        print_json(&comparisons)?;
    } else {
        let tables: Vec<String> =
            comparisons.iter().map(|found| comparison_terminal(found, args.swings)).collect();
        print_words(&tables.join("\n"))?;
    }
    if let Some(files) = files {
        let markdown: Vec<String> =
            comparisons.iter().map(|found| comparison_markdown(found, args.swings)).collect();
        let mut json = serde_json::to_vec_pretty(&comparisons)?;
        json.push(b'\n');
        files.write([comparison_csv(&comparisons)?, markdown.join("\n").into_bytes(), json])?;
    }
    let complete = comparisons.iter().all(|found| found.base.complete && found.other.complete);
    Ok(if complete { ExitStatus::Done } else { ExitStatus::Incomplete })
}

/// Prints the scores of the audit `name` of all runs, corrected by their labels, less those of the first run.
fn compare_labelled(args: &Args, name: &str) -> anyhow::Result<ExitStatus> {
    let [base, others @ ..] = args.runs.as_slice() else { bail!("name the runs to compare") };
    let benchmark = args.compared.benchmark.as_deref();
    let allowed = args.compared.options().allowed;
    let base_run = RunDirectory::open(base)?;
    let mut compared = Vec::new();
    for path in others {
        let other = RunDirectory::open(path)?;
        compared.push(compare_audits([&base_run, &other], name, benchmark, &allowed)?);
    }
    if args.json {
        print_json(&compared)?;
    } else {
        let text = |one: &ComparedAudits| {
            let ComparedAudits { base, other, warnings, found, .. } = one;
            corrected_comparison_text([base, other], found, warnings)
        };
        print_words(&compared.iter().map(text).collect::<Vec<_>>().join("\n"))?;
    }
    let complete = compared.iter().all(|one| one.complete);
    Ok(if complete { ExitStatus::Done } else { ExitStatus::Incomplete })
}

/// The run at `path` under the protocols of P(yes), if there are such scores; where they are withheld, it is told.
fn load_soft(args: &Args, path: &Path) -> anyhow::Result<Vec<Labelled>> {
    match args.compared.load_soft(path) {
        Err(error) if error.is::<Withheld>() => {
            warn(&error.to_string());
            Ok(Vec::new())
        }
        loaded => loaded,
    }
}

/// What the bytes of a JSON document are beside a new comparison of `runs`, the base first.
fn standing(bytes: &[u8], runs: &[PathBuf]) -> Standing {
    let there: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    let label = |side: &serde_json::Value| side["label"].as_str().map(PathBuf::from);
    let found = there.as_array().map(Vec::as_slice).unwrap_or_default();
    let base = found.first().map(|first| label(&first["base"]));
    let others = found.iter().map(|one| label(&one["other"]));
    let Some(named) = base.into_iter().chain(others).collect::<Option<Vec<PathBuf>>>() else {
        return Standing::Foreign;
    };
    match named.as_slice() {
        [] | [_] => Standing::Foreign,
        named if named == runs => Standing::Same,
        named => {
            let named: Vec<String> = named.iter().map(|run| run.display().to_string()).collect();
            Standing::Other(format!("the comparison of {}", named.join(", ")))
        }
    }
}
