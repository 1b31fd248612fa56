//! In: the `_detail.txt` that the reference script left, and the benchmark it was about. Out: a run
//! directory with the answers in it, ready for `score`, and a report on what the log does not tell.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::benchmark::Item;
use crate::cli::args::shared::{BenchmarkArgs, OutputArgs, SelectionArgs, open_benchmark};
use crate::cli::output::exit_status::ExitStatus;
use crate::cli::output::print::{print_json, print_words};
use crate::results::manifest::to_settings;
use crate::results::{
    AnswerOutcome, AnswerRecord, MixedImages, NewestAnswers, QuestionAnswer, RunDirectory,
};
use crate::score::log_line::{LogNoteKind, Pass, RecoveredLog};
use crate::score::reference_log::read_log;
use crate::score::reference_results::{ReferenceResults, read_results};
use crate::score::{ItemScore, Protocol, answer_grid, score_item};
use crate::session::work::{Subject, open_whole};
use crate::statistics::numpy_mean;
use crate::wording::counted;

/// The judge's name in the run: which one it was, the log does not say.
const JUDGE: &str = "reference-log";
/// Lines named per kind of note; `--json` names all.
const SHOWN_LINES: usize = 10;

/// Arguments of the command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dpg-bench import-log runs/x_results_detail.txt --benchmark dpg_bench.csv \\
      --out results/x
  dpg-bench import-log x_detail.txt --results x.txt \\
      --benchmark dpg_bench.csv --out results/x
  dpg-bench score results/x

Exit status: 0 all answers recovered; 1 the scores are not those of --results; 2 error; 3 some \
lines could not be read or assigned.")]
pub(crate) struct Args {
    /// The detail file
    #[arg(value_name = "DETAIL.txt")]
    detail: PathBuf,
    /// The script's result file: its scores are compared with the recovered ones
    #[arg(long, value_name = "RESULTS.txt")]
    results: Option<PathBuf>,
    /// Run directory to write
    #[arg(
        short,
        long,
        visible_alias = "output-dir",
        alias = "output",
        value_name = "RUN",
        help_heading = "Output"
    )]
    out: PathBuf,
    #[command(flatten)]
    benchmark: BenchmarkArgs,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What the command tells.
#[derive(Debug, Serialize)]
struct Report {
    lines: usize,
    items: usize,
    images_per_item: u32,
    /// `None` where the lines have no crop boxes: each file is one image.
    resolution: Option<u32>,
    answers: usize,
    interleaved: bool,
    /// `numpy.mean` of the scores of every pass that the script scored, in log order, in percent.
    overall: Option<f64>,
    passes_scored: usize,
    /// Passes that the script itself drops, and why.
    dropped: Vec<String>,
    notes: Vec<NoteGroup>,
    comparison: Option<Comparison>,
}

#[derive(Debug, Serialize)]
struct NoteGroup {
    note: &'static str,
    /// Lines from 1 and what they are about.
    lines: Vec<(Vec<usize>, String)>,
}

#[derive(Debug, Serialize)]
struct Comparison {
    overall_in_results: Option<f64>,
    overall_equal: Option<bool>,
    items_compared: usize,
    differences: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it, in one sentence.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let benchmark = open_benchmark(&args.benchmark, false)?;
    let selection = args.selection.selection();
    let items = benchmark.select(&selection)?;
    let text = read_text(&args.detail)?;
    let log = read_log(&text, &items);
    ensure!(
        !log.passes.is_empty(),
        "{}: none of its {} lines is about an item of {}; is it the right benchmark and a `_detail.txt`?",
        args.detail.display(),
        log.lines,
        benchmark.source.path.display()
    );
    let results = args.results.as_deref().map(read_text).transpose()?;
    let results = results.as_deref().map(|text| read_results(text, log.images));

