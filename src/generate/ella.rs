//! In: a Stable Diffusion 1.x checkpoint, an ELLA connector, a T5 encoder, settings, prompts and seeds.
//! Out: pictures. The way from noise to pictures is that of `diffusion`; here is what the UNet attends
//! to at each timestep (arXiv 2403.05135).
//!
//! What the connector makes depends on the text and the timestep alone. So it is computed once for all
//! images of a prompt, and for the negative prompt once in a run: one tensor for each of the schedule's
//! timesteps (64 tokens of 768 numbers for the published file, 10 MB for 50 steps in f32), of the
//! negative prompt and of the current one. Texts are encoded one at a time, so that no picture depends
//! on what else is in the run.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, ensure};
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::checkpoint_folder::files_sha256;
use super::conditioning::{Conditioning, TextCondition};
use super::diffusion::{Diffusion, images};
use super::sd15::{ClipPrompts, Sd15Options, check_folder, configuration_sha256};
use super::t5_tokenizer::{T5Prompt, T5Tokenizer, TOKENIZER_FILES};
use super::{GeneratedImage, ImageGenerator};
use crate::models::ella_connector::ProjectedText;
use crate::models::{EllaConnector, T5Text};
use crate::results::Settings;

/// T5 tokens of a text in the fixed mode, as ELLA was trained.
const FIXED_LENGTH: usize = 128;

/// Which tokens of the text the connector and the UNet get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum EllaTokens {
    /// 128 T5 tokens, cut or padded; the padding is masked inside T5, and the connector sees it.
    #[default]
    #[serde(rename = "fixed")]
    Fixed,
    /// As many T5 tokens as the text has.
    #[serde(rename = "flexible")]
    Flexible,
    /// As [`EllaTokens::Flexible`], behind CLIP's hidden states of the same text.
    #[serde(rename = "clip+ella")]
    ClipAndElla,
}

/// Where the parts are.
#[derive(Debug, Clone)]
pub struct EllaFiles {
    /// Folder of the Stable Diffusion 1.x checkpoint, in the diffusers layout.
    pub checkpoint: PathBuf,
    /// The connector's `.safetensors` file.
    pub connector: PathBuf,
    /// Folder of the T5 encoder with its tokenizer, in the layout of flan-t5.
    pub text_encoder: PathBuf,
}

/// A loaded ELLA pipeline over Stable Diffusion 1.x with fixed settings.
pub struct EllaSd15 {
    files: EllaFiles,
    options: Sd15Options,
    tokens: EllaTokens,
    low_memory: bool,
    dtype: DType,
    device: Device,
    settings: Settings,
    connector: EllaConnector,
    /// Not beside `diffusion` where memory is low.
    encoders: Option<Encoders>,
    diffusion: Option<Diffusion>,
    /// Prompts encoded ahead, where memory is low, or why one could not be.
    ahead: BTreeMap<String, Result<EncodedText, String>>,
    /// `None` where guidance is off.
    negative: Option<TimedText>,
    /// The last prompt: the images of an item follow one another.
    last_prompt: Option<(String, TimedText)>,
}

