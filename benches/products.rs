//! The time of products in f32 on the processor, of few rows and of many: weights as they are stored, for `gemm` to turn about in
//! each call, and packed once. Both sides in turn, with weights that are in the cache and with ones that come from
//! memory (400 MB in rotation).
//!
//!     RAYON_NUM_THREADS=1 cargo bench --bench products
//!
//! Out: a Markdown table. On one thread processor time is the sounder number where others use the machine.

#![allow(clippy::print_stdout)]

use std::time::Instant;

use anyhow::Context;
use dpg_bench::compute::packed_speed::BothSides;

/// Rows, inner length, outputs.
const SHAPES: &[[usize; 3]] = &[
    [1, 1024, 4096],
    [2, 1024, 4096],
    [6, 1024, 4096],
    [14, 1024, 4096],
    [14, 4096, 1024],
    [32, 1024, 4096],
    [77, 768, 3072],
    [128, 1024, 2816],
    [128, 2816, 1024],
    [512, 1152, 1152],
    [512, 1152, 4608],
    [512, 4608, 1152],
    [589, 1536, 6144],
    [2048, 640, 2560],
];
const ROUNDS: usize = 7;
/// Bytes of weights that no cache holds.
const COLD: usize = 400_000_000;

fn main() -> anyhow::Result<()> {
    println!(
        "| rows x inner x outputs | weights | processor, ms, as stored / packed | wall, ms | packed: GFLOP/s, GB/s of weights \
         |\n|---|---|---|---|---|"
    );
    for &[rows, inner, outputs] in SHAPES {
        let bytes = size_of::<f32>() * inner * outputs;
        for (name, copies) in [("warm", 1), ("cold", COLD.div_ceil(bytes))] {
            let both = BothSides::new(rows, inner, outputs, copies)?;
            let calls = copies.max(20);
            let (mut plain, mut packed) = (Vec::new(), Vec::new());
            for round in 0..=ROUNDS {
                let times = [
                    time(calls, |call| Ok(both.plain(call % copies)?))?,
                    time(calls, |call| Ok(both.packed(call % copies)?))?,
                ];
                if round > 0 {
                    plain.push(times[0]);
                    packed.push(times[1]);
                }
            }
            let [plain, packed] = [median(&plain), median(&packed)];
            let cell = |a: f64, b: f64| format!("{:.3} / {:.3} = {:.2}", a * 1e3, b * 1e3, a / b);
            let operations = 2.0 * (rows * inner * outputs) as f64;
            println!(
                "| {rows} x {inner} x {outputs} | {name} | {} | {} | {:.1}, {:.1} |",
                cell(plain[0], packed[0]),
                cell(plain[1], packed[1]),
                operations / packed[0] / 1e9,
                bytes as f64 / packed[0] / 1e9,
            );
        }
    }
    Ok(())
}

/// Processor and wall seconds of one of `calls` calls.
fn time<T>(calls: usize, call: impl Fn(usize) -> anyhow::Result<T>) -> anyhow::Result<[f64; 2]> {
    let (wall, before) = (Instant::now(), processor_seconds()?);
    for number in 0..calls {
        std::hint::black_box(call(number)?);
    }
    let processor = processor_seconds()? - before;
    Ok([processor / calls as f64, wall.elapsed().as_secs_f64() / calls as f64])
}

/// Of each column by itself.
fn median(times: &[[f64; 2]]) -> [f64; 2] {
    [0, 1].map(|column| {
        let mut times: Vec<f64> = times.iter().map(|times| times[column]).collect();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    })
}

/// Time on a processor of all threads, to the nanosecond. Linux alone tells it.
fn processor_seconds() -> anyhow::Result<f64> {
    let mut nanoseconds = 0.0;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let line = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        let first = line.split_whitespace().next().context("an empty schedstat")?;
        nanoseconds += first.parse::<f64>()?;
    }
    Ok(nanoseconds / 1e9)
}
