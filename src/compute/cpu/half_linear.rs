//! In: rows of f32 and a linear layer's weights in 16 bits, as they are published. Out: the layer's
//! result in f32, so that a network needs half the memory and gives the numbers that it gives with its
//! weights in f32. Each tile of weights is widened where it is used.
#![allow(unsafe_code)]

use std::cell::RefCell;

use candle_core::{CpuStorage, DType, Device, Result, Storage, Tensor};
use gemm::Parallelism;
use half::slice::HalfFloatSliceExt;

use super::Values;
use super::linear::{result_shape, start};
use super::matmul::{MatmulWrite, Operand, Size, Target, matmul_into};
use super::sharing::{PRODUCTS_A_STEP, each_task};

/// Rows that share one widening of a tile.
const ROWS: usize = 512;
/// Outputs of a tile, for few rows (their time is the reading of the weights) and for many.
const OUTPUTS: [usize; 2] = [64, 192];

thread_local! {
    /// A widened tile, kept between calls.
    static TILE: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Whether [`linear`] can take these.
pub(crate) fn applies(x: &Tensor, weight: &Tensor) -> bool {
    super::apply(&[x])
        && weight.device().is_cpu()
        && matches!(weight.dtype(), DType::BF16 | DType::F16)
}

/// `x @ weight^T + bias + shortcut` for `x` [..., input] and `weight` [output, input]: [..., output].
pub(crate) fn linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    shortcut: Option<&Tensor>,
) -> Result<Tensor> {
    let (output, input) = weight.dims2()?;
    let shape = result_shape(x, output, input)?;
    if !weight.is_contiguous() {
        candle_core::bail!("contiguous weights are needed, not {:?}", weight.layout())
    }
    let x = x.contiguous()?;
    let rows = x.elem_count() / input.max(1);
    let bias = bias.map(|bias| bias.to_dtype(DType::F32)).transpose()?;
    let mut result = start(rows, output, bias.as_ref(), shortcut)?;
    let values = Values::of(&x)?;
    let values = values.slice()?;
    let (storage, layout) = weight.storage_and_layout();
    let first = layout.start_offset();
    let widen = |from: usize, tile: &mut [f32]| match &*storage {
        Storage::Cpu(CpuStorage::BF16(all)) => {
            all[first + from..][..tile.len()].convert_to_f32_slice(tile);
            Ok(())
        }
        Storage::Cpu(CpuStorage::F16(all)) => {
            all[first + from..][..tile.len()].convert_to_f32_slice(tile);
            Ok(())
        }
        _ => candle_core::bail!("weights of 16 bits in the processor's memory are needed"),
    };
    let outputs = OUTPUTS[usize::from(rows >= 128)];
    let (tiles, blocks) = (output.div_ceil(outputs), rows.div_ceil(ROWS));
    let target = Target::new(&mut result);
    let steps = rows * input * output / PRODUCTS_A_STEP;
    each_task(tiles * blocks, steps, |task| {
        let (column, row) = (task / blocks * outputs, task % blocks * ROWS);
        let (columns, rows) = (outputs.min(output - column), ROWS.min(rows - row));
        TILE.with_borrow_mut(|tile| {
            tile.resize(columns * input, 0.0);
            widen(column * input, tile)?;
            let left =
                Operand { values: &values[row * input..], row_stride: input, column_stride: 1 };
            let right = Operand { values: tile, row_stride: 1, column_stride: input };
            let size = Size { rows, inner: input, columns };
            let target = target.from(row * output + column);
            // SAFETY: no two tasks share a row and a column of the result.
            unsafe {
                matmul_into(
                    target,
                    output,
                    size,
                    left,
                    right,
                    MatmulWrite::Accumulate,
                    Parallelism::None,
                )
            }
        })
    })?;
    Tensor::from_vec(result, shape, &Device::Cpu)
}
