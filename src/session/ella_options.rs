//! In: what the user chose of ELLA. Out: its files and settings, or a sentence on a part that is missing or
//! belongs to another model.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::fetched;
use crate::checkpoint::assembled::CheckpointParts;
use crate::fetch::Role;
use crate::generate::pipelines::ella::{EllaFiles, EllaReading, EllaTokens};

/// Parts and settings of ELLA, for the models `ella-sd15` and `ella-sdxl`.
#[derive(Debug, Clone, Default)]
pub struct EllaPartOptions {
    /// The connector, a .safetensors file; where it is `None`, the one that `fetch ella-sd15` got.
    pub connector: Option<PathBuf>,
    /// Folder of the text encoder and its tokenizer, T5 or a decoder-only language model; where it is `None`, what
    /// `fetch` got.
    pub text_encoder: Option<PathBuf>,
    /// What the text encoder is told of a prompt, and what of it the connector gets.
    pub reading: EllaReading,
    /// Whether the text encoders are freed before the UNet is loaded.
    pub low_memory: bool,
}

impl EllaPartOptions {
    /// The files of the ELLA pipeline `model` over `checkpoint`.
    ///
    /// # Errors
    /// One was not named.
    pub fn files(&self, model: &str, checkpoint: &Path) -> anyhow::Result<EllaFiles> {
        let needed = |path: &Option<PathBuf>, role: Role, flag: &str| {
            let path = match path {
                Some(path) => Some(path.clone()),
                None => fetched::part(model, role)?,
            };
            path.with_context(|| match fetched::advice(model, role) {
                Some(advice) => format!("model {model} needs {flag}; {advice}"),
                None => format!("model {model} needs {flag}"),
            })
        };
        Ok(EllaFiles {
            checkpoint: checkpoint.to_path_buf(),
            connector: needed(
                &self.connector,
                Role::Connector,
                "--ella FILE, the connector's .safetensors file",
            )?,
            text_encoder: needed(
                &self.text_encoder,
                Role::TextEncoder,
                "--text-encoder DIR, the folder of the text encoder with its tokenizer",
            )?,
        })
    }

    /// Refuses another vocabulary where nothing reads it.
    ///
    /// # Errors
    /// In a sentence that names the flag.
    pub fn refuse_idle_tokenizer(&self, parts: &CheckpointParts) -> anyhow::Result<()> {
        let is_idle = self.reading.tokens.unwrap_or_default() != EllaTokens::ClipAndElla;
        if let (Some(tokenizer), true) = (&parts.tokenizer, is_idle && parts.checkpoint.is_dir()) {
            bail!(
                "--tokenizer {} would do nothing: ELLA's own text encoder reads the prompt; --ella-tokens clip+ella \
                 reads CLIP as well; use that, or leave it out",
                tokenizer.display()
            );
        }
        Ok(())
    }

    /// Refuses any of these options beside another model: none may be given in vain.
    ///
    /// # Errors
    /// In a sentence that names the flag.
    pub fn refuse_for(&self, model: &str) -> anyhow::Result<()> {
        let given = [
            ("--ella", self.connector.is_some()),
            ("--text-encoder", self.text_encoder.is_some()),
            ("--ella-tokens", self.reading.tokens.is_some()),
            ("--text-template", self.reading.template.is_some()),
            ("--text-skip", self.reading.skip > 0),
            ("--low-memory", self.low_memory),
        ];
        for (flag, given) in given {
            if given {
                bail!(
                    "{flag} is for models ella-sd15 and ella-sdxl; model {model} takes no such flag"
                );
            }
        }
        Ok(())
    }
}
