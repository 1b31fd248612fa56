//! In: flags that several commands share. Out: the same spelling and meaning everywhere, and the
//! benchmark, items and run directory that they name, checked against each other.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use crate::benchmark::{Benchmark, Item, Selection, Strictness};
use crate::fetch::{BENCHMARK_FOLDER, LOCK_FILE};
use crate::results::{BenchmarkIdentity, RunDirectory};

/// The shipped demo, inside the binary: it works from any folder.
const DEMO_CSV: &[u8] = include_bytes!("../../benchmark/demo/dpg_bench.csv");
/// How the shipped demo is named on the command line and in a manifest.
const DEMO_NAME: &str = "demo";
/// Where the official question file is put when it is downloaded.
const DOWNLOADED: &str = BENCHMARK_FOLDER;

/// Which benchmark.
#[derive(Debug, Clone, Default, Args)]
pub struct BenchmarkArgs {
    /// Question file, or a folder that holds one [default: the shipped demo for the demo's models, else
    /// benchmark/dpg when downloaded, else the demo]. `demo` is the shipped demo; a folder of that name is `./demo`
    #[arg(long, value_name = "PATH")]
    pub benchmark: Option<PathBuf>,
    /// Turn faults of the question graphs into warnings: the faulty edges are ignored
    #[arg(long)]
    pub lenient: bool,
}

/// Which part of the benchmark. Several of them narrow each other.
#[derive(Debug, Clone, Default, Args)]
pub struct SelectionArgs {
    /// Only these items (comma list)
    #[arg(long, value_name = "ID,..", value_delimiter = ',')]
    pub items: Vec<String>,
    /// Only items whose id begins with this
    #[arg(long, value_name = "TEXT")]
    pub prefix: Option<String>,
    /// Only items with a question of this category, L1 (`attribute`) or L2 (`attribute - color`)
    #[arg(long, value_name = "NAME")]
    pub category: Option<String>,
    /// Only N items of what the other flags leave, always the same ones, chosen to keep the mix of
    /// categories and sources: for CI, where a whole run is too long
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub subset: Option<u32>,
    /// Only the first N of what the other flags leave, in file order
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

/// Where the networks run.
#[derive(Debug, Clone, Args)]
pub struct DeviceArgs {
    /// `auto`, `cpu` or `cuda[:INDEX]`
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub device: String,
    /// Several devices, with the model on each: `cuda:0,cuda:1`. They share the work and the pictures
    /// are those of one
    #[arg(long, value_name = "DEVICE,..", value_delimiter = ',', conflicts_with = "device")]
    pub devices: Vec<String>,
    /// Number format of the networks: `auto`, `f32`, `f16` or `bf16`
    #[arg(long, default_value = "auto", value_name = "DTYPE")]
    pub dtype: String,
}

impl DeviceArgs {
    /// The devices named, at least one.
    pub fn named(&self) -> Vec<&str> {
        match self.devices.as_slice() {
            [] => vec![&self.device],
            several => several.iter().map(String::as_str).collect(),
        }
    }
}

/// How results are printed.
#[derive(Debug, Clone, Default, Args)]
pub struct OutputArgs {
    /// Print one JSON document on stdout instead of tables
    #[arg(long)]
    pub json: bool,
}

/// Makes sure that devices that share the work, as [`crate::compute::device::describe_device`] tells of
/// them, round alike.
///
/// # Errors
/// They are of several kinds.
pub fn one_kind_of_device(devices: &[String]) -> anyhow::Result<()> {
    let kind = |device: &String| device.split([':', ',']).next().unwrap_or_default().to_owned();
    let kinds: std::collections::BTreeSet<String> = devices.iter().map(kind).collect();
    let listed = kinds.iter().map(String::as_str).collect::<Vec<_>>().join(" and ");
    anyhow::ensure!(
        kinds.len() <= 1,
        "{listed} devices do not round alike, so the result would depend on which of them did what; name \
         devices of one kind"
    );
    Ok(())
}

impl SelectionArgs {
    /// The selection that the flags describe.
    pub fn selection(&self) -> Selection {
        Selection {
            items: self.items.clone(),
            prefix: self.prefix.clone(),
            category: self.category.clone(),
            subset: self.subset.map(|count| count as usize),
            limit: self.limit,
        }
    }
}

/// Loads the benchmark that the flags name: `--benchmark`, else the downloaded official one unless the
/// `demo`'s models are at work, else the shipped demo.
///
/// # Errors
/// It cannot be read, or its data is invalid.
pub fn open_benchmark(args: &BenchmarkArgs, demo: bool) -> anyhow::Result<Benchmark> {
    let path = match &args.benchmark {
        Some(path) => path.clone(),
        None if !demo && Path::new(DOWNLOADED).is_dir() => {
            let folder = PathBuf::from(DOWNLOADED);
            let begun = folder.join(LOCK_FILE).is_file() && !folder.join("dpg_bench.csv").is_file();
            anyhow::ensure!(
                !begun,
                "the benchmark in {DOWNLOADED} is fetched in part only; `dpg-bench fetch benchmark` \
                 goes on, `--benchmark {DEMO_NAME}` takes the demo"
            );
            folder
        }
        None => PathBuf::from(DEMO_NAME),
    };
    load(&path, if args.lenient { Strictness::Lenient } else { Strictness::Strict })
}

fn load(path: &Path, strictness: Strictness) -> anyhow::Result<Benchmark> {
    // Always, so that a run of the demo is read alike from every folder.
    if path.as_os_str() == DEMO_NAME {
        return Ok(Benchmark::from_csv(DEMO_CSV, DEMO_NAME)?);
    }
    Ok(Benchmark::load(path, strictness)?)
}

/// Loads the benchmark that a run is about and makes sure that it is still the same.
///
/// # Errors
/// It cannot be read, or it is not the one that the run was started with.
pub fn benchmark_of_run(
    run: &RunDirectory,
    override_path: Option<&Path>,
) -> anyhow::Result<Benchmark> {
    let recorded = &run.manifest().benchmark;
    let path = override_path.unwrap_or(Path::new(&recorded.path));
    let strictness = if recorded.lenient { Strictness::Lenient } else { Strictness::Strict };
    let benchmark = load(path, strictness).with_context(|| {
        format!(
            "the benchmark of {} cannot be loaded; say where it is with --benchmark",
            run.path().display()
        )
    })?;
    anyhow::ensure!(
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
    let all = all_selected(benchmark, run)?;
    Ok(run.shard().map_or_else(|| all.clone(), |shard| shard.deal(&all)))
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

/// What the manifest says of a benchmark.
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