    let passes = log.passes_that_count();
    let subject = Subject::new(&benchmark, &selection, log.images)?;
    let (mut run, _lock) = open_whole(&args.out, &subject, "import-log")?;
    store(&mut run, &args.detail, &text, &log, &passes)?;
    let report = report(&log, &passes, results.as_ref())?;
    if args.output.json {
        print_json(&report)?;
    } else {
        print_words(&describe(&report, run.path()))?;
    }
    let differs = report.comparison.as_ref().is_some_and(|comparison| {
        comparison.overall_equal == Some(false) || !comparison.differences.is_empty()
    });
    let lost = log
        .notes
        .iter()
        .any(|note| !matches!(note.kind, LogNoteKind::CutShort | LogNoteKind::Repeated));
    Ok(match (differs, lost) {
        (true, _) => ExitStatus::CheckFailed,
        (false, true) => ExitStatus::Incomplete,
        (false, false) => ExitStatus::Done,
    })
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    String::from_utf8(bytes).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count();
        anyhow::anyhow!("{}, line {line}: not UTF-8; convert the file first", path.display())
    })
}

/// Writes one record per image, in log order: `score` adds the items up in that order.
fn store(
    run: &mut RunDirectory,
    detail: &Path,
    text: &str,
    log: &RecoveredLog<'_>,
    passes: &[&Pass<'_>],
) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct LogSettings {
        log: String,
        log_sha256: String,
        resolution: Option<u32>,
    }
    let digest = Sha256::digest(text.as_bytes());
    let settings = to_settings(&LogSettings {
        log: detail.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        log_sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        resolution: (!log.whole_files).then_some(log.resolution),
    })?;
    let records: Vec<AnswerRecord> = passes.iter().flat_map(|pass| records_of(pass)).collect();
    let sitting = run.begin_judge(JUDGE, settings, "from a log")?;
    let (mut journal, there) = run.open_answers(JUDGE)?;
    ensure!(
        records.starts_with(&there),
        "{} already holds other answers of `{JUDGE}`; choose another --out",
        run.path().display()
    );
    for record in &records[there.len()..] {
        journal.append(record)?;
    }
    run.finish(&sitting, (records.len() - there.len()) as u64, 0)?;
    Ok(())
}

fn records_of(pass: &Pass<'_>) -> Vec<AnswerRecord> {
    let outcome = |answer: Option<&str>| match answer {
        Some(text) => {
            AnswerOutcome::Answered { text: text.to_owned(), raw: None, yes_probability: None }
        }
        None => AnswerOutcome::Failed {
            reason: "the line of the log can be read in several ways".to_owned(),
        },
    };
    (0..)
        .zip(&pass.answers)
        .filter(|(_, answers)| !answers.is_empty())
        .map(|(image, answers)| AnswerRecord {
            item: pass.item.id.clone(),
            image,
            pixels_sha256: None,
            answers: answers
                .iter()
                .map(|(question, answer)| QuestionAnswer::new(*question, outcome(*answer)))
                .collect(),
        })
        .collect()
}

