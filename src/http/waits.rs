//! In: how often something was tried. Out: how long to wait before it is tried again.

use std::time::Duration;

/// No single wait is longer, whatever the server asks for.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// The waits between tries grow up to this.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// The wait before try `tries` + 1: doubled each time, and somewhere between half of that and all of
/// it (`jitter` in 0..1), so that threads that failed together do not come back together.
pub(crate) fn backoff(first_wait: Duration, tries: u32, jitter: f64) -> Duration {
    let doubled = first_wait.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1)));
    doubled.min(LONGEST_BACKOFF).mul_f64(0.5 + jitter / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_below_a_minute() {
        let second = Duration::from_secs(1);
        let waits: Vec<f64> =
            (1..=9).map(|tries| backoff(second, tries, 1.0).as_secs_f64()).collect();
        assert_eq!(waits, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]);
        assert_eq!(backoff(second, 2, 0.0), second);
        assert_eq!(backoff(second, u32::MAX, 0.0), second * 30);
    }
}
