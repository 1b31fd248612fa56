//! In: `f64` values in order. Out: their sum and mean with the rounding of NumPy, which the reference
//! scorer's benchmark score inherits. Plain left-to-right sums differ from it in the last bits.

/// Longest run that is summed without being halved (NumPy's `PW_BLOCKSIZE`).
const BLOCK: usize = 128;
/// Accumulators that a block is spread over.
const LANES: usize = 8;

/// The sum of `values` as `numpy.add.reduce` rounds it over a contiguous `float64` array: below 8
/// values from left to right, up to 128 in eight interleaved accumulators that are added as a tree,
/// above that by halves cut at a multiple of eight.
pub fn pairwise_sum(values: &[f64]) -> f64 {
    if values.len() < LANES {
        return values.iter().fold(0.0, |sum, value| sum + value);
    }
    if values.len() > BLOCK {
        let half = values.len() / 2;
        let (left, right) = values.split_at(half - half % LANES);
        return pairwise_sum(left) + pairwise_sum(right);
    }
    let mut lanes = [0.0; LANES];
    let (rows, rest) = values.as_chunks::<LANES>();
    for (index, row) in rows.iter().enumerate() {
        for (lane, value) in lanes.iter_mut().zip(row) {
            // The first row is stored, not added to zero.
            *lane = if index == 0 { *value } else { *lane + value };
        }
    }
    let tree = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]))
        + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
    rest.iter().fold(tree, |sum, value| sum + value)
}

/// The mean of `values` as `numpy.mean` rounds it; `None` of no values (NumPy says NaN).
pub fn numpy_mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| pairwise_sum(values) / values.len() as f64)
}
