//! In: rows of f32, and weights packed once as bf16. Out: their product in f32 by matrix tiles (`tiles.rs`), with bias
//! and shortcut added as it is written. Of factors of two parts (`tile_packing.rs`) the product of the two small ones is left out.
//!
//! The inner length is cut into parts of equal length, so that a panel of weights stays in the first-level cache
//! while all rows of a group meet it; sums stand in a scratch between the parts. All of it is cut by shape alone,
//! and a number of the result is the same whatever stands in the rows beside it.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::matmul::Operand;
use super::tile_packing::{PANEL, TileMatrix, pack_panel_of_rows, steps};
use super::tiles::{Block, Line, NO_SUMS, STEP, Sums, TILE_ROWS, TileKernel};
use super::vector::for_processor;

/// Panels of rows that meet a part of a panel of weights one after the other.
const GROUP: usize = 8;
/// Groups of rows that are packed at a time.
const GROUPS_AT_ONCE: usize = 16;
/// Tasks that a product is cut into at least, where its outputs allow.
pub(crate) const TASKS: usize = 16;
/// Lines of weights that are used between two writings of the sums: 16 KiB.
pub(crate) const PART: usize = 256;

/// First lines of the steps of a part, whose rows are packed step by step.
const STEPS: [usize; PART / STEP] = {
    let mut steps = [0; PART / STEP];
    let mut step = 0;
    while step < steps.len() {
        steps[step] = step * STEP;
        step += 1;
    }
    steps
};

/// What is added to a product.
#[derive(Clone, Copy, Default)]
pub(crate) struct Added<'a> {
    /// A number for each output, or empty.
    pub(crate) bias: &'a [f32],
    /// A number for each number of the result, or empty.
    pub(crate) shortcut: &'a [f32],
}

thread_local! {
    /// Packed rows, kept between calls.
    static ROWS: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// Writes `rows @ weights^T + added` to `result` [count, outputs], for `count` rows of the weights' inner length.
///
/// # Panics
/// An operand is shorter than that.
pub(crate) fn multiply(
    kernel: TileKernel,
    rows: Operand,
    count: usize,
    weights: &TileMatrix,
    added: Added,
    result: &mut [f32],
) {
    let outputs = weights.outputs();
    if outputs == 0 || count == 0 {
        return;
    }
    assert!(
        result.len() == count * outputs
            && (added.bias.is_empty() || added.bias.len() == outputs)
            && (added.shortcut.is_empty() || added.shortcut.len() == result.len()),
        "bias, shortcut and result do not fit a product of {count} x {outputs}"
    );
    // Not borrowed meanwhile: a thread that waits for others may begin another product.
    let mut packed = ROWS.take();
    let panel = weights.parts().count() * steps(weights.inner()) * STEP;
    let at_once = GROUPS_AT_ONCE * GROUP * PANEL;
    for (number, result) in result.chunks_mut(at_once * outputs).enumerate() {
        let (first, count) = (number * at_once, result.len() / outputs);
        let lines = count.div_ceil(PANEL) * panel;
        packed.resize(packed.len().max(lines), Line::ZERO);
        packed[..lines].par_chunks_mut(panel).enumerate().for_each(|(number, lines)| {
            let first = first + number * PANEL;
            let many = PANEL.min(count - number * PANEL);
            pack_panel_of_rows(rows, first, many, weights.inner(), weights.parts(), lines);
        });
        let shortcut = match added.shortcut {
            [] => &[],
            all => &all[first * outputs..][..result.len()],
        };
        let task = Task { kernel, weights, bias: added.bias };
        multiply_packed(task, &packed[..lines], panel, shortcut, result);
    }
    ROWS.set(packed);
}

/// What all tasks of a product share.
#[derive(Clone, Copy)]
struct Task<'a> {
    kernel: TileKernel,
    weights: &'a TileMatrix,
    bias: &'a [f32],
}

/// One task for each group of rows, and for each part of the panels of outputs where groups are few. `panel` is the
/// lines of a panel of rows.
fn multiply_packed(
    task: Task,
    packed: &[Line],
    panel: usize,
    shortcut: &[f32],
    result: &mut [f32],
) {
    let outputs = task.weights.outputs();
    let group = GROUP * PANEL * outputs;
    let panels = outputs.div_ceil(PANEL);
    let columns = panels.div_ceil(TASKS.div_ceil(result.len().div_ceil(group)).min(panels));
    result.par_chunks_mut(group).zip(packed.par_chunks(GROUP * panel)).enumerate().for_each(
        |(number, (result, packed))| {
            let shortcut = shortcut.get(number * group..).unwrap_or_default();
            let mut pieces: Vec<Vec<&mut [f32]>> = Vec::new();
            pieces.resize_with(panels.div_ceil(columns), Vec::new);
            for row in result.chunks_mut(outputs) {
                for (piece, part) in pieces.iter_mut().zip(row.chunks_mut(columns * PANEL)) {
                    piece.push(part);
                }
            }
            pieces.into_par_iter().enumerate().for_each(|(number, mut result)| {
                let first = number * columns;
                let panels = first..panels.min(first + columns);
                multiply_group(task, packed, panel, panels, shortcut, &mut result);
            });
        },
    );
}

