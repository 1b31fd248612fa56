//! In: a block of queries of one head and the keys and values that they see. Out: their attention.
//!
//! Scores stand with the queries side by side, so that a softmax's sums run down the columns, a lane
//! for each query, and both products read and write contiguous rows. The softmax is taken block by
//! block of keys, with the running maximum and sum of Milakov and Gimelshein (arXiv 1805.02867); so
//! keys may come from several matrices, one after the other.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ops::Range;

use candle_core::Result;
use gemm::Parallelism;

use super::matmul::{MatmulWrite, Operand, Size, Target, matmul_into};
use super::vector::{for_processor, power_of_two};

/// Queries of a block; a multiple of every vector length.
pub(crate) const QUERIES: usize = 128;
/// Keys of a step: with the queries above, scores of 256 KiB.
pub(super) const KEYS: usize = 512;

thread_local! {
    /// Queries, scores and sums of a block, kept between calls.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::default());
}

#[derive(Default)]
struct Scratch {
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

/// Rows of a matrix, `stride` apart, whose first `d` numbers belong to the head at hand.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
}

impl Matrix<'_> {
    /// The matrix of the head that begins `offset` numbers later.
    pub(crate) fn from(self, offset: usize) -> Self {
        Self { values: self.values.get(offset..).unwrap_or_default(), ..self }
    }
}

/// Keys and their values.
#[derive(Clone, Copy)]
pub(crate) struct Keys<'a> {
    pub(crate) key: Matrix<'a>,
    pub(crate) value: Matrix<'a>,
    pub(crate) count: usize,
    /// Those that each query of the block sees; all where there is nothing.
    pub(crate) seen: Option<&'a [Range<usize>]>,
}

impl Keys<'_> {
    /// Of the head that begins `offset` numbers later.
    pub(crate) fn from(self, offset: usize) -> Self {
        Self { key: self.key.from(offset), value: self.value.from(offset), ..self }
    }

    /// From the first to the last key that any query sees.
    pub(crate) fn reach(&self) -> Range<usize> {
        let Some(seen) = self.seen else { return 0..self.count };
        let some = || seen.iter().filter(|seen| !seen.is_empty());
        let first = some().map(|seen| seen.start).min().unwrap_or(0);
        first..some().map(|seen| seen.end.min(self.count)).max().unwrap_or(0)
    }
}

/// Up to [`QUERIES`] queries of one head.
pub(crate) struct Block<'a> {
    /// The queries' rows, in `query` and in the target.
    pub(crate) rows: &'a [usize],
    /// Numbers of a head.
    pub(crate) head: usize,
    pub(crate) query: Matrix<'a>,
    /// Every query sees at least one of these keys.
    pub(crate) keys: &'a [Keys<'a>],
    /// Factor of the scores.
    pub(crate) scale: f64,
    /// What is added to them.
    pub(crate) bias: Option<Bias<'a>>,
}

/// What is added to the scores of a block over one matrix of keys.
#[derive(Clone, Copy)]
pub(crate) struct Bias<'a> {
    /// From the block's first query and the first key on.
    pub(crate) values: &'a [f32],
    pub(crate) query_stride: usize,
    pub(crate) key_stride: usize,
}

impl Bias<'_> {
    /// That of the queries from number `query` of the block on.
    fn after_queries(self, query: usize) -> Self {
        Self { values: &self.values[query * self.query_stride..], ..self }
    }

    /// Adds it to the `scores` of query number `query` of the block and the keys from `from` on.
    pub(crate) fn add_to_query(self, scores: &mut [f32], query: usize, from: usize) {
        let start = query * self.query_stride;
        for (key, score) in scores.iter_mut().enumerate() {
            *score +=
                std::f32::consts::LOG2_E * self.values[start + (from + key) * self.key_stride];
        }
    }

    /// Adds it to `scale` times the scores [keys, columns] of the block's first `count` queries and the keys from `from` on.
    fn add_to(self, scores: &mut [f32], scale: f32, columns: usize, count: usize, from: usize) {
        for (row, scores) in scores.chunks_exact_mut(columns).enumerate() {
            let start = (from + row) * self.key_stride;
            for (number, score) in scores[..count].iter_mut().enumerate() {
                let bias = self.values[start + number * self.query_stride];
                *score = *score * scale + std::f32::consts::LOG2_E * bias;
            }
        }
    }
}

impl Block<'_> {
    /// Writes this head's part of the block's rows, which belong to this call alone, into `target`,
    /// whose rows are `width` apart.
    pub(crate) fn attend(self, target: Target, width: usize) -> Result<()> {
        SCRATCH.with_borrow_mut(|step| self.attend_in(step, target, width))
    }

    fn attend_in(self, step: &mut Scratch, target: Target, width: usize) -> Result<()> {
        // Queries beside the last one are zeros whose results nobody reads.
        let columns = self.rows.len().next_multiple_of(LANES);
        step.begin(self.head, columns);
        for (column, row) in self.rows.iter().enumerate() {
            for (part, value) in self.query(*row)?.iter().enumerate() {
                step.queries[part * columns + column] = *value;
            }
        }
        for keys in self.keys {
            let reach = keys.reach();
            for from in reach.clone().step_by(KEYS) {
                step.take(&self, *keys, from..(from + KEYS).min(reach.end), columns)?;
            }
        }
        self.for_each_result(target, width, |column, result| {
            let share = 1.0 / step.weights[column];
            for (part, result) in result.iter_mut().enumerate() {
                *result = step.sums[part * columns + column] * share;
            }
        });
        Ok(())
    }

    /// This head of the query in row `row`.
    pub(crate) fn query(&self, row: usize) -> Result<&[f32]> {
        match self.query.values[row * self.query.stride..].get(..self.head) {
            Some(query) => Ok(query),
            None => candle_core::bail!("query {row} reaches beyond its matrix"),
        }
    }

    /// Has `write` fill this head's part of each row of the block, which belong to this call alone, in `target`, whose rows
    /// are `width` apart; it is told the query's number in the block.
    pub(crate) fn for_each_result(
        &self,
        target: Target,
        width: usize,
        mut write: impl FnMut(usize, &mut [f32]),
    ) {
        for (number, row) in self.rows.iter().enumerate() {
            // SAFETY: this head of this query belongs to this call alone.
            write(number, unsafe { target.part(row * width, self.head) });
        }
    }
}

