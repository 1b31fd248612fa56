//! In: a Stable Diffusion 1.x or XL checkpoint, a connector such as ELLA's, a text encoder, settings, prompts and
//! seeds. Out: pictures. The way from noise to pictures is that of `diffusion`; what the UNet attends to
//! at each timestep is made in `texts` (arXiv 2403.05135).

mod addons;
mod parts;
mod readers;
mod texts;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use candle_core::{DType, Device, Tensor};
use serde_json::json;

use self::addons::check_addons;
pub use self::parts::{EllaBase, EllaFiles, EllaReading, EllaTokens};
use self::texts::{EllaConditioning, EncodedText, Encoders, TextByTimestep, Wanted};
use super::conditioning::{Conditioning, WithAdded};
use super::diffusion::Diffusion;
use super::options::DiffusionOptions;
use super::pixels::images;
use super::{clip_prompts, sdxl_prompts};
use crate::checkpoint::folder::check_folder;
use crate::checkpoint::load_report::LoadReport;
use crate::compute::products;
use crate::compute::products::{Packing, while_packing};
use crate::generate::control_images::ControlImages;
use crate::generate::{GeneratedImage, ImageGenerator, ImageRequest, ImageTimes};
use crate::models::TextConnector;
use crate::results::Settings;
use crate::stage_observer::{Silent, StageObserver};

/// How ELLA reads texts and makes pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct EllaOptions {
    /// What the text encoder is told, and what of it the connector and the UNet get.
    pub reading: EllaReading,
    /// Whether the text encoders are freed before the UNet is loaded.
    pub low_memory: bool,
    /// The rest. A negative prompt of `None` is the empty text for the text encoder; for SDXL's pooled text it is
    /// what [`Sdxl`](super::sdxl::Sdxl) takes it for, where the checkpoint's own text encoders make that.
    pub pictures: DiffusionOptions,
}

/// A loaded ELLA pipeline with fixed settings.
pub struct Ella {
    base: EllaBase,
    files: EllaFiles,
    options: EllaOptions,
    wanted: Wanted,
    dtype: DType,
    device: Device,
    /// How layers pack their weights when parts are loaded again.
    packing: Option<Packing>,
    settings: Settings,
    understood: LoadReport,
    connector: TextConnector,
    /// Not beside `diffusion` where memory is low.
    encoders: Option<Encoders>,
    diffusion: Option<Diffusion>,
    /// Prompts encoded ahead, where memory is low, or why one could not be.
    ahead: BTreeMap<String, Result<EncodedText, String>>,
    /// `None` where guidance is off.
    negative: Option<TextByTimestep>,
    /// The last prompt: the images of an item follow one another.
    last_prompt: Option<(String, TextByTimestep)>,
}

