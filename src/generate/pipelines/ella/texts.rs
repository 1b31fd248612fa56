//! In: a text. Out: what the UNet attends to at each timestep, by T5 and ELLA's connector, and where it
//! wants them, what the checkpoint's own text encoders make of it. Pictures are left to `ella`.
//!
//! What the connector makes depends on the text and the timestep alone. So it is computed once for all
//! images of a prompt, and for the negative prompt once in a run: one tensor for each of the schedule's
//! timesteps (64 tokens of 768 numbers for the published file, 10 MB for 50 steps in f32), of the
//! negative prompt and of the current one. The UNet keeps its cross-attention's keys and values with
//! each, 320 MB a text for SD1.5 at 50 steps in f32 and 2.1 GB for SDXL; where memory is low it makes
//! them anew for each batch, which takes less than 1 % of its work. Texts are encoded one at a time, so that no picture depends
//! on what else is in the run.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use serde_json::json;

use super::parts::{EllaBase, EllaFiles, EllaTokens};
use crate::checkpoint::folder::files_sha256;
use crate::checkpoint::load_report::LoadReport;
use crate::generate::pipelines::clip_prompts::ClipPrompts;
use crate::generate::pipelines::conditioning::{Conditioning, TextCondition};
use crate::generate::pipelines::diffusion::warn_of_files;
use crate::generate::pipelines::sdxl_prompts::SdxlPrompts;
use crate::models::ella_connector::ProjectedText;
use crate::models::{EllaConnector, T5EncoderModel, TextContext};
use crate::results::Settings;
use crate::text::t5::{T5Prompt, T5Tokenizer, TOKENIZER_FILES};

/// T5 tokens of a text in the fixed mode, as ELLA was trained.
const FIXED_LENGTH: usize = 128;

/// The networks that read texts.
pub(crate) struct Encoders {
    tokenizer: T5Tokenizer,
    t5: T5EncoderModel,
    own: BaseTextEncoders,
    tokens: EllaTokens,
}

/// The checkpoint's own text encoders, where anything of theirs is wanted.
enum BaseTextEncoders {
    None,
    Clip(Box<ClipPrompts>),
    Sdxl(Box<SdxlPrompts>),
}

impl Encoders {
    /// Loads those that `base` and `tokens` want.
    pub(crate) fn load(
        files: &EllaFiles,
        base: EllaBase,
        tokens: EllaTokens,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let checkpoint = &files.checkpoint;
        Ok(Self {
            tokenizer: T5Tokenizer::load(&files.text_encoder)?,
            t5: T5EncoderModel::load(&files.text_encoder, dtype, device)?,
            own: match (base, tokens) {
                // SDXL's UNet takes their pooled output in every mode.
                (EllaBase::Sdxl, _) => {
                    BaseTextEncoders::Sdxl(Box::new(SdxlPrompts::load(checkpoint, dtype, device)?))
                }
                (EllaBase::Sd15, EllaTokens::ClipAndElla) => {
                    BaseTextEncoders::Clip(Box::new(ClipPrompts::load(checkpoint, dtype, device)?))
                }
                (EllaBase::Sd15, _) => BaseTextEncoders::None,
            },
            tokens,
        })
    }

    /// Warns of what changed nothing in the files of T5, whose folder is `t5`, and of the checkpoint's own text
    /// encoders.
    pub(crate) fn warn(&self, understood: &mut LoadReport, t5: &Path) {
        warn_of_files(understood, &t5.display().to_string(), self.t5.unused_parts());
        match &self.own {
            BaseTextEncoders::None => {}
            BaseTextEncoders::Clip(clip) => clip.warn(understood),
            BaseTextEncoders::Sdxl(sdxl) => sdxl.warn(understood),
        }
    }

    /// Width of T5's hidden states.
    pub(crate) fn width(&self) -> usize {
        self.t5.width()
    }

    /// The prompt as far as it does not depend on the timestep.
    pub(crate) fn encode(&self, text: &str, connector: &EllaConnector) -> Result<EncodedText> {
        let encoded = match self.tokens {
            EllaTokens::Fixed => self.tokenizer.encode_to(text, FIXED_LENGTH)?,
            EllaTokens::Flexible | EllaTokens::ClipAndElla => self.tokenizer.encode(text)?,
        };
        let T5Prompt { ids, length, full_length } = &encoded;
        let hidden = self.t5.forward(std::slice::from_ref(ids), &[*length])?;
        let (own, pooled) = match &self.own {
            BaseTextEncoders::None => (None, None),
            BaseTextEncoders::Clip(clip) => (Some(clip.encode(text)?.1), None),
            BaseTextEncoders::Sdxl(sdxl) => {
                let (_, text) = sdxl.encode(text)?;
                (Some(text.hidden.states().clone()), Some(text.pooled))
            }
        };
        Ok(EncodedText {
            t5: connector.project(&hidden)?,
            own: own.filter(|_| self.tokens == EllaTokens::ClipAndElla),
            pooled,
            full_length: *full_length,
            truncated: encoded.truncated(),
        })
    }

