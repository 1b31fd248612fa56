//! In: nothing. Out: what a launch is made of: the file and the name of a kernel, how many threads run it,
//! and the sizes that it is told, which must be laid out as the kernel's own struct is.

use candle_core::{DType, Tensor};

/// A file of kernels, compiled on its own: the device's driver translates one when it is first used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum File {
    GroupNorm,
    /// Of maps whose channels lie side by side.
    GroupNormLast,
    RowNorm,
    Pointwise,
    AttentionF32,
    /// `attention.cu` for heads of up to this many numbers.
    Attention(usize),
}

/// Numbers that a kernel takes by value.
///
/// # Safety
/// The type is `repr(C)`, holds nothing but numbers, and has the layout of the kernel's parameter.
#[allow(unsafe_code)]
pub(crate) unsafe trait Sizes: Copy {}

/// One launch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Launch<S> {
    pub(crate) file: File,
    pub(crate) function: String,
    /// Blocks in x, y and z.
    pub(crate) grid: [u32; 3],
    /// Threads of a block.
    pub(crate) threads: u32,
    /// Bytes of shared memory that the launch brings; those a kernel declares itself do not count.
    pub(crate) shared_bytes: u32,
    pub(crate) sizes: S,
}

/// What a kernel writes.
pub(crate) struct Output {
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: DType,
}

impl Output {
    /// Of the shape and format of `tensor`.
    pub(crate) fn like(tensor: &Tensor) -> Self {
        Self { shape: tensor.dims().to_vec(), dtype: tensor.dtype() }
    }
}

/// Blocks that a device takes in y and in z.
const MOST_ROWS: usize = 65_535;
/// Blocks that it takes in x, and numbers that a kernel with 32-bit places takes: half of what fits, so
/// that sums of two places fit, too.
const MOST: usize = i32::MAX as usize;

/// `count` as a kernel's 32-bit number, unless it is too large for one.
pub(crate) fn small(count: usize) -> Option<u32> {
    (count <= MOST).then(|| u32::try_from(count).ok()).flatten()
}

/// A grid, unless a device does not take it. One that is empty is not launched, either.
pub(crate) fn grid(x: usize, y: usize, z: usize) -> Option<[u32; 3]> {
    let fits = (1..=MOST).contains(&x) && [y, z].iter().all(|n| (1..=MOST_ROWS).contains(n));
    fits.then(|| Some([small(x)?, small(y)?, small(z)?])).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_and_places_that_do_not_fit_are_refused() {
        assert_eq!(grid(3, 2, 1), Some([3, 2, 1]));
        assert_eq!(grid(MOST, MOST_ROWS, MOST_ROWS), Some([0x7fff_ffff, 65_535, 65_535]));
        for (x, y, z) in [(0, 1, 1), (1, 0, 1), (1 << 31, 1, 1), (1, 65_536, 1), (1, 1, 65_536)] {
            assert_eq!(grid(x, y, z), None, "{x} {y} {z}");
        }
        assert_eq!((small(MOST), small(1 << 31), small(1 << 40)), (Some(0x7fff_ffff), None, None));
    }
}
