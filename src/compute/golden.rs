//! In: the golden tensors under `tests/fixtures/sd15-golden`. Out: how far a result is from them; and seeded numbers.
//! For the unit tests of this folder.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

/// One golden file.
pub(crate) struct Golden {
    tensors: HashMap<String, Tensor>,
}

impl Golden {
    /// Reads `<name>.safetensors`.
    pub(crate) fn open(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sd15-golden");
        let path = folder.join(format!("{name}.safetensors"));
        Self { tensors: candle_core::safetensors::load(path, &Device::Cpu).unwrap() }
    }

    /// One of its tensors.
    pub(crate) fn get(&self, name: &str) -> Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("no golden tensor {name}")).clone()
    }
}

/// Largest absolute difference, and root mean square of the differences over that of the golden.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Errors {
    absolute: f64,
    relative: f64,
}

impl Errors {
    /// Root mean square of the differences over that of the golden.
    pub(crate) fn relative(self) -> f64 {
        self.relative
    }

    /// Whether both stay within their bounds.
    pub(crate) fn within(self, relative: f64, absolute: f64) -> bool {
        self.relative <= relative && self.absolute <= absolute
    }
}

/// Measures `ours` against `golden` and tells the test's reader.
#[expect(clippy::print_stdout, reason = "shown by the test runner where a test fails")]
pub(crate) fn errors(name: &str, ours: &Tensor, golden: &Tensor) -> Errors {
    assert_eq!(ours.dims(), golden.dims(), "{name}");
    let values = |tensor: &Tensor| -> Vec<f64> {
        tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    };
    let (ours, golden) = (values(ours), values(golden));
    let differences = ours.iter().zip(&golden).map(|(a, b)| (a - b).abs());
    // `f64::max` would drop a NaN; a NaN must fail every bound.
    let absolute = differences.clone().fold(0.0, |a, d| if d > a || d.is_nan() { d } else { a });
    let squares: f64 = golden.iter().map(|value| value * value).sum();
    let relative = (differences.map(|d| d * d).sum::<f64>() / squares).sqrt();
    println!("{name}: max absolute error {absolute:.1e}, relative error {relative:.1e}");
    Errors { absolute, relative }
}

/// About normal, by the seed alone: sums of twelve numbers of SplitMix64.
pub(crate) fn normal_numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed << 32;
    let mut uniform = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..count).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
}