impl Ella {
    /// Loads the parts that `files` names. With `low_memory` the text encoders and the networks of the
    /// other half are never in memory together: the latter are loaded once to be checked and again by
    /// [`ImageGenerator::prepare`], after the texts.
    ///
    /// # Errors
    /// A file is missing or broken, the parts do not go together, or a setting is impossible.
    pub fn load(
        base: EllaBase,
        files: EllaFiles,
        dtype: DType,
        device: &Device,
        options: EllaOptions,
    ) -> Result<Self> {
        let index = check_folder(&files.checkpoint, base.model(), base.pipeline())?;
        check_files(&files)?;
        let connector = TextConnector::load(&files.connector, dtype, device)?;
        let wanted = wanted(base, &options.reading, &connector)?;
        let idle = check_addons(&files.checkpoint, base, wanted.tokens, wanted.pools)?;
        let diffusion = load_diffusion(base, &files, dtype, device, &options.pictures)?;
        diffusion.check_context(connector.output_width(), "connector", &files.connector)?;
        let (mut settings, mut digests) = (diffusion.settings(), diffusion.digests());
        let (guided, pooled_width) = (diffusion.is_guided(), diffusion.pooled_width());
        let (mut understood, class) = (diffusion.understood(), diffusion.class());
        let given = options.pictures.negative_prompt.clone();
        let negative_prompt = match base {
            EllaBase::Sd15 => Some(given.unwrap_or_default()),
            EllaBase::Sdxl => {
                settings.insert("time_ids".to_owned(), json!(sdxl_prompts::time_ids(&diffusion)));
                settings.insert("vae_dtype".to_owned(), json!(diffusion.vae_dtype().as_str()));
                let pools = if wanted.pools { "connector" } else { "text_encoder_2" };
                settings.insert("pooled_text".to_owned(), json!(pools));
                match wanted.pools {
                    true => Some(given.unwrap_or_default()),
                    false => sdxl_prompts::negative_prompt(&index, given),
                }
            }
        };
        understood.line("negative prompt", format!("{:?}", negative_prompt.as_deref()));
        let diffusion = (!options.low_memory).then_some(diffusion);
        let encoders = Encoders::load(&files, &wanted, dtype, device)?;
        ensure!(
            encoders.width() == connector.input_width(),
            "{}: the text encoder is {} wide, the connector {} takes {}; they are of different \
             models",
            files.text_encoder.display(),
            encoders.width(),
            files.connector.display(),
            connector.input_width()
        );
        let negative = encoders
            .encode_negative(negative_prompt.as_deref(), &connector)
            .context("the negative prompt cannot be encoded")?;
        let pooled = negative.pooled.as_ref().map(|pooled| pooled.dim(1)).transpose()?;
        ensure!(
            pooled == pooled_width,
            "{}: the {} to {pooled:?} channels, the UNet takes {pooled_width:?}; the parts are of \
             different models",
            if wanted.pools { &files.connector } else { &files.checkpoint }.display(),
            if wanted.pools { "adapter pools" } else { "text encoders pool" }
        );
        understood.warnings.extend(idle);
        if !matches!(connector.kind(), "tsc") {
            settings.insert("connector".to_owned(), json!(connector.kind()));
            understood.line("connector", connector.kind());
        }
        encoders.describe(&mut understood, &files.text_encoder);
        settings.extend(encoders.settings());
        digests.extend(encoders.digests(&files)?);
        digests.insert("configuration".to_owned(), json!(configuration_sha256(base, &files)?));
        digests.insert("ella".to_owned(), json!(connector.sha256()));
        settings.extend(
            [
                ("model", json!(base.model())),
                ("pipeline", json!(format!("{class} with ELLA"))),
                ("ella_tokens", json!(wanted.tokens)),
                ("weights", json!(digests)),
                ("negative_prompt", json!(negative_prompt)),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        Ok(Self {
            base,
            files,
            dtype,
            device: device.clone(),
            packing: products::packing(),
            settings,
            understood,
            encoders: Some(encoders),
            diffusion,
            ahead: BTreeMap::new(),
            negative: guided.then(|| TextByTimestep::new(negative, !options.low_memory)),
            last_prompt: None,
            connector,
            wanted,
            options,
        })
    }

    /// The pictures of `prompt` before they are rounded to bytes: `[seeds, 3, height, width]`, f32 in
    /// 0..=1, with the text encoder's tokens of the prompt before truncation and whether it was cut.
    ///
    /// # Errors
    /// The prompt cannot be tokenized or a network failed.
    pub fn pictures(&mut self, prompt: &str, seeds: &[u64]) -> Result<(Tensor, usize, bool)> {
        self.pictures_of(None, prompt, seeds)
    }

    /// As [`Ella::pictures`], of `item`, whose control image is taken where there is a ControlNet. That gets what the UNet
    /// gets: the connector's tokens at each timestep.
    ///
    /// # Errors
    /// As there, or the control image cannot be read.
    pub fn pictures_of(
        &mut self,
        item: Option<&str>,
        prompt: &str,
        seeds: &[u64],
    ) -> Result<(Tensor, usize, bool)> {
        let text = match self.last_prompt.take() {
            Some((last, text)) if last == prompt => text,
            _ => TextByTimestep::new(self.encoded(prompt)?, !self.options.low_memory),
        };
        let pictures = self.with_conditioning(&text, |diffusion, conditioning| {
            diffusion.pictures_of(item, conditioning, seeds)
        });
        let (length, truncated) = (text.encoded.full_length, text.encoded.truncated);
        self.last_prompt = Some((prompt.to_owned(), text));
        Ok((pictures?, length, truncated))
    }

    /// What `work` makes with the UNet and what it is told about `text`.
    fn with_conditioning<T>(
        &self,
        text: &TextByTimestep,
        work: impl FnOnce(&Diffusion, &dyn Conditioning) -> Result<T>,
    ) -> Result<T> {
        let diffusion = self.diffusion.as_ref().context("the UNet is not loaded")?;
        let negative = self.negative.as_ref();
        let conditioning = EllaConditioning {
            connector: &self.connector,
            conditional: text,
            unconditional: negative,
        };
        match &text.encoded.pooled {
            None => work(diffusion, &conditioning),
            Some(pooled) => {
                let unconditional = negative.and_then(|text| text.encoded.pooled.as_ref());
                let added = sdxl_prompts::added(pooled, unconditional, diffusion);
                work(diffusion, &WithAdded { text: conditioning, added })
            }
        }
    }

    fn encoded(&mut self, prompt: &str) -> Result<EncodedText> {
        if self.options.low_memory {
            self.prepare(&[prompt], &Silent)?;
            let ahead = self.ahead.get(prompt).context("the prompt was not encoded")?;
            return ahead.clone().map_err(|reason| anyhow!(reason));
        }
        let encoders = self.encoders.as_ref().context("the text encoders are not loaded")?;
        encoders.encode(prompt, &self.connector)
    }
}

impl ImageGenerator for Ella {
    fn settings(&self) -> Settings {
        self.settings.clone()
    }

    fn understood(&self) -> LoadReport {
        self.understood.clone()
    }

    fn runs_on_gpu(&self) -> bool {
        !self.device.is_cpu()
    }

    /// Where memory is low: encodes the prompts, frees the text encoders, and then loads the rest. An
    /// encoded text takes 4 bytes (2 in half precision) x tokens x the connector's width: 0.4 MB at
    /// 128 tokens of 768, so 0.42 GB for the 1,065 prompts of DPG-Bench; CLIP's states add 0.24 MB.
    fn prepare(&mut self, prompts: &[&str], observer: &dyn StageObserver) -> Result<()> {
        if !self.options.low_memory {
            return Ok(());
        }
        let (base, files, dtype) = (self.base, &self.files, self.dtype);
        if prompts.iter().any(|prompt| !self.ahead.contains_key(*prompt)) {
            self.diffusion = None;
            let encoders = match self.encoders.take() {
                Some(encoders) => encoders,
                None => while_packing(self.packing, || {
                    Encoders::load(files, &self.wanted, dtype, &self.device)
                })?,
            };
            for (done, prompt) in (1..).zip(prompts) {
                if !self.ahead.contains_key(*prompt) {
                    let encoded = encoders.encode(prompt, &self.connector);
                    let encoded = encoded.map_err(|error| format!("{error:#}"));
                    self.ahead.insert((*prompt).to_owned(), encoded);
                }
                observer.prompt_prepared(done, prompts.len() as u64);
            }
        }
        self.encoders = None;
        if self.diffusion.is_none() && !prompts.is_empty() {
            let options = &self.options.pictures;
            let load = || load_diffusion(base, files, dtype, &self.device, options);
            self.diffusion = Some(while_packing(self.packing, load)?);
        }
        Ok(())
    }

    fn measure(&mut self, prompt: &str, calls: usize) -> Result<Option<ImageTimes>> {
        self.last_prompt = None;
        self.ahead.clear();
        let start = Instant::now();
        let encoded = self.encoded(prompt)?;
        // With little memory this reloads networks, which a run does once, not for each prompt.
        let text = if self.options.low_memory { Duration::ZERO } else { start.elapsed() };
        let timed = TextByTimestep::new(encoded, !self.options.low_memory);
        let times = self.with_conditioning(&timed, |diffusion, conditioning| {
            diffusion.measure(conditioning, calls)
        })?;
        Ok(Some(ImageTimes { text, ..times }))
    }

    fn control_images(&self) -> Option<&ControlImages> {
        // The networks of the other half may not be loaded yet.
        self.options.pictures.control.as_ref().map(|control| &control.images)
    }

    fn generate(&mut self, prompt: &str, seeds: &[u64]) -> Result<Vec<GeneratedImage>> {
        let (pictures, tokens, truncated) = self.pictures(prompt, seeds)?;
        images(&pictures, seeds, tokens, truncated, self.dtype)
    }

    fn generate_asked(&mut self, request: ImageRequest<'_>) -> Result<Vec<GeneratedImage>> {
        let ImageRequest { item, prompt, seeds, .. } = request;
        let (pictures, tokens, truncated) = self.pictures_of(Some(item), prompt, seeds)?;
        images(&pictures, seeds, tokens, truncated, self.dtype)
    }
}

fn configuration_sha256(base: EllaBase, files: &EllaFiles) -> Result<String> {
    match base {
        EllaBase::Sd15 => clip_prompts::configuration_sha256(&files.checkpoint),
        EllaBase::Sdxl => sdxl_prompts::configuration_sha256(&files.checkpoint),
    }
}

fn load_diffusion(
    base: EllaBase,
    files: &EllaFiles,
    dtype: DType,
    device: &Device,
    options: &DiffusionOptions,
) -> Result<Diffusion> {
    match base {
        EllaBase::Sd15 => {
            let dtypes = (dtype, dtype);
            Diffusion::load(&files.checkpoint, base.pipeline(), dtypes, device, options)
        }
        EllaBase::Sdxl => {
            sdxl_prompts::load_diffusion(&files.checkpoint, base.pipeline(), dtype, device, options)
        }
    }
}

/// What is read where `connector` makes something of it.
fn wanted(base: EllaBase, reading: &EllaReading, connector: &TextConnector) -> Result<Wanted> {
    let pools = connector.pools();
    let usual = if pools { EllaTokens::Flexible } else { EllaTokens::Fixed };
    let tokens = reading.tokens.unwrap_or(usual);
    ensure!(
        !pools || tokens != EllaTokens::Fixed,
        "--ella-tokens fixed is for connectors that see padding; this adapter hides it: use flexible"
    );
    Ok(Wanted { base, reading: reading.clone(), tokens, pools })
}

/// Refuses a path that is not there, naming the flag that gave it.
fn check_files(files: &EllaFiles) -> Result<()> {
    let (connector, text_encoder) = (&files.connector, &files.text_encoder);
    ensure!(
        connector.is_file(),
        "--ella {} is no file; it takes a connector such as ella-sd1.5-tsc-t5xl.safetensors",
        connector.display()
    );
    ensure!(
        text_encoder.is_dir(),
        "--text-encoder {} is no folder; it takes that of flan-t5-xl, or of a decoder-only language model",
        text_encoder.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::checkpoint::scheduler_config::scheduler_class::SchedulerClass;
    use crate::models::TextContext;

    fn load(low_memory: bool) -> Ella {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let files = EllaFiles {
            checkpoint: fixtures.join("sd15-tiny"),
            connector: fixtures.join("ella-tiny/ella.safetensors"),
            text_encoder: fixtures.join("ella-tiny/text_encoder"),
        };
        let pictures = DiffusionOptions {
            steps: 4,
            width: Some(16),
            height: Some(16),
            scheduler: Some(SchedulerClass::DpmSolverMultistep),
            ..Default::default()
        };
        let options = EllaOptions { reading: EllaTokens::Fixed.into(), low_memory, pictures };
        Ella::load(EllaBase::Sd15, files, DType::F32, &Device::Cpu, options).unwrap()
    }

    fn bits(picture: &Tensor) -> Vec<f32> {
        picture.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[derive(Default)]
    struct Heard(std::sync::Mutex<Vec<(u64, u64)>>);

    impl StageObserver for Heard {
        fn prompt_prepared(&self, done: u64, total: u64) {
            self.0.lock().unwrap().push((done, total));
        }
    }

    #[test]
    fn low_memory_never_holds_both_halves() {
        let mut ella = load(true);
        assert!(ella.encoders.is_some() && ella.diffusion.is_none());
        let heard = Heard::default();
        ella.prepare(&["a cat", "a dog"], &heard).unwrap();
        assert_eq!(*heard.0.lock().unwrap(), [(1, 2), (2, 2)]);
        assert!(ella.encoders.is_none() && ella.diffusion.is_some());
        ella.pictures("a dog", &[1]).unwrap();
        assert!(ella.encoders.is_none() && ella.ahead.len() == 2);
        // A run that is done already needs neither.
        let mut done = load(true);
        done.prepare(&[], &Silent).unwrap();
        assert!(done.encoders.is_none() && done.diffusion.is_none());
        let usual = load(false);
        assert!(usual.encoders.is_some() && usual.diffusion.is_some());
    }

    #[test]
    fn the_connector_runs_once_for_a_prompt_and_a_timestep() {
        let mut ella = load(false);
        let connected = |text: &TextByTimestep| text.connected.borrow().len();
        let (first, ..) = ella.pictures("a cat", &[1]).unwrap();
        let (again, ..) = ella.pictures("a cat", &[1]).unwrap();
        assert_eq!(bits(&first), bits(&again));
        assert_eq!(connected(&ella.last_prompt.as_ref().unwrap().1), 4);
        assert_eq!(connected(ella.negative.as_ref().unwrap()), 4);

        // What is kept is what is used: with other tensors in its place the picture is another one,
        // until the prompt changes.
        let spoil = |text: &TextByTimestep| {
            for context in text.connected.borrow_mut().values_mut() {
                *context = TextContext::new(context.states().zeros_like().unwrap());
            }
        };
        spoil(&ella.last_prompt.as_ref().unwrap().1);
        let (spoiled, ..) = ella.pictures("a cat", &[1]).unwrap();
        assert_ne!(bits(&first), bits(&spoiled));
        ella.pictures("a dog", &[1]).unwrap();
        let (fresh, ..) = ella.pictures("a cat", &[1]).unwrap();
        assert_eq!(bits(&first), bits(&fresh));
        // The negative prompt's stay for the whole run.
        spoil(ella.negative.as_ref().unwrap());
        ella.pictures("a dog", &[1]).unwrap();
        let (spoiled, ..) = ella.pictures("a cat", &[1]).unwrap();
        assert_ne!(bits(&first), bits(&spoiled));
        assert_eq!(connected(ella.negative.as_ref().unwrap()), 4);
    }

    #[test]
    fn the_unet_keeps_what_it_makes_of_a_text_unless_memory_is_low() {
        let kept = |ella: &Ella| -> Vec<usize> {
            [ella.negative.as_ref().unwrap(), &ella.last_prompt.as_ref().unwrap().1]
                .into_iter()
                .flat_map(|text| {
                    let connected = text.connected.borrow();
                    connected.values().map(TextContext::cached_bytes).collect::<Vec<_>>()
                })
                .collect()
        };
        let mut usual = load(false);
        let (together, ..) = usual.pictures("a cat", &[1, 2]).unwrap();
        let sizes = kept(&usual);
        assert!(sizes.len() == 8 && sizes.iter().all(|&size| size == sizes[0] && size > 0));
        let (alone, ..) = usual.pictures("a cat", &[2]).unwrap();
        let difference = (together.narrow(0, 1, 1).unwrap() - alone).unwrap().abs().unwrap();
        assert!(difference.max_all().unwrap().to_scalar::<f32>().unwrap() < 1e-5);

        let mut low = load(true);
        let (same, ..) = low.pictures("a cat", &[1, 2]).unwrap();
        assert_eq!(bits(&together), bits(&same));
        assert_eq!(kept(&low), [0; 8]);
    }
}
