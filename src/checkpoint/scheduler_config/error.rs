//! In: what is wrong with a scheduler's configuration or its use. Out: one sentence that names the option.

use crate::checkpoint::file_fault::UnsetKeysFault;
use crate::near_names::did_you_mean;

/// Why there is no scheduler.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchedulerError {
    /// Not JSON, or not an object; what the parser said.
    #[error("the scheduler configuration cannot be read: {0}")]
    BadJson(String),
    /// Its list of unset keys is none.
    #[error("the scheduler configuration cannot be read: {0}")]
    UnsetKeys(UnsetKeysFault),
    /// A class that is not written here.
    #[error("scheduler `{name}`{} is not supported; choose {known} with --scheduler", did_you_mean(name, known.split(", ")))]
    UnknownClass {
        /// Its name in the file.
        name: String,
        /// Those that are.
        known: String,
    },
    /// An option with a value that would need other arithmetic.
    #[error(
        "{class}: option `{option}` = {value} is not supported (supported: {supported}); choose another scheduler with --scheduler"
    )]
    Unsupported {
        /// Class name in diffusers.
        class: &'static str,
        /// Key of the JSON.
        option: String,
        /// Its value there, or the class's default where the JSON is silent.
        value: String,
        /// What can be had.
        supported: String,
    },
    /// The same of a scheduler for which there is no other.
    #[error("{class}: option `{option}` = {value} is not supported (supported: {supported})")]
    OnlyOne {
        /// Class name in diffusers.
        class: &'static str,
        /// Key of the JSON.
        option: String,
        /// Its value there.
        value: String,
        /// What can be had.
        supported: String,
    },
    /// Karras sigmas for a scheduler without them.
    #[error("scheduler {class} has no Karras sigmas; leave out --karras, or choose one of {known}")]
    NoKarras {
        /// Its short name.
        class: &'static str,
        /// Those that have them.
        known: String,
    },
    /// A spacing for a scheduler with timesteps of its own.
    #[error(
        "scheduler {0} takes its timesteps from those that the network was distilled on; leave out --spacing (a preset may \
         state it too)"
    )]
    NoSpacing(&'static str),
    /// A schedule that ends in noise alone, for a scheduler without it.
    #[error(
        "the checkpoint is marked for zero terminal SNR, which scheduler {0} has not; choose another with --scheduler"
    )]
    NoZeroSnr(&'static str),
    /// Noise alone says nothing about noise.
    #[error(
        "{0}: rescale_betas_zero_snr with prediction epsilon divides by zero, as it does in diffusers; is it --prediction v?"
    )]
    EpsilonOfNoiseAlone(&'static str),
    /// A number of steps outside the training schedule.
    #[error(
        "{steps} steps cannot be taken: the scheduler allows 1 to {train_steps}, and fewer where an offset moves its timesteps"
    )]
    TooManySteps {
        /// Steps asked for.
        steps: usize,
        /// Steps of the training schedule.
        train_steps: usize,
    },
}
