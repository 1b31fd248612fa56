//! In: a linear layer's weights in f32, and rows. Out: the weights in panels of outputs, made once, and the layer's
//! result by them. A product of few rows spends its time on the weights: `gemm` turns them about anew in each call, and
//! here they lie as they are read. Nothing is held twice: products of many rows read the same panels.
#![allow(unsafe_code)]

use candle_core::{DType, Device, Result, Tensor};
use gemm::Parallelism;
use rayon::prelude::*;

use super::Values;
use super::few_rows::{PANEL, Rows, parts};
use super::linear::{addends, result_shape, rows_of, start};
use super::lines::{Line, numbers};
use super::many_rows::products;
use super::matmul::{MatmulWrite, Operand, Size, Target, matmul_into};
use super::sharing::{PRODUCTS_A_STEP, each_task};

/// Weights from which on they are packed. What is smaller, as all of the demo's layers are, is soon turned about.
const FEWEST: usize = 1 << 18;
/// Panels of a task.
const PANELS: usize = 4;
/// Rows from which on `gemm` reads the panels where its kernels are wider than ours: AVX-512, and what has no AVX2.
const WIDE_FROM: usize = 49;
/// Rows from which on they are many.
const MANY: usize = 64;
/// Rows that `gemm` takes at a time, at most: 400 KB of the longest part.
const ROWS: usize = 192;

/// Weights [output, input] in panels [input, 16], the last one filled up with zeros.
#[derive(Debug)]
pub(crate) struct PackedWeights {
    /// A step of a panel is a line.
    lines: Vec<Line>,
    output: usize,
    input: usize,
}

/// Whose kernel makes the products.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum PanelKernel {
    /// [`super::few_rows`].
    FewRows,
    /// [`super::many_rows`].
    ManyRows,
    /// The `gemm` crate, [`ROWS`] rows at a time.
    Gemm,
}

impl PackedWeights {
    /// Of `weight` [output, input], where packing it pays and can be done: many numbers, f32, in the processor's memory.
    pub(crate) fn of(weight: &Tensor) -> Option<Self> {
        let pays = weight.device().is_cpu()
            && weight.dtype() == DType::F32
            && weight.elem_count() >= FEWEST;
        if pays { Self::pack(weight).ok() } else { None }
    }

    /// Whether products of many rows gain by packed weights too, by a kernel that is as wide as this processor.
    pub(crate) fn pay_for_many_rows() -> bool {
        !has_wider()
    }

    /// Of `weight` [output, input] of any size.
    pub(super) fn pack(weight: &Tensor) -> Result<Self> {
        let (output, input) = weight.dims2()?;
        let weight = weight.contiguous()?;
        let weights = Values::of(&weight)?;
        let weights = weights.slice()?;
        let step_of = |number: usize| {
            let (panel, step) = (number / input, number % input);
            let of_output = |column| weights.get((panel * PANEL + column) * input + step);
            Line(std::array::from_fn(|column| of_output(column).copied().unwrap_or_default()))
        };
        let lines = (0..output.div_ceil(PANEL) * input).into_par_iter().map(step_of).collect();
        Ok(Self { lines, output, input })
    }

    /// All panels' numbers, one after the other.
    fn panels(&self) -> &[f32] {
        numbers(&self.lines)
    }

    /// Output and input width.
    pub(crate) fn dims(&self) -> [usize; 2] {
        [self.output, self.input]
    }

    /// `x @ weight^T + bias + shortcut` for `x` [..., input]: [..., output]. A three-dimensional `x` may be a transposed
    /// view.
    pub(crate) fn linear(
        &self,
        x: &Tensor,
        bias: Option<&Tensor>,
        shortcut: Option<&Tensor>,
    ) -> Result<Tensor> {
        let rows = x.elem_count() / self.input.max(1);
        self.linear_by(kernel(rows), x, bias, shortcut)
    }

