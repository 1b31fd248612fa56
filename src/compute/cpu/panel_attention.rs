//! In: a block of queries of one head (`attention_block.rs`), and keys and values packed for the kernel of many rows (`many_rows.rs`).
//! Out: their attention. Sixteen queries are a panel: their scores against a step of keys, 32 KiB, stay beside the core from the
//! first product through the softmax to the second one.
//!
//! Every sum has the order of `attention_block.rs`, so the bits are the same where queries see keys from the first one on. Who sees a
//! window goes there: its steps begin with the window.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ops::Range;

use candle_core::Result;

use super::attention_block::{Block, Columns, KEYS, Keys, LANES, QUERIES, weigh};
use super::few_rows::{PANEL, TILE};
use super::linear::Addends;
use super::lines::{Line, numbers, numbers_mut};
use super::many_rows::{Place, multiply, pack};
use super::matmul::{Operand, Target};
use super::packed_linear::PackedWeights;

/// Queries of a group from which on its keys are packed.
const FEWEST: usize = 64;
/// What a product is put in the place of.
const NOTHING: Addends = Addends { bias: &[], shortcut: &[] };

/// Keys and values of one head, step by step of [`KEYS`]: a step's keys are rows in tiles, its values columns.
#[derive(Debug)]
pub(super) struct PanelKeys {
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl PanelKeys {
    /// Whether `queries` queries gain by them on this processor.
    pub(super) fn pay_for(queries: usize) -> bool {
        queries >= FEWEST && PackedWeights::pay_for_many_rows()
    }

    /// Of `source`, for heads of `head` numbers, where its rows have a stride of their own.
    pub(super) fn of(source: Keys, head: usize) -> Result<Option<Self>> {
        let fits = head > 0 && source.key.stride >= head && source.value.stride >= head;
        if fits { Self::pack(source, head).map(Some) } else { Ok(None) }
    }

    fn pack(Keys { key, value, count, .. }: Keys, head: usize) -> Result<Self> {
        let holds = |values: &[f32], stride: usize| {
            count == 0 || values.len() >= (count - 1) * stride + head
        };
        if !holds(key.values, key.stride) || !holds(value.values, value.stride) {
            candle_core::bail!("{count} keys of {head} numbers reach beyond their matrix")
        }
        let mut packed = Self { keys: vec![0.0; count * head], values: vec![0.0; count * head] };
        for from in (0..count).step_by(KEYS) {
            let (place, rows) = part(from, count, head);
            let values = &key.values[from * key.stride..];
            let keys = Operand { values, row_stride: key.stride, column_stride: 1 };
            pack(keys, rows, 0, head, &mut packed.keys[place.clone()]);
            let values = &value.values[from * value.stride..];
            let values = Operand { values, row_stride: 1, column_stride: value.stride };
            pack(values, head, 0, rows, &mut packed.values[place]);
        }
        Ok(packed)
    }
}

/// Where the step that begins with key `from` of `count` lies, and how many keys it has.
fn part(from: usize, count: usize, head: usize) -> (Range<usize>, usize) {
    let end = count.min(from + KEYS);
    (from * head..end * head, end - from)
}

thread_local! {
    /// What a block needs, kept between calls.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::default());
}

#[derive(Default)]
struct Scratch {
    /// [panel][d]: transposed.
    queries: Vec<Line>,
    /// [KEYS] of one panel: scores, and then weights.
    scores: Vec<Line>,
    /// [panel][d].
    sums: Vec<Line>,
    /// [QUERIES] each: the running maximum and the running sum of the weights.
    maxima: Vec<f32>,
    weights: Vec<f32>,
}

/// Writes the attention of the block's queries, whose rows of this head belong to this call alone, into `target`, whose rows are
/// `width` apart. `packed` are the block's keys and values, source by source.
pub(super) fn attend(
    block: &Block,
    packed: &[&PanelKeys],
    target: Target,
    width: usize,
) -> Result<()> {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.begin(block)?;
        for (keys, packed) in block.keys.iter().zip(packed) {
            let reach = keys.reach();
            for from in (0..reach.end).step_by(KEYS) {
                // Whole tiles; what nobody sees has no weight.
                let count = (reach.end - from).min(KEYS).next_multiple_of(TILE);
                let end = (from + count.min(KEYS)).min(keys.count);
                scratch.take(block, *keys, packed, from..end);
            }
        }
        block.for_each_result(target, width, |query, result| {
            let share = 1.0 / scratch.weights[query];
            let sums = &scratch.sums[query / PANEL * block.head..];
            for (result, sums) in result.iter_mut().zip(sums) {
                *result = sums.0[query % PANEL] * share;
            }
        });
        Ok(())
    })
}

impl Scratch {
    fn begin(&mut self, block: &Block) -> Result<()> {
        const { assert!(QUERIES.is_multiple_of(PANEL) && PANEL == LANES) };
        let Scratch { queries, scores, sums, maxima, weights } = self;
        let (head, panels) = (block.head, block.rows.len().div_ceil(PANEL));
        for lines in [&mut *queries, sums] {
            lines.clear();
            lines.resize(panels * head, Line::ZERO);
        }
        scores.resize(KEYS, Line::ZERO);
        for (values, value) in [(maxima, f32::MIN), (weights, 0.0)] {
            values.clear();
            values.resize(panels * PANEL, value);
        }
        for (query, row) in block.rows.iter().enumerate() {
            let lines = &mut queries[query / PANEL * head..];
            for (line, value) in lines.iter_mut().zip(block.query(*row)?) {
                line.0[query % PANEL] = *value;
            }
        }
        Ok(())
    }

    /// Brings the keys of `range`, which are of one step and begin with its first one, into the running sums.
    fn take(&mut self, block: &Block, keys: Keys, packed: &PanelKeys, range: Range<usize>) {
        let Scratch { queries, scores, sums, maxima, weights } = self;
        let (head, count) = (block.head, block.rows.len());
        let (place, step) = part(range.start, keys.count, head);
        let scores = numbers_mut(&mut scores[..range.len()]);
        for panel in 0..count.div_ceil(PANEL) {
            let (first, lines) = (panel * PANEL, panel * head..(panel + 1) * head);
            let queries = numbers(&queries[lines.clone()]);
            let sums = numbers_mut(&mut sums[lines]);
            let of_keys = &packed.keys[place.start..place.start + range.len() * head];
            // SAFETY: the scores are borrowed by this call alone.
            unsafe {
                multiply(of_keys, head, queries, queries.as_ptr(), put(scores, Some(NOTHING)))
            };
            let columns = Columns {
                scores,
                maxima: &mut maxima[first..first + PANEL],
                weights: &mut weights[first..first + PANEL],
                sums,
            };
            weigh(block, keys, range.clone(), first..count.min(first + PANEL), columns);
            let of_values = &packed.values[place.clone()];
            // SAFETY: as above, the sums.
            unsafe { multiply(of_values, step, scores, scores.as_ptr(), put(sums, None)) };
        }
    }
}

/// The rows of `values` [rows, 16].
fn put<'a>(values: &'a mut [f32], start: Option<Addends<'a>>) -> Place<'a> {
    Place { target: Target::new(values), row_stride: PANEL, width: PANEL, start }
}

#[cfg(test)]
mod tests;
