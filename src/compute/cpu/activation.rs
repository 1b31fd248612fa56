//! In: numbers. Out: each through an activation, and GEGLU, which multiplies one half of a projection
//! by the activation of the other half, in one pass.

use candle_core::{Device, Result, Tensor};

use super::Values;
use super::sharing::each_piece;
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
    let mut output = vec![0.0; x.elem_count()];
    let values = Values::of(&x)?;
    let (values, steps) = (values.slice()?, 2 * output.len());
    each_piece(&mut output, AT_ONCE, steps, |number, output| {
        bend(output, &values[number * AT_ONCE..][..output.len()], curve);
    });
    Tensor::from_vec(output, x.shape(), &Device::Cpu)
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
    let mut output = vec![0.0; x.elem_count() / 2];
    let values = Values::of(&x)?;
    let (some, width, steps) = (ROWS_AT_ONCE * inner, inner.max(1), 2 * output.len());
    let values = values.slice()?;
    each_piece(&mut output, some, steps, |number, output| {
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
    let mut output = vec![0.0; x.elem_count()];
    let (values, others, gates) = (Values::of(&x)?, Values::of(&y)?, Values::of(&gate)?);
    let (values, others, gates) = (values.slice()?, others.slice()?, gates.slice()?);
    let (some, steps) = ((ROWS_AT_ONCE * width).max(1), output.len());
    each_piece(&mut output, some, steps, |number, output| {
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
for_processor!(fn bend(output: &mut [f32], values: &[f32], curve: ActivationKind) = bend_body);

#[inline(always)]
fn gate_body<const FUSED: bool>(output: &mut [f32], plain: &[f32], gate: &[f32]) {
    for ((output, plain), gate) in output.iter_mut().zip(plain).zip(gate) {
        *output = plain * gelu::<FUSED>(*gate);
    }
}

#[inline(always)]
fn bend_body<const FUSED: bool>(output: &mut [f32], values: &[f32], curve: ActivationKind) {
    let pairs = output.iter_mut().zip(values);
    match curve {
        ActivationKind::Gelu => pairs.for_each(|(output, x)| *output = gelu::<FUSED>(*x)),
        // (1 + tanh u) / 2 is the sigmoid of 2 u.
        ActivationKind::GeluTanh => pairs.for_each(|(output, x)| {
            const FACTOR: f32 = 2.0 * 0.797_884_6; // The root of 2 / pi.
            *output = x * sigmoid::<FUSED>(FACTOR * (x + 0.044_715 * x * x * x));
        }),
        ActivationKind::QuickGelu => {
            pairs.for_each(|(output, x)| *output = x * sigmoid::<FUSED>(1.702 * x));
        }
        ActivationKind::Silu => pairs.for_each(|(output, x)| *output = x * sigmoid::<FUSED>(*x)),
    }
}

#[inline(always)]
fn gelu<const FUSED: bool>(x: f32) -> f32 {
    0.5 * x * (1.0 + erf::<FUSED>(x * std::f32::consts::FRAC_1_SQRT_2))
}
