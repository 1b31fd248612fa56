//! In: the base seed, the item and the number of the image. Out: the seed of that image's noise. What
//! a seed turns into is left to `noise`.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How the seed of an image follows from the base seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeedMode {
    /// A hash of base seed, item and image number: every image of a benchmark has its own noise.
    #[default]
    Hashed,
    /// Base seed + image number, the same for every item, as diffusers scripts do.
    Sequential,
}

impl SeedMode {
    /// Seed of image `image` (from 0) of item `item`, in `0..2^63` so that `torch.manual_seed` and
    /// signed database columns take it.
    ///
    /// Hashed: SHA-256 of `base seed in decimal`, newline, `item`, newline, `image in decimal`; its
    /// first eight bytes, big-endian, without the top bit. The seed depends on nothing else, so an
    /// image is the same in every subset, order, process and machine.
    pub fn seed(self, base: u64, item: &str, image: u32) -> u64 {
        let seed = match self {
            Self::Hashed => {
                let digest = Sha256::digest(format!("{base}\n{item}\n{image}"));
                digest[..8].iter().fold(0, |number, &byte| (number << 8) | u64::from(byte))
            }
            Self::Sequential => base.wrapping_add(u64::from(image)),
        };
        seed & (u64::MAX >> 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From Python: `int.from_bytes(hashlib.sha256(b"0\npartiprompts97\n0").digest()[:8], "big") &
    /// (2**63 - 1)`, and so on.
    #[test]
    fn hashed_seeds_equal_those_of_python() {
        let cases = [
            (0, "partiprompts97", 0, 7_817_778_886_534_433_928),
            (0, "partiprompts97", 1, 8_181_300_400_290_527_995),
            (u64::MAX, "COCOval2014000000000042", 3, 6_325_414_980_732_176_766),
        ];
        for (base, item, image, expected) in cases {
            assert_eq!(SeedMode::Hashed.seed(base, item, image), expected, "{base} {item} {image}");
        }
    }

    #[test]
    fn each_part_matters() {
        let seed = |base, item, image| SeedMode::Hashed.seed(base, item, image);
        let seeds =
            [seed(1, "a", 0), seed(2, "a", 0), seed(1, "b", 0), seed(1, "a", 1), seed(1, "1", 1)];
        for (index, one) in seeds.iter().enumerate() {
            assert!(*one < 1 << 63);
            assert!(seeds[index + 1..].iter().all(|other| other != one), "{seeds:?}");
        }
    }

    #[test]
    fn sequential_seeds_count_up_and_ignore_the_item() {
        assert_eq!(SeedMode::Sequential.seed(1001, "a", 3), 1004);
        assert_eq!(SeedMode::Sequential.seed(1001, "b", 3), 1004);
        assert!(SeedMode::Sequential.seed(u64::MAX, "a", 0) < 1 << 63);
    }
}
