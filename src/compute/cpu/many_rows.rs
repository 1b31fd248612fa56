//! In: many rows, weights in panels of 16 outputs, and what the products are added to. Out: the sums. A block of rows stays in the second
//! cache for all panels of a task, a panel in the first one for all tiles of the block, and a tile's sums in registers: each for one part
//! of the inner length. The first part writes the result, so that nothing need stand there.
//!
//! The order of a sum is that of [`super::few_rows`], so the bits are the same.
#![allow(unsafe_code)]

use std::cell::Cell;

use candle_core::{Device, Result, Tensor};

#[cfg(target_arch = "x86_64")]
use super::few_rows::add_products;
use super::few_rows::{PANEL, TILE, parts, plain};
use super::linear::Addends;
use super::lines::with_lines;
use super::matmul::{Operand, Size, Target};
use super::sharing::{PRODUCTS_A_STEP, each_piece, each_task};
use super::vector::ALWAYS_FUSED;

/// Rows of a block: 192 KiB of the longest part.
const BLOCK: usize = 16 * TILE;
/// Rows that are packed at a time: 3 MiB of the longest part.
const GROUP: usize = 16 * BLOCK;

thread_local! {
    /// Rows as the kernel reads them, kept between calls, so that no call fills them with zeros.
    static PACKED: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Panels of a task. The tasks of a block follow one another, so that it stays where it is.
const PANELS: usize = 4;

/// `bias + shortcut + left @ panels` for `entries` times `left` [rows, inner], `entry_stride` numbers apart: [entries * rows * columns].
/// `panels` are `columns` outputs, 16 a panel, each panel [inner, 16], and `inner` is not 0.
pub(super) fn products(
    left: Operand,
    (entries, entry_stride): (usize, usize),
    size: Size,
    panels: &[f32],
    addends: Addends,
) -> Result<Tensor> {
    let Size { rows, inner, columns } = size;
    let count = entries * rows * columns;
    assert!(inner > 0, "a product without an inner length is written by nobody");
    if count > 0 {
        let last = (entries - 1) * entry_stride
            + (rows - 1) * left.row_stride
            + (inner - 1) * left.column_stride;
        assert!(last < left.values.len(), "rows beyond their matrix");
    }
    let (mut result, skipped) = with_lines(count);
    let target = Target::spare(&mut result, count);
    let groups =
        (0..entries).flat_map(|entry| (0..rows).step_by(GROUP).map(move |row| (entry, row)));
    for (entry, first) in groups {
        let at = (entry * rows + first) * columns;
        let from = entry * entry_stride + first * left.row_stride;
        let left = Operand { values: &left.values[from..], ..left };
        let shortcut = addends.shortcut.get(at..).unwrap_or_default();
        let (addends, size) =
            (Addends { shortcut, ..addends }, Size { rows: GROUP.min(rows - first), ..size });
        // SAFETY: `result` is borrowed by `target` alone, and the groups come one after the other.
        unsafe { write_products(left, size, panels, addends, target.from(at))? };
    }
    // SAFETY: all rows of all entries have been written, for there is at least one part of the inner length.
    unsafe { result.set_len(skipped + count) };
    Tensor::from_vec(result, skipped + count, &Device::Cpu)?.narrow(0, skipped, count)
}

/// As [`products`], of one group of rows. Whatever stands in the target is written over.
///
/// # Safety
/// Nothing else may touch the target meanwhile.
unsafe fn write_products(
    left: Operand,
    size: Size,
    panels: &[f32],
    addends: Addends,
    target: Target,
) -> Result<()> {
    let Size { rows, inner, columns } = size;
    let groups = columns.div_ceil(PANEL * PANELS);
    let tasks = rows.div_ceil(BLOCK) * groups;
    let mut packed = PACKED.take();
    for (first, steps) in parts(inner) {
        packed.resize(packed.len().max(rows * steps), 0.0);
        let packed = &mut packed[..rows * steps];
        pack(left, rows, first, steps, packed);
        let work = rows * steps * columns / PRODUCTS_A_STEP;
        each_task(tasks, work, |task| {
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
                unsafe { multiply(block, steps, weights, next, place) };
            }
            Ok(())
        })?;
    }
    PACKED.set(packed);
    Ok(())
}

