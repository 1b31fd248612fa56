//! In: one or more runs over one benchmark. Out: a folder with a page, tables and charts about them. The
//! runs are only read.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use crate::aggregate::{Protocol, Summary, SummaryInput};
use crate::benchmark::{Benchmark, Item};
use crate::reports::address::folder_address;
use crate::reports::report_folder::{WriteOptions, write_report};
use crate::reports::report_input::{JudgedRun, ReportInput, ReportRun};
use crate::reports::thumbnails::Picture;
use crate::results::{AnswerRecord, ImageRecord, NewestAnswers, RunDirectory, Settings};
use crate::score::score_run;
use crate::score::score_run::in_journal_order;

use super::exit_status::ExitStatus;
use super::output::{print, say};
use super::score::{ProtocolName, check_pictures, choose_judges, judge_identity, run_identity};
use super::shared_args::{benchmark_of_run, selected};
use super::work::ensure_merged;

/// Arguments of the command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dpg-bench report results/sd15 --out reports/sd15
  dpg-bench report results/sd15 results/ella-sd15 --out reports/ella
  dpg-bench report results/sd15 --out reports/one-file --inline --protocol reference
  dpg-bench report results/sd15 --out reports/sd15 --link-images

The first run is the one that the others are compared with. All runs must be about one benchmark.

Exit status: 0 done, 2 could not, 3 done, but a run's score is withheld because images or answers are missing.")]
pub struct Args {
    /// Run directories
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Folder of the report
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Whose answers the figures are made of [default: those of each run's only judge]
    #[arg(long, value_name = "NAME")]
    judge: Option<String>,
    /// Rules of the figures
    #[arg(long, value_enum, value_name = "NAME", default_value = "corrected")]
    protocol: ProtocolName,
    /// Put the thumbnails into the page, which is then one large file
    #[arg(long)]
    inline: bool,
    /// Link each thumbnail to the run's full picture; the links hold as long as report and runs stay where
    /// they are to each other
    #[arg(long)]
    link_images: bool,
    /// Show a benchmark score even where images or answers are missing
    #[arg(long)]
    allow_incomplete: bool,
    /// Replace a folder that is no report; it is kept as DIR.before
    #[arg(long)]
    force: bool,
    /// Where the benchmark is now, if it is not where the runs were made with it
    #[arg(long, value_name = "PATH")]
    benchmark: Option<PathBuf>,
}

/// A run as it is on disk.
struct Loaded {
    name: String,
    run: RunDirectory,
    images: Vec<ImageRecord>,
    /// The judge of the figures first.
    judges: Vec<(String, Vec<AnswerRecord>)>,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it, in one sentence.
pub fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let loaded = args
        .runs
        .iter()
        .enumerate()
        .map(|(place, path)| load(path, name_of(&args.runs, place), args.judge.as_deref()))
        .collect::<anyhow::Result<Vec<Loaded>>>()?;
    let benchmark = one_benchmark(&loaded, args.benchmark.as_deref())?;
    let answers = loaded
        .iter()
        .map(|loaded| {
            let merge = |(_, records): &'_ (_, Vec<AnswerRecord>)| -> anyhow::Result<()> {
                check_pictures(&loaded.images, &NewestAnswers::merge(records)?)
            };
            loaded.judges.iter().take(1).try_for_each(merge)?;
            let merged = loaded.judges.iter().map(|(_, records)| NewestAnswers::merge(records));
            Ok(merged.collect::<Result<Vec<_>, _>>()?)
        })
        .collect::<anyhow::Result<Vec<Vec<NewestAnswers<'_>>>>>()?;

    let protocol = Protocol::from(args.protocol);
    let mut runs = Vec::new();
    let mut pictures = Vec::new();
    let mut in_any = vec![false; benchmark.items.len()];
    for (place, (loaded, answers)) in loaded.iter().zip(&answers).enumerate() {
        let items = selected(&benchmark, &loaded.run)?;
        for (number, item) in benchmark.items.iter().enumerate() {
            in_any[number] |= items.iter().any(|own| std::ptr::eq(*own, item));
        }
        pictures.extend(pictures_of(loaded, place, &items));
        runs.push(report_run(loaded, answers, &items, &benchmark, protocol, args)?);
    }
    let items = benchmark.items.iter().zip(&in_any).filter(|(_, is_in)| **is_in);
    let input = ReportInput { protocol, items: items.map(|(item, _)| item).collect(), runs };
    let warnings = warnings(&input);
    let options = WriteOptions { inline: args.inline, force: args.force };
    let written = write_report(&input, &pictures, &warnings, &args.out, options)?;

