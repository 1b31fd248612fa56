//! In: nothing. Out: the models whose pictures are timed: the networks, steps and schedule of each.

use anyhow::{Context, Result};
use candle_core::DType;

use super::configs::{TransformerModel, UnetModel};
use super::published_flops::{ImageFlops, named};
use crate::checkpoint::known_configs::{SD2, SD15, SDXL};
use crate::checkpoint::scheduler_config::SchedulerConfig;
use crate::checkpoint::scheduler_config::flow_match::FlowMatchConfig;
use crate::checkpoint::scheduler_config::scheduler_class::SchedulerClass;
use crate::generate::pipelines::scheduler_of::Schedule;
use crate::near_names::did_you_mean;

/// What pictures are made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ImageModel {
    /// Stable Diffusion 1.5: 512 pixels, 50 steps.
    Sd15,
    /// The same with ELLA in place of CLIP.
    EllaSd15,
    /// Stable Diffusion 2.1: 768 pixels, 50 steps.
    Sd2,
    /// A latent consistency model: 768 pixels, 4 steps.
    Lcm,
    /// Stable Diffusion XL base: 1024 pixels, 30 steps.
    Sdxl,
    /// PixArt-Sigma: 1024 pixels, 20 steps.
    PixArt,
    /// Stable Diffusion 3.5 medium: 1024 pixels, 28 steps.
    Sd3,
    /// FLUX.1 dev: 1024 pixels, 28 steps.
    Flux,
}

impl ImageModel {
    /// All of them.
    pub(crate) const ALL: [Self; 8] = [
        Self::Sd15,
        Self::EllaSd15,
        Self::Sd2,
        Self::Lcm,
        Self::Sdxl,
        Self::PixArt,
        Self::Sd3,
        Self::Flux,
    ];

    /// Its name in the catalog.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sd15 => "sd15",
            Self::EllaSd15 => "ella-sd15",
            Self::Sd2 => "sd2",
            Self::Lcm => "lcm",
            Self::Sdxl => "sdxl",
            Self::PixArt => "pixart-sigma",
            Self::Sd3 => "sd3",
            Self::Flux => "flux",
        }
    }

    /// What is known of its networks.
    pub(crate) fn published(self) -> Option<&'static ImageFlops> {
        named(match self {
            Self::Sd3 => "sd35-medium",
            Self::Flux => "flux-dev",
            _ => self.name(),
        })
    }

    /// Bytes of its published weights in `dtype`.
    pub(crate) fn bytes(self, dtype: DType) -> u64 {
        let numbers = self.published().map_or(0, |row| row.parameters.all());
        numbers * dtype.size_in_bytes() as u64
    }

    /// Its network, steps, and the configuration of its schedule.
    pub(super) fn recipe(self) -> Result<(Kind, usize, Schedule)> {
        let noise = |files: &[(&str, &str)], class: Option<SchedulerClass>| {
            let path = "scheduler/scheduler_config.json";
            let (_, text) =
                files.iter().find(|(name, _)| *name == path).context("no scheduler is known")?;
            anyhow::Ok(Schedule::Noise(SchedulerConfig::from_json(text, class)?))
        };
        let flow = |text: &str| {
            anyhow::Ok(Schedule::Flow(FlowMatchConfig::from_json(text, None, Some(4096))?.0))
        };
        Ok(match self {
            Self::Sd15 | Self::EllaSd15 => (Kind::Unet(UnetModel::Sd15), 50, noise(SD15, None)?),
            Self::Sd2 => (Kind::Unet(UnetModel::Sd2), 50, noise(SD2, None)?),
            Self::Lcm => (Kind::Unet(UnetModel::Lcm), 4, noise(SD15, Some(SchedulerClass::Lcm))?),
            Self::Sdxl => (Kind::Unet(UnetModel::Sdxl), 30, noise(SDXL, None)?),
            Self::PixArt => (
                Kind::Transformer(TransformerModel::PixArt),
                20,
                noise(SD15, Some(SchedulerClass::DpmSolverMultistep))?,
            ),
            Self::Sd3 => (Kind::Transformer(TransformerModel::Sd35), 28, flow("{\"shift\": 3.0}")?),
            Self::Flux => {
                let dynamic = "{\"use_dynamic_shifting\": true, \"shift\": 3.0}";
                (Kind::Transformer(TransformerModel::Flux), 28, flow(dynamic)?)
            }
        })
    }
}

impl std::str::FromStr for ImageModel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::name);
        Self::ALL.into_iter().find(|model| model.name() == text).ok_or_else(|| {
            let near = did_you_mean(text, names);
            format!("there is no model `{text}` to measure{near}; there are {}", names.join(", "))
        })
    }
}

/// A denoising network.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// A UNet.
    Unet(UnetModel),
    /// A transformer.
    Transformer(TransformerModel),
}
