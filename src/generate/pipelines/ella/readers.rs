//! In: a text, and the folder of `--text-encoder`: T5, or a decoder-only language model. Out: the hidden states that a
//! connector takes. What the connector makes of them is left to `texts`.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use serde_json::json;

use super::parts::{EllaReading, EllaTokens};
use crate::checkpoint::folder::files_sha256;
use crate::checkpoint::load_report::LoadReport;
use crate::generate::pipelines::diffusion::warn_of_files;
use crate::models::{DecoderModel, T5EncoderModel, decoder};
use crate::results::Settings;
use crate::text::decoder::{DECODER_TOKENIZER_FILES, DecoderTokenizer, PaddingSide};
use crate::text::t5::{T5Tokenizer, TOKENIZER_FILES};

/// Tokens of a text in the fixed mode, as ELLA was trained.
const FIXED_LENGTH: usize = 128;
/// Where the text stands in a template.
const PLACE: &str = "{prompt}";

/// The network that reads texts for the connector.
pub(crate) enum TextReader {
    T5(Box<T5Reader>),
    Decoder(Box<DecoderReader>),
}

/// T5, which reads the plain text.
pub(crate) struct T5Reader {
    tokenizer: T5Tokenizer,
    encoder: T5EncoderModel,
}

/// A decoder-only language model, and how it is told of a text.
pub(crate) struct DecoderReader {
    tokenizer: DecoderTokenizer,
    model: DecoderModel,
    template: Option<String>,
    skip: usize,
}

/// What was made of a text.
pub(crate) struct ReadText {
    /// [1, n, width].
    pub(crate) hidden: Tensor,
    /// Tokens before truncation.
    pub(crate) full_length: usize,
    /// Whether the network saw only the beginning.
    pub(crate) truncated: bool,
}

impl TextReader {
    /// Loads the text encoder in `folder`, which reads `tokens` of a text.
    ///
    /// # Errors
    /// A file is missing or broken, the network is of a kind that is not here, or `reading` asks for what it cannot
    /// do.
    pub(crate) fn load(
        folder: &Path,
        reading: &EllaReading,
        tokens: EllaTokens,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let kind = decoder::model_type(folder)?;
        match kind.as_deref() {
            None | Some("t5" | "mt5") => {
                reading.refuse_beside_t5()?;
                Ok(Self::T5(Box::new(T5Reader {
                    tokenizer: T5Tokenizer::load(folder)?,
                    encoder: T5EncoderModel::load(folder, dtype, device)?,
                })))
            }
            Some(kind) if DecoderModel::KINDS.contains(&kind) => {
                let reader = DecoderReader::load(folder, reading, tokens, dtype, device)?;
                Ok(Self::Decoder(Box::new(reader)))
            }
            Some(kind) => bail!(
                "{}: model_type = {kind:?} is no text encoder that is known here; t5, mt5, {} are",
                folder.join("config.json").display(),
                DecoderModel::KINDS.join(", ")
            ),
        }
    }

    /// Reads `text`.
    ///
    /// # Errors
    /// It cannot be tokenized, or the network failed.
    pub(crate) fn read(&self, text: &str, tokens: EllaTokens) -> Result<ReadText> {
        match self {
            Self::T5(reader) => {
                let T5Reader { tokenizer, encoder } = reader.as_ref();
                let encoded = match tokens {
                    EllaTokens::Fixed => tokenizer.encode_to(text, FIXED_LENGTH)?,
                    EllaTokens::Flexible | EllaTokens::ClipAndElla => tokenizer.encode(text)?,
                };
                let hidden =
                    encoder.forward(std::slice::from_ref(&encoded.ids), &[encoded.length])?;
                let (full_length, truncated) = (encoded.full_length, encoded.truncated());
                Ok(ReadText { hidden, full_length, truncated })
            }
            Self::Decoder(reader) => reader.read(text, tokens),
        }
    }

    /// Width of the hidden states.
    pub(crate) fn width(&self) -> usize {
        match self {
            Self::T5(reader) => reader.encoder.width(),
            Self::Decoder(reader) => reader.model.width(),
        }
    }

