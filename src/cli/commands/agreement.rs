//! In: a run that several judges have answered about. Out: how far every two of them agree, on stdout
//! and as `agreement.json` and `.csv` in the run directory. Nothing is judged again.

use std::path::PathBuf;

use anyhow::{bail, ensure};

use crate::aggregate::{AgreementReport, JudgedSummary};
use crate::reports::{agreement_csv, agreement_text, ensembles_csv};
use crate::results::atomic_write::atomic_write;
use crate::results::{AnswerRecord, NewestAnswers, RunDirectory};
use crate::session::benchmarks::{benchmark_of_run, selected};
use crate::session::scoring::{Judged, answered_by, check_has_answered, run_identity};
use crate::session::work::ensure_merged;

use crate::cli::args::shared::OutputArgs;
use crate::cli::output::exit_status::ExitStatus;
use crate::cli::output::print::{print_json, print_words, say};

/// Arguments of the command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dpg-bench agreement results/sd15
  dpg-bench agreement results/sd15 --judges mplug,blip-vqa --worst 20
  dpg-bench agreement results/sd15 --json | jq '.pairs[0].l1'

For every two judges and each broad category: the share of equal answers with its counts, Cohen's \
kappa, and how often each said yes or no. Questions to which one of them said neither are counted \
and enter no number. The scores are those of `dpg-bench score`. Together the judges score by their \
majority (a tie is not yes) and, where all state P(yes), by its mean, over the questions that all answered.
Exit status: 0 done, 2 error, 3 two of the judges have no answered question in common.")]
pub(crate) struct Args {
    /// Run directory
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Which judges (comma list) [default: all that have answered]
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    judges: Vec<String>,
    /// How many items to list for each two judges, those with the most disagreements first
    #[arg(long, value_name = "N", default_value_t = 5)]
    worst: usize,
    /// Show a benchmark score even where images or answers are missing
    #[arg(long)]
    allow_incomplete: bool,
    /// Where the benchmark is now, if it is not where the run was made with it
    #[arg(long, value_name = "PATH")]
    benchmark: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
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
    let judges = choose_judges(&run, &args.judges)?;
    let images = run.read_images()?;
    let journals: Vec<Vec<AnswerRecord>> =
        judges.iter().map(|judge| run.read_answers(judge)).collect::<Result<_, _>>()?;
    let answers: Vec<NewestAnswers<'_>> =
        journals.iter().map(|records| NewestAnswers::merge(records)).collect::<Result<_, _>>()?;
    check_same_pictures(&judges, &answers)?;
    let mut summaries = Vec::new();
    for ((judge, records), answers) in judges.iter().zip(&journals).zip(&answers) {
        let judged = Judged { judge, images: &images, records, answers };
        let scored = judged.score(&run, &benchmark, &items, args.allow_incomplete)?;
        summaries.push(JudgedSummary {
            summary: scored.summary,
            scores: scored.protocols,
            answers,
        });
    }
    let report =
        AgreementReport::new(run_identity(&run, &benchmark), &summaries, &items, args.worst);

    let path = run.agreement_path();
    let mut json = serde_json::to_vec_pretty(&report)?;
    json.push(b'\n');
    atomic_write(&path.with_extension("csv"), &agreement_csv(&report)?)?;
    atomic_write(&run.ensembles_path(), &ensembles_csv(&report)?)?;
    atomic_write(&path, &json)?;
    if args.output.json {
        print_json(&report)?;
    } else {
        print_words(&agreement_text(&report))?;
        say(&format!("written: {} (and .csv), {}", path.display(), run.ensembles_path().display()));
    }
    let strangers = report.pairs.iter().any(|pair| pair.overall.answered == 0);
    Ok(if strangers { ExitStatus::Incomplete } else { ExitStatus::Done })
}

/// The judges to compare, in the order named.
fn choose_judges(run: &RunDirectory, named: &[String]) -> anyhow::Result<Vec<String>> {
    let path = run.path().display();
    let there = run.judges_with_answers()?;
    let mut judges: Vec<String> = Vec::new();
    for name in named {
        check_has_answered(run, name)?;
        ensure!(!judges.contains(name), "--judges names `{name}` twice");
        judges.push(name.clone());
    }
    if named.is_empty() {
        judges.clone_from(&there);
    }
    if judges.len() < 2 {
        let there = answered_by(&there);
        bail!(
            "{path}: two judges are needed to compare them; {there}; `dpg-bench judge` lets another \
             one answer"
        );
    }
    Ok(judges)
}

/// Two judges that looked at different pictures say nothing about each other.
fn check_same_pictures(judges: &[String], answers: &[NewestAnswers<'_>]) -> anyhow::Result<()> {
    for (index, (judge, own)) in judges.iter().zip(answers).enumerate() {
        for (other, others) in judges.iter().zip(answers).skip(index + 1) {
            // In order, so that the same error is always about the same image.
            let mut images: Vec<(&str, u32)> = own.images().collect();
            images.sort_unstable();
            for (item, image) in images {
                let picture = |answers: &NewestAnswers<'_>| {
                    answers.image(item, image)?.pixels_sha256().map(str::to_owned)
                };
                let same =
                    picture(own).zip(picture(others)).is_none_or(|(own, other)| own == other);
                ensure!(
                    same,
                    "{item}, image {image}: `{judge}` and `{other}` answered about different \
                     images; judge it anew under another name"
                );
            }
        }
    }
    Ok(())
}
