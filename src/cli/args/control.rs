//! In: the flags of a ControlNet. Out: the plain options that they state.

use std::path::PathBuf;

use crate::session::control_options::ControlPartOptions;

/// A ControlNet, and how it is used.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "ControlNet")]
pub(crate) struct ControlArgs {
    /// A ControlNet: its folder in the diffusers layout, one .safetensors file, or the name of one in the local Hugging Face
    /// cache; for models sd15, sd2, sdxl, playground-v2, ella-sd15, ella-sdxl
    #[arg(long, value_name = "DIR|FILE|OWNER/NAME")]
    pub controlnet: Option<PathBuf>,
    /// Folder with the control image of each item: ITEM.png, .jpg, .jpeg or .webp
    #[arg(long, value_name = "DIR")]
    pub control_images: Option<PathBuf>,
    /// What the ControlNet's maps are multiplied by [default: 1]
    #[arg(
        long,
        alias = "controlnet-conditioning-scale",
        value_name = "NUMBER",
        allow_negative_numbers = true
    )]
    pub controlnet_scale: Option<f64>,
    /// Share of the steps after which the ControlNet begins [default: 0]
    #[arg(long, value_name = "SHARE")]
    pub control_guidance_start: Option<f64>,
    /// Share of the steps after which it ends [default: 1]
    #[arg(long, value_name = "SHARE")]
    pub control_guidance_end: Option<f64>,
}

impl ControlArgs {
    /// The options.
    pub(crate) fn options(&self) -> ControlPartOptions {
        ControlPartOptions {
            controlnet: self.controlnet.clone(),
            images: self.control_images.clone(),
            scale: self.controlnet_scale,
            start: self.control_guidance_start,
            end: self.control_guidance_end,
        }
    }
}
