//! In: the bytes of a JPEG. Out: whether its scans hold the whole picture. A file that was cut between two
//! scans and closed again is valid for libjpeg, which then shows the coarse picture, or grey.

/// A file of more scans than this is not unpacked: each costs a pass over the picture, and encoders write
/// about ten.
const MOST_SCANS: usize = 500;
/// Why the scans of a JPEG are not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScanFault {
    /// There are more than any encoder writes.
    #[error("it has more than {MOST_SCANS} scans, and is not unpacked")]
    TooMany,
    /// Bits of the picture are in none of them.
    #[error("its {scans} scans do not hold the whole image: it was cut between two of them")]
    Missing {
        /// Scans that are there.
        scans: usize,
    },
}

/// Coefficients of a block.
const COEFFICIENTS: usize = 64;
/// The lowest bit of a coefficient that came so far; this one says that none did.
const NOTHING: u8 = u8::MAX;

/// A component of the frame: its id, and for each coefficient the lowest bit that came.
struct Component {
    id: u8,
    lowest_bits: [u8; COEFFICIENTS],
}

/// Looks whether every bit of every coefficient of every component is in some scan.
///
/// # Errors
/// Scans are missing, or there are too many of them. Files whose headers make no sense are
/// left to libjpeg.
pub(crate) fn check_scans(bytes: &[u8]) -> Result<(), ScanFault> {
    let mut components: Vec<Component> = Vec::new();
    let mut progressive = false;
    let mut scans = 0;
    for (marker, body) in Segments::new(bytes) {
        match marker {
            // Start of frame: C4, C8 and CC are tables.
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                progressive = matches!(marker, 0xc2 | 0xc6 | 0xca | 0xce);
                components = (body.get(6..).unwrap_or_default().as_chunks::<3>().0.iter())
                    .map(|&[id, ..]| Component { id, lowest_bits: [NOTHING; COEFFICIENTS] })
                    .collect();
            }
            0xda => {
                scans += 1;
                if scans > MOST_SCANS {
                    return Err(ScanFault::TooMany);
                }
                note_scan(&mut components, body, progressive);
            }
            _ => {}
        }
    }
    let missing = |component: &Component| component.lowest_bits.iter().any(|bit| *bit != 0);
    if scans > 0 && components.iter().any(missing) {
        return Err(ScanFault::Missing { scans });
    }
    Ok(())
}

/// Enters what the header of a scan says that it brings.
fn note_scan(components: &mut [Component], header: &[u8], progressive: bool) {
    let Some((&count, rest)) = header.split_first() else { return };
    let Some((selectors, spectrum)) = rest.split_at_checked(2 * usize::from(count)) else { return };
    let &[first, last, bits, ..] = spectrum else { return };
    let (first, last, lowest) =
        if progressive { (first, last, bits & 15) } else { (0, COEFFICIENTS as u8 - 1, 0) };
    for &[id, _] in selectors.as_chunks::<2>().0 {
        for component in components.iter_mut().filter(|component| component.id == id) {
            let brought = usize::from(first)..usize::from(last) + 1;
            if let Some(bits) = component.lowest_bits.get_mut(brought) {
                bits.iter_mut().for_each(|bit| *bit = lowest.min(*bit));
            }
        }
    }
}

/// The marker segments up to the end of the picture, each as its marker and what follows the length. Entropy
/// coded data are passed over.
struct Segments<'a> {
    rest: &'a [u8],
}

impl<'a> Segments<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let at = self
                .rest
                .windows(2)
                .position(|two| two[0] == 0xff && !matches!(two[1], 0 | 0xff))?;
            let marker = self.rest[at + 1];
            self.rest = &self.rest[at + 2..];
            match marker {
                // Start of the picture, restarts: no length follows.
                0x01 | 0xd0..=0xd8 => {}
                0xd9 => return None,
                _ => {
                    let length =
                        usize::from(u16::from_be_bytes([*self.rest.first()?, *self.rest.get(1)?]));
                    let body = self.rest.get(2..length)?;
                    self.rest = &self.rest[length..];
                    return Some((marker, body));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of components 1 and 2, and a scan for each header.
    fn file(frame: u8, scans: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![0xff, 0xd8, 0xff, frame, 0, 14, 8, 0, 8, 0, 8, 2, 1, 17, 0, 2, 17, 0];
        for scan in scans {
            bytes.extend([0xff, 0xda, 0, scan.len() as u8 + 2]);
            bytes.extend(*scan);
            bytes.extend([1, 2, 0xff, 0, 3, 0xff, 0xd0, 4]);
        }
        bytes.extend([0xff, 0xd9]);
        bytes
    }

    #[test]
    fn every_bit_of_every_component_must_have_come() {
        let dc: &[u8] = &[2, 1, 0, 2, 0, 0, 0, 0x01];
        let dc_again: &[u8] = &[2, 1, 0, 2, 0, 0, 0, 0x10];
        let (ac_1, ac_2): (&[u8], &[u8]) = (&[1, 1, 0, 1, 63, 0], &[1, 2, 0, 1, 63, 0]);
        assert_eq!(check_scans(&file(0xc2, &[dc, dc_again, ac_1, ac_2])), Ok(()));
        for cut in [&[dc][..], &[dc, dc_again], &[dc, ac_1, ac_2], &[dc, dc_again, ac_1]] {
            let error = check_scans(&file(0xc2, cut)).unwrap_err().to_string();
            assert!(error.contains("it was cut between two of them"), "{error}");
        }
        let (one, other): (&[u8], &[u8]) = (&[1, 1, 0, 0, 63, 0], &[1, 2, 0, 0, 63, 0]);
        assert_eq!(check_scans(&file(0xc0, &[one, other])), Ok(()));
        assert!(check_scans(&file(0xc0, &[one])).is_err());
        let many = vec![one; MOST_SCANS + 1];
        let error = check_scans(&file(0xc0, &many)).unwrap_err().to_string();
        assert!(error.contains("more than 500 scans"), "{error}");
    }

    #[test]
    fn headers_without_sense_are_left_to_libjpeg() {
        let whole = file(0xc2, &[&[1, 1, 0, 9, 3, 0], &[200, 1], &[]]);
        for length in 0..whole.len() {
            let _ = check_scans(&whole[..length]);
        }
    }
}
