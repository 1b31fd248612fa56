//! In: a text. Out: what the UNet attends to at each timestep, by a text encoder and a connector, and where it
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

use super::parts::{EllaBase, EllaFiles, EllaReading, EllaTokens};
use super::readers::{ReadText, TextReader};
use crate::checkpoint::load_report::LoadReport;
use crate::generate::pipelines::clip_prompts::ClipPrompts;
use crate::generate::pipelines::conditioning::{Conditioning, TextCondition};
use crate::generate::pipelines::sdxl_prompts::SdxlPrompts;
use crate::models::text_connector::ConnectedText;
use crate::models::{TextConnector, TextContext};
use crate::results::Settings;

/// The networks that read texts.
pub(crate) struct Encoders {
    reader: TextReader,
    own: BaseTextEncoders,
    tokens: EllaTokens,
}

/// Which of the networks that read texts are wanted.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) base: EllaBase,
    pub(crate) reading: EllaReading,
    /// What is read, where `reading` leaves it open too.
    pub(crate) tokens: EllaTokens,
    /// Whether the connector makes the pooled vector.
    pub(crate) pools: bool,
}

/// The checkpoint's own text encoders, where anything of theirs is wanted.
enum BaseTextEncoders {
    None,
    Clip(Box<ClipPrompts>),
    Sdxl(Box<SdxlPrompts>),
}

impl Encoders {
    /// Loads those that are wanted.
    pub(crate) fn load(
        files: &EllaFiles,
        wanted: &Wanted,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let checkpoint = &files.checkpoint;
        let Wanted { base, tokens, pools, .. } = *wanted;
        let reading = &wanted.reading;
        Ok(Self {
            reader: TextReader::load(&files.text_encoder, reading, tokens, dtype, device)?,
            own: match (base, tokens) {
                (EllaBase::Sdxl, EllaTokens::Fixed | EllaTokens::Flexible) if pools => {
                    BaseTextEncoders::None
                }
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

    /// Says what reads the text, whose folder is `text_encoder`, and warns of what changed nothing in its files and in
    /// those of the checkpoint's own text encoders.
    pub(crate) fn describe(&self, understood: &mut LoadReport, text_encoder: &Path) {
        self.reader.describe(understood, text_encoder);
        match &self.own {
            BaseTextEncoders::None => {}
            BaseTextEncoders::Clip(clip) => clip.warn(understood),
            BaseTextEncoders::Sdxl(sdxl) => sdxl.warn(understood),
        }
    }

    /// Width of the hidden states for the connector.
    pub(crate) fn width(&self) -> usize {
        self.reader.width()
    }

    /// What a run's record says of the text encoder beside the digests.
    pub(crate) fn settings(&self) -> Settings {
        self.reader.settings()
    }

    /// The prompt as far as it does not depend on the timestep.
    pub(crate) fn encode(&self, text: &str, connector: &TextConnector) -> Result<EncodedText> {
        let ReadText { hidden, full_length, truncated } = self.reader.read(text, self.tokens)?;
        let is_cut = connector.most_tokens().is_some_and(|most| most < hidden.dims()[1]);
        let (own, pooled) = match &self.own {
            BaseTextEncoders::None => (None, None),
            BaseTextEncoders::Clip(clip) => (Some(clip.encode(text)?.1), None),
            BaseTextEncoders::Sdxl(sdxl) => {
                let (_, text) = sdxl.encode(text)?;
                (Some(text.hidden.states().clone()), Some(text.pooled))
            }
        };
        let connected = connector.project(&hidden)?;
        Ok(EncodedText {
            pooled: connected.pooled().cloned().or(pooled),
            connected,
            own: own.filter(|_| self.tokens == EllaTokens::ClipAndElla),
            full_length,
            truncated: truncated || is_cut,
        })
    }

    /// The negative prompt; where there is none, the text encoder reads the empty text, and zeros stand for what
    /// the checkpoint's own encoders would make.
    pub(crate) fn encode_negative(
        &self,
        text: Option<&str>,
        connector: &TextConnector,
    ) -> Result<EncodedText> {
        let mut encoded = self.encode(text.unwrap_or_default(), connector)?;
        if text.is_none() {
            for part in [&mut encoded.own, &mut encoded.pooled].into_iter().flatten() {
                *part = part.zeros_like()?;
            }
        }
        Ok(encoded)
    }

    /// Digests of the weights and of the text encoder's small files.
    pub(crate) fn digests(&self, files: &EllaFiles) -> Result<Settings> {
        let mut digests = match &self.own {
            BaseTextEncoders::None => Settings::new(),
            BaseTextEncoders::Clip(clip) => {
                [("text_encoder".to_owned(), json!(clip.sha256()))].into()
            }
            BaseTextEncoders::Sdxl(sdxl) => sdxl.digests(),
        };
        digests.extend(self.reader.digests(&files.text_encoder)?);
        Ok(digests)
    }
}

/// A text as far as it does not depend on the timestep.
#[derive(Debug, Clone)]
pub(crate) struct EncodedText {
    connected: ConnectedText,
    /// Hidden states of the checkpoint's own text encoders, where the UNet gets those too.
    own: Option<Tensor>,
    /// Pooled output [1, width], where the UNet takes that.
    pub(crate) pooled: Option<Tensor>,
    /// The text encoder's tokens before truncation.
    pub(crate) full_length: usize,
    /// Whether text encoder or connector saw only the beginning.
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
    fn at(&self, connector: &TextConnector, timestep: f64) -> candle_core::Result<TextContext> {
        let mut connected = self.connected.borrow_mut();
        // One entry where the connector does not feel the time.
        let timestep = if connector.feels_time() { timestep } else { 0.0 };
        let context = match connected.get(&timestep.to_bits()) {
            Some(context) => context.clone(),
            None => {
                let mut tokens = connector.forward(&self.encoded.connected, timestep)?;
                if let Some(own) = &self.encoded.own {
                    tokens = Tensor::cat(&[own, &tokens], 1)?;
                }
                let context = context_of(tokens, connector);
                connected.insert(timestep.to_bits(), context.clone());
                context
            }
        };
        Ok(if self.keeps_keys { context } else { context_of(context.states().clone(), connector) })
    }
}

/// A context of its own: one that serves all steps keeps joined to others what the UNet makes of it.
fn context_of(tokens: Tensor, connector: &TextConnector) -> TextContext {
    match connector.feels_time() {
        true => TextContext::of_one_step(tokens),
        false => TextContext::new(tokens),
    }
}

/// Both halves go through the connector at their own lengths and come out with the same.
pub(crate) struct EllaConditioning<'e> {
    pub(crate) connector: &'e TextConnector,
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
