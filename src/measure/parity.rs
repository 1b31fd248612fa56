//! In: networks, a device and number formats. Out: how far each network's result there is from that of the
//! processor in f32, with the same weights and inputs.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::configs::Size;
use super::networks::Network;
use crate::compute::device::{Place, describe_device};

/// How far a network's result is from the processor's in f32.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parity {
    /// The network.
    pub network: String,
    /// Where it computed.
    pub device: String,
    /// In which number format.
    pub dtype: String,
    /// Largest difference.
    pub largest: f64,
    /// Root mean square of the differences, over that of the reference.
    pub relative: f64,
    /// Largest number of the reference.
    pub scale: f64,
    /// Numbers that are none.
    pub not_numbers: usize,
    /// Seconds of the call, the first one.
    pub seconds: f64,
    /// Of a transformer of which not all blocks were compared, for want of memory: how many of how many. Absent before 1.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<String>,
}

/// Compares `network` on `device` in each of `dtypes` with the processor in f32. Where `room` bytes of the processor's memory do not
/// hold a transformer, some of its blocks are left out.
///
/// # Errors
/// The device refused.
pub fn compare(
    network: Network,
    size: Size,
    side: usize,
    device: &Device,
    dtypes: &[DType],
    room: Option<u64>,
) -> Result<Vec<Parity>> {
    let mut found = Vec::new();
    let dtypes: Vec<DType> = dtypes.iter().copied().filter(|dtype| network.has(*dtype)).collect();
    if dtypes.is_empty() {
        return Ok(found);
    }
    let share = network.share_within(size, room);
    let result = |device: &Device, dtype| result(network, (size, share), side, device, dtype);
    let (reference, _, _) = result(&Device::Cpu, DType::F32)?;
    for dtype in dtypes {
        if device.is_cpu() && dtype == DType::F32 {
            continue;
        }
        let (ours, seconds, blocks) = result(device, dtype)
            .with_context(|| format!("{} in {}", network.name(), dtype.as_str()))?;
        let Errors { largest, relative, scale, not_numbers } = errors(&ours, &reference)?;
        found.push(Parity {
            network: network.name().to_owned(),
            device: describe_device(device),
            dtype: dtype.as_str().to_owned(),
            largest,
            relative,
            scale,
            not_numbers,
            seconds,
            blocks,
        });
    }
    Ok(found)
}

fn result(
    network: Network,
    (size, share): (Size, f64),
    side: usize,
    device: &Device,
    dtype: DType,
) -> Result<(Vec<f32>, f64, Option<String>)> {
    let place = Place { device: device.clone(), dtype };
    let (call, blocks) = network.call(size, share, side, &place)?;
    let start = Instant::now();
    let output = call()?;
    device.synchronize()?;
    Ok((numbers(&output)?, start.elapsed().as_secs_f64(), blocks))
}

fn numbers(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?)
}

struct Errors {
    largest: f64,
    relative: f64,
    scale: f64,
    not_numbers: usize,
}

/// Numbers that are none are counted and left out of the sums.
fn errors(ours: &[f32], reference: &[f32]) -> Result<Errors> {
    ensure!(ours.len() == reference.len(), "{} numbers for {}", ours.len(), reference.len());
    let (mut largest, mut squares, mut scale, mut whole) = (0.0_f64, 0.0, 0.0_f64, 0.0);
    let mut not_numbers = 0;
    for (&ours, &reference) in ours.iter().zip(reference) {
        let reference = f64::from(reference);
        scale = scale.max(reference.abs());
        whole += reference * reference;
        if !ours.is_finite() {
            not_numbers += 1;
            continue;
        }
        let difference = (f64::from(ours) - reference).abs();
        largest = largest.max(difference);
        squares += difference * difference;
    }
    let relative = if whole > 0.0 { (squares / whole).sqrt() } else { squares.sqrt() };
    Ok(Errors { largest, relative, scale, not_numbers })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DTYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

    #[test]
    fn errors_are_those_of_the_definition_and_feel_what_is_no_number() {
        let found = errors(&[3.0, 4.5, f32::NAN], &[3.0, 4.0, 0.0]).unwrap();
        assert_eq!((found.largest, found.scale, found.not_numbers), (0.5, 4.0, 1));
        assert!((found.relative - 0.1).abs() < 1e-12);
        assert!(errors(&[1.0], &[1.0, 2.0]).is_err());
    }

    /// Half precision is near f32 in every network, and is not f32: a format that were ignored would show.
    #[test]
    fn every_small_network_is_near_f32_in_both_half_formats() {
        for network in Network::ALL {
            // On the processor it is exact.
            if network == Network::UpcastVae {
                let upcast = compare(network, Size::Tiny, 16, &Device::Cpu, &DTYPES, None).unwrap();
                assert_eq!((upcast.len(), upcast[0].dtype.as_str()), (1, "f16"));
                assert!(upcast[0].relative < 1e-6 && upcast[0].scale > 0.01);
                continue;
            }
            let dtypes = [DType::F16, DType::BF16];
            let found = compare(network, Size::Tiny, 16, &Device::Cpu, &dtypes, None).unwrap();
            for (parity, (least, most)) in found.iter().zip([(1e-5, 1e-2), (1e-4, 8e-2)]) {
                let name = format!("{} {}: {parity:?}", parity.network, parity.dtype);
                assert!((least..most).contains(&parity.relative), "{name}");
                assert!(parity.not_numbers == 0 && parity.scale > 0.01, "{name}");
            }
        }
    }
}
