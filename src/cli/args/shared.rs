//! In: flags that several commands share. Out: the same spelling and meaning everywhere, and the benchmark that they
//! name.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;

use crate::benchmark::{Benchmark, Selection, Strictness};
use crate::compute::products::Products;
use crate::near_names::did_you_mean;
use crate::session::benchmarks::{default_benchmark, load_benchmark};

/// Which benchmark.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Benchmark and selection")]
pub(crate) struct BenchmarkArgs {
    /// Question file, or a folder that holds one [default: the shipped demo for the demo's models, else benchmark/dpg,
    /// which `dpg-bench fetch benchmark` makes]. `demo` is the shipped demo; a folder of that name is `./demo`
    #[arg(long, value_name = "PATH")]
    pub benchmark: Option<PathBuf>,
    /// Turn errors of the question graphs into oddities: the faulty edges are ignored
    #[arg(long)]
    pub lenient: bool,
}

/// Which part of the benchmark. Several of them narrow each other.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Benchmark and selection")]
pub(crate) struct SelectionArgs {
    /// Only these items (comma list)
    #[arg(long, value_name = "ID,..", value_delimiter = ',')]
    pub items: Vec<String>,
    /// Only items whose id begins with this
    #[arg(long, value_name = "TEXT")]
    pub prefix: Option<String>,
    /// Only items with a question of this category, broad (`attribute`) or detailed
    /// (`attribute - color`, or `color` where one ends in it)
    #[arg(long, value_name = "NAME")]
    pub category: Option<String>,
    /// Only N of the selected items, always the same ones, chosen to keep the mix of
    /// categories and sources: for CI, where a whole run is too long
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub subset: Option<u32>,
    /// Only the first N of the selected items, in file order
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

/// Where the networks run.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Device")]
pub(crate) struct DeviceArgs {
    /// `auto`, `cpu` or `cuda[:INDEX]`
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub device: String,
    /// Several devices, with the model on each: `cuda:0,cuda:1`. They share the work and the images
    /// are those of one
    #[arg(long, value_name = "DEVICE,..", value_delimiter = ',', conflicts_with = "device")]
    pub devices: Vec<String>,
    /// Number format of the networks: `auto`, `f32`, `f16` or `bf16`
    #[arg(long, visible_alias = "torch-dtype", default_value = "auto", value_name = "DTYPE")]
    pub dtype: String,
    /// How the factors of products are rounded on the processor: `f32` (not at all), `bf16x3` (to some 17 bits) or
    /// `bf16` (to 8), by the matrix tiles of Intel's Xeons (AMX). Where there are none, products run in f32
    /// [default: f32]
    #[arg(long, value_name = "PRODUCTS", value_parser = products_name)]
    pub products: Option<Products>,
}

impl DeviceArgs {
    /// The devices named, at least one.
    pub(crate) fn named(&self) -> Vec<String> {
        if self.devices.is_empty() { vec![self.device.clone()] } else { self.devices.clone() }
    }

    /// Makes sure that every device is spelled in a known way. Not asked as the flags are read: a model that is not
    /// there is told first.
    ///
    /// # Errors
    /// One is not.
    pub(crate) fn check_devices(&self) -> anyhow::Result<()> {
        let flag = if self.devices.is_empty() { "--device" } else { "--devices" };
        known_devices(flag, &self.named())
    }

    /// The number format in this program's spelling.
    ///
    /// # Errors
    /// It is spelled in none of the known ways.
    pub(crate) fn dtype(&self) -> anyhow::Result<String> {
        known_dtype("--dtype", &self.dtype)
    }
}

/// Makes sure that the devices of `flag` are spelled in a known way.
///
/// # Errors
/// One is not.
pub(crate) fn known_devices(flag: &str, names: &[String]) -> anyhow::Result<()> {
    for name in names {
        device_name(name).map_err(|reason| anyhow!("{flag} {name}: {reason}"))?;
    }
    Ok(())
}

/// The number format of `flag` in this program's spelling.
///
/// # Errors
/// It is spelled in none of the known ways.
pub(crate) fn known_dtype(flag: &str, name: &str) -> anyhow::Result<String> {
    dtype_name(name).map_err(|reason| anyhow!("{flag} {name}: {reason}"))
}

/// A device as the flags name it; whether this machine has it is asked when it is used.
///
/// # Errors
/// It is spelled in none of the known ways.
pub(crate) fn device_name(text: &str) -> Result<String, String> {
    let index = text.strip_prefix("cuda:").is_some_and(|index| index.parse::<usize>().is_ok());
    match text {
        "auto" | "cpu" | "cuda" => Ok(text.to_owned()),
        _ if index => Ok(text.to_owned()),
        "gpu" => Err("a GPU is `cuda`, or `cuda:INDEX` where there are several".to_owned()),
        _ => {
            let near = did_you_mean(text, ["cpu", "cuda", "cuda:0", "auto"]);
            Err(format!("known are `auto`, `cpu`, `cuda` and `cuda:INDEX`{near}"))
        }
    }
}

/// A number format as the flags name it, also by the names of PyTorch, in this program's spelling.
///
/// # Errors
/// It is spelled in none of the known ways.
pub(crate) fn dtype_name(text: &str) -> Result<String, String> {
    let name = match text.trim_start_matches("torch.") {
        "auto" => "auto",
        "f32" | "fp32" | "float32" | "float" => "f32",
        "f16" | "fp16" | "float16" | "half" => "f16",
        "bf16" | "bfloat16" => "bf16",
        other => {
            let near = did_you_mean(other, ["f32", "f16", "bf16", "auto"]);
            return Err(format!("known are `auto`, `f32`, `f16` and `bf16`{near}"));
        }
    };
    Ok(name.to_owned())
}

/// Rounded products as the flags name them.
///
/// # Errors
/// They are spelled in none of the known ways.
pub(crate) fn products_name(text: &str) -> Result<Products, String> {
    text.parse().map_err(|()| {
        let near = did_you_mean(text, Products::ALL.map(Products::name));
        format!("known are `f32`, `bf16x3` and `bf16`{near}")
    })
}

/// How results are printed.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Output")]
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
