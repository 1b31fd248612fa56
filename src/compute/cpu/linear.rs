//! In: rows and a linear layer's weights. Out: the layer's result, with bias and shortcut standing in
//! the output before the product is added to them, so that neither costs a pass of its own.
#![allow(unsafe_code)]

use candle_core::{Device, Result, Tensor};
use gemm::Parallelism;

use super::Values;
use super::matmul::{MatmulWrite, Operand, Size, Target, matmul_into};
use super::sharing::new_pieces;

/// Rows whose start is written by one thread at a time.
const ROWS_AT_ONCE: usize = 64;

/// `x @ weight^T + bias + shortcut` for `x` [..., input] and `weight` [output, input]: [..., output].
/// A three-dimensional `x` may be a transposed view; that costs nothing.
pub(crate) fn linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    shortcut: Option<&Tensor>,
) -> Result<Tensor> {
    let (output, input) = weight.dims2()?;
    let shape = result_shape(x, output, input)?;
    let Some((entries, rows, strides)) = rows_of(x, input)? else {
        return linear(&x.contiguous()?, weight, bias, shortcut);
    };
    let mut result = start(entries * rows, output, bias, shortcut)?;
    let (values, weights) = (Values::strided(x), Values::of(weight)?);
    let right = Operand { values: weights.slice()?, row_stride: 1, column_stride: input };
    let size = Size { rows, inner: input, columns: output };
    let target = Target::new(&mut result);
    for entry in 0..entries {
        let left = Operand {
            values: values.slice()?.get(entry * strides[0]..).unwrap_or_default(),
            row_stride: strides[1],
            column_stride: strides[2],
        };
        let target = target.from(entry * rows * output);
        // SAFETY: `result` is borrowed by `target` alone, and the entries come one after the other.
        unsafe {
            matmul_into(
                target,
                output,
                size,
                left,
                right,
                MatmulWrite::Accumulate,
                Parallelism::Rayon(0),
            )?;
        }
    }
    Tensor::from_vec(result, shape, &Device::Cpu)
}

/// How the rows of `x` [..., input] lie: entries, rows of each, and the strides of entries, rows and columns. Of what is not
/// contiguous only a three-dimensional view of numbers apart has these; `None` of any other.
pub(crate) fn rows_of(x: &Tensor, input: usize) -> Result<Option<(usize, usize, [usize; 3])>> {
    Ok(match (x.is_contiguous(), x.stride()) {
        (false, &[entry, row, column]) if column > 0 => {
            Some((x.dim(0)?, x.dim(1)?, [entry, row, column]))
        }
        (true, _) => Some((1, x.elem_count() / input.max(1), [0, input, 1])),
        _ => None,
    })
}

/// [..., output] for `x` [..., input] and weights [output, input].
pub(crate) fn result_shape(x: &Tensor, output: usize, input: usize) -> Result<Vec<usize>> {
    let mut shape = x.dims().to_vec();
    match shape.last_mut() {
        Some(width) if *width == input => *width = output,
        _ => candle_core::bail!("rows {:?} do not fit weights {:?}", x.dims(), [output, input]),
    }
    Ok(shape)
}

/// What a product is added to: a row, and a matrix of the result's shape; each may be empty.
#[derive(Clone, Copy)]
pub(super) struct Addends<'a> {
    pub(super) bias: &'a [f32],
    pub(super) shortcut: &'a [f32],
}

/// Bias [width] and shortcut [rows, width].
///
/// # Errors
/// One of them has another size.
pub(super) fn addends<'a>(
    rows: usize,
    width: usize,
    bias: Option<&'a Values>,
    shortcut: Option<&'a Values>,
) -> Result<Addends<'a>> {
    let bias = bias.map(Values::slice).transpose()?.unwrap_or_default();
    let shortcut = shortcut.map(Values::slice).transpose()?.unwrap_or_default();
    if !(bias.is_empty() || bias.len() == width)
        || !(shortcut.is_empty() || shortcut.len() == rows * width)
    {
        candle_core::bail!("bias or shortcut do not fit a result of {rows} x {width}")
    }
    Ok(Addends { bias, shortcut })
}

/// `[rows, width]` filled with bias and shortcut.
pub(crate) fn start(
    rows: usize,
    width: usize,
    bias: Option<&Tensor>,
    shortcut: Option<&Tensor>,
) -> Result<Vec<f32>> {
    let bias = bias.map(Values::of).transpose()?;
    let shortcut = shortcut.map(Values::of).transpose()?;
    let Addends { bias, shortcut } = addends(rows, width, bias.as_ref(), shortcut.as_ref())?;
    if bias.is_empty() && shortcut.is_empty() {
        return Ok(vec![0.0; rows * width]);
    }
    let (block, count) = ((ROWS_AT_ONCE * width).max(1), rows * width);
    let result = new_pieces(count, block, count, |number, block_of_rows| {
        for (row, result) in block_of_rows.chunks_mut(width).enumerate() {
            let at = number * block + row * width;
            match (shortcut.get(at..at + width), bias.is_empty()) {
                (None, _) => result.copy_from_slice(bias),
                (Some(shortcut), true) => result.copy_from_slice(shortcut),
                (Some(shortcut), false) => {
                    for ((result, shortcut), bias) in result.iter_mut().zip(shortcut).zip(bias) {
                        *result = shortcut + bias;
                    }
                }
            }
        }
    });
    Ok(result)
}
