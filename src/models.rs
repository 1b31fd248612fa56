//! In: named tensors, token ids, latents. Out: networks over tensors. Nothing here knows of files, prompts, items
//! or runs.
//!
//! Module names follow the tensor names of the checkpoints, so that a network reads like its file.
//! The arithmetic follows diffusers and transformers; `tests/suite/models_sd15.rs` holds it to them.

mod bert;
pub mod blip_vqa;
pub mod clip_text;
pub mod controlnet;
pub(crate) mod decoder;
mod decoder_layer;
pub(crate) mod ella_connector;
pub mod flux;
mod joint;
mod llm_adapter;
pub(crate) mod made_up;
mod mlp_connector;
pub mod mplug;
mod packed_attention;
pub(crate) mod patches;
pub mod pixart;
pub mod qwen3_vl;
mod resnet;
mod rotary;
#[cfg(test)]
mod rounded_products;
pub mod sd3;
pub(crate) mod t5_text;
mod tensor_list;
pub(crate) mod text_connector;
pub(crate) mod timestep_cache;
pub mod unet;
mod unused_parts;
pub mod vae;

pub use self::blip_vqa::{BlipVqa, BlipVqaConfig};
pub use self::clip_text::{ClipTextModel, ClipTextModelWithPooling, ClipTextModelWithProjection};
pub use self::controlnet::ControlNet;
pub use self::decoder::DecoderModel;
pub use self::ella_connector::EllaConnector;
pub use self::flux::FluxTransformer;
pub use self::llm_adapter::LlmAdapter;
pub use self::mlp_connector::MlpConnector;
pub use self::mplug::{Mplug, MplugConfig};
pub use self::pixart::PixArtTransformer;
pub use self::qwen3_vl::Qwen3Vl;
pub use self::sd3::Sd3Transformer;
pub use self::t5_text::T5EncoderModel;
pub use self::text_connector::TextConnector;
pub use self::unet::{AddedCondition, ControlResiduals, TextContext, UNet};
pub(crate) use self::unused_parts::UnusedParts;
pub use self::vae::{LatentStatistics, VaeDecoder};
