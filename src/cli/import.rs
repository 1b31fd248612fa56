//! In: a folder of pictures made elsewhere. Out: a run directory that holds them, and a report of what
//! was brought, what is missing and what was left alone. Reading names and pictures is left to
//! `generate`.

use std::path::PathBuf;

use super::exit_status::ExitStatus;
use super::progress::StageProgress;
use super::shared_args::{BenchmarkArgs, OutputArgs, SelectionArgs, open_benchmark};
use super::work::{Subject, open_whole};
use super::{print, print_json, say};
use crate::generate::import_images::{ImportPlan, ImportSummary, import_images, plan_import};
use crate::generate::import_layout::{ImportRequest, Layout};

/// Names shown of each kind of file; the rest are counted (and listed with --json).
const SHOWN_NAMES: usize = 5;

/// Arguments of `dpg-bench import`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
File names, with png, jpg, jpeg or webp:
  <item>/<k>.png    one folder per item
  <item>_<k>.png    one file per image
  <item>.png        a 2x2 grid: top-left, top-right, bottom-left, bottom-right

Examples:
  dpg-bench import --images grids --benchmark benchmark/dpg --out results/mymodel
  dpg-bench import --images out --map out/map.jsonl --resolution 1024 --out results/mymodel
    where a line of the map reads {\"item\": \"whoops31\", \"image\": 0, \"path\": \"a/b.png\"}

Exit status: 0 all images are there, 3 some are missing or broken, 2 nothing was imported.")]
pub struct Args {
    /// Folder of the pictures
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Run directory to put them in [default: results/<name of DIR>]
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    /// JSON Lines file that says which picture is which: item, image (from 0), path inside DIR
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,
    /// Side of each image in pixels; a picture that does not fit is refused [default: from the files]
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..))]
    resolution: Option<u32>,
    /// Images per item
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    images_per_item: u32,
    /// Whether file names count images from 0 or 1 [default: told from the numbers present]
    #[arg(long, value_name = "0|1", value_parser = clap::value_parser!(u32).range(0..=1))]
    first_index: Option<u32>,
    /// Name of the model that made the pictures, for tables
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    #[command(flatten)]
    benchmark: BenchmarkArgs,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs `dpg-bench import`.
///
/// # Errors
/// The benchmark or the pictures cannot be made out, or the run directory cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let benchmark = open_benchmark(&args.benchmark, false)?;
    let selection = args.selection.selection();
    let items = benchmark.select(&selection)?;
    let request = ImportRequest {
        folder: &args.images,
        map: args.map.as_deref(),
        images_per_item: args.images_per_item,
        first_index: args.first_index,
        resolution: args.resolution,
    };
    let plan = plan_import(&benchmark, &items, &request)?;
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from("results").join(&plan.folder));
    let subject = Subject::new(&benchmark, &selection, args.images_per_item)?;
    let (mut run, _lock) = open_whole(&out, &subject, "import")?;
    let summary = import_images(
        &mut run,
        &plan,
        args.model.as_deref(),
        &StageProgress::new("importing", None),
    )?;
    if args.output.json {
        print_json(&report(&plan, summary, &out))?;
    } else {
        print(&in_words(&plan, summary, &out))?;
        warn_about(&plan);
    }
    let complete = plan.missing.is_empty() && summary.failed == 0 && !summary.stopped;
    Ok(if complete { ExitStatus::Done } else { ExitStatus::Incomplete })
}

/// What `--json` prints.
#[derive(serde::Serialize)]
struct Report<'a> {
    run: String,
    layout: Layout,
    grid: bool,
    first_index: Option<u32>,
    imported: u64,
    already_there: u64,
    failed: u64,
    missing: &'a [(String, u32)],
    unknown_files: &'a [String],
    surplus_files: &'a [String],
    files_of_items_not_selected: usize,
}

fn report<'a>(plan: &'a ImportPlan, summary: ImportSummary, out: &std::path::Path) -> Report<'a> {
    Report {
        run: out.display().to_string(),
        layout: plan.files.layout,
        grid: plan.is_grid,
        first_index: plan.files.first_index,
        imported: summary.done,
        already_there: summary.already_done,
        failed: summary.failed,
        missing: &plan.missing,
        unknown_files: &plan.files.unknown,
        surplus_files: &plan.files.surplus,
        files_of_items_not_selected: plan.files.not_selected,
    }
}

fn in_words(plan: &ImportPlan, summary: ImportSummary, out: &std::path::Path) -> String {
    let layout = match (plan.files.layout, plan.files.first_index) {
        (Layout::Map, _) => "listed in the map".to_owned(),
        (Layout::OnePerItem, _) if plan.is_grid => "2x2 grids".to_owned(),
        (Layout::OnePerItem, _) => "one image per item".to_owned(),
        (_, first) => format!("one file per image, numbered from {}", first.unwrap_or_default()),
    };
    let mut text = format!(
        "{} images imported from {} files ({layout}) into {}",
        summary.done,
        plan.files.files.len(),
        out.display()
    );
    for (count, what) in [
        (summary.already_done, "already there"),
        (summary.failed, "failed"),
        (plan.missing.len() as u64, "missing"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text
}

fn warn_about(plan: &ImportPlan) {
    let missing: Vec<String> =
        plan.missing.iter().map(|(item, image)| format!("image {image} of {item}")).collect();
    for (names, what) in [
        (&missing, "images are missing"),
        (&plan.files.unknown, "files belong to no item and were left alone"),
        (&plan.files.surplus, "files are images beyond --images-per-item and were left alone"),
    ] {
        if names.is_empty() {
            continue;
        }
        let more = if names.len() > SHOWN_NAMES { ", ..." } else { "" };
        let shown: Vec<&str> = names.iter().take(SHOWN_NAMES).map(String::as_str).collect();
        say(&format!("warning: {} {what}: {}{more}", names.len(), shown.join(", ")));
    }
    if plan.files.not_selected > 0 {
        say(&format!("{} files belong to items that are not selected", plan.files.not_selected));
    }
}
