//! In: runs, or the shards inside one. Out: one run that holds all of their work, and what is still missing.
//! The joining itself is in `results::merge`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use crate::benchmark::Item;
use crate::cli::args::shared::OutputArgs;
use crate::cli::output::exit_status::ExitStatus;
use crate::cli::output::print::{print_json, print_words, say};
use crate::results::merge::{Merged, Part, Purpose, merge};
use crate::results::progress::{Gathered, RunProgress, StageCount};
use crate::results::{RunDirectory, RunLock, Shard};
use crate::session::benchmarks::{all_selected, benchmark_of_run};
use crate::session::work::MERGING;
use crate::wording;

/// Arguments of the command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dpg-bench merge results/sd15
    joins the shards inside results/sd15
  dpg-bench merge fast/sd15 slow/sd15 --out results/sd15
    joins runs that were made in several places, and the shards inside them
  dpg-bench merge results/sd15 --remove-shards

It may be killed and given again, and given before all shards are done. Images are linked where the file \
system can, else copied. The result is that of one machine's run, byte for byte, but for manifest.json.

Exit status: 0 all images and answers are there, 2 error, 3 some are still missing.")]
pub(crate) struct Args {
    /// A run directory with shards, or several run directories
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Run directory to merge into [default: RUN, where there is only one]
    #[arg(short, long, alias = "output", alias = "output-dir", value_name = "RUN")]
    out: Option<PathBuf>,
    /// Remove the shards inside the merged run once nothing is missing
    #[arg(long)]
    remove_shards: bool,
    /// Merge also parts whose products were rounded otherwise (`--products`), or ran on machines of different abilities;
    /// manifest.json then names the products of each sitting
    #[arg(long)]
    allow_other_products: bool,
    /// Where the benchmark is now, if it is not where the runs were made with it
    #[arg(long, value_name = "PATH")]
    benchmark: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// What `--json` prints.
#[derive(serde::Serialize)]
struct Report {
    run: String,
    parts: usize,
    merged: Merged,
    progress: RunProgress,
    missing: Vec<String>,
    shards_removed: bool,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it, in one sentence.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let out = match (&args.out, args.runs.as_slice()) {
        (Some(out), _) => out,
        (None, [only]) => only,
        (None, _) => bail!("name the run directory to merge into with --out"),
    };
    let first = RunDirectory::open(&args.runs[0])?;
    let benchmark = benchmark_of_run(&first, args.benchmark.as_deref())?;
    let items = all_selected(&benchmark, &first)?;

    let _lock = RunLock::take(out, MERGING)?;
    let about = first.manifest();
    let is_fresh = !out.join("manifest.json").exists();
    let mut run = RunDirectory::open_or_create(
        out,
        about.benchmark.clone(),
        about.selection.clone(),
        about.images_per_item,
    )?;
    ensure!(
        run.shard().is_none(),
        "{} is a shard; name the run directory that it is in",
        out.display()
    );
    run.allow_other_products(args.allow_other_products);
    let parts = parts(&run, &args.runs)?;
    let ids: Vec<&str> = items.iter().map(|item| item.id.as_str()).collect();
    let merged = merge(&mut run, &parts, &ids, Purpose::MergeShards).inspect_err(|_| {
        // Nothing was merged: the directory must not be bound to what these parts are about.
        if is_fresh {
            let _ = std::fs::remove_file(out.join("manifest.json"));
        }
    })?;

