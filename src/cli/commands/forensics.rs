//! In: a pasted category table. Out: whether it can come from a complete run of the reference script
//! in one process, figure by figure, with the chance that a random table would pass too.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::forensics::known_counts::Counted;
use crate::forensics::{Finding, TableFinding, UnreadCell, examine, read_tables};

use crate::cli::args::shared::OutputArgs;
use crate::cli::output::exit_status::ExitStatus;
use crate::cli::output::print::{print_json, print_words};

/// Arguments of the command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dpg-bench forensics table.md
  echo 'Global 80.26 Other 73.91' | dpg-bench forensics -
  dpg-bench forensics runs/x_results.txt

Exit status: 0 every number that can be checked can be a count of a complete run; 1 one cannot; 2 \
there is no number that can be checked (Global, Other, count or text).")]
pub(crate) struct Args {
    /// Text with category numbers (`-`: standard input): lines such as `Global 80.26`, a CSV,
    /// Markdown or LaTeX table with a heading, or the summary that the reference script writes
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it, in one sentence.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let text = if args.file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
        text
    } else {
        std::fs::read_to_string(&args.file)
            .with_context(|| format!("cannot read {}", args.file.display()))?
    };
    let tables = read_tables(&text).with_context(|| format!("{}", args.file.display()))?;
    let findings: Vec<TableFinding> = tables.iter().map(examine).collect();
    if args.output.json {
        print_json(&findings)?;
    } else {
        print_words(&findings.iter().map(describe).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(if findings.iter().any(|finding| finding.consistent == Some(false)) {
        ExitStatus::CheckFailed
    } else if findings.iter().all(|finding| finding.consistent.is_none()) {
        ExitStatus::CouldNot
    } else {
        ExitStatus::Done
    })
}

fn describe(table: &TableFinding) -> String {
    let mut text = table.label.as_ref().map(|label| format!("{label}\n")).unwrap_or_default();
    for finding in &table.findings {
        text.push_str(&format!("  {}\n", describe_finding(finding)));
    }
    for UnreadCell { category, cell } in &table.unread {
        text.push_str(&format!("  {category}: not read: `{cell}` is no plain number\n"));
    }
    for contradiction in &table.contradictions {
        text.push_str(&format!("  {contradiction}\n"));
    }
    text.push_str(&match table.consistent {
        Some(true) => format!(
            "can come from a complete run in one process{} (a random table would pass with probability {})\n",
            match table.counted {
                Counted::ByTheScript => "",
                Counted::WholeFile => ", though not of the script as published: of one that reads all rows",
            },
            share(table.chance)
        ),
        Some(false) => "cannot come from a complete run of the reference script in one process: \
             pooled categories (several processes), another question file, or missing items\n"
            .to_owned(),
        None => "no figure can be checked: none is of a category\n".to_owned(),
    });
    text
}

fn describe_finding(finding: &Finding) -> String {
    let value = format!("{:.*}", finding.decimals.min(14) as usize, finding.percent);
    let mut text = format!("{} {value}: ", finding.category);
    match (finding.n, finding.k) {
        (Some(n), Some(k)) => text.push_str(&format!("is {k}/{n}")),
        (Some(n), None) => text.push_str(&format!("is no k/{n}")),
        (None, _) => text.push_str("a mean over items, no count over questions"),
    }
    if let (Some(chance), Some(true)) = (finding.chance, finding.holds) {
        text.push_str(&format!(" (a random figure with as many decimals: {})", share(chance)));
    }
    // A fraction with a small denominator says nothing: every count is a multiple of 1.
    if let Some((k, n)) = finding.fraction.filter(|(_, n)| *n > 1) {
        text.push_str(&format!(
            "; smallest fraction {k}/{n}, so {n} questions or a multiple of it"
        ));
    }
    text
}

/// A probability in percent, to two digits that count.
fn share(probability: f64) -> String {
    let percent = probability * 100.0;
    if percent >= 10.0 {
        format!("{percent:.0} %")
    } else if percent >= 0.01 {
        format!("{percent:.2} %")
    } else {
        format!("{percent:.1e} %")
    }
}
