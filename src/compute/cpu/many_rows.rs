//! In: many rows, weights in panels of 16 outputs, and what the products are added to. Out: the sums. A block of rows stays in the second
//! cache for all panels of a task, a panel in the first one for all tiles of the block, and a tile's sums in registers: each for one part
//! of the inner length. The first part writes the result, so that nothing need stand there.
//!
//! The order of a sum is that of [`super::few_rows`], so the bits are the same.
#![allow(unsafe_code)]

use rayon::prelude::*;

use super::few_rows;
use super::few_rows::{PANEL, TILE, parts, plain};
use super::linear::Addends;
use super::matmul::{Operand, Size, Target};
use super::vector::ALWAYS_FUSED;

/// Rows of a block: 192 KiB of the longest part.
const BLOCK: usize = 16 * TILE;
/// Panels of a task. The tasks of a block follow one another, so that it stays where it is.
const PANELS: usize = 4;

/// `bias + shortcut + left @ panels` for `entries` times `left` [rows, inner], `entry_stride` numbers apart: [entries * rows, columns].
/// `panels` are `columns` outputs, 16 a panel, each panel [inner, 16], and `inner` is not 0.
pub(super) fn products(
    left: Operand,
    (entries, entry_stride): (usize, usize),
    size: Size,
    panels: &[f32],
    addends: Addends,
) -> Vec<f32> {
    let Size { rows, inner, columns } = size;
    let count = entries * rows * columns;
    assert!(inner > 0, "a product without an inner length is written by nobody");
    if count > 0 {
        let last = (entries - 1) * entry_stride
            + (rows - 1) * left.row_stride
            + (inner - 1) * left.column_stride;
        assert!(last < left.values.len(), "rows beyond their matrix");
    }
    let mut result = Vec::with_capacity(count);
    let target = Target::spare(&mut result, count);
    for entry in 0..entries {
        let at = entry * rows * columns;
        let left = Operand { values: &left.values[entry * entry_stride..], ..left };
        let shortcut = addends.shortcut.get(at..).unwrap_or_default();
        // SAFETY: `result` is borrowed by `target` alone, and the entries come one after the other.
        unsafe {
            write_products(left, size, panels, Addends { shortcut, ..addends }, target.from(at));
        }
    }
    // SAFETY: all rows of all entries have been written, for there is at least one part of the inner length.
    unsafe { result.set_len(count) };
    result
}

/// As [`products`], of one entry. Whatever stands in the target is written over.
///
/// # Safety
/// Nothing else may touch the target meanwhile.
unsafe fn write_products(
    left: Operand,
    size: Size,
    panels: &[f32],
    addends: Addends,
    target: Target,
) {
    let Size { rows, inner, columns } = size;
    let groups = columns.div_ceil(PANEL * PANELS);
    let tasks = rows.div_ceil(BLOCK) * groups;
    let mut packed = Vec::new();
    for (first, steps) in parts(inner) {
        pack(left, rows, first, steps, &mut packed);
        (0..tasks).into_par_iter().for_each(|task| {
            let first_row = task / groups * BLOCK;
            let block = &packed[first_row * steps..(first_row + BLOCK).min(rows) * steps];
            let group = task % groups * PANELS;
            for number in group..(group + PANELS).min(columns.div_ceil(PANEL)) {
                let (first_column, start) = (number * PANEL, (number * inner + first) * PANEL);
                let weights = &panels[start..start + steps * PANEL];
                let next = weights.as_ptr().wrapping_add(inner * PANEL);
                let at = first_row * columns + first_column;
                let place = Place {
                    target: target.from(at),
                    row_stride: columns,
                    width: PANEL.min(columns - first_column),
                    start: (first == 0).then(|| Addends {
                        bias: addends.bias.get(first_column..).unwrap_or_default(),
                        shortcut: addends.shortcut.get(at..).unwrap_or_default(),
                    }),
                };
                // SAFETY: the caller holds the target, and a block's columns of a panel belong to one task.
                unsafe { multiply(block, weights, next, place) };
            }
        });
    }
}

/// Steps `first..first + steps` of all rows, tile by tile, a tile's rows interleaved step by step.
fn pack(left: Operand, rows: usize, first: usize, steps: usize, packed: &mut Vec<f32>) {
    packed.resize(rows * steps, 0.0);
    packed.par_chunks_mut(BLOCK * steps).enumerate().for_each(|(block, packed)| {
        for (tile, packed) in packed.chunks_mut(TILE * steps).enumerate() {
            let count = packed.len() / steps;
            let row = |row: usize| {
                let at = (block * BLOCK + tile * TILE + row) * left.row_stride;
                &left.values[at + first * left.column_stride..]
            };
            if left.column_stride == 1 && count == TILE {
                let rows: [&[f32]; TILE] = std::array::from_fn(|number| &row(number)[..steps]);
                for (step, packed) in packed.as_chunks_mut::<TILE>().0.iter_mut().enumerate() {
                    *packed = rows.map(|row| row[step]);
                }
                continue;
            }
            for number in 0..count {
                let numbers = row(number).iter().step_by(left.column_stride);
                for (value, number) in packed[number..].iter_mut().step_by(count).zip(numbers) {
                    *value = *number;
                }
            }
        }
    });
}

