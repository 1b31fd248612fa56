//! In: what the user chose of a ControlNet. Out: its folder, images and settings, or a sentence on a part that is missing
//! or that the model has no use for.

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};

use super::fetched;
use crate::benchmark::Item;
use crate::generate::catalog;
use crate::generate::control_images::ControlImages;
use crate::generate::pipelines::options::ControlOptions;

/// A ControlNet, for models with a UNet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ControlPartOptions {
    /// Its folder in the diffusers layout, one safetensors file, or `owner/name` in the local cache of Hugging Face.
    pub controlnet: Option<PathBuf>,
    /// Folder with one image for each item.
    pub images: Option<PathBuf>,
    /// What its residuals are multiplied by; 1 where it is `None`.
    pub scale: Option<f64>,
    /// Share of the steps after which it begins; 0 where it is `None`.
    pub start: Option<f64>,
    /// Share of the steps after which it ends; 1 where it is `None`.
    pub end: Option<f64>,
}

impl ControlPartOptions {
    /// Refuses any of these options beside a model that takes no ControlNet.
    ///
    /// # Errors
    /// In a sentence that names the flag and the models that take one.
    pub fn refuse_for(&self, model: &str) -> anyhow::Result<()> {
        let given = [
            ("--controlnet", self.controlnet.is_some()),
            ("--control-images", self.images.is_some()),
            ("--controlnet-scale", self.scale.is_some()),
            ("--control-guidance-start", self.start.is_some()),
            ("--control-guidance-end", self.end.is_some()),
        ];
        let flag = given.into_iter().find_map(|(flag, given)| given.then_some(flag));
        let takes = catalog::controlled_models();
        match flag {
            Some(flag) if !takes.contains(&model) => bail!(
                "{flag} is for models {}; model {model} takes no ControlNet here",
                takes.join(", ")
            ),
            _ => Ok(()),
        }
    }

    /// What the pipeline takes; `None` where there is no ControlNet.
    ///
    /// # Errors
    /// A part is missing or is no folder, or a setting is impossible.
    pub fn resolve(&self) -> anyhow::Result<Option<ControlOptions>> {
        let Some(network) = &self.controlnet else {
            ensure!(
                *self == Self::default(),
                "--control-images, --controlnet-scale and --control-guidance-start and -end go with --controlnet DIR; give that too"
            );
            return Ok(None);
        };
        let images = self.images.as_deref().context(
            "--controlnet needs --control-images DIR, a folder with one image for each item: ITEM.png, .jpg, .jpeg or .webp",
        )?;
        let network = fetched::named(network)?;
        ensure!(
            network.exists(),
            "--controlnet {} is not there; it takes a ControlNet's folder in the diffusers layout, which has a config.json, or one \
             .safetensors file",
            network.display()
        );
        let usual = ControlOptions::new(network, ControlImages::open(images)?);
        let options = ControlOptions {
            scale: self.scale.unwrap_or(usual.scale),
            start: self.start.unwrap_or(usual.start),
            end: self.end.unwrap_or(usual.end),
            ..usual
        };
        options.check()?;
        Ok(Some(options))
    }

    /// Makes sure that each of `items` has a control image, where there is a ControlNet.
    ///
    /// # Errors
    /// As [`Self::resolve`]; or an item has none, in a sentence that names it.
    pub fn check_items(&self, items: &[&Item]) -> anyhow::Result<()> {
        let Some(options) = self.resolve()? else { return Ok(()) };
        let ids: Vec<&str> = items.iter().map(|item| item.id.as_str()).collect();
        options.images.check(&ids)
    }
}
