//! In: a block of queries of one head (`attention_block.rs`), and keys and values packed for the matrix tiles. Out: their attention:
//! queries times keys and weights times values by tiles (`tiles.rs`) of factors in bf16, the softmax between them in f32.
//!
//! The softmax is taken step by step of keys as in `attention_block.rs`. All of a step stays in the caches: scores in f32, the weights
//! made of them as rows of factors, the sums of values as tiles. A query's numbers are the same whatever queries stand beside it.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::ops::Range;

use candle_core::Result;
use rayon::prelude::*;

use super::attention_block::{Block, Keys, QUERIES};
use super::matmul::Target;
use super::tile_packing::{DEPTH, PANEL, Packing, Parts, TileMatrix, split_line, steps};
use super::tiles::{self, Line, NO_SUMS, STEP, Session, Sums, TILE_ROWS};
use super::vector::{for_processor, power_of_two};

/// Keys of a step.
const KEYS: usize = 512;
/// Steps of the tiles in it.
const KEY_STEPS: usize = KEYS / DEPTH;
/// Keys whose maximum and sum stand side by side.
const LANES: usize = 16;

/// Keys of one head, which are the outputs of a product with queries, and its values, which are those of one with weights.
#[derive(Debug)]
pub(crate) struct TileKeys {
    keys: TileMatrix,
    values: TileMatrix,
}

impl TileKeys {
    /// Packs all `heads` of `head` numbers each: those of the first of the `sources` first.
    pub(crate) fn pack_all(sources: &[Keys], heads: usize, head: usize, parts: Parts) -> Vec<Self> {
        let of_head = |number: usize| {
            let source = sources[number / heads].from(number % heads * head);
            Self::pack(source, head, parts)
        };
        (0..sources.len() * heads).into_par_iter().map(of_head).collect()
    }

    fn pack(Keys { key, value, count, .. }: Keys, head: usize, parts: Parts) -> Self {
        Self {
            keys: TileMatrix::pack_rows(key.values, key.stride, count, head, parts),
            values: TileMatrix::pack_columns(value.values, value.stride, head, count, parts),
        }
    }
}

thread_local! {
    /// What a block needs, kept between calls.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::default());
}

#[derive(Default)]
struct Scratch {
    /// [panel of 32 queries][part][step of the head][32 queries].
    queries: Vec<Line>,
    /// [query][KEYS]: scores, and then weights.
    scores: Vec<f32>,
    /// [panel of 32 queries][part][step of the keys][32 queries].
    weights: Vec<Line>,
    /// [panel of 32 queries][panel of 32 numbers of the head].
    sums: Vec<Sums>,
    /// [query] each: the running maximum of the scores, the running sum of the weights, and the factor that brings
    /// earlier sums onto a new maximum.
    maxima: Vec<f32>,
    totals: Vec<f32>,
    fades: Vec<f32>,
    /// First lines of the steps of a panel.
    steps: Vec<usize>,
}

/// Sizes of a block.
#[derive(Clone, Copy)]
struct Sizes {
    queries: usize,
    parts: Parts,
    /// Steps of the tiles along a head, and panels of its numbers.
    head_steps: usize,
    head_panels: usize,
}

impl Sizes {
    /// Panels of queries, each with how many there are.
    fn panels(self) -> impl Iterator<Item = (usize, usize)> {
        let queries = self.queries;
        (0..queries.div_ceil(PANEL)).map(move |panel| (panel, PANEL.min(queries - panel * PANEL)))
    }
}

/// Writes the attention of the block's queries, whose rows of this head belong to this call alone, into `target`, whose rows are
/// `width` apart. `packed` are the block's keys and values, source by source.
pub(crate) fn attend(
    block: &Block,
    packing: Packing,
    packed: &[&TileKeys],
    target: Target,
    width: usize,
) -> Result<()> {
    let sizes = Sizes {
        queries: block.rows.len(),
        parts: packing.parts,
        head_steps: steps(block.head),
        head_panels: block.head.div_ceil(PANEL),
    };
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.begin(block, sizes)?;
        // The tiles are this thread's from here on, so nothing below may hand work to other threads.
        let session = packing.kernel.begin();
        for (keys, packed) in block.keys.iter().zip(packed) {
            let reach = keys.reach();
            // The tiles' steps begin at multiples of their depth.
            for from in (reach.start / DEPTH * DEPTH..reach.end).step_by(KEYS) {
                let range = from..(from + KEYS).min(reach.end);
                scratch.take(&session, block, sizes, *keys, packed, range);
            }
        }
        drop(session);
        block.for_each_result(target, width, |query, result| scratch.write(sizes, query, result));
        Ok(())
    })
}