/// The result's columns of the `panels` of outputs, for a group of rows. The tiles are this thread's from here on, so
/// nothing below may hand work to other threads.
fn multiply_group(
    task: Task,
    packed: &[Line],
    panel: usize,
    panels: Range<usize>,
    shortcut: &[f32],
    result: &mut [&mut [f32]],
) {
    let Task { kernel, weights, bias } = task;
    let session = kernel.begin();
    let steps = steps(weights.inner());
    let parts = (steps * weights.parts().count() * STEP).div_ceil(PART);
    let mut sums = [NO_SUMS; GROUP];
    for output in panels.clone() {
        sums.fill(NO_SUMS);
        let mut own_bias = [0.0; PANEL];
        for (own, bias) in own_bias.iter_mut().zip(bias.get(output * PANEL..).unwrap_or_default()) {
            *own = *bias;
        }
        for part in 0..parts {
            let (first, end) = (steps * part / parts, steps * (part + 1) / parts);
            let lines = weights.part(output, first, end);
            // What comes next: the rest of this panel, or the next one.
            let next = match part + 1 < parts {
                true => weights.part(output, end, steps * (part + 2) / parts),
                false if output + 1 < panels.end => weights.part(output + 1, 0, steps / parts),
                false => &[],
            };
            let slice = next.len().div_ceil(packed.len() / panel).max(1);
            let mut next = next.chunks(slice);
            let rows = packed.chunks_exact(panel).zip(result.chunks_mut(PANEL));
            for (number, ((packed, result), sums)) in rows.zip(&mut sums).enumerate() {
                session.prefetch(next.next().unwrap_or_default());
                let (high, low) = packed.split_at(steps * STEP);
                let block = Block {
                    high: &high[first * STEP..end * STEP],
                    low: low.get(first * STEP..end * STEP).unwrap_or_default(),
                    steps: &STEPS[..end - first],
                    weights: lines,
                    two_row_tiles: result.len() > TILE_ROWS,
                };
                session.add(block, sums);
                if part + 1 == parts {
                    let column = output * PANEL;
                    let place = Place { row: number * PANEL, column, from: panels.start * PANEL };
                    write(sums, place, weights.outputs(), &own_bias, shortcut, result);
                }
            }
        }
    }
    drop(session);
}

/// Where a block stands: its first row in the group, its first column, and the column where the rows of `result` begin.
#[derive(Clone, Copy)]
struct Place {
    row: usize,
    column: usize,
    from: usize,
}

/// Writes a block's sums with what is added to them; `bias` is that of its outputs.
fn write(
    sums: &Sums,
    place: Place,
    outputs: usize,
    bias: &[f32; PANEL],
    shortcut: &[f32],
    result: &mut [&mut [f32]],
) {
    let Place { row, column, from } = place;
    let columns = column - from..column - from + PANEL.min(outputs - column);
    write_rows(sums, bias, columns.clone(), result);
    for (number, result) in result.iter_mut().enumerate() {
        let at = (row + number) * outputs + column;
        let Some(shortcut) = shortcut.get(at..at + columns.len()) else { return };
        for (result, shortcut) in result[columns.clone()].iter_mut().zip(shortcut) {
            *result += shortcut;
        }
    }
}

for_processor!(
    /// Writes sums and `bias` to `columns` of each row.
    fn write_rows(
        sums: &Sums,
        bias: &[f32; PANEL],
        columns: Range<usize>,
        result: &mut [&mut [f32]],
    ) = write_rows_body
);

#[inline(always)]
fn write_rows_body<const FUSED: bool>(
    sums: &Sums,
    bias: &[f32; PANEL],
    columns: Range<usize>,
    result: &mut [&mut [f32]],
) {
    for (number, result) in result.iter_mut().enumerate().take(PANEL) {
        let line = number / TILE_ROWS * STEP + number % TILE_ROWS;
        let mut row = [0.0; PANEL];
        for lane in 0..TILE_ROWS {
            row[lane] = sums[line].0[lane] + bias[lane];
            row[TILE_ROWS + lane] = sums[line + TILE_ROWS].0[lane] + bias[TILE_ROWS + lane];
        }
        let result = &mut result[columns.clone()];
        // A whole panel is copied without a loop.
        match <&mut [f32; PANEL]>::try_from(&mut *result) {
            Ok(result) => *result = row,
            Err(_) => result.copy_from_slice(&row[..result.len()]),
        }
    }
}
