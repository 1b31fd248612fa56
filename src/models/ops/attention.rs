//! In: queries, keys and values as the linear layers give them. Out: attention, without laying heads
//! out apart and with no more scores at once than the cache holds.
//!
//! Scores stand with the queries side by side, so that a softmax's sums run down the columns, a lane
//! for each query, and both products read and write contiguous rows. The softmax is taken block by
//! block of keys, with the running maximum and sum of Milakov and Gimelshein (arXiv 1805.02867).
#![allow(unsafe_code)]

use std::cell::RefCell;

use candle_core::{Device, Result, Tensor};
use gemm::Parallelism;
use rayon::prelude::*;

use super::Values;
use super::product::{Enters, Operand, Size, Target, put_product};
use super::vector::{for_processor, power_of_two};

/// Queries of a task's step; a multiple of every vector length.
const QUERIES: usize = 128;
/// Keys of a step: with the queries above, scores of 256 KiB.
const KEYS: usize = 512;

thread_local! {
    /// Queries, scores and sums of a step, kept between calls.
    static STEP: RefCell<Step> = RefCell::new(Step::default());
}

#[derive(Default)]
struct Step {
    /// [d, QUERIES]: transposed.
    queries: Vec<f32>,
    /// [KEYS, QUERIES].
    scores: Vec<f32>,
    /// [d, QUERIES].
    sums: Vec<f32>,
    /// [QUERIES] each: the running maximum and the running sum of the weights.
    maxima: Vec<f32>,
    weights: Vec<f32>,
}

/// `softmax(q k^T / sqrt(d)) v` for `query` [b, n, heads * d], `key` and `value` [b, m, heads * d];
/// gives [b, n, heads * d]. With `causal`, a query sees the keys up to its own position.
pub(crate) fn attention(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    heads: usize,
    causal: bool,
) -> Result<Tensor> {
    let (query, key, value) = (query.contiguous()?, key.contiguous()?, value.contiguous()?);
    let (batch, queries, width) = query.dims3()?;
    let keys = key.dim(1)?;
    if key.dims() != [batch, keys, width]
        || key.dims() != value.dims()
        || heads == 0
        || !width.is_multiple_of(heads)
    {
        let (key, value) = (key.dims(), value.dims());
        candle_core::bail!("queries {:?} do not fit keys {key:?}, values {value:?}", query.dims())
    }
    let shape = Shape { queries, keys, width, head: width / heads, causal };
    let mut result = vec![0.0; query.elem_count()];
    let (query, key, value) = (Values::of(&query)?, Values::of(&key)?, Values::of(&value)?);
    let (query, key, value) = (query.slice()?, key.slice()?, value.slice()?);
    let target = Target::new(&mut result);
    let blocks = queries.div_ceil(QUERIES);
    (0..batch * heads * blocks).into_par_iter().try_for_each(|task| {
        let (entry, head, block) = (task / (heads * blocks), task / blocks % heads, task % blocks);
        let first = block * QUERIES;
        let of_head = head * shape.head;
        let query = &query[(entry * queries + first) * width + of_head..];
        let key = &key[entry * keys * width + of_head..];
        let value = &value[entry * keys * width + of_head..];
        let target = target.from((entry * queries + first) * width + of_head);
        STEP.with_borrow_mut(|step| shape.attend(target, first, query, key, value, step))
    })?;
    Tensor::from_vec(result, (batch, queries, width), &Device::Cpu)
}

#[derive(Clone, Copy)]
struct Shape {
    queries: usize,
    keys: usize,
    /// From one position to the next.
    width: usize,
    /// Of one head.
    head: usize,
    causal: bool,
}

