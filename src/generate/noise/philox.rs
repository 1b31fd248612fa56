//! In: a seed. Out: the normal numbers that `torch.manual_seed(seed)` and `torch.randn` give on a CUDA
//! device, in f32, up to the last bits. Which generator a run takes is left to `noise`.
//!
//! Philox4x32-10 of Salmon et al. ("Parallel random numbers: as easy as 1, 2, 3", SC 2011) with the
//! key, counter and normal numbers of cuRAND, laid out as PyTorch's distribution kernel lays them out:
//! every thread of the grid has its own subsequence and makes four numbers a turn, which land a whole
//! grid apart. As long as the device can hold one thread for each number, only the first of the four is
//! ever used and the device does not matter; beyond that its size does.

const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
const KEY_STEPS: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
const ROUNDS: usize = 10;
/// Threads in a block of PyTorch's kernel.
const BLOCK: u64 = 256;
/// Numbers that a thread makes in one turn.
const LANES: u64 = 4;

/// PyTorch's generator on a CUDA device.
#[derive(Debug, Clone)]
pub struct CudaGenerator {
    key: [u32; 2],
    /// Turns that every thread has taken: PyTorch's Philox offset by four.
    turns: u64,
    /// Blocks that the device holds at once; `None` for as many as wanted.
    blocks: Option<u64>,
}

impl CudaGenerator {
    /// `torch.Generator("cuda").manual_seed(seed)`, all 64 bits of it, on a device that holds
    /// `threads` threads at once: its multiprocessors times the threads of each. `None` is a device
    /// larger than any tensor here.
    pub fn new(seed: u64, threads: Option<u64>) -> Self {
        let blocks = threads.map(|threads| (threads / BLOCK).max(1));
        Self { key: [seed as u32, (seed >> 32) as u32], turns: 0, blocks }
    }

    /// `torch.randn(shape, generator=self, device="cuda")` with `count` elements, in the tensor's
    /// memory order. Further calls go on where this one ended.
    pub fn randn(&mut self, count: usize) -> Vec<f32> {
        let Some(last) = (count as u64).checked_sub(1) else { return Vec::new() };
        let wanted = last / BLOCK + 1;
        let threads = BLOCK * self.blocks.map_or(wanted, |blocks| blocks.min(wanted));
        let number = |place: u64| {
            let (turn, within) = (place / (threads * LANES), place % (threads * LANES));
            let (lane, thread) = (within / threads, within % threads);
            let words = self.words(self.turns + turn, thread);
            let pair = if lane < 2 { [words[0], words[1]] } else { [words[2], words[3]] };
            normal_pair(pair)[(lane % 2) as usize]
        };
        let numbers = (0..=last).map(number).collect();
        self.turns += last / (threads * LANES) + 1;
        numbers
    }

    /// The four words of a thread's turn.
    fn words(&self, turn: u64, thread: u64) -> [u32; 4] {
        let counter = [turn as u32, (turn >> 32) as u32, thread as u32, (thread >> 32) as u32];
        philox(counter, self.key)
    }
}

/// Philox4x32-10.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..ROUNDS {
        if round > 0 {
            key = [key[0].wrapping_add(KEY_STEPS[0]), key[1].wrapping_add(KEY_STEPS[1])];
        }
        let product = |word: u32, multiplier: u32| u64::from(word) * u64::from(multiplier);
        let (first, second) =
            (product(counter[0], MULTIPLIERS[0]), product(counter[2], MULTIPLIERS[1]));
        counter = [
            (second >> 32) as u32 ^ counter[1] ^ key[0],
            second as u32,
            (first >> 32) as u32 ^ counter[3] ^ key[1],
            first as u32,
        ];
    }
    counter
}

/// cuRAND's Box-Muller transform: the sine first. The device takes its fast sine and cosine, whose
/// absolute error is about 2^-21; here they are exact to rounding.
fn normal_pair([x, y]: [u32; 2]) -> [f32; 2] {
    const TO_UNIT: f32 = 1.0 / 4_294_967_296.0;
    const TO_TURN: f32 = TO_UNIT * std::f32::consts::TAU;
    let length = (x as f32).mul_add(TO_UNIT, TO_UNIT / 2.0);
    let angle = f64::from((y as f32).mul_add(TO_TURN, TO_TURN / 2.0));
    let radius = (-2.0 * f64::from(length).ln() as f32).sqrt();
    [radius * angle.sin() as f32, radius * angle.cos() as f32]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that come with Random123, the authors' library (`kat_vectors`).
    #[test]
    fn words_equal_the_known_answers() {
        let cases = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in cases {
            assert_eq!(philox(counter, key), expected);
        }
    }

    #[test]
    fn a_device_of_any_size_gives_the_same_until_it_is_full() {
        let on = |threads| CudaGenerator::new(5, threads).randn(2048);
        assert_eq!(on(None), on(Some(2048)));
        assert_eq!(on(None)[..1024], on(Some(1024))[..1024]);
        assert_ne!(on(None)[1024], on(Some(1024))[1024]);
    }

    #[test]
    fn calls_go_on_where_the_one_before_ended() {
        // Two turns for 5000 numbers on 1024 threads, so that the next call starts at the third.
        let mut full = CudaGenerator::new(5, Some(1024));
        full.randn(5000);
        assert_eq!(full.turns, 2);
        let mut large = CudaGenerator::new(5, None);
        large.randn(5000);
        assert_eq!(large.turns, 1);
        assert!(large.randn(0).is_empty());
        assert_ne!(large.randn(4), CudaGenerator::new(5, None).randn(4));
    }
}