impl EllaSd15 {
    /// Loads the parts that `files` names. With `low_memory` the text encoders and the networks of the
    /// other half are never in memory together: the latter are loaded once to be checked and again by
    /// [`ImageGenerator::prepare`], after the texts.
    ///
    /// # Errors
    /// A file is missing or broken, the parts do not go together, or a setting is impossible.
    pub fn load(
        files: EllaFiles,
        tokens: EllaTokens,
        low_memory: bool,
        dtype: DType,
        device: &Device,
        options: Sd15Options,
    ) -> Result<Self> {
        check_folder(&files.checkpoint)?;
        check_files(&files)?;
        let mut diffusion = Some(Diffusion::load(&files.checkpoint, dtype, device, &options)?);
        let connector = EllaConnector::load(&files.connector, dtype, device)?;
        let mut settings = Settings::new();
        let mut digests = Settings::new();
        let mut guided = false;
        if let Some(diffusion) = &diffusion {
            diffusion.check_context(connector.output_width(), "connector", &files.connector)?;
            settings = diffusion.settings();
            digests = diffusion.digests();
            guided = diffusion.is_guided();
        }
        if low_memory {
            diffusion = None;
        }
        let encoders = Encoders::load(&files, tokens, dtype, device)?;
        ensure!(
            encoders.t5.width() == connector.input_width(),
            "{}: the text encoder is {} wide, the connector {} takes {}; they are of different \
             models",
            files.text_encoder.display(),
            encoders.t5.width(),
            files.connector.display(),
            connector.input_width()
        );
        let negative_prompt = options.negative_prompt.as_deref().unwrap_or_default();
        digests.extend(encoders.digests(&files)?);
        digests.insert("ella".to_owned(), json!(connector.sha256()));
        settings.extend(
            [
                ("model", json!("ella-sd15")),
                ("pipeline", json!("StableDiffusionPipeline with ELLA")),
                ("ella_tokens", json!(tokens)),
                ("weights", json!(digests)),
                ("negative_prompt", json!(negative_prompt)),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        let negative = guided
            .then(|| encoders.encode(negative_prompt, &connector))
            .transpose()
            .context("the negative prompt cannot be encoded")?;
        Ok(Self {
            files,
            tokens,
            low_memory,
            dtype,
            device: device.clone(),
            settings,
            encoders: Some(encoders),
            diffusion,
            ahead: BTreeMap::new(),
            negative: negative.map(TimedText::new),
            last_prompt: None,
            connector,
            options,
        })
    }

    /// The pictures of `prompt` before they are rounded to bytes: `[seeds, 3, height, width]`, f32 in
    /// 0..=1, with the prompt's T5 tokens before truncation and whether it was cut.
    ///
    /// # Errors
    /// The prompt cannot be tokenized or a network failed.
    pub fn pictures(&mut self, prompt: &str, seeds: &[u64]) -> Result<(Tensor, usize, bool)> {
        let text = match self.last_prompt.take() {
            Some((last, text)) if last == prompt => text,
            _ => TimedText::new(self.encoded(prompt)?),
        };
        let diffusion = self.diffusion.as_ref().context("the UNet is not loaded")?;
        let conditioning = EllaConditioning {
            connector: &self.connector,
            conditional: &text,
            unconditional: self.negative.as_ref(),
        };
        let pictures = diffusion.pictures(&conditioning, seeds);
        let (length, truncated) = (text.encoded.full_length, text.encoded.truncated);
        self.last_prompt = Some((prompt.to_owned(), text));
        Ok((pictures?, length, truncated))
    }

    fn encoded(&mut self, prompt: &str) -> Result<EncodedText> {
        if self.low_memory {
            self.prepare(&[prompt])?;
            let ahead = self.ahead.get(prompt).context("the prompt was not encoded")?;
            return ahead.clone().map_err(|reason| anyhow!(reason));
        }
        let encoders = self.encoders.as_ref().context("the text encoders are not loaded")?;
        encoders.encode(prompt, &self.connector)
    }
}

impl ImageGenerator for EllaSd15 {
    fn settings(&self) -> Settings {
        self.settings.clone()
    }

    /// Where memory is low: encodes the prompts, frees the text encoders, and then loads the rest. An
    /// encoded text takes 4 bytes (2 in half precision) x tokens x the connector's width: 0.4 MB at
    /// 128 tokens of 768, so 0.42 GB for the 1,065 prompts of DPG-Bench; CLIP's states add 0.24 MB.
    fn prepare(&mut self, prompts: &[&str]) -> Result<()> {
        if !self.low_memory {
            return Ok(());
        }
        if prompts.iter().any(|prompt| !self.ahead.contains_key(*prompt)) {
            self.diffusion = None;
            let encoders = match self.encoders.take() {
                Some(encoders) => encoders,
                None => Encoders::load(&self.files, self.tokens, self.dtype, &self.device)?,
            };
            for prompt in prompts {
                if !self.ahead.contains_key(*prompt) {
                    let encoded = encoders.encode(prompt, &self.connector);
                    let encoded = encoded.map_err(|error| format!("{error:#}"));
                    self.ahead.insert((*prompt).to_owned(), encoded);
                }
            }
        }
        self.encoders = None;
        if self.diffusion.is_none() && !prompts.is_empty() {
            let checkpoint = &self.files.checkpoint;
            self.diffusion =
                Some(Diffusion::load(checkpoint, self.dtype, &self.device, &self.options)?);
        }
        Ok(())
    }

    fn generate(&mut self, prompt: &str, seeds: &[u64]) -> Result<Vec<GeneratedImage>> {
        let (pictures, tokens, truncated) = self.pictures(prompt, seeds)?;
        images(&pictures, seeds, tokens, truncated)
    }
}

/// The networks that read texts.
struct Encoders {
    tokenizer: T5Tokenizer,
    t5: T5Text,
    clip: Option<ClipPrompts>,
    tokens: EllaTokens,
}

impl Encoders {
    fn load(files: &EllaFiles, tokens: EllaTokens, dtype: DType, device: &Device) -> Result<Self> {
        let clip = || ClipPrompts::load(&files.checkpoint, dtype, device);
        Ok(Self {
            tokenizer: T5Tokenizer::load(&files.text_encoder)?,
            t5: T5Text::load(&files.text_encoder, dtype, device)?,
            clip: (tokens == EllaTokens::ClipAndElla).then(clip).transpose()?,
            tokens,
        })
    }

    fn encode(&self, text: &str, connector: &EllaConnector) -> Result<EncodedText> {
        let encoded = match self.tokens {
            EllaTokens::Fixed => self.tokenizer.encode_to(text, FIXED_LENGTH)?,
            EllaTokens::Flexible | EllaTokens::ClipAndElla => self.tokenizer.encode(text)?,
        };
        let T5Prompt { ids, length, full_length } = &encoded;
        let hidden = self.t5.forward(std::slice::from_ref(ids), &[*length])?;
        Ok(EncodedText {
            t5: connector.project(&hidden)?,
            clip: self.clip.as_ref().map(|clip| clip.encode(text)).transpose()?.map(|(_, h)| h),
            full_length: *full_length,
            truncated: encoded.truncated(),
        })
    }

    fn digests(&self, files: &EllaFiles) -> Result<Settings> {
        let mut digests = vec![
            ("configuration", configuration_sha256(&files.checkpoint)?),
            ("t5", self.t5.sha256().to_owned()),
            (
                "t5_configuration",
                files_sha256(&files.text_encoder, ["config.json"].iter().chain(&TOKENIZER_FILES))?,
            ),
        ];
        digests.extend(self.clip.iter().map(|clip| ("text_encoder", clip.sha256().to_owned())));
        Ok(digests.into_iter().map(|(name, digest)| (name.to_owned(), json!(digest))).collect())
    }
}

/// A text as far as it does not depend on the timestep.
#[derive(Debug, Clone)]
struct EncodedText {
    t5: ProjectedText,
    /// CLIP's hidden states, where the UNet gets those too.
    clip: Option<Tensor>,
    full_length: usize,
    truncated: bool,
}

/// A text with what the connector has made of it so far, by the bits of the timestep: one entry for
/// each timestep of the schedule, and no more.
struct TimedText {
    encoded: EncodedText,
    connected: RefCell<BTreeMap<u64, Tensor>>,
}

impl TimedText {
    fn new(encoded: EncodedText) -> Self {
        Self { encoded, connected: RefCell::default() }
    }

    /// What the UNet attends to: [1, tokens, width].
    fn at(&self, connector: &EllaConnector, timestep: f64) -> candle_core::Result<Tensor> {
        let mut connected = self.connected.borrow_mut();
        let tokens = match connected.get(&timestep.to_bits()) {
            Some(tokens) => tokens.clone(),
            None => {
                let tokens = connector.forward(&self.encoded.t5, timestep)?;
                connected.insert(timestep.to_bits(), tokens.clone());
                tokens
            }
        };
        match &self.encoded.clip {
            Some(clip) => Tensor::cat(&[clip, &tokens], 1),
            None => Ok(tokens),
        }
    }
}

/// Both halves go through the connector at their own lengths and come out with the same.
struct EllaConditioning<'e> {
    connector: &'e EllaConnector,
    conditional: &'e TimedText,
    unconditional: Option<&'e TimedText>,
}

impl Conditioning for EllaConditioning<'_> {
    fn at(&self, timestep: f64) -> candle_core::Result<TextCondition> {
        let at = |text: &TimedText| text.at(self.connector, timestep);
        Ok(TextCondition {
            conditional: at(self.conditional)?,
            unconditional: self.unconditional.map(at).transpose()?,
        })
    }
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
        "--text-encoder {} is no folder; it takes that of flan-t5-xl",
        text_encoder.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::generate::schedulers::SchedulerClass;

