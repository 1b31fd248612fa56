//! The noise against PyTorch's own (fixtures/noise, made by make_noise_and_schedulers.py): bit for
//! bit, for several seeds, sizes and sequences of calls on one generator.

use std::path::Path;

use dpg_bench::generate::noise::TorchGenerator;
use serde::Deserialize;
use sha2::{Digest, Sha256};

#[derive(Deserialize)]
struct Case {
    seed: u64,
    calls: Vec<Call>,
}

#[derive(Deserialize)]
struct Call {
    count: usize,
    sha256: String,
    first_bits: Vec<u32>,
    last_bits: Vec<u32>,
}

impl Call {
    fn is_matched_by(&self, values: &[f32]) -> bool {
        let bits: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
        let bytes: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        let digest: String =
            Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        bits.starts_with(&self.first_bits)
            && bits.ends_with(&self.last_bits)
            && digest == self.sha256
    }
}

fn golden() -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/noise/golden.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn every_number_equals_pytorch_bit_for_bit() {
    let (mut numbers, mut sequences) = (0, 0);
    for case in golden() {
        let mut generator = TorchGenerator::new(case.seed);
        for (index, call) in case.calls.iter().enumerate() {
            let values = generator.randn(call.count);
            assert_eq!(values.len(), call.count);
            let found: Vec<u32> = values.iter().take(4).map(|value| value.to_bits()).collect();
            assert!(
                call.is_matched_by(&values),
                "seed {}, call {index} of {}: first bits {found:?}, expected {:?}",
                case.seed,
                call.count,
                call.first_bits
            );
            numbers += call.count;
        }
        sequences += 1;
    }
    eprintln!("{numbers} numbers in {sequences} sequences of calls are equal, bit for bit");
    assert!(numbers > 600_000 && sequences >= 100);
}

/// The same check must refuse each of these near misses.
#[test]
fn near_misses_are_told_apart() {
    let mut refused = [0; 3];
    for case in golden() {
        for (index, call) in case.calls.iter().enumerate() {
            // A generator for every call instead of one for all.
            if index > 0 && call.count >= 16 {
                assert!(!call.is_matched_by(&TorchGenerator::new(case.seed).randn(call.count)));
                refused[0] += 1;
            }
            // The last block not made anew.
            if index == 0 && call.count > 16 && !call.count.is_multiple_of(16) {
                let mut whole =
                    TorchGenerator::new(case.seed).randn(call.count.next_multiple_of(16));
                whole.truncate(call.count);
                assert!(!call.is_matched_by(&whole));
                refused[1] += 1;
            }
            // One bit of one number.
            if index == 0 && call.count == 4 * 64 * 64 {
                let mut values = TorchGenerator::new(case.seed).randn(call.count);
                values[5000] = f32::from_bits(values[5000].to_bits() ^ 1);
                assert!(!call.is_matched_by(&values));
                refused[2] += 1;
            }
        }
    }
    assert!(refused.iter().all(|&count| count > 5), "{refused:?}");
}

/// With the C library's logarithm, sine and cosine in place of PyTorch's, the numbers are close but
/// not equal: the polynomials are what the equality hangs on.
#[test]
fn the_c_library_road_is_not_bit_equal() {
    let uniform = |words: &mut dyn FnMut() -> u32| (words() & 0x00ff_ffff) as f32 / 16_777_216.0;
    let mut state = mersenne_words(0);
    let block: Vec<f32> = (0..16 * 1024).map(|_| uniform(&mut state)).collect();
    let reference = TorchGenerator::new(0).randn(16 * 1024);
    let (mut unequal, mut worst) = (0, 0.0_f32);
    for (uniforms, normals) in block.chunks(16).zip(reference.chunks(16)) {
        for j in 0..8 {
            let radius = (-2.0 * (1.0 - uniforms[j]).ln()).sqrt();
            let angle = (2.0 * std::f64::consts::PI * f64::from(uniforms[j + 8])) as f32;
            for (near, exact) in
                [(radius * angle.cos(), normals[j]), (radius * angle.sin(), normals[j + 8])]
            {
                unequal += usize::from(near.to_bits() != exact.to_bits());
                worst = worst.max((near - exact).abs());
            }
        }
    }
    eprintln!(
        "C library instead of the polynomials: {unequal} of 16384 differ, by at most {worst:e}"
    );
    assert!(unequal > 500 && worst < 1e-5, "{unequal} {worst}");
}

/// An independent MT19937, written from the paper's recurrence.
fn mersenne_words(seed: u32) -> impl FnMut() -> u32 {
    let mut words = vec![seed];
    for index in 1..624_u32 {
        let last = words[words.len() - 1];
        words.push((last ^ (last >> 30)).wrapping_mul(1_812_433_253).wrapping_add(index));
    }
    let mut next = 0;
    move || {
        let upper = words[next] & 0x8000_0000 | words[next + 1] & 0x7fff_ffff;
        let twisted = upper >> 1 ^ if upper & 1 == 1 { 0x9908_b0df } else { 0 };
        let mut word = words[next + 397] ^ twisted;
        words.push(word);
        next += 1;
        word ^= word >> 11;
        word ^= word << 7 & 0x9d2c_5680;
        word ^= word << 15 & 0xefc6_0000;
        word ^ word >> 18
    }
}
