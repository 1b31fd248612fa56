//! In: rows, and weights in panels of 16 outputs. Out: a panel's products. The kernel for few rows: their time is
//! the reading of the weights, which lie here as they are read, one panel a stream.
//!
//! A sum goes over the inner length in parts, each from zero and in order, one fused step a number; the parts are added
//! to the target one after the other. That is the order of the `gemm` crate's products, so the bits are theirs, and
//! no row's bits depend on how many rows there are.
#![allow(unsafe_code)]

use super::lines::Line;
use super::matmul::{Operand, Size, Target};
use super::sharing::each_piece;
use super::vector::{ALWAYS_FUSED, multiply_add};

/// Outputs of a panel.
pub(super) const PANEL: usize = Line::NUMBERS;
/// Rows of a tile, whose sums fill the registers of AVX2.
pub(super) const TILE: usize = 6;
/// Steps of the inner length before the next tile has the same weights, out of the innermost cache.
const STEPS: usize = 64;
/// Steps from the weights in use to those that are asked for.
const AHEAD: usize = 128;
/// Steps after which more is asked for.
#[cfg(target_arch = "x86_64")]
pub(super) const ASKING: usize = 4;
/// Steps from the values in use to those that are asked for.
#[cfg(target_arch = "x86_64")]
pub(super) const VALUES_AHEAD: usize = 64;
/// The inner length of one part of a sum, at most.
const PART: usize = 512;

/// The inner length's parts, as first step and steps.
pub(super) fn parts(inner: usize) -> impl Iterator<Item = (usize, usize)> {
    let part = inner.div_ceil(inner.div_ceil(PART).max(1)).max(1);
    (0..inner).step_by(part).map(move |first| (first, part.min(inner - first)))
}

/// Rows as the kernel reads them: tiles, a tile's rows interleaved step by step.
pub(super) struct Rows {
    values: Vec<f32>,
    count: usize,
    inner: usize,
    /// Rows of a tile; the last one may have fewer.
    tile: usize,
}

impl Rows {
    /// The first `size.rows` rows of `matrix`, of `size.inner` numbers.
    pub(super) fn of(matrix: Operand, size: Size) -> Self {
        let Size { rows: count, inner, .. } = size;
        let tile = count.div_ceil(count.div_ceil(TILE).max(1)).max(1);
        let mut values = vec![0.0; count * inner];
        let steps = values.len();
        each_piece(&mut values, tile * inner, steps, |number, values| {
            let rows = values.len() / inner;
            for row in 0..rows {
                let first = (number * tile + row) * matrix.row_stride;
                let numbers = matrix.values[first..].iter().step_by(matrix.column_stride.max(1));
                for (value, number) in values[row..].iter_mut().step_by(rows).zip(numbers) {
                    *value = *number;
                }
            }
        });
        Self { values, count, inner, tile }
    }

    /// Room for the sums of a panel, for [`Rows::add_products`] to use again and again.
    pub(super) fn sums(&self) -> Vec<f32> {
        vec![0.0; self.count * PANEL]
    }

    /// Adds the products with `panel` [inner, 16] to the first `width` columns of `target`, whose rows are `row_stride`
    /// apart. `sums` are those of [`Rows::sums`].
    ///
    /// # Safety
    /// Nothing else may touch those columns meanwhile.
    pub(super) unsafe fn add_products(
        &self,
        panel: &[f32],
        target: Target,
        row_stride: usize,
        width: usize,
        sums: &mut [f32],
    ) {
        for (first, steps) in parts(self.inner) {
            sums.fill(0.0);
            self.part(panel, first, steps, sums);
            for (row, sums) in sums.chunks(PANEL).enumerate() {
                // SAFETY: the caller keeps these columns for this call, and one row is borrowed at a time.
                let target = unsafe { target.part(row * row_stride, width) };
                for (result, sum) in target.iter_mut().zip(sums) {
                    *result += sum;
                }
            }
        }
    }

