//! In: timesteps. Out: what a network makes of each, made when it first comes to it: the pictures of a run go through
//! the same timesteps.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use candle_core::Result;

/// Timesteps that are kept at a time: more than a schedule has.
const KEPT: usize = 128;

/// Values by the timestep's bits.
#[derive(Debug)]
pub(crate) struct TimestepCache<T>(Mutex<HashMap<u64, T>>);

impl<T> Default for TimestepCache<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> TimestepCache<T> {
    /// The value at `timestep`, made by `make` where it is not at hand.
    ///
    /// # Errors
    /// That of `make`.
    pub(crate) fn at(&self, timestep: f64, make: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = kept.get(&timestep.to_bits()) {
            return Ok(value.clone());
        }
        let value = make()?;
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(timestep.to_bits(), value.clone());
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_made_once_for_each_timestep_and_an_error_is_not_kept() {
        let kept = TimestepCache::default();
        assert!(kept.at(1.0, || candle_core::bail!("no")).is_err());
        assert_eq!(kept.at(1.0, || Ok(10)).unwrap(), 10);
        assert_eq!(kept.at(1.0, || Ok(11)).unwrap(), 10);
        assert_eq!(kept.at(1.5, || Ok(15)).unwrap(), 15);
        // No more than so many are held.
        for number in 0..KEPT {
            kept.at(2.0 + number as f64, || Ok(0)).unwrap();
        }
        assert!(kept.0.lock().unwrap().len() <= KEPT);
    }
}
