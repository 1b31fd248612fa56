//! In: feature maps. Out: the same in bf16 as the matrix tiles read them (`tiles.rs`): 32 channels of a pixel a line, with a
//! border of zeros, one grid of lines for each block of channels and each remainder of a pixel's place by the stride.

use rayon::prelude::*;

use super::tile_packing::{DEPTH, split_line};
use super::tiles::Line;
use super::vector::for_processor;

/// Sizes of a convolution of a batch of maps, and of the grid of lines that it reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    pub(crate) batch: usize,
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
    pub(crate) out_height: usize,
    pub(crate) out_width: usize,
    /// Rows of an entry in the grid, the border's among them.
    pub(crate) rows: usize,
    /// Columns of the grid.
    pub(crate) columns: usize,
}

impl Grid {
    /// Lines of an entry.
    pub(crate) fn entry(&self) -> usize {
        self.rows * self.columns
    }

    /// Lines of one grid: there is one for each block of 32 channels and each remainder of a pixel's place.
    pub(crate) fn lines(&self) -> usize {
        self.batch * self.entry()
    }

    /// Lines up to the last one that a pixel of the result begins at.
    pub(crate) fn count(&self) -> usize {
        (self.batch - 1) * self.entry() + (self.out_height - 1) * self.columns + self.out_width
    }

    /// Pixels of an entry's result that begin before line `line` of the grid.
    pub(crate) fn pixels_before(&self, entry: usize, line: usize) -> usize {
        let line = line.saturating_sub(entry * self.entry());
        let (row, column) = (line / self.columns, line % self.columns);
        if row < self.out_height {
            row * self.out_width + column.min(self.out_width)
        } else {
            self.out_height * self.out_width
        }
    }
}

/// Writes the maps [b, ci, h, w] to [block of 32 channels][remainders of row and column][entry][row][column], the border and
/// what is beyond the last channel as zeros.
pub(crate) fn lay_out(values: &[f32], grid: Grid, high: &mut [Line], low: &mut [Line]) {
    let Grid { batch, channels, height, width, stride, padding, rows, columns, .. } = grid;
    let count = channels.div_ceil(DEPTH) * stride * stride * batch * rows;
    let (high, high_rest) = high.split_at_mut(count * columns);
    high_rest.fill(Line::ZERO);
    let has_low = !low.is_empty();
    let (low, low_rest) = low.split_at_mut(if has_low { count * columns } else { 0 });
    low_rest.fill(Line::ZERO);
    let row = |number: usize| {
        let (row, entry) = (number % rows, number / rows % batch);
        let (remainder, block) =
            (number / rows / batch % (stride * stride), number / rows / batch / (stride * stride));
        let y = (row * stride + remainder / stride).checked_sub(padding);
        let first = block * DEPTH;
        let inside = y
            .filter(|y| *y < height)
            .map(|y| &values[(entry * channels + first) * height * width..][y * width..]);
        MapRow {
            values: inside.unwrap_or_default(),
            channels: if inside.is_some() { DEPTH.min(channels - first) } else { 0 },
            apart: height * width,
            width,
            stride,
            padding,
            remainder: remainder % stride,
        }
    };
    let high = high.par_chunks_mut(columns).enumerate();
    if has_low {
        high.zip(low.par_chunks_mut(columns))
            .for_each(|((number, high), low)| lay_out_row(row(number), high, Some(low)));
    } else {
        high.for_each(|(number, high)| lay_out_row(row(number), high, None));
    }
}

/// A row of a map in up to 32 channels, which are `apart` from one another; in none it is a row of the border.
#[derive(Clone, Copy)]
pub(crate) struct MapRow<'a> {
    values: &'a [f32],
    channels: usize,
    apart: usize,
    width: usize,
    stride: usize,
    padding: usize,
    /// Of its pixels' places, border included, by the stride.
    remainder: usize,
}

/// Pixels and channels that are turned at a time.
pub(crate) type Square = [[f32; DEPTH]; DEPTH];

for_processor!(
    /// Writes a row's lines, one for each pixel.
    fn lay_out_row(row: MapRow, high: &mut [Line], low: Option<&mut [Line]>) = lay_out_row_body
);

#[inline(always)]
fn lay_out_row_body<const FUSED: bool>(
    row: MapRow,
    high: &mut [Line],
    mut low: Option<&mut [Line]>,
) {
    let MapRow { values, channels, apart, width, stride, padding, remainder } = row;
    let mut by_channel: Square = [[0.0; DEPTH]; DEPTH];
    let mut by_pixel: Square = [[0.0; DEPTH]; DEPTH];
    for first in (0..high.len()).step_by(DEPTH) {
        let count = DEPTH.min(high.len() - first);
        for (channel, numbers) in by_channel.iter_mut().enumerate().take(channels) {
            let source = &values[channel * apart..][..width];
            // The first pixel lies over source[begin - padding].
            let begin = first * stride + remainder;
            if let Some(begin) = begin.checked_sub(padding)
                && stride == 1
                && let Some(source) = source.get(begin..begin + DEPTH)
            {
                numbers.copy_from_slice(source);
                continue;
            }
            for (pixel, number) in numbers.iter_mut().enumerate() {
                let at = (begin + pixel * stride).checked_sub(padding);
                *number = at.and_then(|at| source.get(at)).copied().unwrap_or(0.0);
            }
        }
        turn(&by_channel, &mut by_pixel);
        for (pixel, numbers) in by_pixel.iter().enumerate().take(count) {
            let at = first + pixel;
            split_line::<FUSED>(numbers, &mut high[at], low.as_mut().map(|low| &mut low[at]));
        }
    }
}

#[inline(always)]
fn turn(from: &Square, to: &mut Square) {
    // Eight by eight: rows of vectors, whose turning is shuffles.
    const SIDE: usize = 8;
    for row in (0..DEPTH).step_by(SIDE) {
        for column in (0..DEPTH).step_by(SIDE) {
            let mut block = [[0.0; SIDE]; SIDE];
            for (number, block) in block.iter_mut().enumerate() {
                block.copy_from_slice(&from[row + number][column..column + SIDE]);
            }
            for lane in 0..SIDE {
                let turned: [f32; SIDE] = std::array::from_fn(|number| block[number][lane]);
                to[column + lane][row..row + SIDE].copy_from_slice(&turned);
            }
        }
    }
}
