//! In: flags that several commands share. Out: the same spelling and meaning everywhere.

use std::path::PathBuf;

use clap::Args;

/// Which benchmark.
#[derive(Debug, Clone, Default, Args)]
pub struct BenchmarkArgs {
    /// Question file, or a folder that holds one [default: benchmark/dpg when downloaded, else the
    /// shipped demo]
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
    /// Number format of the networks: `auto`, `f32`, `f16` or `bf16`
    #[arg(long, default_value = "auto", value_name = "DTYPE")]
    pub dtype: String,
}

/// How results are printed.
#[derive(Debug, Clone, Default, Args)]
pub struct OutputArgs {
    /// Print one JSON document on stdout instead of tables
    #[arg(long)]
    pub json: bool,
}
