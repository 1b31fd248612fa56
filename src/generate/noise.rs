//! In: a seed. Out: the normal numbers that `torch.manual_seed(seed)` and `torch.randn` give on a
//! CPU, in f32, bit for bit. Moving them to a device and scaling them is left to the pipelines.
//!
//! Follows PyTorch 2.x: the MT19937 engine of Matsumoto and Nishimura seeded with one 32-bit word,
//! and two roads from it to normal numbers. Up to 15 numbers are made one at a time in f64 with the
//! second one of a Box-Muller pair kept for later. From 16 on they are made in f32 in blocks of 16
//! with the Cephes approximations of log, sine and cosine that PyTorch's AVX2 kernel uses, each
//! product and sum fused where its compiler fuses them. A PyTorch that runs without AVX2 calls the
//! C library instead and differs from this in the last bits.

pub mod philox;
pub mod seeds;

use std::f64::consts::PI;

use candle_core::{Device, Tensor};

use self::philox::CudaGenerator;

const STATE_WORDS: usize = 624;
const SHIFT: usize = 397;
/// Numbers in a block of the f32 road.
const BLOCK: usize = 16;

/// PyTorch's CPU generator.
#[derive(Debug, Clone)]
pub struct TorchGenerator {
    engine: Mt19937,
    /// Second number of the last f64 pair.
    kept: Option<f64>,
}

impl TorchGenerator {
    /// `torch.Generator("cpu").manual_seed(seed)`. PyTorch's engine uses only the low 32 bits: seeds
    /// that agree there give the same noise.
    pub fn new(seed: u64) -> Self {
        Self { engine: Mt19937::new(seed as u32), kept: None }
    }

    /// `torch.randn(shape, generator=self)` with `count` elements, in the tensor's memory order.
    /// Further calls go on in the stream. As in PyTorch, `count` decides the road: two calls of 8
    /// are not one of 16.
    pub fn randn(&mut self, count: usize) -> Vec<f32> {
        if count < BLOCK {
            return (0..count).map(|_| self.normal_f64() as f32).collect();
        }
        let mut values: Vec<f32> = (0..count).map(|_| self.engine.uniform_f32()).collect();
        for block in values.as_chunks_mut::<BLOCK>().0 {
            box_muller_block(block);
        }
        if !count.is_multiple_of(BLOCK) {
            // The last 16 are made anew, those among them that a block already covered too.
            let mut last = [0.0; BLOCK];
            last.fill_with(|| self.engine.uniform_f32());
            box_muller_block(&mut last);
            values[count - BLOCK..].copy_from_slice(&last);
        }
        values
    }

    fn normal_f64(&mut self) -> f64 {
        if let Some(kept) = self.kept.take() {
            return kept;
        }
        let turn = self.engine.uniform_f64();
        let length = self.engine.uniform_f64();
        let radius = (-2.0 * (-length).ln_1p()).sqrt();
        let angle = 2.0 * PI * turn;
        self.kept = Some(radius * angle.sin());
        radius * angle.cos()
    }
}

/// Whose random numbers the noise is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NoiseSource {
    /// PyTorch's generator on a CPU.
    #[default]
    Cpu,
    /// PyTorch's generator on a CUDA device.
    Cuda {
        /// Threads that the device holds at once; `None` for at least as many as an image's latents
        /// have numbers. See [`CudaGenerator::new`].
        threads: Option<u64>,
    },
}

impl std::str::FromStr for NoiseSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let threads = match text {
            "cpu" => return Ok(Self::Cpu),
            "cuda" => return Ok(Self::Cuda { threads: None }),
            other => other.strip_prefix("cuda:").and_then(|threads| threads.parse().ok()),
        };
        match threads {
            Some(threads) if threads >= 256 => Ok(Self::Cuda { threads: Some(threads) }),
            _ => Err(format!(
                "`{text}` is no source of noise; use cpu, cuda, or cuda:THREADS with the threads \
                 that the device holds at once (256 or more)"
            )),
        }
    }
}

impl std::fmt::Display for NoiseSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda { threads: None } => f.write_str("cuda"),
            Self::Cuda { threads: Some(threads) } => write!(f, "cuda:{threads}"),
        }
    }
}

/// One image's generator.
#[derive(Debug, Clone)]
enum Generator {
    Cpu(Box<TorchGenerator>),
    Cuda(CudaGenerator),
}

impl Generator {
    fn randn(&mut self, count: usize) -> Vec<f32> {
        match self {
            Self::Cpu(generator) => generator.randn(count),
            Self::Cuda(generator) => generator.randn(count),
        }
    }
}

/// The noise of several images: one generator an image, as diffusers with a list of generators, so
/// that no image's noise depends on its neighbours.
#[derive(Debug, Clone)]
pub struct ImageNoise {
    generators: Vec<Generator>,
    /// Channels, height, width.
    shape: (usize, usize, usize),
    device: Device,
}

impl ImageNoise {
    /// One image per seed, each `[channels, height, width]`, from PyTorch's CPU generator.
    pub fn new(seeds: &[u64], shape: (usize, usize, usize), device: &Device) -> Self {
        Self::from_source(NoiseSource::Cpu, seeds, shape, device)
    }

    /// The same from any source.
    pub fn from_source(
        source: NoiseSource,
        seeds: &[u64],
        shape: (usize, usize, usize),
        device: &Device,
    ) -> Self {
        let generator = |&seed: &u64| match source {
            NoiseSource::Cpu => Generator::Cpu(Box::new(TorchGenerator::new(seed))),
            NoiseSource::Cuda { threads } => Generator::Cuda(CudaGenerator::new(seed, threads)),
        };
        Self { generators: seeds.iter().map(generator).collect(), shape, device: device.clone() }
    }

