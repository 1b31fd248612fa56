//! In: flags that several commands share. Out: the same spelling and meaning everywhere, and the benchmark that they
//! name.

use std::path::PathBuf;

use clap::Args;

use crate::benchmark::{Benchmark, Selection, Strictness};
use crate::session::benchmarks::{default_benchmark, load_benchmark};

/// Which benchmark.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct BenchmarkArgs {
    /// Question file, or a folder that holds one [default: the shipped demo for the demo's models, else benchmark/dpg,
    /// which `dpg-bench fetch benchmark` makes]. `demo` is the shipped demo; a folder of that name is `./demo`
    #[arg(long, value_name = "PATH")]
    pub benchmark: Option<PathBuf>,
    /// Turn faults of the question graphs into warnings: the faulty edges are ignored
    #[arg(long)]
    pub lenient: bool,
}

/// Which part of the benchmark. Several of them narrow each other.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SelectionArgs {
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
pub(crate) struct DeviceArgs {
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
    pub(crate) fn named(&self) -> Vec<String> {
        if self.devices.is_empty() { vec![self.device.clone()] } else { self.devices.clone() }
    }
}

/// How results are printed.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct OutputArgs {
    /// Print one JSON document on stdout instead of tables
    #[arg(long)]
    pub json: bool,
}

impl SelectionArgs {
    /// The selection that the flags describe.
    pub(crate) fn selection(&self) -> Selection {
        Selection {
            items: self.items.clone(),
            prefix: self.prefix.clone(),
            category: self.category.clone(),
            subset: self.subset.map(|count| count as usize),
            limit: self.limit,
        }
    }
}

/// Loads the benchmark that the flags name: `--benchmark`, else the shipped demo where the `demo`'s models are at
/// work, else the downloaded official one.
///
/// # Errors
/// It cannot be read, or its data is invalid.
pub(crate) fn open_benchmark(args: &BenchmarkArgs, demo: bool) -> anyhow::Result<Benchmark> {
    let strictness = if args.lenient { Strictness::Lenient } else { Strictness::Strict };
    match &args.benchmark {
        Some(path) => load_benchmark(path, strictness),
        None => default_benchmark(demo, strictness),
    }
}
