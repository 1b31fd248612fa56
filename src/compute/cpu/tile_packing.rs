//! In: rows and weights of a product in f32. Out: both as the matrix tiles read them (`tiles.rs`): each number rounded to
//! one part in bf16, or to two, of which the second is what the first leaves, and laid out step by step.

use std::ops::Range;

use rayon::prelude::*;

use super::matmul::Operand;
use super::tiles::{Line, STEP, TILE_ROWS, TileKernel};
use super::vector::for_processor;

/// Outputs of a panel of weights, and rows of a panel of rows: two tiles.
pub(crate) const PANEL: usize = 2 * TILE_ROWS;
/// Numbers of a step along the inner length: a line.
pub(crate) const DEPTH: usize = 32;

/// Parts of a factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    /// Rounded to bf16: relative errors of a product of about 2e-3.
    One,
    /// About 16 bits, three products: relative errors of about 4e-6.
    Two,
}

impl Parts {
    /// How many.
    pub(crate) const fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }
}

/// How products are made of packed factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packing {
    /// What multiplies them.
    pub(crate) kernel: TileKernel,
    /// Parts of each factor.
    pub(crate) parts: Parts,
}

/// Weights as the tiles read them: [panel of 32 outputs][step of 32][part][2 tiles][16 pairs][16 outputs][2].
#[derive(Debug)]
pub(crate) struct TileMatrix {
    parts: Parts,
    outputs: usize,
    inner: usize,
    lines: Vec<Line>,
}

impl TileMatrix {
    /// Packs `weights` [outputs, inner], its rows one after the other.
    ///
    /// # Panics
    /// Fewer numbers.
    pub(crate) fn pack(weights: &[f32], outputs: usize, inner: usize, parts: Parts) -> Self {
        let weights = &weights[..outputs * inner];
        Self::pack_rows(weights, inner, outputs, inner, parts)
    }

    /// Packs the matrix of `outputs` rows of `inner` numbers, which begin `stride` apart.
    ///
    /// # Panics
    /// Fewer numbers.
    pub(crate) fn pack_rows(
        rows: &[f32],
        stride: usize,
        outputs: usize,
        inner: usize,
        parts: Parts,
    ) -> Self {
        Self::pack_steps(outputs, inner, parts, |output, step| {
            line_of(&rows[output * stride..], 1, step * DEPTH, inner)
        })
    }

    /// Packs the matrix whose columns are the outputs: `inner` rows of `outputs` numbers, which begin `stride` apart.
    ///
    /// # Panics
    /// Fewer numbers.
    pub(crate) fn pack_columns(
        rows: &[f32],
        stride: usize,
        outputs: usize,
        inner: usize,
        parts: Parts,
    ) -> Self {
        let step = parts.count() * STEP;
        let panel = steps(inner) * step;
        let mut lines = vec![Line::ZERO; outputs.div_ceil(PANEL) * panel];
        lines.par_chunks_mut(panel).enumerate().for_each(|(panel, lines)| {
            let first = panel * PANEL;
            let columns = first..outputs.min(first + PANEL);
            for (number, lines) in lines.chunks_exact_mut(step).enumerate() {
                let rows_left = inner.saturating_sub(number * DEPTH);
                let rows = rows.get(number * DEPTH * stride..).unwrap_or_default();
                pack_pairs(rows, stride, rows_left.min(DEPTH), columns.clone(), lines);
            }
        });
        Self { parts, outputs, inner, lines }
    }

    /// Packs `outputs` rows of which `numbers(output, step)` are those of a step, zeros after an inner length that ends
    /// within it.
    pub(crate) fn pack_steps(
        outputs: usize,
        inner: usize,
        parts: Parts,
        numbers: impl Fn(usize, usize) -> [f32; DEPTH] + Sync,
    ) -> Self {
        let panel = steps(inner) * parts.count() * STEP;
        let mut lines = vec![Line::ZERO; outputs.div_ceil(PANEL) * panel];
        lines.par_chunks_mut(panel).enumerate().for_each(|(panel, lines)| {
            for output in 0..PANEL.min(outputs - panel * PANEL) {
                let (tile, column) = (output / TILE_ROWS, output % TILE_ROWS * 2);
                for (step, lines) in lines.chunks_exact_mut(parts.count() * STEP).enumerate() {
                    let values = numbers(panel * PANEL + output, step);
                    let (mut high, mut low) = (Line::ZERO, Line::ZERO);
                    split(&values, &mut high, (parts == Parts::Two).then_some(&mut low));
                    for (part, line) in [high, low].iter().enumerate().take(parts.count()) {
                        let lines = &mut lines[part * STEP + tile * TILE_ROWS..][..TILE_ROWS];
                        for (pair, numbers) in line.0.chunks_exact(2).enumerate() {
                            lines[pair].0[column..column + 2].copy_from_slice(numbers);
                        }
                    }
                }
            }
        });
        Self { parts, outputs, inner, lines }
    }

    /// Rows of the weight matrix.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Parts of each weight.
    pub(crate) fn parts(&self) -> Parts {
        self.parts
    }

