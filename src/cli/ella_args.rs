//! In: the flags of ELLA. Out: its files and settings, or a sentence on a flag that is missing or
//! belongs to another model.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::fetched;
use crate::checkpoint::assembled::CheckpointParts;
use crate::fetch::Role;
use crate::generate::pipelines::ella::{EllaFiles, EllaTokens};

/// Parts and settings of ELLA.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct EllaArgs {
    /// The connector of ELLA, a .safetensors file; for models ella-sd15, ella-sdxl [default: the one that
    /// `fetch ella-sd15` got]
    #[arg(long, value_name = "FILE")]
    pub ella: Option<PathBuf>,
    /// Folder of ELLA's T5 encoder and its tokenizer, such as flan-t5-xl; for models ella-sd15, ella-sdxl
    /// [default: what `fetch` got]
    #[arg(long, value_name = "DIR")]
    pub text_encoder: Option<PathBuf>,
    /// `fixed`: 128 T5 tokens, cut or padded; `flexible`: as many as the prompt has; `clip+ella`:
    /// flexible, behind CLIP's own tokens; for models ella-sd15, ella-sdxl [default: fixed]
    #[arg(long, value_enum, hide_possible_values = true, value_name = "MODE")]
    pub ella_tokens: Option<EllaTokensArg>,
    /// Encode all prompts first and free ELLA's text encoders before the UNet is loaded
    #[arg(long)]
    pub low_memory: bool,
}

/// Spelling of [`EllaTokens`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum EllaTokensArg {
    /// See [`EllaTokens::Fixed`].
    Fixed,
    /// See [`EllaTokens::Flexible`].
    Flexible,
    /// See [`EllaTokens::ClipAndElla`].
    #[value(name = "clip+ella")]
    ClipAndElla,
}

impl EllaArgs {
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
                &self.ella,
                Role::Connector,
                "--ella FILE, the connector's .safetensors file",
            )?,
            text_encoder: needed(
                &self.text_encoder,
                Role::TextEncoder,
                "--text-encoder DIR, the folder of the T5 encoder with its tokenizer",
            )?,
        })
    }

    /// The tokens that the flag names.
    pub fn tokens(&self) -> EllaTokens {
        match self.ella_tokens {
            Some(EllaTokensArg::Fixed) => EllaTokens::Fixed,
            Some(EllaTokensArg::Flexible) => EllaTokens::Flexible,
            Some(EllaTokensArg::ClipAndElla) => EllaTokens::ClipAndElla,
            None => EllaTokens::default(),
        }
    }

    /// Refuses another vocabulary where nothing reads it.
    ///
    /// # Errors
    /// In a sentence that names the flag.
    pub fn refuse_idle_tokenizer(&self, parts: &CheckpointParts) -> anyhow::Result<()> {
        let is_idle = self.tokens() != EllaTokens::ClipAndElla;
        if let (Some(tokenizer), true) = (&parts.tokenizer, is_idle && parts.checkpoint.is_dir()) {
            bail!(
                "--tokenizer {} would do nothing: ELLA's T5 reads the prompt; --ella-tokens clip+ella reads CLIP \
                 as well; use that, or leave it out",
                tokenizer.display()
            );
        }
        Ok(())
    }

    /// Refuses any of these flags beside another model: none may be given in vain.
    ///
    /// # Errors
    /// In a sentence that names the flag.
    pub fn refuse_for(&self, model: &str) -> anyhow::Result<()> {
        let given = [
            ("--ella", self.ella.is_some()),
            ("--text-encoder", self.text_encoder.is_some()),
            ("--ella-tokens", self.ella_tokens.is_some()),
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
