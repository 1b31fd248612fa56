//! In: a folder of pictures made elsewhere. Out: a run directory that holds them, and a report of what
//! was brought, what is missing and what was left alone. Reading names and pictures is left to
//! `generate`.

use std::path::{Path, PathBuf};

use crate::benchmark::Item;
use crate::cli::args::shared::{BenchmarkArgs, OutputArgs, SelectionArgs, open_benchmark};
use crate::cli::interrupt;
use crate::cli::output::console::say_work;
use crate::cli::output::exit_status::ExitStatus;
use crate::cli::output::print::{print_json, print_words, say, warn};
use crate::cli::output::progress::StageProgress;
use crate::generate::import::images::{ImportPlan, ImportSummary, import_images, plan_import};
use crate::generate::import::layout::ImportRequest;
use crate::generate::import::names::Numbering;
use crate::generate::import::naming::Layout;
use crate::generate::import::sizes::TileSize;
use crate::generate::import::tiles::Tiling;
use crate::judge::catalog;
use crate::session::benchmarks::DEMO;
use crate::session::work::{Subject, open_whole};
use crate::wording::counted;

/// Names shown of each kind of file; the rest are counted (and listed with --json).
const SHOWN_NAMES: usize = 5;

/// As many ids as a command line that is to be copied may name.
const COPIED_NAMES: usize = 50;

/// The judge that reads the demo's images alone.
const DEMO_JUDGE: &str = "demo-judge";

/// Arguments of `dpg-bench import`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
File names, with png, jpg, jpeg or webp:
  <item>/<k>.png    one folder per item
  <item>_<k>.png    one file per image
  <item>.png        a 2x2 grid, row by row from the top left;
                    with --images-per-item 1 the image,
                    with 2 two beside each other
and <item>_<seed>.png, <item>/samples/<k>.png, <item>_grid.png, p<prompt>_s<k>.png: docs/importing.md

Examples:
  dpg-bench import --images grids --benchmark benchmark/dpg \\
      --out results/mymodel
  dpg-bench import --images rows --tiling 4x1 --out results/mymodel
  dpg-bench import --images out --map out/map.jsonl --resolution 1024 \\
      --out results/mymodel
    a line of the map: {\"item\": \"whoops31\", \"image\": 0, \"path\": \"a/b.png\"}

Exit status: 0 all images are there, 3 some are missing or broken, 2 nothing was imported.")]
pub(crate) struct Args {
    /// Folder of the images
    #[arg(long, value_name = "DIR", help_heading = "Images")]
    images: PathBuf,
    /// Run directory to put them in [default: results/<name of DIR>]
    #[arg(
        short,
        long,
        visible_alias = "output-dir",
        alias = "output",
        value_name = "RUN",
        help_heading = "Output"
    )]
    out: Option<PathBuf>,
    /// JSON Lines file that says which image is which: item, image (from 0), path inside DIR
    #[arg(long, value_name = "FILE", help_heading = "Images")]
    map: Option<PathBuf>,
    /// Side of each image in pixels; an image that does not fit is refused [default: from the files]
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Images")]
    resolution: Option<u32>,
    /// Images per item
    #[arg(short = 'n', long, aliases = ["num-images", "num-images-per-prompt"], value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000), help_heading = "Images")]
    images_per_item: u32,
    /// Whether file names count images from 0 or 1 [default: by the numbers present]
    #[arg(long, value_name = "0|1", value_parser = clap::value_parser!(u32).range(0..=1), help_heading = "Images")]
    first_index: Option<u32>,
    /// How the images lie in <item>.png, row by row from the top left [default: by the sizes]
    #[arg(long, value_name = "COLUMNSxROWS", help_heading = "Images")]
    tiling: Option<Tiling>,
    /// Pixels around and between the tiles, as torchvision's make_grid draws them (2)
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(0..=1024), help_heading = "Images")]
    tile_padding: Option<u32>,
    /// Name of the model that made the images, for tables
    #[arg(short, long, value_name = "NAME", help_heading = "Output")]
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
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let benchmark = open_benchmark(&args.benchmark, false)?;
    let selection = args.selection.selection();
    let items = benchmark.select(&selection)?;
    let request = ImportRequest {
        folder: &args.images,
        map: args.map.as_deref(),
        images_per_item: args.images_per_item,
        first_index: args.first_index,
        resolution: args.resolution,
        tiling: args.tiling,
        tile_padding: args.tile_padding,
    };
    let plan = plan_import(&benchmark, &items, &request)?;
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from("results").join(&plan.folder));
    say_work(&benchmark, items.len(), args.images_per_item, args.model.as_deref(), &[], &out);
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
        print_words(&in_words(&plan, summary, &out))?;
        warn_about(&plan);
        say_items_without_images(&plan, &items, args.images_per_item);
        let run = interrupt::quoted(&out.to_string_lossy());
        let side = catalog::find(DEMO_JUDGE).ok().and_then(|row| row.only_side);
        let is_read = |size: &TileSize| side == Some(size.width) && side == Some(size.height);
        let is_demo =
            benchmark.source.path == Path::new(DEMO) && plan.tiles.sizes.iter().all(is_read);
        let judge = if is_demo { DEMO_JUDGE } else { "mplug" };
        say(&format!("next: dpg-bench judge {run} --judge {judge}"));
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
    /// Columns and rows of each file.
    tiling: Tiling,
    tile_padding: u32,
    sizes: &'a [TileSize],
    first_index: Option<u32>,
    /// The numbers in file names that stand for image 0, 1 and so on, where they are seeds.
    seeds: Option<&'a [u64]>,
    imported: u64,
    already_there: u64,
    failed: u64,
    missing: &'a [(String, u32)],
    unknown_files: &'a [String],
    surplus_files: &'a [String],
    files_of_items_not_selected: usize,
    sixteen_bit_files: &'a [String],
    sixteen_bit_grey_files: &'a [String],
    tiles_without_seams: bool,
}

