//! In: the path of a benchmark, or a run. Out: the benchmark, and the run's items in it, checked against
//! what the run says of them.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use crate::benchmark::{Benchmark, Item, Selection, Strictness};
use crate::fetch::{BENCHMARK_FOLDER, LOCK_FILE};
use crate::near_names::did_you_mean;
use crate::results::{BenchmarkIdentity, RunDirectory, Shard};

/// The shipped demo, inside the program: it works from any folder.
const DEMO_CSV: &[u8] = include_bytes!("../../benchmark/demo/dpg_bench.csv");
/// How the shipped demo is named, in place of a path and in a manifest.
pub const DEMO: &str = "demo";

/// Loads the benchmark at `path`, a question file or a folder that holds one; [`DEMO`] is the shipped demo.
///
/// # Errors
/// It cannot be read, or its data is invalid.
///
/// ```
/// use dpg_bench::{Strictness, load_benchmark};
///
/// let benchmark = load_benchmark("demo".as_ref(), Strictness::Strict)?;
/// let item = &benchmark.items[0];
/// println!("{}: {} ({} questions)", item.id, item.prompt, item.graph.questions().len());
/// # anyhow::Ok(())
/// ```
pub fn load_benchmark(path: &Path, strictness: Strictness) -> anyhow::Result<Benchmark> {
    // Always, so that a run of the demo is read alike from every folder.
    if path.as_os_str() == DEMO {
        return Ok(Benchmark::from_csv(DEMO_CSV, DEMO)?);
    }
    if !path.exists() {
        bail!("{}", no_benchmark(path));
    }
    Ok(Benchmark::load(path, strictness)?)
}

/// That there is nothing at `path`, with the name beside it or the benchmark that it may mean.
fn no_benchmark(path: &Path) -> String {
    let beside = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let entries = std::fs::read_dir(beside).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| path.with_file_name(entry.file_name()).to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".csv") || Path::new(name).is_dir())
        .collect();
    names.sort();
    names.insert(0, DEMO.to_owned());
    if Path::new(BENCHMARK_FOLDER).is_dir() {
        names.insert(1, BENCHMARK_FOLDER.to_owned());
    }
    let path = path.to_string_lossy();
    let near = did_you_mean(&path, names.iter().map(String::as_str));
    format!(
        "there is no benchmark at {path}{near}; name a question file, a folder that holds one, or `{DEMO}`"
    )
}

/// The benchmark where nobody names one: the shipped demo for a demo's model (`for_demo`), else the downloaded official
/// one. Nothing else falls back to the demo: its prompts are not what a user of another model has in mind.
///
/// # Errors
/// It was not downloaded or in part only, cannot be read, or its data is invalid.
pub fn default_benchmark(for_demo: bool, strictness: Strictness) -> anyhow::Result<Benchmark> {
    if for_demo {
        return load_benchmark(Path::new(DEMO), strictness);
    }
    let folder = PathBuf::from(BENCHMARK_FOLDER);
    ensure!(
        folder.is_dir(),
        "there is no benchmark: {BENCHMARK_FOLDER} is not in this folder; `dpg-bench fetch benchmark` gets the official \
         one, `--benchmark PATH` names another, `--benchmark {DEMO}` takes the demo"
    );
    let begun = folder.join(LOCK_FILE).is_file() && !folder.join("dpg_bench.csv").is_file();
    ensure!(
        !begun,
        "the benchmark in {BENCHMARK_FOLDER} is fetched in part only; `dpg-bench fetch benchmark` \
         goes on, `--benchmark {DEMO}` takes the demo"
    );
    load_benchmark(&folder, strictness)
}

/// Loads the benchmark that a run is about and makes sure that it is still the same; `path` says where it is
/// now, if it is no longer where the run found it.
///
/// # Errors
/// It cannot be read, or it is not the one that the run was started with.
pub fn benchmark_of_run(run: &RunDirectory, path: Option<&Path>) -> anyhow::Result<Benchmark> {
    let recorded = &run.manifest().benchmark;
    let path = path.unwrap_or(Path::new(&recorded.path));
    let strictness = if recorded.lenient { Strictness::Lenient } else { Strictness::Strict };
    let benchmark = load_benchmark(path, strictness).with_context(|| {
        format!(
            "the benchmark of {} cannot be loaded; say where it is with --benchmark",
            run.path().display()
        )
    })?;
    ensure!(
        benchmark.digest == recorded.digest,
        "{} is not the benchmark that {} was made with (digest {} here, {} there); name the right \
         one with --benchmark",
        path.display(),
        run.path().display(),
        benchmark.digest,
        recorded.digest,
    );
    Ok(benchmark)
}

/// The items that the run was started with, in file order; those of its part where it is a shard.
///
/// # Errors
/// The manifest's selection was edited to something that the benchmark has not.
pub fn selected<'b>(benchmark: &'b Benchmark, run: &RunDirectory) -> anyhow::Result<Vec<&'b Item>> {
    Ok(part_of(all_selected(benchmark, run)?, run.shard()))
}

/// The items that the run was started with, in file order, whether it is a shard or not.
///
/// # Errors
/// As [`selected`].
pub fn all_selected<'b>(
    benchmark: &'b Benchmark,
    run: &RunDirectory,
) -> anyhow::Result<Vec<&'b Item>> {
    let recorded = serde_json::to_value(&run.manifest().selection)?;
    let selection: Selection = serde_json::from_value(recorded).with_context(|| {
        format!("{}: the manifest's selection cannot be read", run.path().display())
    })?;
    Ok(benchmark.select(&selection)?)
}

/// The items of a shard, or all of them.
pub(super) fn part_of(items: Vec<&Item>, shard: Option<Shard>) -> Vec<&Item> {
    match shard {
        Some(shard) => shard.own_part(&items),
        None => items,
    }
}

/// What a manifest says of a benchmark.
pub fn identity(benchmark: &Benchmark) -> BenchmarkIdentity {
    BenchmarkIdentity {
        path: benchmark.source.path.display().to_string(),
        digest: benchmark.digest.clone(),
        official: benchmark.source.official,
        items: benchmark.items.len() as u64,
        questions: benchmark.question_count() as u64,
        lenient: benchmark.source.strictness == Strictness::Lenient,
    }
}
