//! In: a feature map and the weights of a convolution. Out: the convolved map, with bias, a shift
//! per channel and a shortcut already in it.
//!
//! A tile of output pixels is taken at a time; the input numbers under it are laid out as a matrix
//! small enough for the cache, a few channels at a time, and multiplied straight into the output's
//! place. Small maps take the whole batch at once and share the work by output channels instead.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ops::Range;

use candle_core::{Device, Result, Tensor};
use gemm::Parallelism;

use super::Values;
use super::matmul::{MatmulWrite, Operand, Size, Target, matmul_into};
use super::sharing::{PRODUCTS_A_STEP, each_piece, each_task};

/// Output pixels of a tile.
const TILE: usize = 512;
/// Numbers of the matrix under a tile, so that it stays in the second-level cache.
const IM2COL_TILE: usize = 128 * 1024;
/// Maps with no more output pixels than this, batch included, are shared out by channels.
const SMALL: usize = 512;
/// Numbers of the matrix under all of a small map.
const IM2COL_SMALL: usize = 1024 * 1024;
/// Tasks that a large map is cut into at least, where its channels allow.
const TASKS: usize = 8;
/// Output channels of a task at least.
const CHANNELS: usize = 64;

thread_local! {
    /// The matrix under a tile, kept between calls.
    static LAYOUT: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// What stands in the output before the products are added.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct InitialOutput<'a> {
    /// [co].
    pub(crate) bias: Option<&'a Tensor>,
    /// [1 or b, co], for every pixel of a channel.
    pub(crate) shift: Option<&'a Tensor>,
    /// [b, co, oh, ow].
    pub(crate) shortcut: Option<&'a Tensor>,
}

/// Sizes of a convolution of one map.
#[derive(Debug, Clone, Copy)]
struct Shape {
    channels: usize,
    height: usize,
    width: usize,
    side: usize,
    stride: usize,
    padding: usize,
    out_channels: usize,
    out_height: usize,
    out_width: usize,
}

impl Shape {
    fn pixels(&self) -> usize {
        self.out_height * self.out_width
    }

    fn input(&self) -> usize {
        self.channels * self.height * self.width
    }

    fn output(&self) -> usize {
        self.out_channels * self.pixels()
    }

    fn products(&self) -> usize {
        self.output() * self.channels * self.kernel_area()
    }

    /// Weights that meet one input channel in one output channel.
    fn kernel_area(&self) -> usize {
        self.side * self.side
    }

    /// Whether the input is the matrix already.
    fn is_pointwise(&self) -> bool {
        (self.side, self.stride, self.padding) == (1, 1, 0)
    }
}

/// Convolves `x` [b, ci, h, w] with `weight` [co, ci, side, side]: [b, co, oh, ow].
pub(crate) fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    stride: usize,
    padding: usize,
    start: InitialOutput,
) -> Result<Tensor> {
    let x = x.contiguous()?;
    let (batch, channels, height, width) = x.dims4()?;
    let (out_channels, inputs, side, other_side) = weight.dims4()?;
    let fits = |length: usize| length + 2 * padding >= side;
    if inputs != channels || side != other_side || !fits(height) || !fits(width) || stride == 0 {
        candle_core::bail!("a map {:?} does not fit weights {:?}", x.dims(), weight.dims())
    }
    let out = |length: usize| (length + 2 * padding - side) / stride + 1;
    let (out_height, out_width) = (out(height), out(width));
    let shape = Shape {
        channels,
        height,
        width,
        side,
        stride,
        padding,
        out_channels,
        out_height,
        out_width,
    };
    let mut result = initial_output(batch, &shape, start)?;
    let (values, weights) = (Values::of(&x)?, Values::of(weight)?);
    if batch * shape.pixels() <= SMALL {
        small(&mut result, values.slice()?, weights.slice()?, batch, &shape)?;
    } else {
        large(&mut result, values.slice()?, weights.slice()?, batch, &shape)?;
    }
    Tensor::from_vec(result, (batch, out_channels, out_height, out_width), &Device::Cpu)
}

