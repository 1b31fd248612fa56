//! The noise of a CUDA device against numbers that were printed from real devices, and against the
//! stream derived anew in NumPy (fixtures/noise/cuda.json, made by make_cuda_noise.py).

use std::path::Path;

use candle_core::Device;
use dpg_bench::generate::noise::philox::CudaGenerator;
use dpg_bench::generate::noise::{ImageNoise, NoiseSource};
use serde::Deserialize;

/// The prints have four decimals; the device's fast sine adds at most 2^-21 times the radius.
const PRINTED: f64 = 5.4e-5;
/// Against f64 arithmetic: f32 rounding of the uniform numbers and of the result.
const DERIVED: f64 = 3e-6;

#[derive(Deserialize)]
struct Golden {
    published: Vec<Published>,
    derived: Vec<Derived>,
}

#[derive(Deserialize)]
struct Published {
    source: String,
    seed: u64,
    threads: Option<u64>,
    counts: Vec<usize>,
    first: Vec<f64>,
    last: Vec<f64>,
}

#[derive(Deserialize)]
struct Derived {
    seed: u64,
    threads: Option<u64>,
    calls: Vec<Call>,
}

#[derive(Deserialize)]
struct Call {
    count: usize,
    places: Vec<usize>,
    values: Vec<f64>,
}

fn golden() -> Golden {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/noise/cuda.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn largest(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
}

/// Largest error against one print, on a device of that many threads.
fn error(case: &Published, threads: Option<u64>) -> f64 {
    let mut generator = CudaGenerator::new(case.seed, threads);
    let mut numbers = Vec::new();
    for &count in &case.counts {
        numbers = generator.randn(count);
        assert_eq!(numbers.len(), count);
    }
    let end = numbers.len() - case.last.len();
    largest(&numbers[..case.first.len()], &case.first).max(largest(&numbers[end..], &case.last))
}

#[test]
fn numbers_equal_those_printed_from_real_devices() {
    let golden = golden();
    for case in &golden.published {
        let error = error(case, case.threads);
        eprintln!("{}: largest error {error:.1e}", case.source);
        assert!(error <= PRINTED, "{}: {error:e}", case.source);
        // The size of the device matters exactly where the tensor overflows it.
        if let Some(threads) = case.threads {
            for other in [Some(threads + 1024), Some(threads - 1024), None] {
                let error = self::error(case, other);
                assert!(error > 0.1, "{} on {other:?} threads: {error:e}", case.source);
            }
        }
    }
    assert!(golden.published.len() >= 9);
}

#[test]
fn numbers_equal_the_stream_derived_in_numpy() {
    let (mut worst, mut numbers) = (0.0_f64, 0);
    for case in golden().derived {
        let mut generator = CudaGenerator::new(case.seed, case.threads);
        for call in &case.calls {
            let found = generator.randn(call.count);
            let found: Vec<f32> = call.places.iter().map(|&place| found[place]).collect();
            let error = largest(&found, &call.values);
            assert!(error <= DERIVED, "seed {}, {} numbers: {error:e}", case.seed, call.count);
            worst = worst.max(error);
            numbers += found.len();
        }
        // Another seed, also one that differs in the high half alone, is refused.
        let mut other = CudaGenerator::new(case.seed ^ (1 << 40), case.threads);
        let found = other.randn(case.calls[0].count);
        let found: Vec<f32> = case.calls[0].places.iter().map(|&place| found[place]).collect();
        assert!(largest(&found, &case.calls[0].values) > 0.1);
    }
    eprintln!("largest error of {numbers} numbers: {worst:.1e}");
    assert!(numbers > 200);
}

#[test]
fn every_image_has_its_own_stream() {
    let source = NoiseSource::Cuda { threads: None };
    let mut noise = ImageNoise::from_source(source, &[8, 9], (4, 3, 5), &Device::Cpu);
    let mut generators = [8, 9].map(|seed| CudaGenerator::new(seed, None));
    for _ in 0..3 {
        let drawn: Vec<Vec<f32>> =
            noise.draw().unwrap().flatten_from(1).unwrap().to_vec2().unwrap();
        let expected = generators.each_mut().map(|generator| generator.randn(60));
        assert_eq!(drawn, expected);
    }
}

#[test]
fn sources_are_named_as_on_the_command_line() {
    for (text, source) in [
        ("cpu", NoiseSource::Cpu),
        ("cuda", NoiseSource::Cuda { threads: None }),
        ("cuda:40960", NoiseSource::Cuda { threads: Some(40960) }),
    ] {
        assert_eq!(text.parse::<NoiseSource>().unwrap(), source);
        assert_eq!(source.to_string(), text);
    }
    for text in ["gpu", "cuda:", "cuda:0", "cuda:100", "cuda:-1", ""] {
        let message = text.parse::<NoiseSource>().unwrap_err();
        assert!(message.contains("cuda:THREADS"), "{message}");
    }
}
