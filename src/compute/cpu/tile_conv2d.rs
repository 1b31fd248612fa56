//! In: a feature map, and the weights of a convolution packed for the matrix tiles. Out: the convolved map, with bias, a
//! shift per channel and a shortcut.
//!
//! The map is laid out once in bf16, 32 channels of a pixel a line, with its border of zeros. Neighbouring pixels are then
//! a tile of rows as they lie, and the pixels under a tap are the same lines some lines later: no matrix of taps is made.
//! The padded map is gone through as one line of pixels; what falls on its border is left out when sums are written. With a
//! stride the lines stand in one grid for each remainder of a pixel's row and column, so that neighbours are neighbours there.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};
use rayon::prelude::*;

use super::Values;
use super::tile_map::{Grid, Square, lay_out};
use super::tile_packing::{DEPTH, PANEL, Packing, TileMatrix};
use super::tile_product::{PART, TASKS};
use super::tiles::{Block, Line, NO_SUMS, STEP, Sums, TILE_ROWS, TileKernel};
use super::vector::for_processor;

/// Pixels that meet a part of a panel of weights one after the other.
const STRIP: usize = 512;

thread_local! {
    /// A map laid out, kept between calls.
    static MAP: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// A square convolution whose weights stand packed alone.
#[derive(Debug)]
pub(crate) struct TileConv2d {
    kernel: TileKernel,
    /// [output][block of 32 channels][row of taps][tap][channel].
    weights: TileMatrix,
    bias: Option<Tensor>,
    channels: usize,
    side: usize,
    stride: usize,
    padding: usize,
}

/// What is added to a convolved map.
#[derive(Clone, Copy)]
struct AddedToMap<'a> {
    /// A number for each output, or none.
    bias: &'a [f32],
    /// A number for each output, or for each of each entry, or none.
    shift: &'a [f32],
    /// A number for each number of the result, or none.
    shortcut: &'a [f32],
}

impl TileConv2d {
    /// Packs `weight` [co, ci, side, side], in the processor's memory and in any format of floats, and keeps `bias` [co] in
    /// f32.
    ///
    /// # Errors
    /// The weights are elsewhere, no floats or not square.
    pub(crate) fn pack(
        weight: &Tensor,
        bias: Option<&Tensor>,
        (stride, padding): (usize, usize),
        packing: Packing,
    ) -> Result<Self> {
        let (outputs, channels, side, other_side) = weight.dims4()?;
        if side != other_side || side == 0 || stride == 0 {
            candle_core::bail!("filters {:?} or stride {stride} are of no square", weight.dims())
        }
        let weight = weight.to_dtype(DType::F32)?.contiguous()?;
        let values = Values::of(&weight)?;
        let values = values.slice()?;
        let taps = side * side;
        let inner = channels.div_ceil(DEPTH) * taps * DEPTH;
        let numbers = |output: usize, step: usize| {
            let (first, tap) = (step / taps * DEPTH, step % taps);
            std::array::from_fn(|number| match first + number {
                channel if channel < channels => values[(output * channels + channel) * taps + tap],
                _ => 0.0,
            })
        };
        let Packing { kernel, parts } = packing;
        let weights = TileMatrix::pack_steps(outputs, inner, parts, numbers);
        let bias = bias.map(|bias| bias.to_dtype(DType::F32)?.contiguous()).transpose()?;
        Ok(Self { kernel, weights, bias, channels, side, stride, padding })
    }

