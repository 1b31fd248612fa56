//! How long it takes to load and check question files. DSG-1k (8,182 rows) is read from the shared data
//! beside the checkout; without it, twelve items are measured alone.
//!
//! `cargo bench --bench load`

#![allow(clippy::print_stderr)]

use std::path::{Path, PathBuf};

use divan::Bencher;
use dpg_bench::benchmark::{Benchmark, Strictness};

fn main() {
    divan::main();
}

fn beside_the_checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Reading the file included. Aim: below 30 ms for all of DSG-1k.
#[divan::bench]
fn dsg_1k(bencher: Bencher) {
    let path = beside_the_checkout("../shared/data/dsg-1k/dsg-1k-anns.csv");
    if !path.exists() {
        eprintln!("SKIPPED: {} is not here", path.display());
        return;
    }
    bencher.bench(|| Benchmark::load(&path, Strictness::Lenient));
}

#[divan::bench]
fn twelve_items(bencher: Bencher) {
    let path = beside_the_checkout("tests/fixtures/natural/dpg_bench.csv");
    bencher.bench(|| Benchmark::load(&path, Strictness::Strict));
}
