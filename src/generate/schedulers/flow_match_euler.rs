//! In: velocities at descending timesteps. Out: latents after each Euler step from noise to the picture along a straight line,
//! as `FlowMatchEulerDiscreteScheduler` of diffusers.

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
        if config.even_sigmas {
            return Ok(Self::of(even_sigmas(config, steps), train_steps));
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
        Ok(Self::of(shares.into_iter().map(sigma).collect(), train_steps))
    }

    /// A walk through `sigmas`, then to 0.
    fn of(mut sigmas: Vec<f64>, train_steps: usize) -> Self {
        let timesteps =
            sigmas.iter().map(|sigma| f64::from(*sigma as f32 * train_steps as f32)).collect();
        sigmas.push(0.0);
        Self { timesteps, sigmas, next: 0 }
    }
}

/// Noise levels as a pipeline hands them over, shifted, all in f32 as NumPy has it.
fn even_sigmas(config: &FlowMatchConfig, steps: usize) -> Vec<f64> {
    let count = steps as f64;
    let last = 1.0 / count;
    let mut even: Vec<f64> =
        numpy_linspace(last - 1.0, steps).into_iter().map(|share| 1.0 + share).collect();
    if let (true, Some(end)) = (steps > 1, even.last_mut()) {
        *end = last;
    }
    let shifted = |sigma: f64| {
        let sigma = sigma as f32;
        match config.dynamic_shift {
            Some(dynamic) => {
                let shift = dynamic.shift() as f32;
                shift / (shift + (1.0 / sigma - 1.0))
            }
            None => {
                let shift = config.shift;
                shift as f32 * sigma / (1.0 + (shift - 1.0) as f32 * sigma)
            }
        }
    };
    even.into_iter().map(|sigma| f64::from(shifted(sigma))).collect()
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
        let (config, unknown) = FlowMatchConfig::from_json(text, None, None).unwrap();
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

    /// As `FluxPipeline` of diffusers lays out four steps, for pictures of 1024 and 512 pixels and without a shift.
    #[test]
    fn levels_that_are_handed_over_are_shifted_by_the_size_of_the_picture() {
        let dev = "{\"shift\": 3.0, \"use_dynamic_shifting\": true}";
        for (text, tokens, due) in [
            (dev, 4096, [1000.0, 904.53, 759.51, 512.84]),
            (dev, 1024, [1000.0, 849.23, 652.49, 384.94]),
            ("{}", 4096, [1000.0, 750.0, 500.0, 250.0]),
        ] {
            let (config, _) = FlowMatchConfig::from_json(text, None, Some(tokens)).unwrap();
            let walk = FlowMatchEuler::new(&config, 4).unwrap();
            let pairs = walk.timesteps().iter().zip(due);
            assert!(pairs.clone().all(|(found, due)| (found - due).abs() < 0.01), "{walk:?}");
        }
        let refusal =
            |text: &str| FlowMatchConfig::from_json(text, None, Some(6)).unwrap_err().to_string();
        for (change, option) in [
            ("\"time_shift_type\": \"cubic\"", "time_shift_type"),
            ("\"max_image_seq_len\": 256", "max_image_seq_len"),
            ("\"base_shift\": \"x\"", "base_shift"),
            ("\"time_shift_type\": \"linear\", \"base_shift\": -1", "max_shift"),
        ] {
            let text = format!("{{\"use_dynamic_shifting\": true, {change}}}");
            assert!(refusal(&text).contains(option), "{}", refusal(&text));
        }
        assert!(refusal("{\"use_dynamic_shifting\": 1}").contains("true or false"));
    }

    #[test]
    fn options_that_ask_for_other_arithmetic_are_refused_by_name() {
        let refusal = |text: &str, class: Option<&str>| {
            FlowMatchConfig::from_json(text, class, None).unwrap_err().to_string()
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
            FlowMatchConfig::from_json("{\"x\": 1, \"base_shift\": 0.5}", None, None).unwrap();
        assert_eq!(unknown, ["x = 1"]);
    }
}