impl Scratch {
    fn begin(&mut self, head: usize, columns: usize) {
        let Scratch { queries, scores, sums, maxima, weights } = self;
        queries.clear();
        queries.resize(head * columns, 0.0);
        for (values, value) in [(&mut *sums, 0.0), (maxima, f32::MIN), (weights, 0.0)] {
            values.clear();
            values.resize(columns, value);
        }
        sums.resize(head * columns, 0.0);
        scores.resize(KEYS * columns, 0.0);
    }

    /// Brings up to `KEYS` keys into the running sums.
    fn take(
        &mut self,
        block: &Block,
        keys: Keys,
        range: Range<usize>,
        columns: usize,
    ) -> Result<()> {
        let head = block.head;
        let Scratch { queries, scores, sums, maxima, weights } = self;
        let (from, rows) = (range.start, range.len());
        let scores = &mut scores[..rows * columns];
        let none = Parallelism::None;
        let key = keys.key.from(from * keys.key.stride);
        let left = Operand { values: key.values, row_stride: key.stride, column_stride: 1 };
        let right = Operand { values: queries, row_stride: columns, column_stride: 1 };
        let size = Size { rows, inner: head, columns };
        // SAFETY: the scores are borrowed by this call alone.
        unsafe {
            let scores = Target::new(scores);
            matmul_into(scores, columns, size, left, right, MatmulWrite::Overwrite, none)?;
        }
        weigh(block, keys, range, 0..block.rows.len(), Columns { scores, maxima, weights, sums });
        let value = keys.value.from(from * keys.value.stride);
        let left = Operand { values: value.values, row_stride: 1, column_stride: value.stride };
        let right = Operand { values: scores, row_stride: columns, column_stride: 1 };
        let size = Size { rows: head, inner: rows, columns };
        // SAFETY: the sums are borrowed by this call alone.
        unsafe {
            matmul_into(
                Target::new(sums),
                columns,
                size,
                left,
                right,
                MatmulWrite::Accumulate,
                none,
            )
        }
    }
}

/// Products of keys and queries, and what is known of those so far: a column is a query, and there is a multiple of [`LANES`].
pub(super) struct Columns<'a> {
    /// [keys, columns].
    pub(super) scores: &'a mut [f32],
    /// [columns] each: the largest score and the sum of the weights.
    pub(super) maxima: &'a mut [f32],
    pub(super) weights: &'a mut [f32],
    /// [d, columns].
    pub(super) sums: &'a mut [f32],
}

/// Turns the products of the block's `queries` and the keys of `range` into weights, and brings the sums onto them.
pub(super) fn weigh(
    block: &Block,
    keys: Keys,
    range: Range<usize>,
    queries: Range<usize>,
    Columns { scores, maxima, weights, sums }: Columns,
) {
    let (from, rows, columns) = (range.start, range.len(), maxima.len());
    // Scores are in powers of two.
    let mut scale = (std::f64::consts::LOG2_E * block.scale) as f32;
    if let Some(bias) = block.bias {
        bias.after_queries(queries.start).add_to(scores, scale, columns, queries.len(), from);
        scale = 1.0;
    }
    if let Some(seen) = keys.seen {
        for (column, seen) in seen[queries].iter().enumerate() {
            let within = |key: usize| key.clamp(from, from + rows) - from;
            // A weight of exactly zero, once a key that is seen has come.
            let hidden = (0..within(seen.start)).chain(within(seen.end)..rows);
            hidden.for_each(|row| scores[row * columns + column] = f32::MIN);
        }
    }
    online_softmax(scores, scale, maxima, weights, sums);
}

for_processor!(
    /// Turns `scale` times `scores` [keys, columns] into weights against the new running maximum, and brings the
    /// running sums, [columns] and [d, columns], onto it.
    fn online_softmax(
        scores: &mut [f32],
        scale: f32,
        maxima: &mut [f32],
        weights: &mut [f32],
        sums: &mut [f32],
    ) = online_softmax_body
);

/// Queries whose running numbers stay in registers.
pub(super) const LANES: usize = 16;

#[inline(always)]
fn online_softmax_body<const FUSED: bool>(
    scores: &mut [f32],
    scale: f32,
    maxima: &mut [f32],
    weights: &mut [f32],
    sums: &mut [f32],
) {
    let columns = maxima.len();
    for first in (0..columns / LANES * LANES).step_by(LANES) {
        let mut maximum = [0.0; LANES];
        maximum.copy_from_slice(&maxima[first..first + LANES]);
        let old = maximum;
        for row in scores.chunks_exact(columns) {
            for (maximum, score) in maximum.iter_mut().zip(&row[first..first + LANES]) {
                let score = score * scale;
                *maximum = if score > *maximum { score } else { *maximum };
            }
        }
        let mut total = [0.0; LANES];
        for row in scores.chunks_exact_mut(columns) {
            let row = &mut row[first..first + LANES];
            for lane in 0..LANES {
                let weight = power_of_two::<FUSED>(row[lane] * scale - maximum[lane]);
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
