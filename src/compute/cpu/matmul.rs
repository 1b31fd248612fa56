//! In: matrices as strided views. Out: their product, added to what stands in a third. One thread's
//! kernel of the `gemm` crate behind checked bounds.
#![allow(unsafe_code)]

use std::marker::PhantomData;

use candle_core::Result;
use gemm::Parallelism;

/// A matrix to read.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a> {
    /// Its numbers, the first one first.
    pub(crate) values: &'a [f32],
    /// From one row to the next.
    pub(crate) row_stride: usize,
    /// From one column to the next.
    pub(crate) column_stride: usize,
}

/// A matrix to add to, which different threads may hold different parts of.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    first: *mut f32,
    count: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: a `Target` is a mutable borrow; `part` is unsafe, and its callers keep the parts apart.
unsafe impl Send for Target<'_> {}
// SAFETY: as above.
unsafe impl Sync for Target<'_> {}

impl<'a> Target<'a> {
    /// The whole of `values`.
    pub(crate) fn new(values: &'a mut [f32]) -> Self {
        Self { first: values.as_mut_ptr(), count: values.len(), lifetime: PhantomData }
    }

    /// The first `count` numbers of the memory of `values` that are not written yet.
    pub(crate) fn spare(values: &'a mut Vec<f32>, count: usize) -> Self {
        let spare = values.spare_capacity_mut();
        let count = count.min(spare.len());
        Self { first: spare.as_mut_ptr().cast(), count, lifetime: PhantomData }
    }

    /// What starts `offset` numbers later.
    pub(crate) fn from(self, offset: usize) -> Self {
        let offset = offset.min(self.count);
        Self { first: self.first.wrapping_add(offset), count: self.count - offset, ..self }
    }

    /// The first of `count` numbers from `offset` on, which need not be written yet.
    pub(crate) fn pointer(self, offset: usize, count: usize) -> *mut f32 {
        assert!(offset + count <= self.count, "a part beyond its matrix");
        self.first.wrapping_add(offset)
    }

    /// `count` numbers from `offset` on.
    ///
    /// # Safety
    /// Nothing else may touch those numbers while the slice lives, and they have been written.
    pub(crate) unsafe fn part(self, offset: usize, count: usize) -> &'a mut [f32] {
        // SAFETY: inside the borrow that `new` took, and the caller alone holds these numbers.
        unsafe { std::slice::from_raw_parts_mut(self.pointer(offset, count), count) }
    }
}

/// Rows, inner length and columns of a product.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) rows: usize,
    pub(crate) inner: usize,
    pub(crate) columns: usize,
}

/// How a product enters its target.
#[derive(Clone, Copy)]
pub(crate) enum MatmulWrite {
    /// The product is added to what stands there.
    Accumulate,
    /// In place of it.
    Overwrite,
}

/// Puts `left @ right` into `target`, whose rows are `row_stride` apart and whose columns stand next to
/// each other.
///
/// # Errors
/// A matrix that is shorter than its shape.
///
/// # Safety
/// Nothing else may touch the target's `rows` x `columns` numbers meanwhile.
pub(crate) unsafe fn matmul_into(
    target: Target,
    row_stride: usize,
    size: Size,
    left: Operand,
    right: Operand,
    enters: MatmulWrite,
    parallelism: Parallelism,
) -> Result<()> {
    let Size { rows, inner, columns } = size;
    if rows == 0 || columns == 0 || inner == 0 {
        return Ok(());
    }
    let last = |matrix: Operand, rows: usize, columns: usize| {
        (rows - 1) * matrix.row_stride + (columns - 1) * matrix.column_stride
    };
    if (rows - 1) * row_stride + columns > target.count
        || last(left, rows, inner) >= left.values.len()
        || last(right, inner, columns) >= right.values.len()
    {
        candle_core::bail!("a product of {rows} x {inner} x {columns} reaches beyond its matrices")
    }
    let keep = matches!(enters, MatmulWrite::Accumulate);
    // SAFETY: the three index ranges were checked above, and the caller alone holds the target.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            target.first,
            1,
            row_stride as isize,
            keep,
            left.values.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.values.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
    Ok(())
}