/// Where a panel's products go.
#[derive(Clone, Copy)]
struct Place<'a> {
    target: Target<'a>,
    row_stride: usize,
    /// Columns, 16 or fewer.
    width: usize,
    /// What they are added to, from the place's first number on; `None` for what stands there.
    start: Option<Addends<'a>>,
}

impl Place<'_> {
    /// What lies `rows` rows below.
    fn below(self, rows: usize) -> Self {
        let skip = rows * self.row_stride;
        let start = self.start.map(|start| Addends {
            shortcut: start.shortcut.get(skip..).unwrap_or_default(),
            ..start
        });
        Self { target: self.target.from(skip), start, ..self }
    }

    /// Puts `sums` [rows, 16] there.
    ///
    /// # Safety
    /// Nothing else may touch the place meanwhile.
    #[inline(always)]
    unsafe fn put<const R: usize>(self, sums: &[[f32; PANEL]; R]) {
        // Copies of a length that the compiler knows take no call.
        // SAFETY: as the caller's.
        match self.width {
            PANEL.. => unsafe { self.put_columns(sums, PANEL) },
            width => unsafe { self.put_columns(sums, width) },
        }
    }

    /// As [`Place::put`], of the first `width` columns.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn put_columns<const R: usize>(self, sums: &[[f32; PANEL]; R], width: usize) {
        for (row, sums) in sums.iter().enumerate() {
            let target = self.target.pointer(row * self.row_stride, width);
            let mut start = [0.0; PANEL];
            match self.start {
                // SAFETY: the first part wrote these numbers, and the caller alone holds them.
                None => unsafe { target.copy_to_nonoverlapping(start.as_mut_ptr(), width) },
                Some(Addends { bias, shortcut }) => {
                    if !shortcut.is_empty() {
                        let from = row * self.row_stride;
                        start[..width].copy_from_slice(&shortcut[from..from + width]);
                    }
                    if !bias.is_empty() {
                        for (start, bias) in start.iter_mut().zip(&bias[..width]) {
                            *start += bias;
                        }
                    }
                }
            }
            for (start, sum) in start.iter_mut().zip(sums) {
                *start += sum;
            }
            // SAFETY: `pointer` checked the row, and the caller alone holds it.
            unsafe { target.copy_from_nonoverlapping(start.as_ptr(), width) };
        }
    }
}

/// Puts the products of a block's tiles with a panel's part where they go. What lies from `next` on is wanted afterwards.
///
/// # Safety
/// Nothing else may touch the place meanwhile.
unsafe fn multiply(block: &[f32], weights: &[f32], next: *const f32, place: Place) {
    let steps = weights.len() / PANEL;
    let tiles = block.chunks(TILE * steps);
    let share = size_of::<[f32; PANEL]>().div_ceil(tiles.len());
    for (number, values) in tiles.enumerate() {
        let (ahead, place) =
            (next.cast::<i8>().wrapping_add(number * steps * share), place.below(number * TILE));
        // SAFETY: as the caller's.
        unsafe {
            match values.len() / steps {
                1 => tile::<1>(values, weights, ahead, share, place),
                2 => tile::<2>(values, weights, ahead, share, place),
                3 => tile::<3>(values, weights, ahead, share, place),
                4 => tile::<4>(values, weights, ahead, share, place),
                5 => tile::<5>(values, weights, ahead, share, place),
                _ => tile::<TILE>(values, weights, ahead, share, place),
            }
        }
    }
}

/// As [`multiply`], of one tile [steps, R]. `share` bytes a step from `ahead` on will be wanted next.
///
/// # Safety
/// As there.
unsafe fn tile<const R: usize>(
    values: &[f32],
    weights: &[f32],
    ahead: *const i8,
    share: usize,
    place: Place,
) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor has both, and the caller alone holds the place.
        unsafe { avx2::<R>(values, weights, ahead, share, place) };
        return;
    }
    let _ = (ahead, share);
    let mut sums = [[0.0; PANEL]; R];
    plain::<R, ALWAYS_FUSED>(values, weights, sums.as_flattened_mut());
    // SAFETY: the caller alone holds the place.
    unsafe { place.put(&sums) };
}

/// # Safety
/// Nothing else may touch the place meanwhile.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<const R: usize>(
    values: &[f32],
    weights: &[f32],
    ahead: *const i8,
    share: usize,
    place: Place,
) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    let mut sums = [[0.0; PANEL]; R];
    for row in 0..R {
        let target = place.target.pointer(row * place.row_stride, place.width).cast::<i8>();
        _mm_prefetch::<_MM_HINT_T0>(target);
        _mm_prefetch::<_MM_HINT_T0>(target.wrapping_add(size_of::<[f32; PANEL]>() - 1));
    }
    few_rows::avx2::<R>(values, weights, sums.as_flattened_mut(), ahead, share);
    // SAFETY: as the caller's.
    unsafe { place.put(&sums) };
}