    /// One part of the sums [rows, 16].
    fn part(&self, panel: &[f32], first: usize, steps: usize, sums: &mut [f32]) {
        let tiles = self.count.div_ceil(self.tile);
        // Every tile asks for its share of the weights that come after.
        let share = size_of::<[f32; PANEL]>() / tiles.max(1);
        for step in (first..first + steps).step_by(STEPS) {
            let steps = STEPS.min(first + steps - step);
            let weights = &panel[step * PANEL..(step + steps) * PANEL];
            let ahead = weights.as_ptr().wrapping_add(AHEAD * PANEL).cast::<i8>();
            for (number, sums) in sums.chunks_mut(self.tile * PANEL).enumerate() {
                let rows = sums.len() / PANEL;
                let start = number * self.tile * self.inner + step * rows;
                let values = &self.values[start..start + steps * rows];
                let ahead = ahead.wrapping_add(number * steps * share);
                tile_of(rows, values, weights, sums, ahead, share);
            }
        }
    }
}

fn tile_of(
    rows: usize,
    values: &[f32],
    weights: &[f32],
    sums: &mut [f32],
    ahead: *const i8,
    share: usize,
) {
    match rows {
        1 => tile::<1>(values, weights, sums, ahead, share),
        2 => tile::<2>(values, weights, sums, ahead, share),
        3 => tile::<3>(values, weights, sums, ahead, share),
        4 => tile::<4>(values, weights, sums, ahead, share),
        5 => tile::<5>(values, weights, sums, ahead, share),
        _ => tile::<TILE>(values, weights, sums, ahead, share),
    }
}

/// Continues the sums [R, 16] of `values` [steps, R] and `weights` [steps, 16]. `share` bytes a step from `ahead` on will be
/// wanted next.
fn tile<const R: usize>(
    values: &[f32],
    weights: &[f32],
    sums: &mut [f32],
    ahead: *const i8,
    share: usize,
) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor has both.
        unsafe { avx2::<R>(values, weights, sums, ahead, share) };
        return;
    }
    let _ = (ahead, share);
    plain::<R, ALWAYS_FUSED>(values, weights, sums);
}

/// Continues the sums [R, 16] of `values` [steps, R] and `weights` [steps, 16].
pub(super) fn plain<const R: usize, const FUSED: bool>(
    values: &[f32],
    weights: &[f32],
    sums: &mut [f32],
) {
    let mut lanes = [[0.0; PANEL]; R];
    for (lanes, sums) in lanes.iter_mut().zip(sums.chunks_exact(PANEL)) {
        lanes.copy_from_slice(sums);
    }
    for (values, weights) in values.chunks_exact(R).zip(weights.chunks_exact(PANEL)) {
        for (value, lanes) in values.iter().zip(&mut lanes) {
            for (sum, weight) in lanes.iter_mut().zip(weights) {
                *sum = multiply_add::<FUSED>(*value, *weight, *sum);
            }
        }
    }
    for (lanes, sums) in lanes.iter().zip(sums.chunks_exact_mut(PANEL)) {
        sums.copy_from_slice(lanes);
    }
}

/// Adds the products of `$values` [steps, R] and `$weights` [steps, 16] to the sums `$lanes` [R, 2], two registers of eight a
/// row. `$share` bytes a step from `$ahead` on will be wanted next. A macro, as a function would take and give the sums in memory
/// wherever the compiler does not join it to its caller.
///
/// # Safety
/// The processor has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
macro_rules! add_products {
    ($rows:ident, $lanes:ident, $values:expr, $weights:expr, $ahead:expr, $share:expr) => {{
        use std::arch::x86_64::{
            _MM_HINT_T0, _mm_prefetch, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps,
        };
        use $crate::compute::cpu::few_rows::{ASKING, VALUES_AHEAD};
        let (values, weights, ahead, share): (&[f32], &[f32], *const i8, usize) =
            ($values, $weights, $ahead, $share);
        let steps = weights.len() / PANEL;
        assert!(values.len() >= steps * $rows, "a tile beyond its matrix");
        let (values, weights) = (values.as_ptr(), weights.as_ptr());
        // Not a loop, which would cost as much as a tenth of the step.
        macro_rules! take {
            ($step:expr) => {
                let step = $step;
                // SAFETY: of `values` and `weights` the first R and 16 numbers a step are read, which was checked above.
                unsafe {
                    let low = _mm256_loadu_ps(weights.add(step * PANEL));
                    let high = _mm256_loadu_ps(weights.add(step * PANEL + 8));
                    for (row, lanes) in $lanes.iter_mut().enumerate() {
                        let value = _mm256_broadcast_ss(&*values.add(step * $rows + row));
                        lanes[0] = _mm256_fmadd_ps(value, low, lanes[0]);
                        lanes[1] = _mm256_fmadd_ps(value, high, lanes[1]);
                    }
                }
            };
        }
        let whole = steps - steps % ASKING;
        for step in (0..whole).step_by(ASKING) {
            // A prefetch may name any address.
            for line in (0..ASKING * share).step_by(size_of::<[f32; PANEL]>()) {
                _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(step * share + line));
            }
            _mm_prefetch::<_MM_HINT_T0>(values.wrapping_add((step + VALUES_AHEAD) * $rows).cast());
            take!(step);
            take!(step + 1);
            take!(step + 2);
            take!(step + 3);
        }
        for step in whole..steps {
            take!(step);
        }
    }};
}
#[cfg(target_arch = "x86_64")]
pub(super) use add_products;

