//! In: a report's parts. Out: its folder: page, thumbnails, tables, charts. It is made beside its place
//! and renamed, so that there is either the old report or the new one; a folder that is no report is
//! not touched unless asked for, and then kept.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use rayon::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::aggregate::Protocol;
use crate::results::FORMAT_VERSION;
use crate::results::atomic_write::{name_path, sync_folder};
use crate::results::replaceable::InTheWay;

use super::chance_table::chance;
use super::differences::{Differences, differences};
use super::drawing::png_picture;
use super::drawing::svg_picture;
use super::figure_table::Level;
use super::gallery_data::gallery_data;
use super::html::{Page, page};
use super::paper_table::{PaperOptions, paper_latex, paper_table};
use super::report_input::{ReportInput, ReportRun};
use super::report_table::ReportTable;
use super::report_tables::{
    categories, category_names, difference_table, items, leaderboard, soft_scores,
};
use super::run_charts::{Chart, charts};
use super::settings_tables::{coverage, settings};
use super::thumbnails::{Picture, Thumbnails};
use super::unfinished_folder::{REPORT, UnfinishedFolder};
use crate::reports::drawing::MAX_RUNS;
use crate::stage_observer::StageObserver;

/// Tells a report of ours from any other folder.
const MARKER: &str = "report.json";

/// How a report is written.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WriteOptions {
    /// Whether thumbnails stand inside the page instead of beside it.
    pub inline: bool,
    /// Whether a report about other runs may be replaced, and a folder that is no report, which is kept as
    /// `<name>.before`.
    pub force: bool,
    /// How the table of a paper is.
    pub paper: PaperOptions,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The page.
    pub page: PathBuf,
    /// Its size in bytes.
    pub page_bytes: u64,
    /// Pictures that could not be read, each with the reason.
    pub unreadable: Vec<String>,
    /// Where the folder that stood there is now, if it was no report.
    pub kept: Option<PathBuf>,
}

/// Writes the report to `out`; `observer` hears of the thumbnails.
///
/// # Errors
/// More runs than can be told apart, something else stands at `out`, or the disk said no.
pub(crate) fn write_report(
    input: &ReportInput<'_>,
    pictures: &[Picture],
    warnings: &[String],
    out: &Path,
    options: WriteOptions,
    observer: &dyn StageObserver,
) -> anyhow::Result<Written> {
    ensure!(!input.runs.is_empty(), "a report needs a run");
    ensure!(
        input.runs.len() <= MAX_RUNS,
        "a report tells at most {MAX_RUNS} runs apart; make several reports"
    );
    let foreign = check_place(out, input, options.force)?;
    let parent = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(parent).map_err(|error| name_path(error, "make", parent))?;
    let building = UnfinishedFolder::make(parent)?;
    // A folder inside, which gets the usual permissions; the outer one is the owner's alone.
    let folder = building.path().join(REPORT);
    let (page_bytes, unreadable) = fill(input, pictures, warnings, &folder, options, observer)?;
    let kept = match foreign {
        true => Some(sibling(out, "before")),
        false => None,
    };
    let old = match &kept {
        Some(kept) => kept.clone(),
        None => building.path().join("old"),
    };
    if out.exists() {
        std::fs::rename(out, &old).map_err(|error| name_path(error, "move away", out))?;
    }
    std::fs::rename(&folder, out).map_err(|error| name_path(error, "put in place", out))?;
    sync_folder(parent)?;
    Ok(Written { page: out.join("index.html"), page_bytes, unreadable, kept })
}

/// Whether something that is no report stands at `out` and is to be moved away.
fn check_place(out: &Path, input: &ReportInput<'_>, force: bool) -> anyhow::Result<bool> {
    ensure!(
        out.file_name().is_some(),
        "{} cannot be a report: name a folder of its own",
        out.display()
    );
    if !out.exists() {
        return Ok(false);
    }
    ensure!(out.is_dir(), "{} is a file; name a folder with --out", out.display());
    let is_empty =
        std::fs::read_dir(out).map_err(|error| name_path(error, "read", out))?.next().is_none();
    if is_empty {
        return Ok(false);
    }
    if let Some(marker) = read_marker(out) {
        if !force && !is_about(&marker, input) {
            let (path, what) = (out.to_owned(), described(&marker));
            return Err(InTheWay::Other { path, what, flag: "--out" }.into());
        }
        return Ok(false);
    }
    if !force {
        bail!(
            "{} holds something that is no report of dpg-bench; name another --out, or say --force to \
             have it moved to {}",
            out.display(),
            sibling(out, "before").display()
        );
    }
    let before = sibling(out, "before");
    ensure!(!before.exists(), "{} is in the way; move it", before.display());
    Ok(true)
}

/// What a report says of itself; `None` for any other folder.
fn read_marker(folder: &Path) -> Option<Value> {
    let text = std::fs::read(folder.join(MARKER)).ok()?;
    let marker: Value = serde_json::from_slice(&text).ok()?;
    (marker["kind"] == "report").then_some(marker)
}

/// What a report says of itself: its runs by the names of their folders, and what they were made with.
fn marker(input: &ReportInput<'_>) -> Value {
    let runs: Vec<&str> = input.runs.iter().map(|run| run.name.as_str()).collect();
    let made_with: Vec<String> = input.runs.iter().map(made_with).collect();
    json!({
        "format_version": FORMAT_VERSION,
        "kind": "report",
        "protocol": input.protocol.name(),
        "runs": runs,
        "made_with": made_with,
    })
}

