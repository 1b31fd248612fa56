//! In: a ControlNet, a UNet, control images and settings. Out: a network that predicts as the UNet does with what the
//! ControlNet adds to its maps. The walk through the steps is left to `denoise`.
//!
//! As `StableDiffusionControlNetPipeline` and `StableDiffusionXLControlNetPipeline` of diffusers: the ControlNet gets what the
//! UNet gets, both halves of guidance and the same hidden states at each timestep, and the image beside it.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use image::RgbImage;
use serde_json::json;

use super::denoise::{Denoiser, Networks, StepRange};
use super::options::ControlOptions;
use crate::checkpoint::folder::files_sha256;
use crate::generate::control_images::ControlImages;
use crate::models::{AddedCondition, ControlNet, TextContext, UNet, UnusedParts};
use crate::results::Settings;
use crate::results::pillow_resize::{Filter, Order, resize};

/// A ControlNet with its images, how strong it is and when.
pub(super) struct Control {
    network: ControlNet,
    folder: PathBuf,
    configuration_sha256: Option<String>,
    images: ControlImages,
    scale: f64,
    range: StepRange,
    device: Device,
    /// The last item's image as the network sees it: the images of an item follow one another.
    last: RefCell<Option<(String, Tensor)>>,
}

impl Control {
    /// Loads the ControlNet that `options` name, to stand beside `unet` of the checkpoint `checkpoint`, whose autoencoder
    /// makes pictures `factor` times as wide as latents.
    ///
    /// # Errors
    /// A file is missing or broken, the ControlNet is of another family, or a setting is impossible.
    pub(super) fn load(
        options: &ControlOptions,
        (unet, checkpoint): (&UNet, &Path),
        factor: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        options.check()?;
        let folder = options.network.clone();
        let network = match folder.is_file() {
            true => ControlNet::load_file(&folder, &checkpoint.join("unet"), dtype, device)?,
            false => ControlNet::load(&folder, dtype, device)?,
        };
        check_family(&network, unet).with_context(|| {
            format!("--controlnet {} beside {}", folder.display(), checkpoint.display())
        })?;
        ensure!(
            network.image_factor() == factor,
            "{}: conditioning_embedding_out_channels makes maps of 1/{} of the image's side, the autoencoder of {} latents of \
             1/{factor}",
            folder.join("config.json").display(),
            network.image_factor(),
            checkpoint.display()
        );
        Ok(Self {
            network,
            // That of a single file is the checkpoint's.
            configuration_sha256: match folder.is_file() {
                true => None,
                false => Some(files_sha256(&folder, ["config.json"])?),
            },
            folder,
            images: options.images.clone(),
            scale: options.scale,
            range: StepRange { start: options.start, end: options.end },
            device: device.clone(),
            last: RefCell::default(),
        })
    }