    /// The next noise of every image: `[images, channels, height, width]`, f32, made on the CPU and
    /// moved to the device.
    ///
    /// # Errors
    /// There is no image, or the device refused.
    pub fn draw(&mut self) -> candle_core::Result<Tensor> {
        let (channels, height, width) = self.shape;
        let images = self
            .generators
            .iter_mut()
            .map(|generator| {
                let values = generator.randn(channels * height * width);
                Tensor::from_vec(values, (1, channels, height, width), &Device::Cpu)
            })
            .collect::<candle_core::Result<Vec<_>>>()?;
        Tensor::cat(&images, 0)?.to_device(&self.device)
    }
}

/// MT19937, 32-bit output.
#[derive(Debug, Clone)]
struct Mt19937 {
    state: [u32; STATE_WORDS],
    next: usize,
}

impl Mt19937 {
    fn new(seed: u32) -> Self {
        let mut state = [seed; STATE_WORDS];
        for index in 1..STATE_WORDS {
            let before = state[index - 1];
            state[index] =
                1_812_433_253_u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(index as u32);
        }
        Self { state, next: STATE_WORDS }
    }

    fn word(&mut self) -> u32 {
        if self.next == STATE_WORDS {
            self.renew();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn renew(&mut self) {
        for index in 0..STATE_WORDS {
            let low = self.state[(index + 1) % STATE_WORDS];
            let joined = (self.state[index] & 0x8000_0000) | (low & 0x7fff_ffff);
            let odd = if low & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[index] = self.state[(index + SHIFT) % STATE_WORDS] ^ (joined >> 1) ^ odd;
        }
        self.next = 0;
    }

    /// In [0, 1), 24 bits of one word.
    fn uniform_f32(&mut self) -> f32 {
        (self.word() & 0x00ff_ffff) as f32 / 16_777_216.0
    }

    /// In [0, 1), 53 bits of two words, the high word first.
    fn uniform_f64(&mut self) -> f64 {
        let high = u64::from(self.word());
        let low = u64::from(self.word());
        (((high << 32) | low) & ((1 << 53) - 1)) as f64 / (1_u64 << 53) as f64
    }
}

/// Turns 16 uniform numbers into normal ones: the first eight give the radii, the last eight the
/// angles, and number j and j + 8 are a pair.
fn box_muller_block(block: &mut [f32; BLOCK]) {
    let (first, second) = block.split_at_mut(BLOCK / 2);
    for (a, b) in first.iter_mut().zip(second) {
        let radius = (-2.0 * ln(1.0 - *a)).sqrt();
        let (sine, cosine) = sin_cos((2.0 * PI) as f32 * *b);
        // Adding zero turns a negative zero into a positive one, as the reference's last step does.
        *a = radius * cosine + 0.0;
        *b = radius * sine + 0.0;
    }
}

/// Cephes `logf` for normal positive numbers: mantissa and exponent apart, then a polynomial.
fn ln(x: f32) -> f32 {
    const SQRT_HALF: f32 = 0.707_106_77;
    // ln 2 in two parts, the larger with few bits so that its product with an exponent is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const POLYNOMIAL: [f32; 9] = [
        7.037_683_6e-2,
        -1.151_461e-1,
        1.167_699_84e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_8e-1,
        2.000_071_4e-1,
        -2.499_999_4e-1,
        3.333_333e-1,
    ];
    let bits = x.to_bits();
    let mut exponent = ((bits >> 23) as i32 - 126) as f32;
    // In [0.5, 1).
    let mantissa = f32::from_bits((bits & 0x007f_ffff) | 0x3f00_0000);
    let m = if mantissa < SQRT_HALF {
        exponent -= 1.0;
        (mantissa - 1.0) + mantissa
    } else {
        mantissa - 1.0
    };
    let square = m * m;
    let sum = horner(&POLYNOMIAL, m) * m;
    let tail = sum.mul_add(square, exponent * LN_2_LOW);
    let tail = (-0.5_f32).mul_add(square, tail);
    exponent.mul_add(LN_2_HIGH, m + tail)
}

/// Cephes `sinf` and `cosf` for non-negative angles: reduced to an eighth of a turn, then one
/// polynomial each.
fn sin_cos(angle: f32) -> (f32, f32) {
    const FOUR_OVER_PI: f32 = 1.273_239_5;
    // Minus pi/4 in three parts, largest first.
    const PI_4_PARTS: [f32; 3] = [-0.785_156_25, -2.418_756_5e-4, -3.774_895e-8];
    const SINE: [f32; 3] = [-1.951_529_6e-4, 8.332_161e-3, -1.666_665_5e-1];
    const COSINE: [f32; 3] = [2.443_315_7e-5, -1.388_731_6e-3, 4.166_664_6e-2];
    // Rounded up to an even number of eighths.
    let octant = ((angle * FOUR_OVER_PI) as i32 + 1) & !1;
    let rest = PI_4_PARTS.iter().fold(angle, |rest, part| (octant as f32).mul_add(*part, rest));
    let square = rest * rest;
    let cosine_tail = horner(&COSINE, square) * square;
    let cosine = cosine_tail.mul_add(square, -(0.5 * square)) + 1.0;
    let sine = (horner(&SINE, square) * square).mul_add(rest, rest);
    let (sine, cosine) = if octant & 2 == 0 { (sine, cosine) } else { (cosine, sine) };
    let flip = |value: f32, by: bool| if by { -value } else { value };
    (flip(sine, octant & 4 != 0), flip(cosine, (octant - 2) & 4 == 0))
}

/// A polynomial with fused steps, highest power first.
fn horner(coefficients: &[f32], x: f32) -> f32 {
    coefficients.iter().copied().reduce(|sum, next| sum.mul_add(x, next)).unwrap_or(0.0)
}
