//! In: one or more runs over one benchmark. Out: a folder with a page, tables and charts about them. The
//! runs are only read.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::benchmarks::{benchmark_of_run, selected};
use super::listener::{Listener, Quiet, Stage};
use super::scoring::{Judged, choose_judge};
use super::work::ensure_merged;
use crate::aggregate::run_settings::run_settings;
use crate::aggregate::{Protocol, Summary};
use crate::benchmark::{Benchmark, Item};
use crate::reports::address::folder_address;
use crate::reports::paper_table::PaperOptions;
use crate::reports::report_folder::{WriteOptions, Written, write_report};
use crate::reports::report_input::{JudgedRun, ReportInput, ReportRun};
use crate::reports::thumbnails::Picture;
use crate::results::{AnswerRecord, ImageRecord, NewestAnswers, RunDirectory};

/// What a report is about, and where it goes.
#[derive(Debug, Clone)]
pub struct ReportOptions {
    /// Run directories; the first is the one that the others are compared with.
    pub runs: Vec<PathBuf>,
    /// Folder of the report.
    pub out: PathBuf,
    /// Whose answers the numbers are made of; where it is `None`, those of each run's only judge.
    pub judge: Option<String>,
    /// Rules of the numbers.
    pub protocol: Protocol,
    /// Put the thumbnails into the page.
    pub inline: bool,
    /// Link each thumbnail to the run's full image.
    pub link_images: bool,
    /// How the table of a paper is.
    pub paper: PaperOptions,
    /// Show a benchmark score even where images or answers are missing.
    pub allow_incomplete: bool,
    /// Replace a report about other runs, and a folder that is no report.
    pub force: bool,
    /// Where the benchmark is now, if it is not where the runs were made with it.
    pub benchmark: Option<PathBuf>,
}

impl ReportOptions {
    /// A report on `runs` at `out`.
    pub fn new(runs: impl IntoIterator<Item = PathBuf>, out: &Path) -> Self {
        Self {
            runs: runs.into_iter().collect(),
            out: out.to_owned(),
            judge: None,
            protocol: Protocol::Corrected,
            inline: false,
            link_images: false,
            paper: PaperOptions::default(),
            allow_incomplete: false,
            force: false,
            benchmark: None,
        }
    }
}

/// A report that was written.
#[derive(Debug)]
pub struct Report {
    /// Where, and what of it.
    pub written: Written,
    /// What makes the runs' numbers hard to compare.
    pub warnings: Vec<String>,
    /// Whether the benchmark score of a run is withheld, because images or answers are missing.
    pub is_withheld: bool,
}

/// A run as it is on disk.
struct Loaded {
    name: String,
    run: RunDirectory,
    images: Vec<ImageRecord>,
    /// The judge of the figures first.
    judges: Vec<(String, Vec<AnswerRecord>)>,
}

/// Makes a report.
///
/// # Errors
/// There is no run, one cannot be read, they are about several benchmarks, or the folder cannot be written.
///
/// ```no_run
/// use dpg_bench::{ReportOptions, report};
///
/// let runs = ["results/sd15", "results/ella-sd15"].map(Into::into);
/// println!("open {}", report(&ReportOptions::new(runs, "reports/ella".as_ref()))?.written.page.display());
/// # anyhow::Ok(())
/// ```
pub fn report(options: &ReportOptions) -> anyhow::Result<Report> {
    report_to(options, &Quiet)
}

/// As [`report`]; `listener` hears of the thumbnails, which are most of the work.
///
/// # Errors
/// As [`report`].
pub fn report_to(options: &ReportOptions, listener: &dyn Listener) -> anyhow::Result<Report> {
    ensure!(!options.runs.is_empty(), "a report needs a run");
    ensure!(
        options.protocol != Protocol::SoftTifaGm,
        "soft_tifa_gm has no categories, which a report is made of; a report under soft shows its score too"
    );
    let loaded = options
        .runs
        .iter()
        .enumerate()
        .map(|(place, path)| load(path, name_of(&options.runs, place), options.judge.as_deref()))
        .collect::<anyhow::Result<Vec<Loaded>>>()?;
    let benchmark = one_benchmark(&loaded, options.benchmark.as_deref())?;
    let answers = loaded
        .iter()
        .map(|loaded| {
            let merged = loaded.judges.iter().map(|(_, records)| NewestAnswers::merge(records));
            Ok(merged.collect::<Result<Vec<_>, _>>()?)
        })
        .collect::<anyhow::Result<Vec<Vec<NewestAnswers<'_>>>>>()?;

    let protocol = options.protocol;
    let mut runs = Vec::new();
    let mut pictures = Vec::new();
    let mut in_any = vec![false; benchmark.items.len()];
    for (place, (loaded, answers)) in loaded.iter().zip(&answers).enumerate() {
        let items = selected(&benchmark, &loaded.run)?;
        for (number, item) in benchmark.items.iter().enumerate() {
            in_any[number] |= items.iter().any(|own| std::ptr::eq(*own, item));
        }
        pictures.extend(pictures_of(loaded, place, &items));
        runs.push(report_run(loaded, answers, &items, &benchmark, protocol, options)?);
    }
    let items = benchmark.items.iter().zip(&in_any).filter(|(_, is_in)| **is_in);
    let input = ReportInput { protocol, items: items.map(|(item, _)| item).collect(), runs };
    let warnings = warnings(&input);
    let ReportOptions { inline, force, paper, .. } = *options;
    let write = WriteOptions { inline, force, paper };
    let observer = listener.observe(Stage::Thumbnails);
    let written =
        write_report(&input, &pictures, &warnings, &options.out, write, observer.as_ref())?;
    let is_withheld = input.runs.iter().any(|run| input.figures(run).is_withheld());
    Ok(Report { written, warnings, is_withheld })
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
    let chosen = &choose_judge(&run, judge)?;
    let mut judges = vec![(chosen.clone(), run.read_answers(chosen)?)];
    for other in run.judges_with_answers()?.into_iter().filter(|other| other != chosen) {
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
                let thumbnail = loaded.run.thumbnail_path(&item.id, image);
                let item = item.id.clone();
                pictures.push(Picture { run: place, item, image, path, thumbnail });
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
    options: &ReportOptions,
) -> anyhow::Result<ReportRun<'a>> {
    let per_item = loaded.run.manifest().images_per_item;
    let judged: Vec<Judged<'_>> = loaded
        .judges
        .iter()
        .zip(answers)
        .map(|((judge, records), answers)| Judged {
            judge,
            images: &loaded.images,
            records,
            answers,
        })
        .collect();
    let summary = judged[0].score(&loaded.run, benchmark, items, options.allow_incomplete)?.summary;
    summary.ensure_has(protocol)?;
    let judges = judged.iter().map(|one| {
        JudgedRun::new(one.judge.to_owned(), one.answers, one.under(protocol, items, per_item))
    });
    let mut settings = run_settings(&summary.run, &summary.judge);
    settings.insert("program".into(), loaded.run.manifest().tool.clone().into());
    Ok(ReportRun {
        name: loaded.name.clone(),
        settings,
        pictures: if options.link_images {
            Some(address_of_pictures(&loaded.run, &options.out)?)
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
        "different judges, or one judge set differently; the difference may come from the judge, not from the model",
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
        let note = run.summary.run.server_note().into_iter();
        warnings.extend(
            note.chain(run.summary.coverage.server_notes())
                .map(|note| format!("{}: {note}", run.name)),
        );
        if let Some(gap) = &input.figures(run).gap {
            warnings.push(format!("{}: {gap}", run.name));
        }
    }
    warnings
}
