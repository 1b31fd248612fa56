//! In: velocities at descending timesteps. Out: latents after each Euler step from noise to the picture along a straight line, as
//! `FlowMatchEulerDiscreteScheduler` of diffusers without dynamic shifting.

use candle_core::Tensor;

use super::scheduler::{Scheduler, check_order, combine};
use super::timesteps::numpy_linspace;
use crate::checkpoint::scheduler_config::SchedulerError;
use crate::checkpoint::scheduler_config::flow_match::FlowMatchConfig;

#[derive(Debug)]
pub(crate) struct FlowMatchEuler {
    timesteps: Vec<f64>,
    /// One more than timesteps, f32 values; the last is 0.
    sigmas: Vec<f64>,
    next: usize,
}

impl FlowMatchEuler {
    /// A walk of `steps` steps.
    ///
    /// # Errors
    /// No step at all, or more than the training schedule has.
    pub(crate) fn new(config: &FlowMatchConfig, steps: usize) -> Result<Self, SchedulerError> {
        let FlowMatchConfig { train_steps, shift, .. } = *config;
        if !(1..=train_steps).contains(&steps) {
            return Err(SchedulerError::TooManySteps { steps, train_steps });
        }
        // The ends are shifted in f32 when the class is made, and all of them once more, in f64, for the walk.
        let end = |timestep: usize| {
            let sigma = timestep as f32 / train_steps as f32;
            f64::from(shift as f32 * sigma / (1.0 + (shift - 1.0) as f32 * sigma))
        };
        let train = train_steps as f64;
        let (largest, smallest) = (end(train_steps) * train, end(1) * train);
        let sigma = |share: f64| {
            let sigma = (largest + share) / train;
            f64::from((shift * sigma / (1.0 + (shift - 1.0) * sigma)) as f32)
        };
        let mut shares = numpy_linspace(smallest - largest, steps);
        if let (true, Some(last)) = (steps > 1, shares.last_mut()) {
            *last = smallest - largest;
        }
        let mut sigmas: Vec<f64> = shares.into_iter().map(sigma).collect();
        let timesteps =
            sigmas.iter().map(|sigma| f64::from(*sigma as f32 * train_steps as f32)).collect();
        sigmas.push(0.0);
        Ok(Self { timesteps, sigmas, next: 0 })
    }
}

impl Scheduler for FlowMatchEuler {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn step(
        &mut self,
        index: usize,
        latents: &Tensor,
        prediction: &Tensor,
        _: Option<&Tensor>,
    ) -> candle_core::Result<Tensor> {
        check_order(index, self.next, self.timesteps.len())?;
        self.next = index + 1;
        let step = self.sigmas[index + 1] as f32 - self.sigmas[index] as f32;
        combine(1.0, latents, f64::from(step), prediction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As diffusers lays out four steps with the published shift.
    #[test]
    fn the_shift_is_applied_at_the_low_end_too() {
        let text = "{\"shift\": 3.0}";
        let (config, unknown) = FlowMatchConfig::from_json(text, None).unwrap();
        assert!(unknown.is_empty());
        let walk = FlowMatchEuler::new(&config, 4).unwrap();
        let close = |found: &[f64], due: &[f64]| {
            found.iter().zip(due).all(|(a, b)| (a - b).abs() < 0.005) && found.len() == due.len()
        };
        assert!(close(walk.timesteps(), &[1000.0, 857.69, 602.15, 8.93]), "{walk:?}");
        assert_eq!(FlowMatchEuler::new(&config, 1).unwrap().timesteps(), [1000.0]);
        assert!(FlowMatchEuler::new(&config, 0).is_err());
        assert!(FlowMatchEuler::new(&config, 1001).is_err());
    }

    #[test]
    fn options_that_ask_for_other_arithmetic_are_refused_by_name() {
        let refusal = |text: &str, class: Option<&str>| {
            FlowMatchConfig::from_json(text, class).unwrap_err().to_string()
        };
        for (text, option) in [
            ("{\"use_dynamic_shifting\": true}", "use_dynamic_shifting"),
            ("{\"shift_terminal\": 0.1}", "shift_terminal"),
            ("{\"shift\": 0}", "shift"),
            ("{\"num_train_timesteps\": 1}", "num_train_timesteps"),
            ("{\"_class_name\": \"DDIMScheduler\"}", "DDIMScheduler"),
        ] {
            assert!(refusal(text, None).contains(option), "{}", refusal(text, None));
        }
        assert!(refusal("{}", Some("DDIMScheduler")).contains("DDIMScheduler"));
        let (_, unknown) =
            FlowMatchConfig::from_json("{\"x\": 1, \"base_shift\": 0.5}", None).unwrap();
        assert_eq!(unknown, ["x = 1"]);
    }
}
