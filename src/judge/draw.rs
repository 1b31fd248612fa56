//! In: a seed and the name of a question. Out: a number in 0..1 that is the same on every machine and
//! in every order of asking.

use sha2::{Digest, Sha256};

/// A number in 0..1 that depends on the arguments only: the first 53 bits of the SHA-256 of
/// `seed/item/image/question` (numbers in decimal), over 2^53.
pub fn draw(seed: u64, item: &str, image: u32, question: u32) -> f64 {
    let digest = Sha256::digest(format!("{seed}/{item}/{image}/{question}"));
    let mut first = [0_u8; 8];
    first.copy_from_slice(&digest[..8]);
    (u64::from_be_bytes(first) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected numbers are Python's, e.g. `(int.from_bytes(hashlib.sha256(
    /// b"0/partiprompts97/0/1").digest()[:8], "big") >> 11) / 2**53`.
    #[test]
    fn draws_equal_those_of_python() {
        for (seed, item, image, id, expected) in [
            (0, "partiprompts97", 0, 1, 0.7509429231625844),
            (0, "partiprompts97", 3, 10, 0.022744231214042565),
            (42, "COCOval2014000000001", 1, 7, 0.20003721748817416),
            (1, "α,β", 2, 4294967295, 0.43203476242077066),
        ] {
            assert_eq!(draw(seed, item, image, id), expected, "{seed}/{item}/{image}/{id}");
            assert_ne!(draw(seed + 1, item, image, id), expected);
        }
    }
}