    for warning in &warnings {
        say(&format!("warning: {warning}"));
    }
    for reason in written.unreadable.iter().take(5) {
        say(&format!("warning: no thumbnail of {reason}"));
    }
    if let Some(more) = written.unreadable.len().checked_sub(5).filter(|more| *more > 0) {
        say(&format!("warning: and of {more} more pictures"));
    }
    if let Some(kept) = &written.kept {
        say(&format!("what stood there is now {}", kept.display()));
    }
    let megabytes = written.page_bytes as f64 / 1e6;
    say(&format!("the page is {megabytes:.1} MB; tables and charts stand beside it"));
    print(&written.page.display().to_string())?;
    let is_withheld = |run: &ReportRun<'_>| input.figures(run).is_withheld();
    Ok(if input.runs.iter().any(is_withheld) { ExitStatus::Incomplete } else { ExitStatus::Done })
}

/// The folder's name; with the number of its place where another run's folder is called so too.
fn name_of(runs: &[PathBuf], place: usize) -> String {
    let name = |path: &PathBuf| {
        let whole = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let last = whole.components().next_back().map(|part| part.as_os_str().to_owned());
        last.unwrap_or_default().to_string_lossy().into_owned()
    };
    let own = name(&runs[place]);
    let is_shared = runs.iter().filter(|path| name(path) == own).count() > 1;
    if is_shared { format!("{own} ({})", place + 1) } else { own }
}

fn load(path: &Path, name: String, judge: Option<&str>) -> anyhow::Result<Loaded> {
    let run = RunDirectory::open(path)?;
    ensure_merged(&run)?;
    let named: Vec<String> = judge.map(str::to_owned).into_iter().collect();
    let judges = choose_judges(&run, &named)?;
    let [chosen] = judges.as_slice() else { bail!("{}: name one judge", path.display()) };
    let mut judges = vec![(chosen.clone(), run.read_answers(chosen)?)];
    for other in run.judges().into_iter().filter(|other| other != chosen) {
        let records = run.read_answers(&other)?;
        judges.push((other, records));
    }
    let images = run.read_images()?;
    Ok(Loaded { name, run, images, judges })
}

fn one_benchmark(loaded: &[Loaded], override_path: Option<&Path>) -> anyhow::Result<Benchmark> {
    let first = &loaded[0].run;
    for other in loaded {
        ensure!(
            other.run.manifest().benchmark.digest == first.manifest().benchmark.digest,
            "{} and {} are about different benchmarks; make a report of each",
            first.path().display(),
            other.run.path().display()
        );
    }
    benchmark_of_run(first, override_path)
}

fn pictures_of(loaded: &Loaded, place: usize, items: &[&Item]) -> Vec<Picture> {
    let mut there: std::collections::HashMap<(&str, u32), bool> = Default::default();
    for record in &loaded.images {
        // A later line of a journal replaces an earlier one.
        there.insert((&record.item, record.image), record.is_done());
    }
    let mut pictures = Vec::new();
    for item in items {
        for image in 0..loaded.run.manifest().images_per_item {
            if there.get(&(item.id.as_str(), image)).copied().unwrap_or_default() {
                let path = loaded.run.image_path(&item.id, image);
                pictures.push(Picture { run: place, item: item.id.clone(), image, path });
            }
        }
    }
    pictures
}

