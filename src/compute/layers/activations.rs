//! In: activations. Out: the curves that they go through.

use candle_core::{D, DType, Result, Tensor};

use crate::compute::cpu::activation;
use crate::compute::cpu::activation::ActivationKind;
use crate::compute::{cpu, cuda};

/// Activations by the names that configurations use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// `x * sigmoid(1.702 x)`, of OpenAI's CLIP.
    QuickGelu,
    /// The exact GELU, through the error function. (`Tensor::gelu` is the tanh form.)
    Gelu,
    /// The tanh approximation.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `x * sigmoid(x)`.
    Silu,
}

impl Activation {
    /// The activation that transformers calls `name`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "quick_gelu" => Some(Activation::QuickGelu),
            "gelu" => Some(Activation::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Some(Activation::GeluTanh),
            "relu" => Some(Activation::Relu),
            "silu" => Some(Activation::Silu),
            _ => None,
        }
    }

    /// Its curve on the processor, where there is one.
    fn on_processor(self) -> Option<ActivationKind> {
        match self {
            Activation::QuickGelu => Some(ActivationKind::QuickGelu),
            Activation::Gelu => Some(ActivationKind::Gelu),
            Activation::GeluTanh => Some(ActivationKind::GeluTanh),
            Activation::Silu => Some(ActivationKind::Silu),
            Activation::Relu => None,
        }
    }

    /// Applies it to every element of what a layer has just made. Nobody else may hold `x` or a view of it: on the processor the
    /// result stands in its place.
    pub(crate) fn apply_to_own(self, x: Tensor) -> Result<Tensor> {
        match self.on_processor().filter(|_| cpu::apply(&[&x])) {
            Some(curve) => activation::activation_in_place(x, curve),
            None => self.apply(&x),
        }
    }

    /// Applies it to every element.
    pub(crate) fn apply(self, x: &Tensor) -> Result<Tensor> {
        if let Some(curve) = self.on_processor().filter(|_| cpu::apply(&[x])) {
            return activation::activation(x, curve);
        }
        if cpu::is_half(x) {
            return cpu::through_f32(x, |x| self.apply(x));
        }
        let curve = match self {
            Activation::QuickGelu => Some(cuda::ActivationKind::QuickGelu),
            Activation::Gelu => Some(cuda::ActivationKind::Gelu),
            Activation::GeluTanh => Some(cuda::ActivationKind::GeluTanh),
            Activation::Silu => Some(cuda::ActivationKind::Silu),
            Activation::Relu => None,
        };
        if let Some(done) = on_gpu(x, curve)? {
            return Ok(done);
        }
        match self {
            Activation::QuickGelu => x * candle_nn::ops::sigmoid(&(x * 1.702)?)?,
            Activation::Gelu => x.gelu_erf(),
            Activation::GeluTanh => x.gelu(),
            Activation::Relu => x.relu(),
            Activation::Silu => x.silu(),
        }
    }
}

/// `x` through a curve by the GPU's kernel, which rounds once; candle's operations would after each of theirs.
fn on_gpu(x: &Tensor, curve: Option<cuda::ActivationKind>) -> Result<Option<Tensor>> {
    match curve.filter(|_| cuda::apply(&[x])) {
        Some(curve) => cuda::curve(x, curve),
        None => Ok(None),
    }
}

/// The square of `max(x, 0)`.
pub(crate) fn squared_relu(x: &Tensor) -> Result<Tensor> {
    match on_gpu(x, Some(cuda::ActivationKind::SquaredRelu))? {
        Some(done) => Ok(done),
        None => x.relu()?.sqr(),
    }
}

/// `x * sigmoid(x)`, rounded once: embeddings of time go through it, in half precision too.
pub(crate) fn silu(x: &Tensor) -> Result<Tensor> {
    if let Some(done) = on_gpu(x, Some(cuda::ActivationKind::Silu))? {
        return Ok(done);
    }
    match x.dtype() {
        DType::F32 => x.silu(),
        _ => cpu::through_f32(x, Tensor::silu),
    }
}

/// GEGLU: the first half of `x`'s last dimension times the exact GELU of its second half.
pub(crate) fn gated_by_gelu(x: &Tensor) -> Result<Tensor> {
    if cpu::apply(&[x]) {
        return activation::geglu(x);
    }
    if cpu::is_half(x) {
        return cpu::through_f32(x, gated_by_gelu);
    }
    let halves = x.chunk(2, D::Minus1)?;
    &halves[0] * Activation::Gelu.apply(&halves[1].contiguous()?)?
}

/// `x + gate * y` for `x` and `y` [..., width] and `gate` [width].
pub(crate) fn gated_sum(x: &Tensor, y: &Tensor, gate: &Tensor) -> Result<Tensor> {
    if cpu::apply(&[x, y, gate]) {
        return activation::gated_sum(x, y, gate);
    }
    x + y.broadcast_mul(&gate.to_dtype(y.dtype())?)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::golden::{Golden, errors};

    #[test]
    fn activations_equal_pytorch() {
        let golden = Golden::open("layers");
        let input = golden.get("gelu.input");
        let exact = golden.get("gelu.output");
        let gelu = Activation::Gelu.apply(&input).unwrap();
        assert!(errors("gelu", &gelu, &exact).within(5e-6, 5e-6));
        // In the place of its input, of a part of a storage too.
        let both = Tensor::stack(&[&input, &input], 0).unwrap();
        let own = Activation::Gelu.apply_to_own(both.get(1).unwrap()).unwrap();
        assert!(errors("gelu in place", &own, &gelu).within(0.0, 0.0));
        assert!(errors("gelu beside", &both.get(0).unwrap(), &input).within(0.0, 0.0));
        let turned = Activation::Gelu.apply_to_own(both.t().unwrap()).unwrap();
        assert!(
            errors("gelu turned", &turned.t().unwrap().get(0).unwrap(), &gelu).within(0.0, 0.0)
        );
        let quick = Activation::QuickGelu.apply(&input).unwrap();
        let quick_golden = golden.get("quick_gelu.output");
        assert!(errors("quick_gelu", &quick, &quick_golden).within(5e-6, 5e-6));
        // The tanh form and CLIP's form must not pass for the exact one.
        let tanh = Activation::GeluTanh.apply(&input).unwrap();
        assert!(!errors("tanh sabotage", &tanh, &exact).within(5e-6, 5e-6));
        assert!(!errors("quick sabotage", &quick, &exact).within(5e-6, 5e-6));
    }
}