    pub(super) fn linear_by(
        &self,
        kernel: PanelKernel,
        x: &Tensor,
        bias: Option<&Tensor>,
        shortcut: Option<&Tensor>,
    ) -> Result<Tensor> {
        let Self { output, input, .. } = *self;
        let shape = result_shape(x, output, input)?;
        let Some((entries, rows, strides)) = rows_of(x, input)? else {
            return self.linear_by(kernel, &x.contiguous()?, bias, shortcut);
        };
        if kernel == PanelKernel::ManyRows && input > 0 {
            let (bias, shortcut) =
                (bias.map(Values::of).transpose()?, shortcut.map(Values::of).transpose()?);
            let addends = addends(entries * rows, output, bias.as_ref(), shortcut.as_ref())?;
            let values = Values::strided(x);
            let left = Operand {
                values: values.slice()?,
                row_stride: strides[1],
                column_stride: strides[2],
            };
            let size = Size { rows, inner: input, columns: output };
            let result = products(left, (entries, strides[0]), size, self.panels(), addends)?;
            return result.reshape(shape);
        }
        let mut result = start(entries * rows, output, bias, shortcut)?;
        let values = Values::strided(x);
        let target = Target::new(&mut result);
        // About equal groups.
        let at_once = match kernel {
            PanelKernel::Gemm => rows.div_ceil(rows.div_ceil(ROWS).max(1)).max(1),
            _ => rows.max(1),
        };
        for entry in 0..entries {
            for first in (0..rows).step_by(at_once) {
                let from = entry * strides[0] + first * strides[1];
                let left = Operand {
                    values: values.slice()?.get(from..).unwrap_or_default(),
                    row_stride: strides[1],
                    column_stride: strides[2],
                };
                let size = Size { rows: at_once.min(rows - first), inner: input, columns: output };
                let target = target.from((entry * rows + first) * output);
                // SAFETY: `result` is borrowed by `target` alone, and the groups come one after the other.
                unsafe { self.add_products(kernel, left, size, target)? };
            }
        }
        Tensor::from_vec(result, shape, &Device::Cpu)
    }

    /// Adds `left @ weight^T` to `target`.
    ///
    /// # Safety
    /// Nothing else may touch the target meanwhile.
    unsafe fn add_products(
        &self,
        kernel: PanelKernel,
        left: Operand,
        size: Size,
        target: Target,
    ) -> Result<()> {
        let (panel, group) = (self.input * PANEL, PANELS * self.input * PANEL);
        if size.rows == 0 || size.columns == 0 || size.inner == 0 {
            return Ok(());
        }
        let last = (size.rows - 1) * left.row_stride + (size.inner - 1) * left.column_stride;
        if last >= left.values.len() {
            candle_core::bail!("{} rows of {} reach beyond their matrix", size.rows, size.inner)
        }
        let width = |number: usize| PANEL.min(self.output - number * PANEL);
        let panels = self.panels();
        let of_task = |task: usize| &panels[task * group..panels.len().min((task + 1) * group)];
        let tasks = panels.len().div_ceil(group);
        // To read the weights takes as long as the products of four rows.
        let steps = size.rows.max(4) * panels.len() / PRODUCTS_A_STEP;
        if kernel == PanelKernel::FewRows {
            let rows = Rows::of(left, size);
            return each_task(tasks, steps, |task| {
                let mut sums = rows.sums();
                for (number, panel) in of_task(task).chunks(panel).enumerate() {
                    let number = task * PANELS + number;
                    let target = target.from(number * PANEL);
                    // SAFETY: the caller holds the target, and a panel's columns belong to one task.
                    unsafe {
                        rows.add_products(panel, target, self.output, width(number), &mut sums);
                    }
                }
                Ok(())
            });
        }
        each_task(tasks, steps, |task| {
            // The rows' part stays in the cache for all of the task's panels.
            for (first, inner) in parts(size.inner) {
                for (number, panel) in of_task(task).chunks(panel).enumerate() {
                    let number = task * PANELS + number;
                    let left =
                        Operand { values: &left.values[first * left.column_stride..], ..left };
                    let right = Operand {
                        values: &panel[first * PANEL..],
                        row_stride: PANEL,
                        column_stride: 1,
                    };
                    let size = Size { rows: size.rows, inner, columns: width(number) };
                    let target = target.from(number * PANEL);
                    let (enters, alone) = (MatmulWrite::Accumulate, Parallelism::None);
                    // SAFETY: as above.
                    unsafe {
                        matmul_into(target, self.output, size, left, right, enters, alone)?;
                    }
                }
            }
            Ok(())
        })
    }
}

/// Which one is the quicker for `rows` rows on this processor.
fn kernel(rows: usize) -> PanelKernel {
    match rows {
        WIDE_FROM.. if has_wider() => PanelKernel::Gemm,
        MANY.. => PanelKernel::ManyRows,
        _ => PanelKernel::FewRows,
    }
}

/// Whether the kernels of `gemm` are wider than ours here.
fn has_wider() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512f") || !is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    true
}

#[cfg(test)]
mod tests;
