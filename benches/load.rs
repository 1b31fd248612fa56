//! How long it takes to load and check question files, reading them included. The official file and DSG-1k
//! are read from the shared data beside the checkout; without them, twelve items are measured alone.
//!
//! `cargo bench --bench load`

#![allow(clippy::print_stderr, clippy::expect_used)]

use std::path::{Path, PathBuf};

use divan::Bencher;
use dpg_bench::benchmark::{Benchmark, Strictness};

fn main() {
    divan::main();
}

fn beside_the_checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Measures what loads; a file that does not would be an error that takes no time.
fn load(bencher: Bencher<'_, '_>, path: &str, strictness: Strictness) {
    let path = beside_the_checkout(path);
    if !path.exists() {
        eprintln!("SKIPPED: {} is not here", path.display());
        return;
    }
    bencher.bench(|| Benchmark::load(&path, strictness).expect("a valid question file"));
}

/// The official file alone: 1,065 items, 14,392 rows, 7.35 MB. Aim: below 25 ms.
#[divan::bench]
fn official_file(bencher: Bencher<'_, '_>) {
    load(bencher, "../shared/data/dpg_bench/dpg_bench.csv", Strictness::Strict);
}

/// Its folder, with the 1,065 prompt files.
#[divan::bench]
fn official_folder(bencher: Bencher<'_, '_>) {
    load(bencher, "../shared/data/dpg_bench", Strictness::Strict);
}

/// Aim: below 30 ms for all 8,182 rows.
#[divan::bench]
fn dsg_1k(bencher: Bencher<'_, '_>) {
    load(bencher, "../shared/data/dsg-1k/dsg-1k-anns.csv", Strictness::Lenient);
}

#[divan::bench]
fn twelve_items(bencher: Bencher<'_, '_>) {
    load(bencher, "tests/fixtures/natural/dpg_bench.csv", Strictness::Strict);
}