    fn load() -> EllaSd15 {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let files = EllaFiles {
            checkpoint: fixtures.join("sd15-tiny"),
            connector: fixtures.join("ella-tiny/ella.safetensors"),
            text_encoder: fixtures.join("ella-tiny/text_encoder"),
        };
        let options = Sd15Options {
            steps: 4,
            width: Some(16),
            height: Some(16),
            scheduler: Some(SchedulerClass::DpmSolverMultistep),
            ..Default::default()
        };
        let (tokens, device) = (EllaTokens::Fixed, Device::Cpu);
        EllaSd15::load(files, tokens, false, DType::F32, &device, options).unwrap()
    }

    fn bits(picture: &Tensor) -> Vec<f32> {
        picture.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn the_connector_runs_once_for_a_prompt_and_a_timestep() {
        let mut ella = load();
        let connected = |text: &TimedText| text.connected.borrow().len();
        let (first, ..) = ella.pictures("a cat", &[1]).unwrap();
        let (again, ..) = ella.pictures("a cat", &[1]).unwrap();
        assert_eq!(bits(&first), bits(&again));
        assert_eq!(connected(&ella.last_prompt.as_ref().unwrap().1), 4);
        assert_eq!(connected(ella.negative.as_ref().unwrap()), 4);

        // What is kept is what is used: with other tensors in its place the picture is another one,
        // until the prompt changes.
        let spoil = |text: &TimedText| {
            for tokens in text.connected.borrow_mut().values_mut() {
                *tokens = tokens.zeros_like().unwrap();
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
}
