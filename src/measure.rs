//! In: a device, a number format and a size of networks. Out: how far their results are from those of the
//! processor in f32, and how long they take; a record of both that `doctor` reads. The weights are made up,
//! so nothing needs to be fetched and nothing is known of any model's quality. Printing is left to `cli`.

mod conditions;
mod configs;
pub(crate) mod image_models;
pub mod networks;
pub mod parity;
mod pictures;
pub(crate) mod published_flops;
pub mod record;
pub(crate) mod rounding;
pub(crate) mod speed;

pub use configs::Size;
pub use networks::Network;
pub(crate) use record::Measurements;