/// As [`tile`], on a processor that has both.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<const R: usize>(
    values: &[f32],
    weights: &[f32],
    sums: &mut [f32],
    ahead: *const i8,
    share: usize,
) {
    use std::arch::x86_64::{_mm256_loadu_ps, _mm256_setzero_ps, _mm256_storeu_ps};
    let sums = &mut sums.as_chunks_mut::<PANEL>().0[..R];
    let mut lanes = [[_mm256_setzero_ps(); 2]; R];
    for (lanes, sums) in lanes.iter_mut().zip(sums.iter()) {
        // SAFETY: eight numbers of each half of a row are read.
        *lanes = unsafe { [_mm256_loadu_ps(sums.as_ptr()), _mm256_loadu_ps(sums[8..].as_ptr())] };
    }
    add_products!(R, lanes, values, weights, ahead, share);
    for (lanes, sums) in lanes.iter().zip(sums) {
        // SAFETY: eight numbers of each half of a row are written.
        unsafe {
            _mm256_storeu_ps(sums.as_mut_ptr(), lanes[0]);
            _mm256_storeu_ps(sums[8..].as_mut_ptr(), lanes[1]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_equal_and_make_up_the_inner_length() {
        let all = |inner| parts(inner).collect::<Vec<_>>();
        assert_eq!(all(0), []);
        assert_eq!(all(1), [(0, 1)]);
        assert_eq!(all(512), [(0, 512)]);
        assert_eq!(all(513), [(0, 257), (257, 256)]);
        assert_eq!(all(2816).len(), 6);
        assert_eq!(all(2816).iter().map(|(_, steps)| steps).sum::<usize>(), 2816);
    }

    /// The plain form with fused steps, which software does exactly where the processor does not.
    #[test]
    fn both_forms_of_the_kernel_give_the_same_bits() {
        fn check<const R: usize>() {
            let number = |seed: usize| ((seed * 7919 % 1009) as f32 - 500.0) / 311.0;
            let steps = 23;
            let values: Vec<f32> = (0..steps * R).map(number).collect();
            let weights: Vec<f32> = (0..steps * PANEL).map(|i| number(i + 77)).collect();
            let start: Vec<f32> = (0..R * PANEL).map(|i| number(i + 5)).collect();
            let (mut ours, mut due) = (start.clone(), start);
            tile::<R>(&values, &weights, &mut ours, weights.as_ptr().cast(), 16);
            plain::<R, true>(&values, &weights, &mut due);
            let fused = ALWAYS_FUSED || {
                #[cfg(target_arch = "x86_64")]
                let has = is_x86_feature_detected!("fma") && is_x86_feature_detected!("avx2");
                #[cfg(not(target_arch = "x86_64"))]
                let has = false;
                has
            };
            for (ours, due) in ours.iter().zip(&due) {
                assert!((ours - due).abs() <= 1e-4);
                assert!(!fused || ours.to_bits() == due.to_bits(), "{ours} {due} in {R} rows");
            }
        }
        check::<1>();
        check::<2>();
        check::<3>();
        check::<4>();
        check::<5>();
        check::<6>();
    }
}