/// Steps `first..first + steps` of all rows, tile by tile, a tile's rows interleaved step by step.
pub(super) fn pack(left: Operand, rows: usize, first: usize, steps: usize, packed: &mut [f32]) {
    each_piece(packed, BLOCK * steps, rows * steps, |block, packed| {
        for (tile, packed) in packed.chunks_mut(TILE * steps).enumerate() {
            let count = packed.len() / steps;
            let row = |row: usize| {
                let at = (block * BLOCK + tile * TILE + row) * left.row_stride;
                &left.values[at + first * left.column_stride..]
            };
            if left.row_stride == 1 && left.column_stride >= TILE && count == TILE {
                let columns = row(0).chunks(left.column_stride);
                for (packed, column) in packed.as_chunks_mut::<TILE>().0.iter_mut().zip(columns) {
                    packed.copy_from_slice(&column[..TILE]);
                }
                continue;
            }
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
pub(super) struct Place<'a> {
    pub(super) target: Target<'a>,
    pub(super) row_stride: usize,
    /// Columns, 16 or fewer.
    pub(super) width: usize,
    /// What they are added to, from the place's first number on; `None` for what stands there.
    pub(super) start: Option<Addends<'a>>,
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

/// Puts the products of a block's tiles [stored steps, rows] with a panel's part [steps, 16], which may have fewer steps, where they
/// go. What lies from `next` on is wanted afterwards.
///
/// # Safety
/// Nothing else may touch the place meanwhile.
pub(super) unsafe fn multiply(
    block: &[f32],
    stored: usize,
    weights: &[f32],
    next: *const f32,
    place: Place,
) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor has both, and the caller alone holds the place.
        unsafe { multiply_by_avx2(block, stored, weights, next, place) };
        return;
    }
    let _ = next;
    for (number, values) in block.chunks(TILE * stored).enumerate() {
        let place = place.below(number * TILE);
        // SAFETY: as the caller's.
        unsafe {
            match values.len() / stored {
                1 => tile::<1>(values, weights, place),
                2 => tile::<2>(values, weights, place),
                3 => tile::<3>(values, weights, place),
                4 => tile::<4>(values, weights, place),
                5 => tile::<5>(values, weights, place),
                _ => tile::<TILE>(values, weights, place),
            }
        }
    }
}

/// As [`multiply`], of one tile [steps, R].
///
/// # Safety
/// As there.
unsafe fn tile<const R: usize>(values: &[f32], weights: &[f32], place: Place) {
    let mut sums = [[0.0; PANEL]; R];
    plain::<R, ALWAYS_FUSED>(values, weights, sums.as_flattened_mut());
    // SAFETY: the caller alone holds the place.
    unsafe { place.put(&sums) };
}

/// As [`multiply`]. The loop is compiled for the processor, too, so that a tile takes no call.
///
/// # Safety
/// As there.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn multiply_by_avx2(
    block: &[f32],
    stored: usize,
    weights: &[f32],
    next: *const f32,
    mut place: Place,
) {
    let steps = weights.len() / PANEL;
    let tiles = block.chunks(TILE * stored);
    // Every tile asks for its share of what comes next.
    let share = size_of::<[f32; PANEL]>().div_ceil(tiles.len().max(1));
    let mut ahead = next.cast::<i8>();
    for values in tiles {
        // SAFETY: as the caller's.
        unsafe {
            match values.len() / stored {
                1 => avx2::<1>(values, weights, ahead, share, place),
                2 => avx2::<2>(values, weights, ahead, share, place),
                3 => avx2::<3>(values, weights, ahead, share, place),
                4 => avx2::<4>(values, weights, ahead, share, place),
                5 => avx2::<5>(values, weights, ahead, share, place),
                _ => avx2::<TILE>(values, weights, ahead, share, place),
            }
        }
        (ahead, place) = (ahead.wrapping_add(steps * share), place.below(TILE));
    }
}

/// # Safety
/// Nothing else may touch the place meanwhile.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn avx2<const R: usize>(
    values: &[f32],
    weights: &[f32],
    ahead: *const i8,
    share: usize,
    place: Place,
) {
    use std::arch::x86_64::{
        _MM_HINT_T0, _mm_prefetch, _mm256_add_ps, _mm256_loadu_ps, _mm256_setzero_ps,
        _mm256_storeu_ps,
    };
    let pointer = |row: usize| place.target.pointer(row * place.row_stride, place.width);
    for row in 0..R {
        let target = pointer(row).cast::<i8>();
        _mm_prefetch::<_MM_HINT_T0>(target);
        _mm_prefetch::<_MM_HINT_T0>(target.wrapping_add(size_of::<[f32; PANEL]>() - 1));
    }
    let zero = _mm256_setzero_ps();
    let mut lanes = [[zero; 2]; R];
    add_products!(R, lanes, values, weights, ahead, share);
    if place.width < PANEL {
        let mut sums = [[0.0; PANEL]; R];
        for (sums, lanes) in sums.iter_mut().zip(lanes) {
            // SAFETY: eight numbers of each half are written.
            unsafe {
                _mm256_storeu_ps(sums.as_mut_ptr(), lanes[0]);
                _mm256_storeu_ps(sums[8..].as_mut_ptr(), lanes[1]);
            }
        }
        // SAFETY: as the caller's.
        unsafe { place.put(&sums) };
        return;
    }
    // SAFETY (of what follows): `pointer` checked the sixteen numbers of a row, of which the first part wrote all and which the caller
    // alone holds; slices are checked.
    let Some(Addends { bias, shortcut }) = place.start else {
        for (row, [low, high]) in lanes.into_iter().enumerate() {
            let target = pointer(row);
            unsafe {
                let next = target.add(8);
                _mm256_storeu_ps(target, _mm256_add_ps(_mm256_loadu_ps(target), low));
                _mm256_storeu_ps(next, _mm256_add_ps(_mm256_loadu_ps(next), high));
            }
        }
        return;
    };
    let halves = |numbers: &[f32]| match numbers {
        [] => [zero; 2],
        numbers => unsafe {
            [_mm256_loadu_ps(numbers[..8].as_ptr()), _mm256_loadu_ps(numbers[8..16].as_ptr())]
        },
    };
    let bias = halves(bias);
    for (row, [low, high]) in lanes.into_iter().enumerate() {
        let shortcut = halves(shortcut.get(row * place.row_stride..).unwrap_or_default());
        let target = pointer(row);
        unsafe {
            let start = _mm256_add_ps(shortcut[0], bias[0]);
            _mm256_storeu_ps(target, _mm256_add_ps(start, low));
            let start = _mm256_add_ps(shortcut[1], bias[1]);
            _mm256_storeu_ps(target.add(8), _mm256_add_ps(start, high));
        }
    }
}
