//! In: numbers. Out: each through an activation, and GEGLU, which multiplies one half of a projection
//! by the activation of the other half, in one pass.

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Result, Tensor};

use super::Values;
use super::sharing::{each_piece, new_pieces};
use super::vector::{erf, for_processor, sigmoid};

/// Numbers that one thread takes at a time.
const AT_ONCE: usize = 4096;
/// Rows of a gated projection that one thread takes at a time.
const ROWS_AT_ONCE: usize = 8;

/// The activations that are computed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ActivationKind {
    /// `x (1 + erf(x / sqrt 2)) / 2`.
    Gelu,
    /// The tanh approximation of it.
    GeluTanh,
    /// `x * sigmoid(1.702 x)`.
    QuickGelu,
    /// `x * sigmoid(x)`.
    Silu,
}

/// `curve` of every number of `x`.
pub(crate) fn activation(x: &Tensor, curve: ActivationKind) -> Result<Tensor> {
    let x = x.contiguous()?;
    let (values, count) = (Values::of(&x)?, x.elem_count());
    let values = values.slice()?;
    let output = new_pieces(count, AT_ONCE, 2 * count, |number, output| {
        output.copy_from_slice(&values[number * AT_ONCE..][..output.len()]);
        bend(output, curve);
    });
    Tensor::from_vec(output, x.shape(), &Device::Cpu)
}

/// As [`activation`], in the place of the numbers of `x`, which nobody else holds.
pub(crate) fn activation_in_place(x: Tensor, curve: ActivationKind) -> Result<Tensor> {
    if !x.is_contiguous() {
        return activation(&x, curve);
    }
    x.inplace_op1(&InPlace(curve))?;
    Ok(x)
}

struct InPlace(ActivationKind);

impl InplaceOp1 for InPlace {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        match (storage, layout.contiguous_offsets()) {
            (CpuStorage::F32(values), Some((first, end))) => {
                let values = &mut values[first..end];
                let steps = 2 * values.len();
                each_piece(values, AT_ONCE, steps, |_, values| bend(values, self.0));
                Ok(())
            }
            _ => candle_core::bail!("contiguous f32 in the processor's memory is needed"),
        }
    }
}

/// `a * gelu(g)` for `x` [..., 2 * inner], whose rows are a and then g: [..., inner].
pub(crate) fn geglu(x: &Tensor) -> Result<Tensor> {
    let x = x.contiguous()?;
    let mut shape = x.dims().to_vec();
    let inner = shape.last().map_or(0, |width| width / 2);
    if let Some(width) = shape.last_mut() {
        if *width != 2 * inner {
            candle_core::bail!("rows of {width} cannot be halved")
        }
        *width = inner;
    }
    let values = Values::of(&x)?;
    let (some, width, count) = (ROWS_AT_ONCE * inner, inner.max(1), x.elem_count() / 2);
    let values = values.slice()?;
    let output = new_pieces(count, some, 2 * count, |number, output| {
        let rows = values[2 * number * some..].chunks(2 * width);
        for (output, row) in output.chunks_mut(width).zip(rows) {
            gate(output, &row[..inner], &row[inner..]);
        }
    });
    Tensor::from_vec(output, shape, &Device::Cpu)
}

/// `x + gate * y` for `x` and `y` [..., width] and `gate` [width].
pub(crate) fn gated_sum(x: &Tensor, y: &Tensor, gate: &Tensor) -> Result<Tensor> {
    let width = gate.dims1()?;
    if x.dims() != y.dims() || x.dims().last() != Some(&width) {
        candle_core::bail!(
            "{:?} and {:?} are not of one shape with {width} gates",
            x.dims(),
            y.dims()
        )
    }
    let (x, y, gate) = (x.contiguous()?, y.contiguous()?, gate.contiguous()?);
    let (values, others, gates) = (Values::of(&x)?, Values::of(&y)?, Values::of(&gate)?);
    let (values, others, gates) = (values.slice()?, others.slice()?, gates.slice()?);
    let (some, count) = ((ROWS_AT_ONCE * width).max(1), x.elem_count());
    let output = new_pieces(count, some, count, |number, output| {
        let at = number * some;
        let (values, others) = (&values[at..][..output.len()], &others[at..][..output.len()]);
        let rows = output.chunks_mut(width).zip(values.chunks(width)).zip(others.chunks(width));
        for ((output, x), y) in rows {
            for (((output, x), y), gate) in output.iter_mut().zip(x).zip(y).zip(gates) {
                *output = x + y * gate;
            }
        }
    });
    Tensor::from_vec(output, x.shape(), &Device::Cpu)
}

for_processor!(fn gate(output: &mut [f32], plain: &[f32], gate: &[f32]) = gate_body);
for_processor!(fn bend(values: &mut [f32], curve: ActivationKind) = bend_body);

#[inline(always)]
fn gate_body<const FUSED: bool>(output: &mut [f32], plain: &[f32], gate: &[f32]) {
    for ((output, plain), gate) in output.iter_mut().zip(plain).zip(gate) {
        *output = plain * gelu::<FUSED>(*gate);
    }
}

#[inline(always)]
fn bend_body<const FUSED: bool>(values: &mut [f32], curve: ActivationKind) {
    let each = values.iter_mut();
    match curve {
        ActivationKind::Gelu => each.for_each(|x| *x = gelu::<FUSED>(*x)),
        // (1 + tanh u) / 2 is the sigmoid of 2 u.
        ActivationKind::GeluTanh => each.for_each(|x| {
            const FACTOR: f32 = 2.0 * 0.797_884_6; // The root of 2 / pi.
            *x *= sigmoid::<FUSED>(FACTOR * (*x + 0.044_715 * *x * *x * *x));
        }),
        ActivationKind::QuickGelu => each.for_each(|x| *x *= sigmoid::<FUSED>(1.702 * *x)),
        ActivationKind::Silu => each.for_each(|x| *x *= sigmoid::<FUSED>(*x)),
    }
}

#[inline(always)]
fn gelu<const FUSED: bool>(x: f32) -> f32 {
    0.5 * x * (1.0 + erf::<FUSED>(x * std::f32::consts::FRAC_1_SQRT_2))
}
