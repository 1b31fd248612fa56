//! In: a checkpoint of FLUX.1 dev or schnell in the diffusers layout, settings, prompts and seeds. Out: pictures. The networks
//! are left to `models`, the way from noise to pictures to `diffusion`, the files of a run to `generate_run`.
//!
//! Equal to `FluxPipeline` of diffusers without image prompts, with one CPU generator per image.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use serde_json::json;

use super::conditioning::{FixedConditioning, WithAdded};
use super::diffusion::{Diffusion, DiffusionParts, MAX_SIDE, PictureSize, load_vae};
use super::flux_prompts::{FluxPrompts, configuration_sha256};
use super::joint_text::JointText;
use super::options::DiffusionOptions;
use super::pixels::images;
use super::scheduler_of::read_flow;
use crate::checkpoint::folder::{DiffusersPipeline, check_folder};
use crate::checkpoint::load_report::LoadReport;
use crate::generate::{GeneratedImage, ImageGenerator, ImageTimes};
use crate::models::{FluxTransformer, VaeDecoder};
use crate::results::Settings;

/// Its name, as runs record it.
const NAME: &str = "flux";
const PIPELINE: DiffusersPipeline = DiffusersPipeline::Flux;

/// Side of a picture in latents where nobody says.
const OWN_SIDE: usize = 128;

/// T5 tokens of a text that are read: as the pages of the models say, where the transformer is told the guidance (dev) and
/// where it is not (schnell).
const T5_TOKENS: [usize; 2] = [512, 256];

/// A loaded FLUX.1 pipeline with fixed settings.
pub struct Flux {
    texts: FluxPrompts,
    diffusion: Diffusion,
    t5_tokens: usize,
    /// Where images are smaller than the user said.
    size_warning: Option<String>,
    negative_prompt: Option<String>,
    configuration_sha256: String,
    /// The negative prompt, encoded; `None` where there is no second guidance.
    unconditional: Option<JointText>,
    /// The last prompt: the images of an item follow one another.
    last_prompt: Option<(String, JointText)>,
}

impl Flux {
    /// Loads the checkpoint in `folder`. Where the run is f16 and the autoencoder's configuration has `force_upcast`, pictures
    /// are decoded in f32.
    ///
    /// # Errors
    /// A file is missing or broken, the checkpoint is of another kind, or a setting is impossible.
    pub fn load(
        folder: &Path,
        dtype: DType,
        device: &Device,
        options: DiffusionOptions,
    ) -> Result<Self> {
        check_folder(folder, NAME, PIPELINE)?;
        let upcast = dtype == DType::F16 && VaeDecoder::overflows_f16(&folder.join("vae"))?;
        let dtypes = (dtype, if upcast { DType::F32 } else { dtype });
        let mut transformer = FluxTransformer::load(&folder.join("transformer"), dtype, device)?;
        transformer.tell_guidance(options.guidance, device)?;
        let vae = load_vae(folder, dtypes, device)?;
        check_channels(folder, &transformer, &vae)?;
        let side = vae.spatial_factor() * transformer.square();
        let (size, size_warning) = size(&options, vae.spatial_factor() * OWN_SIDE, side)?;
        let tokens = size.made.0 / side * (size.made.1 / side);
        let read = read_flow(folder, PIPELINE, &options, Some(tokens))?;
        let t5_tokens = T5_TOKENS[usize::from(!transformer.takes_guidance())];
        let pooled = transformer.pooled_width();
        let parts = DiffusionParts { network: Box::new(transformer), vae, read, size };
        let diffusion = Diffusion::of(parts, PIPELINE, dtypes, device, &options)?;
        let texts = FluxPrompts::load(folder, t5_tokens, dtype, device)?;
        diffusion.check_context(texts.width(), "second text encoder", folder)?;
        let negative = texts.encode(options.negative_prompt.as_deref().unwrap_or_default())?;
        let found = negative.pooled.dim(1)?;
        ensure!(
            found == pooled,
            "{}: the text encoder pools to {found} channels, the transformer takes {pooled}; the parts are of different models",
            folder.display()
        );
        Ok(Self {
            unconditional: diffusion.is_guided().then_some(negative),
            texts,
            diffusion,
            t5_tokens,
            size_warning,
            negative_prompt: options.negative_prompt,
            configuration_sha256: configuration_sha256(folder)?,
            last_prompt: None,
        })
    }

