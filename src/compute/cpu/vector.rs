//! In: slices of f32. Out: the arithmetic over them that a compiler vectorises: sums in a fixed
//! order, 2^x, the error function. Nothing here knows of tensors.
//!
//! [`for_processor!`] compiles a loop for AVX-512, for AVX2 and for any processor, and picks at run
//! time; the bodies are generic over whether a fused multiply-add is one instruction.

/// Lanes of the running sums: two AVX-512 registers, so that additions overlap.
pub(crate) const LANES: usize = 32;

/// Whether every processor of this architecture has a fused multiply-add.
pub(crate) const ALWAYS_FUSED: bool = cfg!(target_arch = "aarch64");

/// Defines `fn name(arguments)`, which runs `body::<FUSED>(arguments)` compiled for the widest
/// vectors that this processor has.
macro_rules! for_processor {
    ($(#[$about:meta])* fn $name:ident($($argument:ident: $kind:ty),* $(,)?) $(-> $result:ty)? = $body:ident) => {
        $(#[$about])*
        #[allow(unsafe_code, reason = "calling what was compiled for more than every processor has")]
        pub(crate) fn $name($($argument: $kind),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512($($argument: $kind),*) $(-> $result)? {
                    $body::<true>($($argument),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($argument: $kind),*) $(-> $result)? {
                    $body::<true>($($argument),*)
                }
                let fused = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
                if fused
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                {
                    // SAFETY: the processor has every feature that `avx512` was compiled with.
                    return unsafe { avx512($($argument),*) };
                }
                if fused {
                    // SAFETY: the processor has every feature that `avx2` was compiled with.
                    return unsafe { avx2($($argument),*) };
                }
            }
            $body::<{ $crate::compute::cpu::vector::ALWAYS_FUSED }>($($argument),*)
        }
    };
}
pub(crate) use for_processor;

/// `a * b + c`, rounded once where that is one instruction.
#[inline(always)]
pub(crate) fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// The polynomial with `coefficients`, lowest power first.
#[inline(always)]
fn polynomial<const FUSED: bool, const N: usize>(coefficients: [f32; N], x: f32) -> f32 {
    let mut sum = coefficients[N - 1];
    for power in (0..N - 1).rev() {
        sum = multiply_add::<FUSED>(sum, x, coefficients[power]);
    }
    sum
}

/// 2^r for r in [-1/2, 1/2], fitted for the smallest relative error (2e-9).
#[expect(clippy::approx_constant, reason = "fitted, as its neighbours")]
const POWER: [f32; 7] = [
    1.0,
    0.693_147_2,
    0.240_226_46,
    0.055_503_286,
    0.009_618_489,
    0.001_339_993_2,
    0.000_153_458_12,
];

/// 2^x within about two units in the last place; 0 below -126, no overflow above 127.
#[inline(always)]
pub(crate) fn power_of_two<const FUSED: bool>(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to a whole number, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-127.0, 127.0);
    let shifted = x + ROUND;
    let rest = x - (shifted - ROUND);
    let scale = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    polynomial::<FUSED, 7>(POWER, rest) * scale
}

/// erf(x) / x as a quotient of polynomials in x^2 on [-4, 4], fitted for the smallest relative
/// error (6e-8); beyond, erf is 1 in f32.
#[expect(clippy::approx_constant, reason = "fitted, as its neighbours")]
const ERF_ABOVE: [f32; 7] = [
    1.128_379_1,
    0.207_125_46,
    0.051_524_907,
    0.003_990_572_4,
    0.000_147_285_91,
    -0.000_001_942_301_2,
    0.000_000_019_110_747,
];
const ERF_BELOW: [f32; 5] = [1.0, 0.516_891_4, 0.117_970_83, 0.014_958_081, 0.001_021_110_6];

/// The error function within 4e-7.
#[inline(always)]
pub(crate) fn erf<const FUSED: bool>(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let square = x * x;
    x * polynomial::<FUSED, 7>(ERF_ABOVE, square) / polynomial::<FUSED, 5>(ERF_BELOW, square)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid<const FUSED: bool>(x: f32) -> f32 {
    1.0 / (1.0 + power_of_two::<FUSED>(-std::f32::consts::LOG2_E * x))
}

/// Sum of `values - shift`, to the power of one or two, in a fixed order: f32 lanes over short
/// blocks, f64 across them.
#[inline(always)]
pub(crate) fn sum<const FUSED: bool>(values: &[f32], shift: f32, squared: bool) -> f64 {
    let mut total = 0.0;
    for block in values.chunks(64 * LANES) {
        let mut lanes = [0.0; LANES];
        let mut rows = block.chunks_exact(LANES);
        for row in rows.by_ref() {
            for lane in 0..LANES {
                let value = row[lane] - shift;
                lanes[lane] = if squared {
                    multiply_add::<FUSED>(value, value, lanes[lane])
                } else {
                    lanes[lane] + value
                };
            }
        }
        for (lane, value) in rows.remainder().iter().enumerate() {
            let value = value - shift;
            lanes[lane] += if squared { value * value } else { value };
        }
        total += lanes.iter().map(|lane| f64::from(*lane)).sum::<f64>();
    }
    total
}

/// Mean of `values` and one over the root of their variance plus `eps`, in two passes: squares are
/// of the centred values, so that a large mean costs no digits.
#[inline(always)]
pub(crate) fn mean_and_scale<const FUSED: bool>(values: &[f32], eps: f64) -> (f32, f32) {
    let count = values.len() as f64;
    let mean = (sum::<FUSED>(values, 0.0, false) / count) as f32;
    let variance = sum::<FUSED>(values, mean, true) / count;
    (mean, (1.0 / (variance + eps).sqrt()) as f32)
}