/// The output with bias, shift and shortcut in it.
fn initial_output(batch: usize, shape: &Shape, start: InitialOutput) -> Result<Vec<f32>> {
    let InitialOutput { bias, shift, shortcut } = start;
    let bias = bias.map(Values::of).transpose()?;
    let bias = bias.as_ref().map(Values::slice).transpose()?.unwrap_or_default();
    let shift = shift.map(Values::of).transpose()?;
    let shift = shift.as_ref().map(Values::slice).transpose()?.unwrap_or_default();
    let shortcut = shortcut.map(Values::of).transpose()?;
    let shortcut = shortcut.as_ref().map(Values::slice).transpose()?.unwrap_or_default();
    let (planes, pixels) = (batch * shape.out_channels, shape.pixels());
    let fits =
        |values: &[f32], lengths: [usize; 2]| values.is_empty() || lengths.contains(&values.len());
    if !fits(bias, [shape.out_channels; 2])
        || !fits(shift, [shape.out_channels, planes])
        || !fits(shortcut, [planes * pixels; 2])
    {
        candle_core::bail!("bias, shift or shortcut do not fit the map {shape:?}")
    }
    let mut result = vec![0.0; planes * pixels];
    let steps = result.len();
    each_piece(&mut result, pixels, steps, |plane, result| {
        let of = |values: &[f32]| {
            if values.is_empty() { 0.0 } else { values[plane % values.len()] }
        };
        let level = of(bias) + of(shift);
        match shortcut.get(plane * pixels..(plane + 1) * pixels) {
            None => result.fill(level),
            Some(shortcut) => {
                for (result, shortcut) in result.iter_mut().zip(shortcut) {
                    *result = shortcut + level;
                }
            }
        }
    });
    Ok(result)
}

/// One task for each tile of each map, and for each part of the channels where tiles are few.
fn large(
    result: &mut [f32],
    values: &[f32],
    weights: &[f32],
    batch: usize,
    shape: &Shape,
) -> Result<()> {
    let (pixels, channels) = (shape.pixels(), shape.out_channels);
    let tiles = pixels.div_ceil(TILE);
    let most = (channels / CHANNELS).max(1);
    let parts = TASKS.div_ceil((batch * tiles).max(1)).min(most);
    let part = channels.div_ceil(parts);
    let target = Target::new(result);
    let steps = batch * shape.products() / PRODUCTS_A_STEP;
    each_task(batch * tiles * parts, steps, |task| {
        let (entry, tile, number) = (task / (tiles * parts), task / parts % tiles, task % parts);
        let tile = tile * TILE..pixels.min((tile + 1) * TILE);
        let outs = number * part..channels.min((number + 1) * part);
        if outs.is_empty() {
            return Ok(());
        }
        let map = &values[entry * shape.input()..(entry + 1) * shape.input()];
        // A tile of some channels of one entry belongs to one task.
        let target = target.from(entry * shape.output() + outs.start * pixels + tile.start);
        LAYOUT.with_borrow_mut(|layout| {
            convolve_tile(target, map, weights, shape, tile, outs, layout)
        })
    })
}

fn convolve_tile(
    target: Target,
    map: &[f32],
    weights: &[f32],
    shape: &Shape,
    tile: Range<usize>,
    outs: Range<usize>,
    layout: &mut Vec<f32>,
) -> Result<()> {
    let (pixels, kernel_area, inputs) = (shape.pixels(), shape.kernel_area(), shape.channels);
    let count = tile.len();
    let at_once = (IM2COL_TILE / (count * kernel_area).max(1)).clamp(1, inputs.max(1));
    // Equal parts, the last no stub.
    let at_once = inputs.div_ceil(inputs.div_ceil(at_once).max(1)).max(1);
    for first in (0..inputs).step_by(at_once) {
        let some = first..inputs.min(first + at_once);
        let size = Size { rows: outs.len(), inner: some.len() * kernel_area, columns: count };
        let left = Operand {
            values: &weights[(outs.start * inputs + some.start) * kernel_area..],
            row_stride: inputs * kernel_area,
            column_stride: 1,
        };
        let right = if shape.is_pointwise() {
            let values = &map[some.start * pixels + tile.start..];
            Operand { values, row_stride: pixels, column_stride: 1 }
        } else {
            layout.resize(layout.len().max(size.inner * count), 0.0);
            for (number, channel) in some.clone().enumerate() {
                let rows =
                    &mut layout[number * kernel_area * count..(number + 1) * kernel_area * count];
                im2col(rows, count, plane(map, channel, shape), shape, &tile);
            }
            Operand { values: &layout[..size.inner * count], row_stride: count, column_stride: 1 }
        };
        // SAFETY: the caller alone holds this tile of these channels.
        unsafe {
            matmul_into(
                target,
                pixels,
                size,
                left,
                right,
                MatmulWrite::Accumulate,
                Parallelism::None,
            )?
        }
    }
    Ok(())
}