impl Scratch {
    fn begin(&mut self, block: &Block, sizes: Sizes) -> Result<()> {
        let Sizes { queries, parts, head_steps, head_panels } = sizes;
        let panels = queries.div_ceil(PANEL);
        let panel = parts.count() * head_steps * STEP;
        self.queries.clear();
        self.queries.resize(panels * panel, Line::ZERO);
        self.scores.resize(QUERIES * KEYS, 0.0);
        self.weights.resize(panels * parts.count() * KEY_STEPS * STEP, Line::ZERO);
        self.sums.clear();
        self.sums.resize(panels * head_panels, NO_SUMS);
        for (values, value) in
            [(&mut self.maxima, f32::MIN), (&mut self.totals, 0.0), (&mut self.fades, 1.0)]
        {
            values.clear();
            values.resize(queries, value);
        }
        let first_lines = (0..head_steps.max(KEY_STEPS)).map(|step| step * STEP);
        self.steps.clear();
        self.steps.extend(first_lines);
        for (query, row) in block.rows.iter().enumerate() {
            let lines = &mut self.queries[query / PANEL * panel..][..panel];
            let (high, low) = lines.split_at_mut(head_steps * STEP);
            let row_of_panel = query % PANEL;
            let low = low.get_mut(row_of_panel..).unwrap_or_default();
            pack_row(block.query(*row)?, &mut high[row_of_panel..], low);
        }
        Ok(())
    }

    /// Brings up to `KEYS` keys, from a multiple of the tiles' depth on, into the running sums.
    fn take(
        &mut self,
        session: &Session,
        block: &Block,
        sizes: Sizes,
        keys: Keys,
        packed: &TileKeys,
        range: Range<usize>,
    ) {
        let Sizes { queries, parts, head_steps, head_panels } = sizes;
        let columns = range.len().next_multiple_of(PANEL);
        // Scores are in powers of two.
        let scale = (std::f64::consts::LOG2_E * block.scale) as f32;
        let panel_lines = parts.count() * head_steps * STEP;
        for (panel, rows) in sizes.panels() {
            let (high, low) =
                self.queries[panel * panel_lines..][..panel_lines].split_at(head_steps * STEP);
            let scores = &mut self.scores[panel * PANEL * KEYS..];
            for column in (0..columns).step_by(PANEL) {
                let factors = tiles::Block {
                    high,
                    low,
                    steps: &self.steps[..head_steps],
                    weights: packed.keys.part((range.start + column) / PANEL, 0, head_steps),
                    two_row_tiles: rows > TILE_ROWS,
                };
                let mut sums = NO_SUMS;
                session.add(factors, &mut sums);
                write_scores(&sums, scale, rows, &mut scores[column..]);
            }
        }
        let panel_lines = parts.count() * KEY_STEPS * STEP;
        for query in 0..queries {
            let scores = &mut self.scores[query * KEYS..][..columns];
            if let Some(bias) = block.bias {
                bias.add_to_query(&mut scores[..range.len()], query, range.start);
            }
            let seen = keys.seen.map_or(0..keys.count, |seen| seen[query].clone());
            let within = |key: usize| key.clamp(range.start, range.start + columns) - range.start;
            // A weight of exactly zero, once a key that is seen has come.
            scores[..within(seen.start)].fill(f32::MIN);
            scores[within(seen.end)..].fill(f32::MIN);
            let (maximum, total) = (&mut self.maxima[query], &mut self.totals[query]);
            self.fades[query] = online_softmax(scores, maximum, total);
            let lines = &mut self.weights[query / PANEL * panel_lines..][..panel_lines];
            let (high, low) = lines.split_at_mut(KEY_STEPS * STEP);
            let row = query % PANEL;
            pack_row(scores, &mut high[row..], low.get_mut(row..).unwrap_or_default());
        }
        let (first, count) = (range.start / DEPTH, columns / DEPTH);
        for (panel, rows) in sizes.panels() {
            let lines = &self.weights[panel * panel_lines..][..panel_lines];
            let (high, low) = lines.split_at(KEY_STEPS * STEP);
            let fades = &self.fades[panel * PANEL..][..rows];
            let sums = &mut self.sums[panel * head_panels..][..head_panels];
            for (number, sums) in sums.iter_mut().enumerate() {
                fade_rows(sums, fades);
                let factors = tiles::Block {
                    high,
                    low,
                    steps: &self.steps[..count],
                    weights: packed.values.part(number, first, first + count),
                    two_row_tiles: rows > TILE_ROWS,
                };
                session.add(factors, sums);
            }
        }
    }