fn report<'a>(plan: &'a ImportPlan, summary: ImportSummary, out: &Path) -> Report<'a> {
    Report {
        run: out.display().to_string(),
        layout: plan.files.layout,
        grid: plan.is_grid(),
        tiling: plan.tiles.tiling,
        tile_padding: plan.tiles.tiling.padding,
        sizes: &plan.tiles.sizes,
        first_index: plan.first_index(),
        seeds: match &plan.files.numbering {
            Numbering::Seeds(seeds) => Some(seeds),
            _ => None,
        },
        imported: summary.done,
        already_there: summary.already_done,
        failed: summary.failed,
        missing: &plan.missing,
        unknown_files: &plan.files.unknown,
        surplus_files: &plan.files.surplus,
        files_of_items_not_selected: plan.files.not_selected,
        sixteen_bit_files: &plan.sixteen_bit,
        sixteen_bit_grey_files: &plan.sixteen_bit_grey,
        tiles_without_seams: plan.tiles.without_seams,
    }
}

fn in_words(plan: &ImportPlan, summary: ImportSummary, out: &Path) -> String {
    let tiling = plan.tiles.tiling;
    let layout = match (plan.files.layout, &plan.files.numbering) {
        (Layout::Map, _) => "listed in the map".to_owned(),
        (_, Numbering::None) if plan.is_grid() => format!("{tiling} grids"),
        (_, Numbering::None) => "one image per item".to_owned(),
        (_, Numbering::From(first)) => format!("one file per image, numbered from {first}"),
        (_, Numbering::Seeds(seeds)) => {
            let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
            format!("one file per image, numbered by the seeds {}", seeds.join(", "))
        }
        (_, Numbering::SeedsOfItems) => {
            "one file per image, numbered by seeds of each item, smallest first".to_owned()
        }
    };
    let mut text = format!(
        "{} imported from {} ({layout}) into {}",
        counted(summary.done, "image"),
        counted(plan.files.files.len(), "file"),
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
    for line in size_lines(plan) {
        text.push_str(&format!("\n{line}"));
    }
    text
}

/// How large the images are and how many come from a file; sizes of few files are counted together.
fn size_lines(plan: &ImportPlan) -> Vec<String> {
    let mut sizes: Vec<&TileSize> = plan.tiles.sizes.iter().collect();
    sizes.sort_by_key(|size| std::cmp::Reverse(size.files));
    let line = |size: &&TileSize| {
        let TileSize { width, height, images_per_file, files } = size;
        if plan.is_grid() {
            let (tiling, padding) = (plan.tiles.tiling, plan.tiles.tiling.padding);
            let padding = if padding > 0 { format!(", padding {padding}") } else { String::new() };
            format!(
                "{} of {tiling} tiles of {width}x{height} pixels{padding}; {} of each",
                counted(*files, "file"),
                counted(*images_per_file, "image")
            )
        } else {
            format!("{} of {width}x{height} pixels, one image each", counted(*files, "file"))
        }
    };
    let mut lines: Vec<String> = sizes.iter().take(SHOWN_NAMES).map(line).collect();
    if let rest @ [_, ..] = sizes.get(SHOWN_NAMES..).unwrap_or_default() {
        let files: usize = rest.iter().map(|size| size.files).sum();
        lines.push(format!("{} of {} other sizes", counted(files, "file"), rest.len()));
    }
    lines
}

/// Says how to import a part of the benchmark, where most items have no image at all.
fn say_items_without_images(plan: &ImportPlan, items: &[&Item], images_per_item: u32) {
    let lacks = |item: &&&Item| {
        let lost = plan.missing.iter().filter(|(missing, _)| *missing == item.id).count();
        lost < images_per_item as usize
    };
    let there: Vec<&str> =
        items.iter().filter(lacks).map(|item| item.id.as_str()).take(items.len() / 2 + 1).collect();
    if 2 * there.len() < items.len() {
        // The line is there to be copied, unless it would be very long.
        let (count, more) = match there.len() {
            few if few <= COPIED_NAMES => (few, ""),
            _ => (SHOWN_NAMES, ",..."),
        };
        let shown = there[..count].join(",");
        say(&format!(
            "only {} of {} have images; to import these alone, give another --out and --items {shown}{more}",
            there.len(),
            counted(items.len(), "item")
        ));
    }
}

fn warn_about(plan: &ImportPlan) {
    let missing: Vec<String> =
        plan.missing.iter().map(|(item, image)| format!("image {image} of {item}")).collect();
    for (names, noun, what) in [
        (&missing, "missing image", ""),
        (&plan.files.unknown, "file", " of no item, left alone"),
        (&plan.files.surplus, "file", " with an image beyond --images-per-item, left alone"),
        (
            &plan.sixteen_bit,
            "file",
            " of 16 bits a sample, of which the upper 8 are taken, as Pillow does",
        ),
        (
            &plan.sixteen_bit_grey,
            "file",
            " of 16-bit grey, of which Pillow's convert(\"RGB\") makes white what is above 255",
        ),
    ] {
        if names.is_empty() {
            continue;
        }
        let more = if names.len() > SHOWN_NAMES { ", ..." } else { "" };
        let shown: Vec<&str> = names.iter().take(SHOWN_NAMES).map(String::as_str).collect();
        warn(&format!("{}{what}: {}{more}", counted(names.len(), noun), shown.join(", ")));
    }
    if plan.tiles.without_seams {
        let tiling = plan.tiles.tiling;
        warn(&format!(
            "nothing changes where the {tiling} grids were cut, as if the files were single images; if \
             they are, import them again into a new run with --images-per-item 1"
        ));
    }
    if plan.files.not_selected > 0 {
        say(&format!(
            "{} of items that are not selected",
            counted(plan.files.not_selected as u64, "file")
        ));
    }
}