    let per_item = run.manifest().images_per_item;
    let whole = Gathered { images: run.read_images()?, answers: answers_of(&run)? };
    let progress = RunProgress::of(&whole, &items, per_item)?;
    let missing = missing(&parts, &items, per_item, &progress)?;
    let is_complete = progress.is_complete();
    let shards_removed = args.remove_shards && is_complete;
    if shards_removed {
        remove_shards(&run)?;
    } else if args.remove_shards {
        say("the shards stay: images or answers are still missing");
    }
    let report = Report {
        run: out.display().to_string(),
        parts: parts.len(),
        merged,
        progress,
        missing,
        shards_removed,
    };
    if args.output.json {
        print_json(&report)?
    } else {
        print_words(&in_words(&report))?
    };
    Ok(if is_complete { ExitStatus::Done } else { ExitStatus::Incomplete })
}

/// Every directory to take from: the runs named and the shards inside them and inside the merged run.
fn parts(run: &RunDirectory, named: &[PathBuf]) -> anyhow::Result<Vec<Part>> {
    let place = |path: &Path| {
        path.canonicalize().with_context(|| format!("{} cannot be found", path.display()))
    };
    let own = place(run.path())?;
    let mut seen = BTreeSet::from([own.clone()]);
    let mut parts = Vec::new();
    let mut push = |name: String, run: RunDirectory| -> anyhow::Result<()> {
        if seen.insert(place(run.path())?) {
            parts.push(Part { name, run });
        }
        Ok(())
    };
    for shard in run.shards()? {
        push(folder_name(shard.path()), shard)?;
    }
    let mut names: BTreeMap<String, u32> = BTreeMap::new();
    for path in named {
        let part = RunDirectory::open(path)?;
        if place(path)? == own {
            continue;
        }
        let count = names.entry(folder_name(path)).or_default();
        *count += 1;
        let name = match count {
            1 => folder_name(path),
            number => format!("{} ({number})", folder_name(path)),
        };
        let shards = part.shards()?;
        push(name.clone(), part)?;
        for shard in shards {
            push(format!("{name}/{}", folder_name(shard.path())), shard)?;
        }
    }
    Ok(parts)
}

fn folder_name(path: &Path) -> String {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    whole.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn answers_of(
    run: &RunDirectory,
) -> anyhow::Result<BTreeMap<String, Vec<crate::results::AnswerRecord>>> {
    run.judges().into_iter().map(|judge| Ok((judge.clone(), run.read_answers(&judge)?))).collect()
}

/// What keeps the run from being whole, by shard where it was dealt into shards of one number.
fn missing(
    parts: &[Part],
    items: &[&Item],
    per_item: u32,
    whole: &RunProgress,
) -> anyhow::Result<Vec<String>> {
    if whole.is_complete() {
        return Ok(Vec::new());
    }
    let mut of_shards: BTreeMap<Shard, RunProgress> = BTreeMap::new();
    for part in parts {
        if let Some(shard) = part.run.shard() {
            let gathered = Gathered::read(&part.run)?;
            let progress = RunProgress::of(&gathered, &shard.own_part(items), per_item)?;
            of_shards.insert(shard, progress);
        }
    }
    let counts: BTreeSet<u32> = of_shards.keys().map(|shard| shard.count()).collect();
    let mut missing = Vec::new();
    for count in counts {
        for index in 0..count.min(items.len() as u32) {
            let Ok(shard) = Shard::new(index, count) else { continue };
            let total = shard.own_part(items).len() as u64 * u64::from(per_item);
            match of_shards.get(&shard) {
                None => missing.push(format!("shard {shard} has not begun")),
                Some(progress) => {
                    let mut lacking = Vec::new();
                    if !progress.images.is_complete() {
                        lacking.push(counted("images", progress.images));
                    }
                    for judge in whole.judges.keys() {
                        let none = StageCount { total, ..StageCount::default() };
                        let of_judge = progress.judges.get(judge).copied().unwrap_or(none);
                        if !of_judge.is_complete() {
                            lacking.push(counted(&format!("judge `{judge}`"), of_judge));
                        }
                    }
                    if !lacking.is_empty() {
                        missing.push(format!("shard {shard}: {}", lacking.join(", ")));
                    }
                }
            }
        }
    }
    Ok(missing)
}

/// `images 10/12, 2 of them failed`.
fn counted(what: &str, count: StageCount) -> String {
    let failed = match count.failed {
        0 => String::new(),
        failed => format!(" ({failed} failed)"),
    };
    let filtered = match count.filtered {
        0 => String::new(),
        filtered => format!(" ({filtered} refused by a content filter)"),
    };
    format!("{what} {}/{}{failed}{filtered}", count.done, count.total)
}

fn remove_shards(run: &RunDirectory) -> anyhow::Result<()> {
    for shard in run.shards()? {
        // Held while it goes: nobody may begin to write there.
        let _lock = RunLock::take(shard.path(), MERGING)?;
        std::fs::remove_dir_all(shard.path())
            .with_context(|| format!("{} cannot be removed", shard.path().display()))?;
    }
    // Only when nothing of somebody else's is in it.
    let _ = std::fs::remove_dir(run.path().join("shards"));
    Ok(())
}

fn in_words(report: &Report) -> String {
    let Report { run, parts, merged, progress, missing, shards_removed } = report;
    let mut lines = vec![match (parts, merged.pictures, merged.journals) {
        (0, ..) => format!("{run} has no shards; nothing to merge"),
        (parts, 0, 0) => format!("{run}: nothing new in {}", wording::counted(*parts, "part")),
        (parts, pictures, journals) => {
            format!(
                "{run}: {} and {} brought in from {}",
                wording::counted(pictures, "image"),
                wording::counted(journals, "journal"),
                wording::counted(*parts, "part")
            )
        }
    }];
    lines.push(counted("images", progress.images));
    for (judge, count) in &progress.judges {
        lines.push(counted(&format!("judge `{judge}`"), *count));
    }
    lines.extend(missing.iter().map(|what| format!("missing: {what}")));
    if *shards_removed {
        lines.push("the shards are removed".to_owned());
    }
    if !progress.is_complete() {
        lines.push(
            "next: give the same commands with --shard again, which go on where they stopped; then merge again"
                .to_owned(),
        );
    } else if progress.judges.is_empty() {
        lines.push(format!("next: dpg-bench judge {run} --judge mplug"));
    } else {
        lines.push(format!("next: dpg-bench score {run}"));
    }
    lines.join("\n")
}
