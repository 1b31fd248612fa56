#!/usr/bin/env bash
# jpeg-encoder 0.7.1: with the feature `simd` a processor with AVX2 leaves other bytes than one without it. Both transforms are
# said to be ports of the same exact integer transform of libjpeg-turbo, and the colour conversion has a test that both are equal;
# of the transform there is no such test. Of 400 small images most are other files.
#
# Expected output: how many differ, and the last line "as found". Needs a processor with AVX2.
# dpg-bench uses the crate without `simd`: a report on the same runs has the same bytes on every machine.
set -euo pipefail
grep -qm1 avx2 /proc/cpuinfo || { echo "SKIPPED: this processor has no AVX2"; exit 0; }
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
mkdir "$work/src"
cd "$work"
cat >Cargo.toml <<'TOML'
[package]
name = "bytes"
version = "0.1.0"
edition = "2024"
[dependencies]
jpeg-encoder = "=0.7.1"
[features]
simd = ["jpeg-encoder/simd"]
TOML
cat >src/main.rs <<'RUST'
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

fn main() {
    let mut state = 1_u64;
    for round in 0..400_usize {
        let (width, height) = (1 + round * 37 % 192, 1 + round * 53 % 192);
        let mut pixel = |place: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let noise = (state >> 56) as usize;
            // Noise, and a smooth picture with a little of it.
            if round % 2 == 0 { noise as u8 } else { (place / 3 % width * 200 / width + noise % 8) as u8 }
        };
        let pixels: Vec<u8> = (0..width * height * 3).map(&mut pixel).collect();
        let mut jpeg = Vec::new();
        let mut encoder = Encoder::new(&mut jpeg, 78);
        encoder.set_sampling_factor(SamplingFactor::F_2_2);
        encoder.encode(&pixels, width as u16, height as u16, ColorType::Rgb).unwrap();
        let hash = jpeg.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        println!("{round} {} {hash:016x}", jpeg.len());
    }
}
RUST
CARGO_TARGET_DIR="$work/target" cargo run --quiet --release >plain
CARGO_TARGET_DIR="$work/target" cargo run --quiet --release --features simd >simd
differing="$(diff plain simd | grep -c '^<' || true)"
echo "$differing of $(wc -l <plain) images are other files with AVX2"
[ "$differing" -gt 0 ] || { echo "changed: the bytes are the same" >&2; exit 1; }
echo "as found"