fn report(
    log: &RecoveredLog<'_>,
    passes: &[&Pass<'_>],
    results: Option<&ReferenceResults<'_>>,
) -> Result<Report, MixedImages> {
    let mut scored: Vec<(&Item, f64)> = Vec::new();
    let mut dropped = Vec::new();
    for pass in &log.passes {
        match score_pass(pass, log.images)?.score {
            Ok(score) => scored.push((pass.item, score)),
            Err(reason) if reason.is_rule() => dropped.push(format!("{}: {reason}", pass.item.id)),
            Err(_) => {}
        }
    }
    let scores: Vec<f64> = scored.iter().map(|(_, score)| *score).collect();
    let overall = numpy_mean(&scores).map(|mean| mean * 100.0);
    let mut groups: BTreeMap<LogNoteKind, Vec<(Vec<usize>, String)>> = BTreeMap::new();
    for note in &log.notes {
        groups.entry(note.kind).or_default().push((note.lines.clone(), note.subject.clone()));
    }
    Ok(Report {
        lines: log.lines,
        items: passes.len(),
        images_per_item: log.images,
        resolution: (!log.whole_files).then_some(log.resolution),
        answers: passes.iter().map(|pass| pass.answers.iter().map(Vec::len).sum::<usize>()).sum(),
        interleaved: log.interleaved,
        overall,
        passes_scored: scored.len(),
        dropped,
        notes: groups
            .into_iter()
            .map(|(kind, lines)| NoteGroup { note: kind.describe(), lines })
            .collect(),
        comparison: results.map(|results| compare(&scored, overall, results)),
    })
}

/// The score that the script gave a pass.
fn score_pass(pass: &Pass<'_>, images: u32) -> Result<ItemScore, MixedImages> {
    let records = records_of(pass);
    let grid = answer_grid(pass.item, images, &NewestAnswers::merge(&records)?);
    Ok(score_item(&pass.item.graph, &grid, Protocol::Reference))
}

fn compare(
    scored: &[(&Item, f64)],
    overall: Option<f64>,
    results: &ReferenceResults<'_>,
) -> Comparison {
    let mut recovered: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (item, score) in scored {
        recovered.entry(&item.id).or_default().push(*score);
    }
    let mut stated: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (item, score) in &results.items {
        stated.entry(item).or_default().push(*score);
    }
    let mut differences = Vec::new();
    for (item, stated) in &stated {
        if recovered.get(item) != Some(stated) {
            let found = recovered.get(item).map_or_else(|| "nothing".into(), |f| format!("{f:?}"));
            differences.push(format!("{item}: {stated:?} in the results, {found} recovered"));
        }
    }
    for (item, found) in &recovered {
        if !stated.contains_key(item) {
            differences.push(format!("{item}: not in the results, {found:?} recovered"));
        }
    }
    let overall_equal = results.overall.map(|stated| overall == Some(stated));
    Comparison {
        overall_in_results: results.overall,
        overall_equal,
        items_compared: stated.len(),
        differences,
    }
}

fn describe(report: &Report, run: &Path) -> String {
    let mut text = format!(
        "{}, {}, {} each, {}, {} recovered into {}\n",
        counted(report.lines, "line"),
        counted(report.items, "item"),
        counted(report.images_per_item, "image"),
        match report.resolution {
            Some(resolution) => format!("crops of {resolution} px"),
            None => "no crop boxes, so each file is one image".to_owned(),
        },
        counted(report.answers, "answer"),
        run.display()
    );
    match report.overall {
        Some(overall) => text.push_str(&format!(
            "reference score of the {} passes that the script scores: {overall:?}\n",
            report.passes_scored
        )),
        None => text.push_str("the script scores none of the passes\n"),
    }
    for dropped in &report.dropped {
        text.push_str(&format!("dropped by the script: {dropped}\n"));
    }
    if report.interleaved {
        text.push_str(
            "several processes wrote this log: the script adds their items up rank by rank, an order \
             that the log does not tell, so its score may differ in the last digits\n",
        );
    }
    for group in &report.notes {
        text.push_str(&format!("{} ({}):\n", group.note, group.lines.len()));
        for (lines, subject) in group.lines.iter().take(SHOWN_LINES) {
            let numbers: Vec<String> = lines.iter().map(usize::to_string).collect();
            text.push_str(&format!("  line {}: {subject}\n", numbers.join(", ")));
        }
        if group.lines.len() > SHOWN_LINES {
            text.push_str("  and more; --json lists all\n");
        }
    }
    if let Some(comparison) = &report.comparison {
        text.push_str(&match (comparison.overall_in_results, comparison.overall_equal) {
            (Some(stated), Some(true)) => {
                format!("the result file's score is the same: {stated:?}\n")
            }
            (Some(stated), _) => format!("the result file's score is another: {stated:?}\n"),
            (None, _) => "the result file holds no benchmark score\n".to_owned(),
        });
        text.push_str(&format!(
            "{} item scores compared, {} differ\n",
            comparison.items_compared,
            comparison.differences.len()
        ));
        for difference in comparison.differences.iter().take(SHOWN_LINES) {
            text.push_str(&format!("  {difference}\n"));
        }
    }
    text
}
