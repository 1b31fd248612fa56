//! In: a pass over numbers, cut into pieces, and how much work all of it is. Out: the pass, made by all threads, or by the calling one
//! alone where it would be done before the others are awake. The callers cut, by shape alone; so the bits are the same either way.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use candle_core::Result;
use rayon::prelude::*;

/// Steps of a pass, of some nanosecond on one thread, from which on others are called. To hand work over and wait for it takes
/// two changes of threads, 10 to 50 microseconds of the system's time where threads sleep. `docs/measurements/cpu-speed.md` has
/// what other limits gave.
const SHARED_FROM: usize = 1 << 16;

/// Multiplications and additions that are as long as one step.
pub(super) const PRODUCTS_A_STEP: usize = 8;

/// Whether the calling thread does all of it.
fn is_for_one(steps: usize) -> bool {
    steps < SHARED_FROM || rayon::current_num_threads() == 1
}

/// How many of `count` pieces of work a thread takes up at once, so that others find something left where it is slow.
fn at_once(count: usize) -> usize {
    /// For each thread.
    const SHARES: usize = 16;
    (count / (SHARES * rayon::current_num_threads())).max(1)
}

/// Calls `each` with the number and the numbers of every piece of `size`; the last one may be shorter.
pub(super) fn each_piece(
    numbers: &mut [f32],
    size: usize,
    steps: usize,
    each: impl Fn(usize, &mut [f32]) + Send + Sync,
) {
    let size = size.max(1);
    if is_for_one(steps) {
        numbers.chunks_mut(size).enumerate().for_each(|(number, piece)| each(number, piece));
    } else {
        let at_once = at_once(numbers.len().div_ceil(size));
        let pieces = numbers.par_chunks_mut(size).enumerate().with_max_len(at_once);
        pieces.for_each(|(number, piece)| each(number, piece));
    }
}

/// `count` numbers, made by calls of `each` with the number and the numbers of every piece of `size`, which are zeros; the last one
/// may be shorter. A piece's zeros are written by who makes it, not by the calling thread before all others.
pub(super) fn new_pieces(
    count: usize,
    size: usize,
    steps: usize,
    each: impl Fn(usize, &mut [f32]) + Send + Sync,
) -> Vec<f32> {
    let size = size.max(1);
    let mut numbers = Vec::with_capacity(count);
    let pieces = &mut numbers.spare_capacity_mut()[..count];
    let begin = |(number, piece): (usize, &mut [MaybeUninit<f32>])| {
        piece.fill(MaybeUninit::new(0.0));
        let (first, count) = (piece.as_mut_ptr().cast(), piece.len());
        // SAFETY: every number of the piece has just been written, and the piece is borrowed by this call alone.
        each(number, unsafe { std::slice::from_raw_parts_mut(first, count) });
    };
    if is_for_one(steps) {
        pieces.chunks_mut(size).enumerate().for_each(begin);
    } else {
        let at_once = at_once(count.div_ceil(size));
        pieces.par_chunks_mut(size).enumerate().with_max_len(at_once).for_each(begin);
    }
    // SAFETY: all pieces have been written.
    unsafe { numbers.set_len(count) };
    numbers
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
    if is_for_one(steps) {
        (0..count).try_for_each(each)
    } else {
        (0..count).into_par_iter().with_max_len(at_once(count)).try_for_each(each)
    }
}

/// What `each` makes of every number below `count`, in their order.
pub(super) fn each_result<T: Send>(
    count: usize,
    steps: usize,
    each: impl Fn(usize) -> Result<T> + Send + Sync,
) -> Result<Vec<T>> {
    if is_for_one(steps) {
        (0..count).map(each).collect()
    } else {
        (0..count).into_par_iter().map(each).collect()
    }
}
