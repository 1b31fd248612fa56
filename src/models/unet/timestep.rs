//! In: a timestep. Out: its embedding. Follows `get_timestep_embedding` and `TimestepEmbedding` of
//! diffusers.

use candle_core::{DType, Device, Module, Result, Tensor};

use crate::checkpoint::weights::Scope;
use crate::compute::layers::{Linear, LoadResult, silu};

/// Longest period of the sinusoids.
const MAX_PERIOD: f64 = 10_000.0;

/// How timesteps become sinusoids.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sinusoid {
    /// Width; half sines, half cosines, and a zero where it is odd.
    pub(crate) width: usize,
    /// Whether the cosines come first.
    pub(crate) flip_sin_to_cos: bool,
    /// `freq_shift`.
    pub(crate) shift: f64,
}

impl Sinusoid {
    /// [1, width] of `timestep`, always f32: in half precision an angle of 981 radians is off by
    /// a third of a radian.
    pub(crate) fn of(&self, timestep: f64, device: &Device) -> Result<Tensor> {
        let half = self.width / 2;
        // Exponent, frequency and angle are each rounded to f32, as PyTorch's are: at timestep 999 one
        // bit of the frequency is 6e-5 radians. Exponential, sine and cosine are exact.
        let ln_period = MAX_PERIOD.ln() as f32;
        let angles: Vec<f64> = (0..half)
            .map(|index| {
                let exponent = -ln_period * index as f32 / (half as f64 - self.shift) as f32;
                let frequency = f64::from(exponent).exp() as f32;
                f64::from(timestep as f32 * frequency)
            })
            .collect();
        let sines = angles.iter().map(|angle| angle.sin() as f32);
        let cosines = angles.iter().map(|angle| angle.cos() as f32);
        let mut values: Vec<f32> = if self.flip_sin_to_cos {
            cosines.chain(sines).collect()
        } else {
            sines.chain(cosines).collect()
        };
        values.resize(self.width, 0.0);
        Tensor::from_vec(values, (1, self.width), device)
    }
}

/// `number` in f32, rounded to `dtype`: as PyTorch holds it in a tensor of that format.
pub(crate) fn rounded_to(number: f32, dtype: DType) -> Result<f32> {
    Tensor::new(number, &Device::Cpu)?.to_dtype(dtype)?.to_dtype(DType::F32)?.to_scalar()
}

/// Two linear layers with SiLU between.
#[derive(Debug)]
pub(crate) struct TimestepEmbedding {
    linear_1: Linear,
    linear_2: Linear,
}

impl TimestepEmbedding {
    /// The tensors under `time_embedding`.
    pub(crate) fn load(scope: &Scope, input: usize, width: usize) -> LoadResult<Self> {
        Ok(Self {
            linear_1: Linear::load(&scope.at("linear_1"), input, width)?,
            linear_2: Linear::load(&scope.at("linear_2"), width, width)?,
        })
    }

    /// [b, input] to [b, width].
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.linear_2.forward(&silu(&self.linear_1.forward(x)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::golden::{Golden, errors};

    #[test]
    fn numbers_are_rounded_as_their_format_holds_them() {
        let rounded = |number: f32, dtype| rounded_to(number, dtype).unwrap();
        // Neighbours of 3,500 in bf16 are 16 apart, those in f16 two.
        assert_eq!(rounded(3500.0, DType::BF16), 3504.0);
        assert_eq!(rounded(3501.5, DType::F16), 3502.0);
        assert_eq!(rounded(3501.25, DType::F32), 3501.25);
    }

    #[test]
    fn sinusoids_equal_diffusers() {
        let golden = Golden::open("layers");
        let timesteps: Vec<f32> = golden.get("sinusoid.timesteps").to_vec1().unwrap();
        let check = |expected: &str, sinusoid: Sinusoid| {
            let rows: Vec<Tensor> = timesteps
                .iter()
                .map(|timestep| sinusoid.of(f64::from(*timestep), &Device::Cpu).unwrap())
                .collect();
            let ours = Tensor::cat(&rows, 0).unwrap();
            let name = format!("{expected} by {sinusoid:?}");
            // An angle of 981 in f32 is known to 6e-5; PyTorch's exp differs in the last bit.
            errors(&name, &ours, &golden.get(expected)).within(1e-4, 1e-4)
        };
        let usual = Sinusoid { width: 320, flip_sin_to_cos: true, shift: 0.0 };
        let other = Sinusoid { width: 21, flip_sin_to_cos: false, shift: 1.0 };
        assert!(check("sinusoid.cosine_first", usual));
        assert!(check("sinusoid.sine_first", other));
        let unflipped = Sinusoid { flip_sin_to_cos: false, ..usual };
        assert!(!check("sinusoid.cosine_first", unflipped));
        assert!(!check("sinusoid.cosine_first", Sinusoid { shift: 1.0, ..usual }));
    }
}
