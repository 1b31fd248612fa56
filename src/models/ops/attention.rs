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

/// What becomes of the products of queries and keys before the softmax.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Scores<'a> {
    /// Their factor; one over the root of the head size where it is `None`.
    pub(crate) scale: Option<f64>,
    /// Whether a query sees only the keys up to its own position.
    pub(crate) causal: bool,
    /// What is added to them, [b, heads, n, m] or anything that broadcasts to it. Minus infinity hides
    /// a key; a query must see one.
    pub(crate) bias: Option<&'a Tensor>,
}

/// `softmax(scale * q k^T + bias) v` for `query` [b, n, heads * d], `key` and `value` [b, m, heads * d];
/// gives [b, n, heads * d].
pub(crate) fn attention(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    heads: usize,
    scores: Scores,
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
    let head = width / heads;
    let scale = scores.scale.unwrap_or_else(|| (head as f64).powf(-0.5));
    let bias = scores.bias.map(|bias| bias.broadcast_as((batch, heads, queries, keys)));
    let bias = bias.transpose()?;
    let bias_values = bias.as_ref().map(Values::strided);
    let bias = match (&bias, &bias_values) {
        (Some(bias), Some(values)) => Some((values.slice()?, bias.stride())),
        _ => None,
    };
    let Scores { causal, .. } = scores;
    let shape = Shape { queries, keys, width, head, causal, scale };
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
        let bias = bias.map(|(values, stride)| Bias {
            values: &values[entry * stride[0] + head * stride[1]..],
            query_stride: stride[2],
            key_stride: stride[3],
        });
        STEP.with_borrow_mut(|step| shape.attend(target, first, (query, key, value), bias, step))
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
    scale: f64,
}

/// What is added to the scores of one head.
#[derive(Clone, Copy)]
struct Bias<'a> {
    values: &'a [f32],
    query_stride: usize,
    key_stride: usize,
}

impl Bias<'_> {
    /// Adds it to the scores [keys, columns] of `count` queries from `first` on, and of the keys from
    /// `from` on.
    fn add_to(
        self,
        scores: &mut [f32],
        columns: usize,
        (first, count): (usize, usize),
        from: usize,
    ) {
        for (row, scores) in scores.chunks_exact_mut(columns).enumerate() {
            let start = first * self.query_stride + (from + row) * self.key_stride;
            for (number, score) in scores[..count].iter_mut().enumerate() {
                let bias = self.values[start + number * self.query_stride];
                *score += std::f32::consts::LOG2_E * bias;
            }
        }
    }
}

impl Shape {
    /// Up to `QUERIES` queries of one head from `first` on, whose result belongs to this call alone.
    fn attend(
        self,
        target: Target,
        first: usize,
        (query, key, value): (&[f32], &[f32], &[f32]),
        bias: Option<Bias>,
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
        let scale = (std::f64::consts::LOG2_E * self.scale) as f32;
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
            if let Some(bias) = bias {
                bias.add_to(scores, columns, (first, count), from);
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