    /// Writes a query's result.
    fn write(&self, Sizes { head_panels, .. }: Sizes, query: usize, result: &mut [f32]) {
        let share = 1.0 / self.totals[query];
        let (panel, row) = (query / PANEL * head_panels, query % PANEL);
        for (number, result) in result.chunks_mut(TILE_ROWS).enumerate() {
            let line = row / TILE_ROWS * STEP + number % 2 * TILE_ROWS + row % TILE_ROWS;
            for (result, sum) in result.iter_mut().zip(&self.sums[panel + number / 2][line].0) {
                *result = sum * share;
            }
        }
    }
}

for_processor!(
    /// Writes a row's numbers as factors to lines `STEP` apart, 32 to a line, zeros after the last.
    fn pack_row(values: &[f32], high: &mut [Line], low: &mut [Line]) = pack_row_body
);

#[inline(always)]
fn pack_row_body<const FUSED: bool>(values: &[f32], high: &mut [Line], low: &mut [Line]) {
    for (step, numbers) in values.chunks(DEPTH).enumerate() {
        let mut line = [0.0; DEPTH];
        line[..numbers.len()].copy_from_slice(numbers);
        split_line::<FUSED>(&line, &mut high[step * STEP], low.get_mut(step * STEP));
    }
}

for_processor!(
    /// Writes the first `rows` rows of a block's sums times `scale`, each `KEYS` after the one before.
    fn write_scores(sums: &Sums, scale: f32, rows: usize, scores: &mut [f32]) = write_scores_body
);

#[inline(always)]
fn write_scores_body<const FUSED: bool>(sums: &Sums, scale: f32, rows: usize, scores: &mut [f32]) {
    for (row, scores) in scores.chunks_mut(KEYS).enumerate().take(rows) {
        let line = row / TILE_ROWS * STEP + row % TILE_ROWS;
        let (left, right) = scores[..PANEL].split_at_mut(TILE_ROWS);
        for lane in 0..TILE_ROWS {
            left[lane] = sums[line].0[lane] * scale;
            right[lane] = sums[line + TILE_ROWS].0[lane] * scale;
        }
    }
}

for_processor!(
    /// Multiplies each row of a block's sums by its factor.
    fn fade_rows(sums: &mut Sums, fades: &[f32]) = fade_rows_body
);

#[inline(always)]
fn fade_rows_body<const FUSED: bool>(sums: &mut Sums, fades: &[f32]) {
    for (row, fade) in fades.iter().enumerate() {
        let line = row / TILE_ROWS * STEP + row % TILE_ROWS;
        for line in [line, line + TILE_ROWS] {
            sums[line].0.iter_mut().for_each(|sum| *sum *= fade);
        }
    }
}

for_processor!(
    /// Turns a query's `scores`, a multiple of 16 of them, into weights against the new running maximum, and brings the running
    /// sum of weights onto it. Returns the factor that does so.
    fn online_softmax(scores: &mut [f32], maximum: &mut f32, total: &mut f32) -> f32 = online_softmax_body
);

#[inline(always)]
fn online_softmax_body<const FUSED: bool>(
    scores: &mut [f32],
    maximum: &mut f32,
    total: &mut f32,
) -> f32 {
    let old = *maximum;
    let mut maxima = [old; LANES];
    for scores in scores.chunks_exact(LANES) {
        for (maximum, score) in maxima.iter_mut().zip(scores) {
            *maximum = if *score > *maximum { *score } else { *maximum };
        }
    }
    let new = maxima.iter().fold(old, |new, lane| if *lane > new { *lane } else { new });
    let mut sums = [0.0; LANES];
    for scores in scores.chunks_exact_mut(LANES) {
        for (sum, score) in sums.iter_mut().zip(scores) {
            *score = power_of_two::<FUSED>(*score - new);
            *sum += *score;
        }
    }
    let fade = power_of_two::<FUSED>(old - new);
    *total = *total * fade + sums.iter().sum::<f32>();
    *maximum = new;
    fade
}