    /// Says what it is, and warns of what changed nothing in its files, which are in `folder`.
    pub(crate) fn describe(&self, understood: &mut LoadReport, folder: &Path) {
        let folder = folder.display().to_string();
        match self {
            Self::T5(reader) => {
                warn_of_files(understood, &folder, reader.encoder.unused_parts());
            }
            Self::Decoder(reader) => {
                let told = match &reader.template {
                    Some(template) => format!(", told {template:?}"),
                    None => String::new(),
                };
                let skipped = match reader.skip {
                    0 => String::new(),
                    skip => format!(", without the states of its first {skip} tokens"),
                };
                understood.line(
                    "text encoder",
                    format!("{}{told}{skipped}; last layer", reader.model.kind()),
                );
                warn_of_files(understood, &folder, reader.model.unused_parts());
                let warning = reader.tokenizer.warning().filter(|_| reader.template.is_some());
                if let Some(warning) = warning {
                    understood.warn(format!("{folder}: {warning}"));
                }
            }
        }
    }

    /// Digests of the weights and of the small files in `folder`.
    pub(crate) fn digests(&self, folder: &Path) -> Result<Settings> {
        let (name, weights, files): (_, _, &[&str]) = match self {
            Self::T5(reader) => ("t5", reader.encoder.sha256(), &TOKENIZER_FILES),
            Self::Decoder(reader) => ("llm", reader.model.sha256(), &DECODER_TOKENIZER_FILES),
        };
        let names = ["config.json"].iter().chain(files).copied();
        let configuration = files_sha256(folder, names)?;
        Ok([
            (name.to_owned(), json!(weights)),
            (format!("{name}_configuration"), json!(configuration)),
        ]
        .into())
    }

    /// What a run's record says of it beside the digests; nothing of T5, which reads the plain text.
    pub(crate) fn settings(&self) -> Settings {
        let Self::Decoder(reader) = self else { return Settings::new() };
        let side = match reader.tokenizer.side() {
            PaddingSide::Right => "right",
            PaddingSide::Left => "left",
        };
        let settings = json!({
            "kind": reader.model.kind(),
            "dtype": reader.model.dtype().as_str(),
            "layer": "last",
            "padding_side": side,
            "template": reader.template,
            "skipped_tokens": reader.skip,
        });
        [("text_encoder".to_owned(), settings)].into()
    }
}

impl DecoderReader {
    fn load(
        folder: &Path,
        reading: &EllaReading,
        tokens: EllaTokens,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let EllaReading { template, skip, .. } = reading.clone();
        if let Some(template) = &template {
            ensure!(
                template.matches(PLACE).count() == 1,
                "--text-template {template:?} must hold {PLACE} once, where the prompt goes"
            );
        }
        let tokenizer = DecoderTokenizer::load(folder)?;
        if tokens == EllaTokens::Fixed {
            ensure!(
                tokenizer.side() == PaddingSide::Right,
                "{}: this tokenizer pads at the left, where transformers' ways to attend give padding \
                 different states, which a connector would see; use --ella-tokens flexible",
                folder.display()
            );
            ensure!(
                skip == 0,
                "--text-skip goes with --ella-tokens flexible or clip+ella, where no text is padded"
            );
        }
        let model = DecoderModel::load(folder, dtype, device)?;
        if tokens == EllaTokens::Fixed {
            ensure!(
                model.padding_sees_text(&(0..1), FIXED_LENGTH),
                "{}: layers of this model see fewer than {FIXED_LENGTH} tokens back, where padding has \
                 no defined states; use --ella-tokens flexible",
                folder.display()
            );
        }
        Ok(Self { tokenizer, model, template, skip })
    }

    fn read(&self, text: &str, tokens: EllaTokens) -> Result<ReadText> {
        // A template spells its special tokens out; the plain text gets those of the tokenizer.
        let told = self.template.as_ref().map(|template| template.replace(PLACE, text));
        let (told, adds_special) = match &told {
            Some(told) => (told.as_str(), false),
            None => (text, true),
        };
        let encoded = match tokens {
            EllaTokens::Fixed => self.tokenizer.encode_to(told, adds_special, FIXED_LENGTH)?,
            EllaTokens::Flexible | EllaTokens::ClipAndElla => {
                self.tokenizer.encode(told, adds_special)?
            }
        };
        ensure!(
            !encoded.text.is_empty(),
            "the text {text:?} makes no token for this text encoder, which adds none of its own; give \
             another --negative-prompt, or a --text-template that has tokens"
        );
        let hidden = self
            .model
            .forward(std::slice::from_ref(&encoded.ids), std::slice::from_ref(&encoded.text))?;
        let left =
            hidden.dim(1)?.checked_sub(self.skip).filter(|left| *left > 0).with_context(|| {
                let count = encoded.full_length;
                format!("--text-skip {} leaves nothing of a text of {count} tokens", self.skip)
            })?;
        Ok(ReadText {
            hidden: hidden.narrow(1, self.skip, left)?,
            full_length: encoded.full_length,
            truncated: encoded.truncated(),
        })
    }
}
