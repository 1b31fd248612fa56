//! In: names and shapes of tensors. Out: tensors that depend on nothing else, the same on every machine and device:
//! for measurements where no published weights are. No result of a run depends on them.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor};
use rayon::prelude::*;

/// Numbers that one thread makes at a time.
pub(crate) const PIECE: usize = 1 << 16;

/// Made-up tensors. Matrices and convolutions are as wide as networks are initialised, so that activations
/// neither vanish nor overflow; norms are near one; biases are small.
#[derive(Debug, Default)]
pub(crate) struct MadeUp {
    /// Shapes of tensors, for the networks that read their dimensions from their files.
    pub(crate) shapes: BTreeMap<String, Vec<usize>>,
}

impl MadeUp {
    /// Shape of the tensor `name`, where it is laid down.
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.shapes.get(name).map(Vec::as_slice)
    }

    /// The tensor `name` of that shape.
    pub(crate) fn tensor(
        &self,
        name: &str,
        shape: &[usize],
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let (middle, spread) = size_of_numbers(name, shape);
        let values = numbers(name, shape.iter().product(), middle, spread);
        Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)
    }
}

/// Mean and standard deviation of the numbers of a tensor.
fn size_of_numbers(name: &str, shape: &[usize]) -> (f32, f32) {
    let inputs: usize = shape.iter().skip(1).product();
    match shape.len() {
        0 | 1 if name.ends_with("weight") => (1.0, 0.1),
        0 | 1 => (0.0, 0.02),
        // Rows of a table are looked up, not multiplied.
        2 if name.contains("embed")
            && !["linear_", "embedder."].iter().any(|layer| name.contains(layer)) =>
        {
            (0.0, 0.5)
        }
        2 if name.contains("shared") || name.contains("latents") => (0.0, 0.5),
        // T5's scores are divided by nothing: its queries are smaller instead.
        2 if name.ends_with("SelfAttention.q.weight") => (0.0, 0.125 / (inputs as f32).sqrt()),
        _ => (0.0, 1.0 / (inputs.max(1) as f32).sqrt()),
    }
}

/// `count` numbers, spread evenly about `middle` with the standard deviation `spread`; they depend on
/// `name` and on their places alone.
pub(crate) fn numbers(name: &str, count: usize, middle: f32, spread: f32) -> Vec<f32> {
    // FNV-1a.
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let mut values = vec![0.0_f32; count];
    let reach = spread * 3.0_f32.sqrt();
    values.par_chunks_mut(PIECE).enumerate().for_each(|(piece, values)| {
        for (place, value) in (piece * PIECE..).zip(values) {
            let share = (mixed(seed ^ place as u64) >> 40) as f32 / (1_u64 << 24) as f32;
            *value = middle + reach * (2.0 * share - 1.0);
        }
    });
    values
}

/// The finishing steps of SplitMix64.
fn mixed(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
