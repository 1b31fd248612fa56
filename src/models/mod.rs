//! In: a checkpoint in its published layout. Out: networks over tensors. Nothing here knows of
//! prompts, items or runs.
//!
//! Module names follow the tensor names of the checkpoints, so that a network reads like its file.
//! The arithmetic follows diffusers and transformers; `tests/suite/models_sd15.rs` holds it to them.

mod attention;
mod attention_groups;
mod bert;
pub mod blip_vqa;
pub mod clip_text;
mod config;
mod cuda;
#[cfg(feature = "cudnn")]
mod cudnn_conv2d;
pub mod device;
pub mod ella_connector;
pub mod error_words;
mod file_digest;
mod float8;
#[cfg(test)]
mod golden;
mod kept_by_time;
mod layers;
pub mod ldm_names;
pub mod made_up;
pub mod model_error;
pub mod mplug;
pub mod needed_tensors;
mod ops;
mod pickle_file;
pub mod qwen3_vl;
pub mod recipe;
mod resnet;
pub mod safetensors_file;
pub mod shipped;
pub mod speed;
pub mod t5_text;
mod tensor_list;
pub mod unet;
pub mod vae;
pub mod weight_files;
pub mod weights;

pub use blip_vqa::{BlipVqa, BlipVqaConfig};
pub use clip_text::{ClipText, ClipTextWithProjection};
pub use ella_connector::EllaConnector;
pub use model_error::ModelError;
pub use mplug::{Mplug, MplugConfig};
pub use needed_tensors::NeededTensors;
pub use pickle_file::Unwrapping;
pub use qwen3_vl::Qwen3Vl;
pub use recipe::Recipe;
pub use shipped::ShippedFolder;
pub use t5_text::T5Text;
pub use unet::{AddedCondition, TextContext, UNet};
pub use vae::{LatentStatistics, VaeDecoder};
pub use weights::Weights;
