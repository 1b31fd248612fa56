//! In: nothing. Out: numbers that begin where a line of the cache does. Sixteen of them that are read in two halves are then never
//! of two lines, by which products of many rows gain some hundredth.
#![allow(unsafe_code)]

/// Sixteen numbers: a line of the cache.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [f32; Line::NUMBERS]);

impl Line {
    /// Numbers of a line.
    pub(super) const NUMBERS: usize = 16;
    pub(super) const ZERO: Self = Self([0.0; Self::NUMBERS]);
}

/// The numbers of all `lines`.
pub(super) fn numbers(lines: &[Line]) -> &[f32] {
    // SAFETY: a line is sixteen numbers and nothing else.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * Line::NUMBERS) }
}

/// As [`numbers`], to write to.
pub(super) fn numbers_mut(lines: &mut [Line]) -> &mut [f32] {
    let count = lines.len() * Line::NUMBERS;
    // SAFETY: as above, and the borrow is the only one.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), count) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_begin_at_multiples_of_their_size() {
        let mut lines = vec![Line::ZERO; 3];
        numbers_mut(&mut lines)[17] = 2.0;
        assert_eq!((numbers(&lines).len(), lines[1].0[1]), (48, 2.0));
        assert_eq!(lines.as_ptr().addr() % size_of::<Line>(), 0);
    }
}