    /// Columns of the weight matrix.
    pub(crate) fn inner(&self) -> usize {
        self.inner
    }

    /// A part of the steps of a panel of outputs.
    pub(crate) fn part(&self, panel: usize, first: usize, end: usize) -> &[Line] {
        let step = self.parts.count() * STEP;
        &self.lines[panel * steps(self.inner) * step..][first * step..end * step]
    }
}

/// Steps along an inner length.
pub(crate) fn steps(inner: usize) -> usize {
    inner.div_ceil(DEPTH).max(1)
}

/// `value` in bf16: to nearest even, subnormal numbers to zero, as the processor's own conversion.
#[inline(always)]
pub(crate) fn rounded(value: f32) -> u16 {
    let bits = value.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let bits = if magnitude > 0x7f80_0000 {
        bits >> 16 | 0x40
    } else if magnitude < 0x0080_0000 {
        bits >> 16 & 0x8000
    } else {
        nearest
    };
    bits as u16
}

/// What `high` in bf16 leaves of `value`, in bf16; nothing of what is not finite.
#[inline(always)]
pub(crate) fn remainder(value: f32, high: u16) -> u16 {
    let high = f32::from_bits(u32::from(high) << 16);
    if high.is_finite() { rounded(value - high) } else { 0 }
}

for_processor!(
    /// Each number in bf16, and what that leaves.
    fn split(values: &[f32; DEPTH], high: &mut Line, low: Option<&mut Line>) = split_line
);

#[inline(always)]
pub(crate) fn split_line<const FUSED: bool>(
    values: &[f32; DEPTH],
    high: &mut Line,
    low: Option<&mut Line>,
) {
    for (high, value) in high.0.iter_mut().zip(values) {
        *high = rounded(*value);
    }
    if let Some(low) = low {
        for ((low, high), value) in low.0.iter_mut().zip(&high.0).zip(values) {
            *low = remainder(*value, *high);
        }
    }
}

for_processor!(
    /// Packs `columns` of up to 32 `rows` into the lines of a step, zeros after the last of either.
    fn pack_pairs(
        rows: &[f32],
        stride: usize,
        count: usize,
        columns: Range<usize>,
        lines: &mut [Line],
    ) = pack_pairs_body
);

#[inline(always)]
fn pack_pairs_body<const FUSED: bool>(
    rows: &[f32],
    stride: usize,
    count: usize,
    columns: Range<usize>,
    lines: &mut [Line],
) {
    let (high, low) = lines.split_at_mut(STEP);
    let mut pair = [[0.0; PANEL]; 2];
    for number in 0..TILE_ROWS {
        for (second, row) in pair.iter_mut().enumerate() {
            *row = [0.0; PANEL];
            let at = 2 * number + second;
            if at < count {
                row[..columns.len()].copy_from_slice(&rows[at * stride..][columns.clone()]);
            }
        }
        for tile in 0..2 {
            let mut line = [0.0; DEPTH];
            for column in 0..TILE_ROWS {
                line[2 * column] = pair[0][tile * TILE_ROWS + column];
                line[2 * column + 1] = pair[1][tile * TILE_ROWS + column];
            }
            let at = tile * TILE_ROWS + number;
            split_line::<FUSED>(&line, &mut high[at], low.get_mut(at));
        }
    }
}

/// Numbers from number `first` of a row on, zeros where it ends.
#[inline(always)]
fn line_of(row: &[f32], stride: usize, first: usize, inner: usize) -> [f32; DEPTH] {
    let mut values = [0.0; DEPTH];
    let count = DEPTH.min(inner.saturating_sub(first));
    if stride == 1 {
        values[..count].copy_from_slice(&row[first..first + count]);
    } else {
        for (number, value) in values[..count].iter_mut().enumerate() {
            *value = row[(first + number) * stride];
        }
    }
    values
}

for_processor!(
    /// Packs `count` rows from row `first` on into [part][step][2 tiles][16 rows][32], zeros after the last.
    fn pack_panel_of_rows(
        rows: Operand,
        first: usize,
        count: usize,
        inner: usize,
        parts: Parts,
        lines: &mut [Line],
    ) = pack_panel_of_rows_body
);

#[inline(always)]
fn pack_panel_of_rows_body<const FUSED: bool>(
    rows: Operand,
    first: usize,
    count: usize,
    inner: usize,
    parts: Parts,
    lines: &mut [Line],
) {
    let (high, low) = lines.split_at_mut(steps(inner) * STEP);
    let mut low = (parts == Parts::Two).then_some(low);
    for row in 0..PANEL {
        let values = (row < count).then(|| &rows.values[(first + row) * rows.row_stride..]);
        for step in 0..steps(inner) {
            let at = step * STEP + row;
            let line = values.map_or([0.0; DEPTH], |values| {
                line_of(values, rows.column_stride, step * DEPTH, inner)
            });
            split_line::<FUSED>(&line, &mut high[at], low.as_mut().map(|low| &mut low[at]));
        }
    }
}
