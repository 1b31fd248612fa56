//! In: timesteps. Out: what a network's residual blocks add to their maps at each, computed when the network first
//! comes to the timestep: it depends on nothing else in a network without added conditions, so that all pictures
//! of a run share it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Result, Tensor};

/// Timesteps that are kept: those of a schedule; of a Stable Diffusion 1.x network in f32 9 MiB.
const KEPT: usize = 128;

/// The shifts of one network by the timestep's bits, each [1, channels] of a residual block, in the order of the
/// forward pass.
#[derive(Debug, Default)]
pub(crate) struct KeptShifts(Mutex<HashMap<u64, Arc<[Tensor]>>>);

impl KeptShifts {
    /// The shifts at `timestep`, made by `make` where they are not at hand.
    pub(crate) fn at(
        &self,
        timestep: f64,
        make: impl FnOnce() -> Result<Arc<[Tensor]>>,
    ) -> Result<Arc<[Tensor]>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shifts) = kept.get(&timestep.to_bits()) {
            return Ok(shifts.clone());
        }
        let shifts = make()?;
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(timestep.to_bits(), shifts.clone());
        Ok(shifts)
    }
}

/// The shifts of one forward pass, handed to the residual blocks one after the other.
pub(crate) struct TimeShifts {
    shifts: Arc<[Tensor]>,
    next: usize,
}

impl TimeShifts {
    /// Of `shifts`, each [1 or b, channels], in the order of the forward pass.
    pub(crate) fn new(shifts: Arc<[Tensor]>) -> Self {
        Self { shifts, next: 0 }
    }

    /// That of the block whose turn it is.
    pub(crate) fn next_block(&mut self) -> Result<Tensor> {
        let shift = self.shifts.get(self.next).cloned();
        self.next += 1;
        match shift {
            Some(shift) => Ok(shift),
            None => {
                candle_core::bail!("the network has more residual blocks than shifts were made for")
            }
        }
    }
}