    /// The pictures of `prompt` before they are rounded to bytes: `[seeds, 3, height, width]`, f32 in 0..=1.
    ///
    /// # Errors
    /// The prompt cannot be tokenized or a network failed.
    pub fn pictures(&mut self, prompt: &str, seeds: &[u64]) -> Result<Tensor> {
        let (_, conditioning) = self.conditioning(prompt)?;
        self.diffusion.pictures(&conditioning, seeds)
    }

    fn conditioning(&mut self, prompt: &str) -> Result<(JointText, WithAdded<FixedConditioning>)> {
        let text = match self.last_prompt.take() {
            Some((last, text)) if last == prompt => text,
            _ => self.texts.encode(prompt)?,
        };
        self.last_prompt = Some((prompt.to_owned(), text.clone()));
        let conditioning = text.conditioning(self.unconditional.as_ref());
        Ok((text, conditioning))
    }
}

impl ImageGenerator for Flux {
    fn settings(&self) -> Settings {
        let mut weights = self.diffusion.digests();
        weights.extend(self.texts.digests());
        weights.insert("configuration".to_owned(), json!(self.configuration_sha256));
        let mut settings = self.diffusion.settings();
        settings.extend(
            [
                ("model", json!(NAME)),
                ("pipeline", json!(PIPELINE.class())),
                ("weights", json!(weights)),
                ("negative_prompt", json!(self.negative_prompt)),
                ("t5_tokens", json!(self.t5_tokens)),
                ("vae_dtype", json!(self.diffusion.vae_dtype().as_str())),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        let true_cfg = self.diffusion.true_cfg();
        settings.extend(true_cfg.map(|scale| ("true_cfg".to_owned(), json!(scale))));
        settings
    }

    fn understood(&self) -> LoadReport {
        let mut understood = self.diffusion.understood();
        understood.line("T5", format!("{} tokens", self.t5_tokens));
        understood.warnings.extend(self.size_warning.clone());
        self.texts.warn(&mut understood);
        understood
    }

    fn runs_on_gpu(&self) -> bool {
        self.diffusion.runs_on_gpu()
    }

    fn measure(&mut self, prompt: &str, calls: usize) -> Result<Option<ImageTimes>> {
        self.last_prompt = None;
        let start = Instant::now();
        let (_, conditioning) = self.conditioning(prompt)?;
        let text = start.elapsed();
        Ok(Some(ImageTimes { text, ..self.diffusion.measure(&conditioning, calls)? }))
    }

    fn generate(&mut self, prompt: &str, seeds: &[u64]) -> Result<Vec<GeneratedImage>> {
        let (text, conditioning) = self.conditioning(prompt)?;
        let pictures = self.diffusion.pictures(&conditioning, seeds)?;
        images(&pictures, seeds, text.full_length, text.truncated, self.diffusion.dtype())
    }
}

/// Height and width, `own` where nobody says, rounded down to whole squares of `side` pixels as the pipeline does, with a warning.
fn size(
    options: &DiffusionOptions,
    own: usize,
    side: usize,
) -> Result<(PictureSize, Option<String>)> {
    let (height, width) = (options.height.unwrap_or(own), options.width.unwrap_or(own));
    for (name, asked) in [("height", height), ("width", width)] {
        ensure!(
            (side..=MAX_SIDE).contains(&asked),
            "--{name} {asked} cannot be made: it must be from {side} to {MAX_SIDE}"
        );
    }
    let made = (height / side * side, width / side * side);
    let warning = (made != (height, width)).then(|| {
        format!(
            "images are {} x {}, not {width} x {height}: {} of diffusers rounds down to multiples of {side}",
            made.1,
            made.0,
            PIPELINE.class()
        )
    });
    Ok((PictureSize { asked: made, made, note: None }, warning))
}

/// Refuses a transformer that is fed, or gives, something else than the autoencoder's latents.
fn check_channels(folder: &Path, transformer: &FluxTransformer, vae: &VaeDecoder) -> Result<()> {
    let squares = transformer.square() * transformer.square();
    let ((takes, gives), latents) = (transformer.token_channels(), squares * vae.latent_channels());
    let kind = match (takes.checked_sub(latents), gives == latents) {
        (Some(0), true) => return Ok(()),
        (Some(more), true) if more == latents => ": it is made for a control picture",
        (Some(more), true) if more > latents => ": it is made for filling in pictures",
        _ => "",
    };
    bail!(
        "{}: in_channels = {takes}, out_channels = {gives}, where squares of the autoencoder's latents have {latents} \
         channels{kind}; a text alone makes no image with it",
        folder.join("transformer/config.json").display()
    )
}
