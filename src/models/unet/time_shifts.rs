//! In: what a network's residual blocks add to their maps at a timestep. Out: the same, block by block.

use std::sync::Arc;

use candle_core::{Result, Tensor};

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
