//! In: a pass over numbers, cut into pieces, and how much work all of it is. Out: the pass, made by all threads, or by the calling one
//! alone where it would be done before the others are awake. The callers cut, by shape alone; so the bits are the same either way.

use candle_core::Result;
use rayon::prelude::*;

/// Steps of a pass, of some nanosecond on one thread, from which on others are called. To hand work over and wait for it takes
/// two changes of threads, 10 to 50 microseconds of the system's time where threads sleep. `docs/measurements/cpu-speed.md` has
/// what other limits gave.
const SHARED_FROM: usize = 1 << 16;

/// Multiplications and additions that are as long as one step.
pub(super) const PRODUCTS_A_STEP: usize = 8;

/// Calls `each` with the number and the numbers of every piece of `size`; the last one may be shorter.
pub(super) fn each_piece(
    numbers: &mut [f32],
    size: usize,
    steps: usize,
    each: impl Fn(usize, &mut [f32]) + Send + Sync,
) {
    let size = size.max(1);
    if steps < SHARED_FROM {
        numbers.chunks_mut(size).enumerate().for_each(|(number, piece)| each(number, piece));
    } else {
        numbers.par_chunks_mut(size).enumerate().for_each(|(number, piece)| each(number, piece));
    }
}

/// Calls `each` with every number below `count`.
///
/// # Errors
/// The first one that a call returned.
pub(super) fn each_task(
    count: usize,
    steps: usize,
    each: impl Fn(usize) -> Result<()> + Send + Sync,
) -> Result<()> {
    if steps < SHARED_FROM {
        (0..count).try_for_each(each)
    } else {
        (0..count).into_par_iter().try_for_each(each)
    }
}