    /// The convolved map [b, co, oh, ow] of `x` [b, ci, h, w] in f32, with `shift` [1 or b, co], for every pixel of a
    /// channel, and `shortcut`, of the result's shape, added.
    ///
    /// # Errors
    /// Shapes that do not fit the weights.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        shift: Option<&Tensor>,
        shortcut: Option<&Tensor>,
    ) -> Result<Tensor> {
        let x = x.contiguous()?;
        let grid = self.grid(&x)?;
        let outputs = self.weights.outputs();
        let bias = self.bias.as_ref().map(Values::of).transpose()?;
        let bias = bias.as_ref().map(Values::slice).transpose()?.unwrap_or_default();
        let shift = shift.map(Values::of).transpose()?;
        let shift = shift.as_ref().map(Values::slice).transpose()?.unwrap_or_default();
        let shortcut = shortcut.map(Values::of).transpose()?;
        let shortcut = shortcut.as_ref().map(Values::slice).transpose()?.unwrap_or_default();
        let Grid { batch, out_height, out_width, .. } = grid;
        let mut result = vec![0.0; batch * outputs * out_height * out_width];
        let fits = |values: &[f32], lengths: [usize; 2]| {
            values.is_empty() || lengths.contains(&values.len())
        };
        if !fits(bias, [outputs; 2])
            || !fits(shift, [outputs, batch * outputs])
            || !fits(shortcut, [result.len(); 2])
        {
            candle_core::bail!("bias, shift or shortcut do not fit a map of {grid:?}")
        }
        if !result.is_empty() {
            let values = Values::of(&x)?;
            self.convolve(values.slice()?, grid, AddedToMap { bias, shift, shortcut }, &mut result);
        }
        Tensor::from_vec(result, (batch, outputs, out_height, out_width), &Device::Cpu)
    }

    fn grid(&self, x: &Tensor) -> Result<Grid> {
        let (batch, channels, height, width) = x.dims4()?;
        let Self { side, stride, padding, .. } = *self;
        let fits = |length: usize| length + 2 * padding >= side;
        if channels != self.channels || !fits(height) || !fits(width) {
            candle_core::bail!("a map {:?} does not fit {} x {side}²", x.dims(), self.channels)
        }
        let out = |length: usize| (length + 2 * padding - side) / stride + 1;
        let inside = |length: usize| (length + 2 * padding).div_ceil(stride);
        Ok(Grid {
            batch,
            channels,
            height,
            width,
            stride,
            padding,
            out_height: out(height),
            out_width: out(width),
            rows: inside(height),
            columns: inside(width),
        })
    }

    /// Where in the grids the lines under each tap of each block of channels begin, for the pixel that begins at line 0.
    fn steps(&self, grid: Grid) -> Vec<usize> {
        let Self { side, stride, .. } = *self;
        let tap = |block: usize, down: usize, across: usize| {
            let number = (block * stride + down % stride) * stride + across % stride;
            number * grid.lines() + down / stride * grid.columns + across / stride
        };
        let blocks = 0..grid.channels.div_ceil(DEPTH);
        let rows = blocks.flat_map(|block| (0..side).map(move |down| (block, down)));
        rows.flat_map(|(block, down)| (0..side).map(move |across| tap(block, down, across)))
            .collect()
    }

    /// Steps between two writings of the sums: whole blocks of channels or whole rows of taps where they fit.
    fn steps_at_once(&self) -> usize {
        let fitting = PART / (self.weights.parts().count() * STEP);
        let taps = self.side * self.side;
        // The nine taps of the usual filter count as fitting.
        match (taps <= fitting + 1, self.side <= fitting) {
            (true, _) => taps * (fitting / taps).max(1),
            (false, true) => self.side * (fitting / self.side),
            (false, false) => fitting,
        }
    }

    fn convolve(&self, values: &[f32], grid: Grid, added: AddedToMap, result: &mut [f32]) {
        let steps = self.steps(grid);
        let grids = grid.channels.div_ceil(DEPTH) * grid.stride * grid.stride;
        // Tiles of the last pixels reach beyond the last grid.
        let lines = grids * grid.lines() + (self.side + 1) * (grid.columns + 1) + PANEL;
        let parts = self.weights.parts().count();
        // Not borrowed meanwhile: a thread that waits for others may begin another convolution.
        let mut buffer = MAP.take();
        buffer.resize(buffer.len().max(parts * lines), Line::ZERO);
        let (high, low) = buffer[..parts * lines].split_at_mut(lines);
        lay_out(values, grid, high, low);
        let strips = grid.count().div_ceil(STRIP);
        let panels = self.weights.outputs().div_ceil(PANEL);
        let at_once = panels.div_ceil(TASKS.div_ceil(strips).min(panels));
        let chunks = panels.div_ceil(at_once);
        let map = LaidOut { high, low, steps: &steps, grid };
        let tasks = cut(result, grid, self.weights.outputs(), at_once * PANEL);
        tasks.into_par_iter().enumerate().for_each(|(number, mut planes)| {
            let (strip, first) = (number / chunks * STRIP, number % chunks * at_once);
            let strip = strip..grid.count().min(strip + STRIP);
            let panels = first..panels.min(first + at_once);
            self.convolve_strip(map, strip, panels, added, &mut planes);
        });
        MAP.set(buffer);
    }

    /// The pixels of a strip in the `panels` of outputs; `planes` are their parts of the result, [entry][output]. The tiles
    /// are this thread's from here on, so nothing below may hand work to other threads.
    fn convolve_strip(
        &self,
        map: LaidOut,
        strip: Range<usize>,
        panels: Range<usize>,
        added: AddedToMap,
        planes: &mut [&mut [f32]],
    ) {
        let session = self.kernel.begin();
        let at_once = self.steps_at_once();
        let mut sums = vec![NO_SUMS; strip.len().div_ceil(PANEL)];
        for panel in panels.clone() {
            sums.fill(NO_SUMS);
            for first in (0..map.steps.len()).step_by(at_once) {
                let end = map.steps.len().min(first + at_once);
                let weights = self.weights.part(panel, first, end);
                // What comes next, an equal slice for each block.
                let next = match end < map.steps.len() {
                    true => self.weights.part(panel, end, map.steps.len().min(end + at_once)),
                    false if panel + 1 < panels.end => {
                        self.weights.part(panel + 1, 0, at_once.min(map.steps.len()))
                    }
                    false => &[],
                };
                let mut next = next.chunks(next.len().div_ceil(sums.len()).max(1));
                for (number, sums) in sums.iter_mut().enumerate() {
                    session.prefetch(next.next().unwrap_or_default());
                    let line = strip.start + number * PANEL;
                    let block = Block {
                        high: &map.high[line..],
                        low: map.low.get(line..).unwrap_or_default(),
                        steps: &map.steps[first..end],
                        weights,
                        two_row_tiles: line + TILE_ROWS < strip.end,
                    };
                    session.add(block, sums);
                    if end == map.steps.len() {
                        let lines = line..strip.end.min(line + PANEL);
                        let place = Place { lines, strip: strip.start, panel, panels: &panels };
                        self.write(sums, place, map.grid, added, planes);
                    }
                }
            }
        }
        drop(session);
    }

    /// Writes a block's sums, turned from pixels to channels, with what is added to them.
    fn write(
        &self,
        sums: &Sums,
        place: Place,
        grid: Grid,
        added: AddedToMap,
        planes: &mut [&mut [f32]],
    ) {
        let outputs = self.weights.outputs();
        let pixels = grid.out_height * grid.out_width;
        let first_output = place.panels.start * PANEL;
        let width = outputs.min(place.panels.end * PANEL) - first_output;
        let some = place.panel * PANEL..outputs.min((place.panel + 1) * PANEL);
        let mut by_output: Square = [[0.0; DEPTH]; DEPTH];
        turned(sums, &mut by_output);
        let mut line = place.lines.start;
        while line < place.lines.end {
            let (entry, inside) = (line / grid.entry(), line % grid.entry());
            let (row, column) = (inside / grid.columns, inside % grid.columns);
            if row >= grid.out_height || column >= grid.out_width {
                // To the next row.
                line += grid.columns - column;
                continue;
            }
            let count = (grid.out_width - column).min(place.lines.end - line);
            let pixel = row * grid.out_width + column;
            let from = pixel - grid.pixels_before(entry, place.strip);
            let first_row = line - place.lines.start;
            for output in some.clone() {
                let plane = entry * outputs + output;
                let of = |values: &[f32]| match values {
                    [] => 0.0,
                    values => values[plane % values.len()],
                };
                let level = of(added.bias) + of(added.shift);
                let sums = &by_output[output - some.start][first_row..][..count];
                let result = &mut planes[entry * width + output - first_output][from..][..count];
                for (result, sum) in result.iter_mut().zip(sums) {
                    *result = sum + level;
                }
                let shortcut = added.shortcut.get(plane * pixels + pixel..).unwrap_or_default();
                for (result, shortcut) in result.iter_mut().zip(shortcut) {
                    *result += shortcut;
                }
            }
            line += count;
        }
    }
}

