//! In: a prompt, and a Stable Diffusion 3 checkpoint. Out: what its transformer is told of the prompt: CLIP's hidden states, and
//! behind them those of T5, or zeros where the checkpoint has none.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

use super::diffusion::warn_of_files;
use super::joint_text::JointText;
use super::t5_prompts::T5Prompts;
use crate::checkpoint::folder::{files_sha256, tokenizer_files};
use crate::checkpoint::load_report::LoadReport;
use crate::models::ClipTextModelWithProjection;
use crate::results::Settings;
use crate::text::clip::ClipTokenizer;
use crate::text::t5::TOKENIZER_FILES;

/// T5 tokens of a text that are read; as many zeros stand there without T5.
pub(crate) const T5_TOKENS: usize = 256;

/// Both CLIP encoders, and perhaps T5.
pub(crate) struct Sd3Prompts {
    clip: [(ClipTokenizer, ClipTextModelWithProjection); 2],
    t5: Option<T5Prompts>,
    /// Width of the transformer's text.
    width: usize,
}

impl Sd3Prompts {
    /// Loads the encoders of the checkpoint in `folder`, whose `model_index.json` is `index`, for a transformer that attends to
    /// texts of `width`.
    pub(crate) fn load(
        folder: &Path,
        index: &Value,
        width: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let clip = |tokenizer: &str, encoder: &str| -> Result<_> {
            let tokenizer = ClipTokenizer::load(&folder.join(tokenizer))?;
            let encoder = ClipTextModelWithProjection::load(&folder.join(encoder), dtype, device)?;
            ensure!(
                tokenizer.max_length() <= encoder.max_tokens(),
                "{}: the tokenizer makes {} tokens, the text encoder takes {}",
                folder.display(),
                tokenizer.max_length(),
                encoder.max_tokens()
            );
            tokenizer
                .check_rows(encoder.token_rows(), "text encoder")
                .with_context(|| folder.display().to_string())?;
            Ok((tokenizer, encoder))
        };
        let t5 = match has_t5(index)? {
            false => None,
            true => {
                let names = ("tokenizer_3", "text_encoder_3");
                let t5 = T5Prompts::load(folder, names, T5_TOKENS, dtype, device).context(
                    "a Stable Diffusion 3 without T5 has null for text_encoder_3 and tokenizer_3 in model_index.json",
                )?;
                ensure!(
                    t5.width() == width,
                    "{}: T5 is {} wide, the transformer attends to {width}; the parts are of different models",
                    folder.display(),
                    t5.width()
                );
                Some(t5)
            }
        };
        let clip = [clip("tokenizer", "text_encoder")?, clip("tokenizer_2", "text_encoder_2")?];
        Ok(Self { clip, t5, width })
    }

    /// The text for all encoders.
    pub(crate) fn encode(&self, text: &str) -> Result<JointText> {
        let (mut states, mut pooled) = (Vec::new(), Vec::new());
        let (mut full_length, mut truncated) = (0, false);
        for (tokenizer, encoder) in &self.clip {
            let encoded = tokenizer.encode(text)?;
            let (hidden, own) = encoder.forward(std::slice::from_ref(&encoded.ids))?;
            full_length = full_length.max(encoded.full_length);
            truncated |= encoded.truncated;
            states.push(hidden.penultimate);
            pooled.push(own);
        }
        let of_clip = Tensor::cat(&states, 2)?;
        let missing = self.width.checked_sub(of_clip.dim(2)?).with_context(|| {
            format!("CLIP's states together are wider than the {} of the transformer", self.width)
        })?;
        let of_clip = of_clip.pad_with_zeros(2, 0, missing)?;
        let of_t5 = match &self.t5 {
            Some(t5) => {
                let (encoded, hidden) = t5.encode_padded(text)?;
                (full_length, truncated) = (encoded.full_length, encoded.truncated());
                hidden
            }
            None => {
                let shape = (1, T5_TOKENS, self.width);
                Tensor::zeros(shape, of_clip.dtype(), of_clip.device())?
            }
        };
        Ok(JointText {
            states: Tensor::cat(&[of_clip, of_t5], 1)?,
            pooled: Tensor::cat(&pooled, 1)?,
            full_length,
            truncated,
        })
    }

    /// Whether T5 is there.
    pub(crate) fn has_t5(&self) -> bool {
        self.t5.is_some()
    }

    /// Warns of what changed nothing in the encoders' files.
    pub(crate) fn warn(&self, understood: &mut LoadReport) {
        for (name, (_, encoder)) in ["text_encoder", "text_encoder_2"].iter().zip(&self.clip) {
            warn_of_files(understood, name, encoder.unused_parts());
        }
        if let Some(t5) = &self.t5 {
            t5.warn(understood);
        }
    }

    /// Digests of the weights, by part.
    pub(crate) fn digests(&self) -> Settings {
        let [(_, first), (_, second)] = &self.clip;
        let mut digests: Settings =
            [("text_encoder", first.sha256()), ("text_encoder_2", second.sha256())]
                .map(|(name, digest)| (name.to_owned(), json!(digest)))
                .into();
        if let Some(t5) = &self.t5 {
            digests.insert("text_encoder_3".to_owned(), json!(t5.sha256()));
        }
        digests
    }
}

/// Whether the checkpoint has T5, by its `model_index.json`.
fn has_t5(index: &Value) -> Result<bool> {
    let Some(entry) = index.get("text_encoder_3") else {
        bail!(
            "model_index.json does not name text_encoder_3, which diffusers refuses; null there says that there is no T5, \
             [\"transformers\", \"T5EncoderModel\"] that there is"
        )
    };
    if entry[1].is_null() {
        return Ok(false);
    }
    ensure!(
        (entry[0].as_str(), entry[1].as_str()) == (Some("transformers"), Some("T5EncoderModel")),
        "component `text_encoder_3` is {entry}, which is not supported; only T5EncoderModel of transformers is, or null for none"
    );
    Ok(true)
}

/// Digest of the small files that decide the arithmetic beside the weights.
pub(crate) fn configuration_sha256(folder: &Path) -> Result<String> {
    let networks = ["text_encoder", "text_encoder_2", "text_encoder_3", "transformer", "vae"];
    let configurations = networks.iter().map(|network| format!("{network}/config.json"));
    let tokenizers = ["tokenizer", "tokenizer_2"].into_iter().flat_map(tokenizer_files);
    let t5 = TOKENIZER_FILES.iter().map(|file| format!("tokenizer_3/{file}"));
    files_sha256(folder, configurations.chain(tokenizers).chain(t5))
}
