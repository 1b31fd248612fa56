//! In: a checkpoint, settings, prompts and seeds. Out: pictures. One file for each pipeline; what they share stands
//! below them in `diffusion` and `denoise`.

pub(crate) mod clip_prompts;
pub mod conditioning;
mod control;
pub(crate) mod denoise;
pub mod diffusion;
pub mod ella;
pub mod flux;
pub(crate) mod flux_prompts;
pub(crate) mod guidance;
pub(crate) mod joint_text;
pub(crate) mod network;
pub mod options;
pub mod pixart;
pub(crate) mod pixels;
pub(crate) mod scheduler_of;
pub mod sd15;
pub mod sd3;
pub(crate) mod sd3_prompts;
pub mod sdxl;
pub(crate) mod sdxl_prompts;
pub(crate) mod t5_prompts;