    /// The negative prompt; where there is none, T5 reads the empty text, and zeros stand for what the
    /// checkpoint's own encoders would make.
    pub(crate) fn encode_negative(
        &self,
        text: Option<&str>,
        connector: &EllaConnector,
    ) -> Result<EncodedText> {
        let mut encoded = self.encode(text.unwrap_or_default(), connector)?;
        if text.is_none() {
            for part in [&mut encoded.own, &mut encoded.pooled].into_iter().flatten() {
                *part = part.zeros_like()?;
            }
        }
        Ok(encoded)
    }

    /// Digests of the weights and of T5's small files.
    pub(crate) fn digests(&self, files: &EllaFiles) -> Result<Settings> {
        let names = ["config.json"].into_iter().chain(TOKENIZER_FILES);
        let mut digests = match &self.own {
            BaseTextEncoders::None => Settings::new(),
            BaseTextEncoders::Clip(clip) => {
                [("text_encoder".to_owned(), json!(clip.sha256()))].into()
            }
            BaseTextEncoders::Sdxl(sdxl) => sdxl.digests(),
        };
        digests.insert("t5".to_owned(), json!(self.t5.sha256()));
        let configuration = files_sha256(&files.text_encoder, names)?;
        digests.insert("t5_configuration".to_owned(), json!(configuration));
        Ok(digests)
    }
}

/// A text as far as it does not depend on the timestep.
#[derive(Debug, Clone)]
pub(crate) struct EncodedText {
    t5: ProjectedText,
    /// Hidden states of the checkpoint's own text encoders, where the UNet gets those too.
    own: Option<Tensor>,
    /// Pooled output [1, width], where the UNet takes that.
    pub(crate) pooled: Option<Tensor>,
    /// T5 tokens before truncation.
    pub(crate) full_length: usize,
    /// Whether T5 saw only the beginning.
    pub(crate) truncated: bool,
}

/// A text with what the connector has made of it so far, by the bits of the timestep: one entry for
/// each timestep of the schedule, and no more.
pub(crate) struct TextByTimestep {
    pub(crate) encoded: EncodedText,
    pub(crate) connected: RefCell<BTreeMap<u64, TextContext>>,
    /// Whether the UNet's keys and values stay with it.
    keeps_keys: bool,
}

impl TextByTimestep {
    /// A text that the connector has not seen.
    pub(crate) fn new(encoded: EncodedText, keeps_keys: bool) -> Self {
        Self { encoded, connected: RefCell::default(), keeps_keys }
    }

    /// What the UNet attends to: [1, tokens, width].
    fn at(&self, connector: &EllaConnector, timestep: f64) -> candle_core::Result<TextContext> {
        let mut connected = self.connected.borrow_mut();
        let context = match connected.get(&timestep.to_bits()) {
            Some(context) => context.clone(),
            None => {
                let mut tokens = connector.forward(&self.encoded.t5, timestep)?;
                if let Some(own) = &self.encoded.own {
                    tokens = Tensor::cat(&[own, &tokens], 1)?;
                }
                let context = TextContext::of_one_step(tokens);
                connected.insert(timestep.to_bits(), context.clone());
                context
            }
        };
        Ok(if self.keeps_keys {
            context
        } else {
            TextContext::of_one_step(context.states().clone())
        })
    }
}

/// Both halves go through the connector at their own lengths and come out with the same.
pub(crate) struct EllaConditioning<'e> {
    pub(crate) connector: &'e EllaConnector,
    pub(crate) conditional: &'e TextByTimestep,
    pub(crate) unconditional: Option<&'e TextByTimestep>,
}

impl Conditioning for EllaConditioning<'_> {
    fn at(&self, timestep: f64) -> candle_core::Result<TextCondition> {
        let at = |text: &TextByTimestep| text.at(self.connector, timestep);
        Ok(TextCondition {
            conditional: at(self.conditional)?,
            unconditional: self.unconditional.map(at).transpose()?,
        })
    }
}