impl Shape {
    /// Up to `QUERIES` queries of one head from `first` on, whose result belongs to this call alone.
    fn attend(
        self,
        target: Target,
        first: usize,
        query: &[f32],
        key: &[f32],
        value: &[f32],
        step: &mut Step,
    ) -> Result<()> {
        let Shape { head, width, .. } = self;
        let count = QUERIES.min(self.queries - first);
        // Queries beside the last one are zeros whose results nobody reads.
        let columns = count.next_multiple_of(16);
        let Step { queries, scores, sums, maxima, weights } = step;
        queries.clear();
        queries.resize(head * columns, 0.0);
        for number in 0..count {
            for (part, value) in query[number * width..][..head].iter().enumerate() {
                queries[part * columns + number] = *value;
            }
        }
        for (values, value) in [(&mut *sums, 0.0), (maxima, f32::MIN), (weights, 0.0)] {
            values.clear();
            values.resize(columns, value);
        }
        sums.resize(head * columns, 0.0);
        scores.resize(KEYS * columns, 0.0);
        // Scores are in powers of two.
        let scale = (f64::from(std::f32::consts::LOG2_E) / (head as f64).sqrt()) as f32;
        let visible = if self.causal { self.keys.min(first + count) } else { self.keys };
        for from in (0..visible).step_by(KEYS) {
            let rows = KEYS.min(visible - from);
            let scores = &mut scores[..rows * columns];
            let keys =
                Operand { values: &key[from * width..], row_stride: width, column_stride: 1 };
            let right = Operand { values: queries, row_stride: columns, column_stride: 1 };
            let size = Size { rows, inner: head, columns };
            let none = Parallelism::None;
            // SAFETY: the scores are borrowed by this call alone.
            unsafe {
                let scores = Target::new(scores);
                put_product(scores, columns, size, keys, right, Enters::Scaled(scale), none)?;
            }
            if self.causal {
                for (row, scores) in scores.chunks_exact_mut(columns).enumerate() {
                    let hidden = (from + row).saturating_sub(first).min(columns);
                    scores[..hidden].fill(f32::MIN);
                }
            }
            soften(scores, columns, maxima, weights, sums);
            let left =
                Operand { values: &value[from * width..], row_stride: 1, column_stride: width };
            let right = Operand { values: scores, row_stride: columns, column_stride: 1 };
            let size = Size { rows: head, inner: rows, columns };
            // SAFETY: the sums are borrowed by this call alone.
            unsafe {
                put_product(Target::new(sums), columns, size, left, right, Enters::Added, none)?;
            }
        }
        for number in 0..count {
            // SAFETY: this head of this query belongs to this call alone.
            let result = unsafe { target.part(number * width, head) };
            let share = 1.0 / weights[number];
            for (part, result) in result.iter_mut().enumerate() {
                *result = sums[part * columns + number] * share;
            }
        }
        Ok(())
    }
}

for_processor!(
    /// Turns `scores` [keys, columns] into weights against the new running maximum, and brings the
    /// running sums, [columns] and [d, columns], onto it.
    fn soften(
        scores: &mut [f32],
        columns: usize,
        maxima: &mut [f32],
        weights: &mut [f32],
        sums: &mut [f32],
    ) = soften_body
);

/// Queries whose running numbers stay in registers.
const LANES: usize = 16;

#[inline(always)]
fn soften_body<const FUSED: bool>(
    scores: &mut [f32],
    columns: usize,
    maxima: &mut [f32],
    weights: &mut [f32],
    sums: &mut [f32],
) {
    for first in (0..columns / LANES * LANES).step_by(LANES) {
        let mut maximum = [0.0; LANES];
        maximum.copy_from_slice(&maxima[first..first + LANES]);
        let old = maximum;
        for row in scores.chunks_exact(columns) {
            for (maximum, score) in maximum.iter_mut().zip(&row[first..first + LANES]) {
                *maximum = if *score > *maximum { *score } else { *maximum };
            }
        }
        let mut total = [0.0; LANES];
        for row in scores.chunks_exact_mut(columns) {
            let row = &mut row[first..first + LANES];
            for lane in 0..LANES {
                let weight = power_of_two::<FUSED>(row[lane] - maximum[lane]);
                row[lane] = weight;
                total[lane] += weight;
            }
        }
        let mut fade = [0.0; LANES];
        for lane in 0..LANES {
            fade[lane] = power_of_two::<FUSED>(old[lane] - maximum[lane]);
            weights[first + lane] = weights[first + lane] * fade[lane] + total[lane];
            maxima[first + lane] = maximum[lane];
        }
        for row in sums.chunks_exact_mut(columns) {
            for lane in 0..LANES {
                row[first + lane] *= fade[lane];
            }
        }
    }
}