fn report_run<'a>(
    loaded: &'a Loaded,
    answers: &'a [NewestAnswers<'a>],
    items: &[&'a Item],
    benchmark: &'a Benchmark,
    protocol: Protocol,
    args: &Args,
) -> anyhow::Result<ReportRun<'a>> {
    let per_item = loaded.run.manifest().images_per_item;
    let score = |place: usize, protocol: Protocol| {
        // As `score` does: the reference script adds up in the order of its log.
        let in_log_order = protocol == Protocol::Reference && loaded.images.is_empty();
        let order = match in_log_order {
            true => in_journal_order(items, &loaded.judges[place].1),
            false => items.to_vec(),
        };
        score_run(&order, &answers[place], per_item, protocol)
    };
    let summary = Summary::new(SummaryInput {
        run: run_identity(&loaded.run, benchmark),
        judge: judge_identity(&loaded.run, &loaded.judges[0].0),
        items,
        images: &loaded.images,
        answers: &answers[0],
        reference: &score(0, Protocol::Reference),
        corrected: &score(0, Protocol::Corrected),
        allow_incomplete: args.allow_incomplete,
    });
    let judges = loaded.judges.iter().zip(answers).enumerate();
    let judges = judges.map(|(place, ((name, _), answers))| {
        JudgedRun::new(name.clone(), answers, score(place, protocol))
    });
    Ok(ReportRun {
        name: loaded.name.clone(),
        settings: settings(loaded, &summary)?,
        pictures: if args.link_images {
            Some(address_of_pictures(&loaded.run, &args.out)?)
        } else {
            None
        },
        judges: judges.collect(),
        summary,
    })
}

/// Where the run's pictures are, seen from the report. Links are resolved first: a browser takes `..` off the
/// address as it reads.
fn address_of_pictures(run: &RunDirectory, out: &Path) -> anyhow::Result<String> {
    let mut there = std::path::absolute(out)?;
    // The report may still be to be made, with folders above it.
    let mut missing = Vec::new();
    let whole = loop {
        match (there.canonicalize(), there.file_name()) {
            (Ok(whole), _) => {
                break missing.iter().rev().fold(whole, |path: PathBuf, part| path.join(part));
            }
            (Err(_), Some(name)) => missing.push(name.to_owned()),
            (Err(error), None) => {
                return Err(error).with_context(|| format!("cannot find {}", out.display()));
            }
        }
        there.pop();
    };
    let pictures = run.path().canonicalize()?.join("images");
    folder_address(&whole, &pictures).with_context(|| {
        format!(
            "no address leads from {} to {}; put the report on the same drive, or leave out --link-images",
            out.display(),
            pictures.display()
        )
    })
}

/// What can make runs differ, by where it was set. No path: where a benchmark lies decides nothing.
fn settings(loaded: &Loaded, summary: &Summary) -> anyhow::Result<Settings> {
    let manifest = loaded.run.manifest();
    let mut settings = Settings::new();
    settings.insert("benchmark digest".into(), summary.run.benchmark.digest.clone().into());
    settings.insert("images per item".into(), manifest.images_per_item.into());
    settings.insert("selection".into(), serde_json::to_value(&manifest.selection)?);
    settings.insert("generation".into(), serde_json::to_value(&summary.run.generation)?);
    settings.insert("judge".into(), serde_json::to_value(&summary.judge.settings)?);
    settings.insert("judge name".into(), summary.judge.name.clone().into());
    settings.insert("program".into(), manifest.tool.clone().into());
    Ok(settings)
}

/// What makes the runs' figures hard to compare.
fn warnings(input: &ReportInput<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    let first = &input.runs[0].summary;
    let differ = |what: &dyn Fn(&Summary) -> bool| {
        let others = input.runs.iter().filter(|run| what(&run.summary));
        others.map(|run| run.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let base = &input.runs[0].name;
    let mut warn = |names: String, what: &str| {
        if !names.is_empty() {
            warnings.push(format!("{names} and {base}: {what}"));
        }
    };
    warn(
        differ(&|summary| summary.judge != first.judge),
        "different judges, or one judge set differently; their figures do not tell model from judge",
    );
    warn(
        differ(&|summary| summary.run.selection != first.run.selection),
        "different selections of items; only the differences are taken over shared ones",
    );
    warn(
        differ(&|summary| summary.run.images_per_item != first.run.images_per_item),
        "different numbers of images per item",
    );
    for run in &input.runs {
        if let Some(gap) = &input.figures(run).gap {
            warnings.push(format!("{}: {gap}", run.name));
        }
    }
    warnings
}
