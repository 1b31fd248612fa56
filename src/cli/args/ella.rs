//! In: the flags of ELLA. Out: the plain options that they state.

use std::path::PathBuf;

use crate::generate::pipelines::ella::{EllaReading, EllaTokens};
use crate::session::ella_options::EllaPartOptions;

/// Parts and settings of ELLA.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "ELLA")]
pub(crate) struct EllaArgs {
    /// The connector of ELLA, a .safetensors file; for models ella-sd15, ella-sdxl [default: the one that
    /// `fetch ella-sd15` got]
    #[arg(long, value_name = "FILE")]
    pub ella: Option<PathBuf>,
    /// Folder of ELLA's text encoder and its tokenizer: flan-t5-xl, or a decoder-only language model (LLaMA, Qwen3,
    /// Gemma 3); for models ella-sd15, ella-sdxl [default: what `fetch` got]
    #[arg(long, value_name = "DIR")]
    pub text_encoder: Option<PathBuf>,
    /// `fixed`: 128 tokens, cut or padded; `flexible`: as many as the prompt has; `clip+ella`: flexible, behind
    /// CLIP's own tokens; for models ella-sd15, ella-sdxl [default: fixed; flexible for an adapter that pools]
    #[arg(long, value_enum, hide_possible_values = true, value_name = "MODE")]
    pub ella_tokens: Option<EllaTokensArg>,
    /// What a decoder-only text encoder is told, with {prompt} in it and its special tokens spelled out [default:
    /// the prompt, with the special tokens that the tokenizer adds]
    #[arg(long, value_name = "TEXT")]
    pub text_template: Option<String>,
    /// Drop the states of the first N tokens, such as those of a template's beginning
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub text_skip: usize,
    /// Encode all prompts first and free ELLA's text encoders before the UNet is loaded
    #[arg(long)]
    pub low_memory: bool,
}

/// Spelling of [`EllaTokens`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum EllaTokensArg {
    /// See [`EllaTokens::Fixed`].
    Fixed,
    /// See [`EllaTokens::Flexible`].
    Flexible,
    /// See [`EllaTokens::ClipAndElla`].
    #[value(name = "clip+ella")]
    ClipAndElla,
}

impl From<EllaTokensArg> for EllaTokens {
    fn from(tokens: EllaTokensArg) -> Self {
        match tokens {
            EllaTokensArg::Fixed => Self::Fixed,
            EllaTokensArg::Flexible => Self::Flexible,
            EllaTokensArg::ClipAndElla => Self::ClipAndElla,
        }
    }
}

impl EllaArgs {
    /// The options.
    pub(crate) fn options(&self) -> EllaPartOptions {
        EllaPartOptions {
            connector: self.ella.clone(),
            text_encoder: self.text_encoder.clone(),
            reading: EllaReading {
                tokens: self.ella_tokens.map(Into::into),
                template: self.text_template.clone(),
                skip: self.text_skip,
            },
            low_memory: self.low_memory,
        }
    }
}