    /// `unet` under the control image of `item`, in pictures of `size`, height and width.
    ///
    /// # Errors
    /// The image cannot be read, or the network failed.
    pub(super) fn over<'c>(
        &'c self,
        unet: &'c UNet,
        item: &str,
        size: (usize, usize),
    ) -> Result<Controlled<'c>> {
        let kept = self.last.borrow().clone();
        let embedding = match kept {
            Some((last, embedding)) if last == item => embedding,
            _ => {
                let image = control_tensor(&self.images.read(item)?, size, &self.device)?;
                let embedding = self.network.embed(&image)?;
                *self.last.borrow_mut() = Some((item.to_owned(), embedding.clone()));
                embedding
            }
        };
        Ok(Controlled { unet, control: self, embedding })
    }

    /// `unet` under a black image, which takes as long as any other.
    ///
    /// # Errors
    /// The network failed.
    pub(super) fn over_black<'c>(
        &'c self,
        unet: &'c UNet,
        (height, width): (usize, usize),
    ) -> Result<Controlled<'c>> {
        let image = Tensor::zeros((1, 3, height, width), DType::F32, &self.device)?;
        Ok(Controlled { unet, control: self, embedding: self.network.embed(&image)? })
    }

    /// Its images.
    pub(super) fn images(&self) -> &ControlImages {
        &self.images
    }

    /// What can change a pixel beside the weights.
    pub(super) fn settings(&self) -> Settings {
        [
            ("controlnet_scale", json!(self.scale)),
            ("control_guidance_start", json!(self.range.start)),
            ("control_guidance_end", json!(self.range.end)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// Digests of its files.
    pub(super) fn digests(&self) -> Settings {
        let configuration = self.configuration_sha256.as_ref();
        [("controlnet", json!(self.network.sha256()))]
            .into_iter()
            .chain(configuration.map(|digest| ("controlnet_configuration", json!(digest))))
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    /// For people: its folder, how strong it is, and in which steps.
    pub(super) fn described(&self) -> String {
        let StepRange { start, end } = self.range;
        let range = match (start, end) {
            (0.0, 1.0) => String::new(),
            _ => format!(", from {start} to {end} of the steps"),
        };
        format!("{}, scale {}{range}", self.folder.display(), self.scale)
    }

    /// Its folder, with what of its files changed nothing.
    pub(super) fn unused_parts(&self) -> (String, &UnusedParts) {
        (self.folder.display().to_string(), self.network.unused_parts())
    }
}

impl ControlOptions {
    /// Refuses what diffusers refuses.
    ///
    /// # Errors
    /// In a sentence that names the flag.
    pub fn check(&self) -> Result<()> {
        let Self { scale, start, end, .. } = self;
        ensure!(scale.is_finite(), "--controlnet-scale {scale} is no number");
        ensure!(
            *start >= 0.0 && *end <= 1.0 && start < end,
            "--control-guidance-start {start} and --control-guidance-end {end} are shares of the steps: 0 or more, 1 or less, and the \
             start below the end"
        );
        Ok(())
    }
}

/// Refuses a ControlNet whose maps are not the UNet's, or that is told other things.
fn check_family(network: &ControlNet, unet: &UNet) -> Result<()> {
    let text = |width: usize, pooled: Option<usize>| match pooled {
        Some(pooled) => format!("text {width} wide with pooled text of {pooled}"),
        None => format!("text {width} wide"),
    };
    let fits = network.context_width() == unet.context_width()
        && network.in_channels() == unet.in_channels()
        && network.levels() == unet.levels()
        && (!network.takes_added() || network.pooled_width() == unet.pooled_width());
    ensure!(
        fits,
        "the ControlNet is of another family: it takes {} latent channels and {} and has {}, the UNet takes {} and {} and has {}; \
         give a ControlNet that was trained for this kind of checkpoint",
        network.in_channels(),
        text(network.context_width(), network.pooled_width()),
        network.levels(),
        unet.in_channels(),
        text(unet.context_width(), unet.pooled_width()),
        unet.levels()
    );
    Ok(())
}

/// `image` as diffusers' `control_image_processor` hands it to the network: resized (Lanczos, whatever its ratio of sides) to
/// `size`, height and width; [1, 3, height, width] in 0..=1.
fn control_tensor(
    image: &RgbImage,
    (height, width): (usize, usize),
    device: &Device,
) -> Result<Tensor> {
    let size = (u32::try_from(width)?, u32::try_from(height)?);
    let resized = resize(image, size, Filter::Lanczos, Order::Pillow13);
    let values: Vec<f32> = resized.as_raw().iter().map(|&value| f32::from(value) / 255.0).collect();
    let pixels = Tensor::from_vec(values, (1, height, width, 3), &Device::Cpu)?;
    Ok(pixels.permute((0, 3, 1, 2))?.contiguous()?.to_device(device)?)
}

/// A UNet with a ControlNet beside it, and an item's image.
pub(super) struct Controlled<'c> {
    unet: &'c UNet,
    control: &'c Control,
    embedding: Tensor,
}

impl Controlled<'_> {
    /// The UNet alone, and this in its part of the steps.
    pub(super) fn networks(&self) -> Networks<'_> {
        Networks { usual: self.unet, other: Some((self.control.range, self)) }
    }
}

impl Denoiser for Controlled<'_> {
    fn predict(
        &self,
        latents: &Tensor,
        timestep: f64,
        texts: &[&TextContext],
        added: Option<&AddedCondition>,
    ) -> candle_core::Result<Tensor> {
        let Control { network, scale, .. } = self.control;
        let residuals =
            network.forward(latents, timestep, texts, added, &self.embedding, *scale)?;
        self.unet.forward_controlled(latents, timestep, texts, added, Some(&residuals))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::image_store::read_upright_image;

    /// Against `VaeImageProcessor` of diffusers, byte for byte.
    #[test]
    fn control_images_equal_diffusers() {
        let fixtures =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/controlnet-golden");
        let golden = fixtures.join("images.safetensors");
        let golden = candle_core::safetensors::load(golden, &Device::Cpu).unwrap();
        let mut count = 0;
        for (name, due) in &golden {
            let (file, _) = name.rsplit_once('.').unwrap();
            let path = fixtures.join(file);
            let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
            let image = read_upright_image(file).unwrap();
            let (_, _, height, width) = due.dims4().unwrap();
            let bytes = |tensor: &Tensor| {
                let tensor = tensor.flatten_all().unwrap().to_dtype(DType::F32).unwrap();
                tensor.to_vec1::<f32>().unwrap()
            };
            let ours = control_tensor(&image, (height, width), &Device::Cpu).unwrap();
            let ours: Vec<f32> = bytes(&ours).iter().map(|value| (value * 255.0).round()).collect();
            assert_eq!(ours, bytes(due), "{name}");
            // Another filter gives another image.
            let size = (width as u32, height as u32);
            let other = resize(&image, size, Filter::Bicubic, Order::Pillow13);
            let same = resize(&image, size, Filter::Lanczos, Order::Pillow13) == other;
            assert_eq!(same, image.dimensions() == size, "{name}");
            count += 1;
        }
        assert!(count >= 15, "{count}");
    }
}
