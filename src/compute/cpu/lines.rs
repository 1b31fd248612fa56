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

/// Room for `count` numbers that begin a line, after a few zeros before it, and how many these are.
pub(super) fn with_lines(count: usize) -> (Vec<f32>, usize) {
    let mut values: Vec<f32> = Vec::with_capacity(count + Line::NUMBERS);
    // Where the memory does not say, which is allowed, nothing is skipped.
    let skipped = values.as_ptr().align_offset(align_of::<Line>());
    let skipped = if skipped < Line::NUMBERS { skipped } else { 0 };
    values.resize(skipped, 0.0);
    (values, skipped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_begins_with_a_line() {
        for count in [0, 1, 100] {
            let (mut values, skipped) = with_lines(count);
            assert_eq!(values.len(), skipped);
            assert!(values.capacity() >= skipped + count);
            assert_eq!(values.spare_capacity_mut().as_ptr().addr() % size_of::<Line>(), 0);
        }
    }

    #[test]
    fn lines_begin_at_multiples_of_their_size() {
        let mut lines = vec![Line::ZERO; 3];
        numbers_mut(&mut lines)[17] = 2.0;
        assert_eq!((numbers(&lines).len(), lines[1].0[1]), (48, 2.0));
        assert_eq!(lines.as_ptr().addr() % size_of::<Line>(), 0);
    }
}