/// SHA-256 of the benchmark's digest and the settings of the model: runs of one name that differ in it are two runs.
fn made_with(run: &ReportRun<'_>) -> String {
    let identity = &run.summary.run;
    let text = json!([identity.benchmark.digest, identity.generation]).to_string();
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a report is about the runs of `input`, in whatever order.
fn is_about(there: &Value, input: &ReportInput<'_>) -> bool {
    let runs = |marker: &Value| {
        let names = marker["runs"].as_array().cloned().unwrap_or_default();
        // Reports of earlier versions have the names alone.
        let with = |place| there["made_with"].get(place).and(marker["made_with"].get(place));
        let of = |(place, name): (usize, Value)| format!("{name} {:?}", with(place));
        let mut runs: Vec<String> = names.into_iter().enumerate().map(of).collect();
        runs.sort();
        runs
    };
    runs(there) == runs(&marker(input))
}

/// A report in a sentence that refuses to replace it.
fn described(marker: &Value) -> String {
    let names = marker["runs"].as_array().into_iter().flatten().filter_map(Value::as_str);
    format!("a report about other runs ({})", names.collect::<Vec<_>>().join(", "))
}

fn sibling(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(ending);
    path.with_file_name(name)
}

/// Writes everything into `folder`. Returns the page's size and the unreadable pictures.
fn fill(
    input: &ReportInput<'_>,
    pictures: &[Picture],
    warnings: &[String],
    folder: &Path,
    options: WriteOptions,
    observer: &dyn StageObserver,
) -> anyhow::Result<(u64, Vec<String>)> {
    for part in ["tables", "charts"] {
        let path = folder.join(part);
        std::fs::create_dir_all(&path).map_err(|error| name_path(error, "make", &path))?;
    }
    // The thumbnails are most of the work, and the figures are in part one thread's.
    let (figures, thumbnails) = rayon::join(
        || figures(input, folder, options.paper),
        || Thumbnails::make(pictures, (!options.inline).then_some(folder), observer),
    );
    let (found, tables, charts) = figures?;
    let thumbnails = thumbnails?;
    let names = category_names(input, Level::L2);
    let gallery = serde_json::to_string(&gallery_data(input, &names, &thumbnails))
        .context("the gallery cannot be written as JSON")?;
    let html = page(&Page {
        input,
        differences: &found,
        tables: &tables,
        charts: &charts,
        gallery: &gallery,
        warnings,
    });
    put(&folder.join("index.html"), html.as_bytes())?;
    put(&folder.join(MARKER), format!("{:#}\n", marker(input)).as_bytes())?;
    Ok((html.len() as u64, thumbnails.unreadable))
}

/// What the table of a paper calls a run: its model, where no other run has that, else its folder.
fn paper_name(input: &ReportInput<'_>, run: &ReportRun<'_>) -> String {
    let model = run.summary.run.model.as_ref();
    let same = input.runs.iter().filter(|other| other.summary.run.model.as_ref() == model);
    model.filter(|_| same.count() == 1).unwrap_or(&run.name).clone()
}

/// Differences, tables and charts of a report.
type Figures = (Vec<Differences>, Vec<ReportTable>, Vec<Chart>);

/// Writes tables and charts into `folder`, and returns them.
fn figures(input: &ReportInput<'_>, folder: &Path, paper: PaperOptions) -> anyhow::Result<Figures> {
    let found = differences(input);
    let mut tables = vec![leaderboard(input), categories(input)];
    let beside = [soft_scores(input), chance(input)];
    tables.extend(beside.into_iter().filter(|table| !table.rows.is_empty()));
    tables.extend(found.iter().map(|found| difference_table(input, found)));
    tables.push(coverage(input));
    tables.extend(settings(input));
    tables.push(items(input));
    for table in &tables {
        write_table(folder, table)?;
    }
    let rows: Vec<_> =
        input.runs.iter().map(|run| (paper_name(input, run), &run.summary)).collect();
    let protocols: &[Protocol] = match paper.both_protocols {
        true => &[Protocol::Corrected, Protocol::Reference],
        false => &[input.protocol],
    };
    let paper = paper_table(&rows, protocols, paper.intervals);
    write_table(folder, &paper)?;
    put(&folder.join("tables").join("paper.tex"), paper_latex(&paper).as_bytes())?;
    let charts = charts(input, &found);
    charts.par_iter().try_for_each(|chart| {
        let path = folder.join("charts").join(&chart.name);
        let whole = chart.whole();
        put(&path.with_extension("svg"), svg_picture(&whole).as_bytes())?;
        put(&path.with_extension("png"), &png_picture(&whole)?)
    })?;
    Ok((found, tables, charts))
}

fn write_table(folder: &Path, table: &ReportTable) -> anyhow::Result<()> {
    let path = folder.join("tables").join(&table.name);
    put(&path.with_extension("csv"), &table.csv()?)?;
    if !table.rows.is_empty() {
        put(&path.with_extension("md"), table.markdown().as_bytes())?;
        put(&path.with_extension("tex"), table.latex().as_bytes())?;
    }
    Ok(())
}

/// Not synced one by one: the whole folder is renamed when it is done.
fn put(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(path, bytes).map_err(|error| name_path(error, "write", path).into())
}