/// All maps of the batch side by side, laid out once for all threads; one task for each part of the
/// output channels.
fn small(
    result: &mut [f32],
    values: &[f32],
    weights: &[f32],
    batch: usize,
    shape: &Shape,
) -> Result<()> {
    let (pixels, kernel_area, inputs) = (shape.pixels(), shape.kernel_area(), shape.channels);
    let count = batch * pixels;
    let mut sums = vec![0.0; shape.out_channels * count];
    let at_once = (IM2COL_SMALL / (count * kernel_area).max(1)).clamp(1, inputs.max(1));
    let at_once = inputs.div_ceil(inputs.div_ceil(at_once).max(1)).max(1);
    let mut layout = vec![0.0; at_once * kernel_area * count];
    for first in (0..inputs).step_by(at_once) {
        let some = first..inputs.min(first + at_once);
        let inner = some.len() * kernel_area;
        each_piece(
            &mut layout[..inner * count],
            kernel_area * count,
            inner * count,
            |number, rows| {
                let channel = some.start + number;
                for entry in 0..batch {
                    let map = &values[entry * shape.input()..(entry + 1) * shape.input()];
                    let plane = plane(map, channel, shape);
                    im2col(&mut rows[entry * pixels..], count, plane, shape, &(0..pixels));
                }
            },
        );
        let right =
            Operand { values: &layout[..inner * count], row_stride: count, column_stride: 1 };
        let (target, channels) = (Target::new(&mut sums), shape.out_channels);
        let steps = channels * inner * count / PRODUCTS_A_STEP;
        each_task(channels.div_ceil(CHANNELS), steps, |part| {
            let left = Operand {
                values: &weights[(part * CHANNELS * inputs + some.start) * kernel_area..],
                row_stride: inputs * kernel_area,
                column_stride: 1,
            };
            let rows = CHANNELS.min(channels - part * CHANNELS);
            let size = Size { rows, inner, columns: count };
            // SAFETY: `target` alone borrows the sums, and a channel's belong to one task.
            unsafe {
                matmul_into(
                    target.from(part * CHANNELS * count),
                    count,
                    size,
                    left,
                    right,
                    MatmulWrite::Accumulate,
                    Parallelism::None,
                )
            }
        })?;
    }
    let steps = result.len();
    each_piece(result, pixels, steps, |plane, result| {
        let (entry, channel) = (plane / shape.out_channels, plane % shape.out_channels);
        let sums = &sums[channel * count + entry * pixels..];
        for (result, sum) in result.iter_mut().zip(sums) {
            *result += sum;
        }
    });
    Ok(())
}

fn plane<'a>(map: &'a [f32], channel: usize, shape: &Shape) -> &'a [f32] {
    let size = shape.height * shape.width;
    &map[channel * size..(channel + 1) * size]
}

/// One row per tap, `apart` numbers from one to the next: the input number under each pixel of `tile`.
fn im2col(rows: &mut [f32], apart: usize, plane: &[f32], shape: &Shape, tile: &Range<usize>) {
    for tap in 0..shape.kernel_area() {
        let (down, across) = (tap / shape.side, tap % shape.side);
        let row = &mut rows[tap * apart..][..tile.len()];
        let mut pixel = tile.start;
        let mut rest = row;
        while pixel < tile.end {
            let (y, x) = (pixel / shape.out_width, pixel % shape.out_width);
            let count = (shape.out_width - x).min(tile.end - pixel);
            let (line, after) = rest.split_at_mut(count);
            match (y * shape.stride + down).checked_sub(shape.padding) {
                Some(y) if y < shape.height => {
                    let source = &plane[y * shape.width..(y + 1) * shape.width];
                    im2col_line(line, source, x, across, shape);
                }
                _ => line.fill(0.0),
            }
            rest = after;
            pixel += count;
        }
    }
}

/// The numbers of one line of the input under the pixels from `x` on; zeros beyond its ends.
fn im2col_line(line: &mut [f32], source: &[f32], x: usize, across: usize, shape: &Shape) {
    let Shape { stride, padding, .. } = *shape;
    if stride == 1 {
        // Pixel i of the line lies over source[x + i + across - padding].
        let begin = x + across;
        let from = padding.saturating_sub(begin).min(line.len());
        let to = (source.len() + padding).saturating_sub(begin).clamp(from, line.len());
        line[..from].fill(0.0);
        if from < to {
            let at = begin + from - padding;
            line[from..to].copy_from_slice(&source[at..at + (to - from)]);
        }
        line[to..].fill(0.0);
    } else {
        for (number, value) in line.iter_mut().enumerate() {
            let at = ((x + number) * stride + across).checked_sub(padding);
            *value = at.and_then(|at| source.get(at)).copied().unwrap_or(0.0);
        }
    }
}