/// A map as the tiles read it.
#[derive(Clone, Copy)]
struct LaidOut<'a> {
    high: &'a [Line],
    low: &'a [Line],
    /// Where the lines of each step begin, see [`TileConv2d::steps`].
    steps: &'a [usize],
    grid: Grid,
}

/// Where a block stands.
struct Place<'a> {
    /// Its lines of the grid.
    lines: Range<usize>,
    /// The first line of its strip.
    strip: usize,
    /// Its panel of outputs.
    panel: usize,
    /// Those of its task.
    panels: &'a Range<usize>,
}

/// The parts of `result` that tasks write: one for each strip and each `width` outputs, [entry][output].
fn cut(result: &mut [f32], grid: Grid, outputs: usize, width: usize) -> Vec<Vec<&mut [f32]>> {
    let strips = grid.count().div_ceil(STRIP);
    let chunks = outputs.div_ceil(width);
    let mut tasks: Vec<Vec<&mut [f32]>> = Vec::new();
    tasks.resize_with(strips * chunks, Vec::new);
    for (plane, mut rest) in result.chunks_mut(grid.out_height * grid.out_width).enumerate() {
        let (entry, output) = (plane / outputs, plane % outputs);
        for strip in 0..strips {
            let pixels = |line| grid.pixels_before(entry, line);
            let count = pixels((strip + 1) * STRIP) - pixels(strip * STRIP);
            let (part, after) = rest.split_at_mut(count);
            tasks[strip * chunks + output / width].push(part);
            rest = after;
        }
    }
    tasks
}

for_processor!(
    /// A block's sums, [row tile][output tile][row], as [output][row].
    fn turned(sums: &Sums, by_output: &mut Square) = turned_body
);

#[inline(always)]
fn turned_body<const FUSED: bool>(sums: &Sums, by_output: &mut Square) {
    for (row, line) in (0..DEPTH).map(|row| (row, row / TILE_ROWS * STEP + row % TILE_ROWS)) {
        for lane in 0..TILE_ROWS {
            by_output[lane][row] = sums[line].0[lane];
            by_output[TILE_ROWS + lane][row] = sums[line + TILE_ROWS].0[lane];
        }
    }
}
