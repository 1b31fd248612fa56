//! In: files as they are published. Out: named, checked tensors and configurations. One door for safetensors,
//! PyTorch's archives, single files, adapters, embeddings and folders in the diffusers layout. What a tensor
//! means is left to `models`.

pub(crate) mod addon_file;
pub mod assembled;
pub(crate) mod config;
pub(crate) mod controlnet_file;
pub mod embeddings;
pub(crate) mod error_words;
pub(crate) mod file_digest;
pub(crate) mod file_fault;
pub(crate) mod float8;
pub mod folder;
pub mod known_configs;
pub(crate) mod known_depth;
pub(crate) mod layout;
pub(crate) mod ldm_names;
pub(crate) mod load_report;
pub mod lora;
pub(crate) mod made_up;
pub(crate) mod marks;
pub mod model_error;
pub(crate) mod needed_file;
pub mod needed_tensors;
pub(crate) mod origins;
pub(crate) mod pickle_file;
pub mod recipe;
pub mod safetensors_file;
pub mod scheduler_config;
pub mod shipped;
pub(crate) mod single_file;
pub(crate) mod small_files;
pub(crate) mod transformer_names;
pub(crate) mod weight_files;
pub mod weights;

pub use self::model_error::{DeviceFault, ModelError};
pub use self::needed_tensors::NeededTensors;
pub use self::pickle_file::StateDictLayout;
pub use self::recipe::Recipe;
pub use self::weights::Weights;
