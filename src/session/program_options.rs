//! In: what the user says of a program that makes images. Out: what it is started with and told; flags of other
//! models are refused. Running it is left to `generate::program`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use super::generator_options::GeneratorOptions;
use crate::generate::catalog;
use crate::generate::noise::seeds::SeedMode;
use crate::generate::program::{ProgramOptions, Stated};

/// A program that makes images: how it is started, and how long it may take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProgramPartOptions {
    /// The command, in words as a shell splits them.
    pub command: Option<String>,
    /// Seconds that it may take to load; 1800 where it is `None`.
    pub start_timeout: Option<u64>,
    /// Seconds that it may take for one image; 600 where it is `None`.
    pub image_timeout: Option<u64>,
    /// Takes what it writes to its standard error.
    pub log: Option<PathBuf>,
}

impl ProgramPartOptions {
    /// Refuses what `model` has no use for.
    ///
    /// # Errors
    /// Something is set.
    pub(crate) fn refuse_for(&self, model: &str) -> anyhow::Result<()> {
        let flag = [
            ("--program", self.command.is_some()),
            ("--program-start-timeout", self.start_timeout.is_some()),
            ("--program-timeout", self.image_timeout.is_some()),
            ("--program-log", self.log.is_some()),
        ]
        .into_iter()
        .find_map(|(flag, given)| given.then_some(flag));
        match flag {
            Some(flag) => bail!("{flag} goes with --model {}, not with {model}", catalog::PROGRAM),
            None => Ok(()),
        }
    }
}

/// What the program is started with, the base seed, and how an image's seed follows from it.
///
/// # Errors
/// No program is named, its command cannot be split, or a flag of other models is given.
pub(crate) fn resolve(
    options: &GeneratorOptions,
) -> anyhow::Result<(ProgramOptions, u64, SeedMode)> {
    let stated = &options.sampling;
    let ella = &options.ella;
    let idle = [
        ("--weights", options.weights.is_some()),
        ("--base", options.base.is_some()),
        ("--tokenizer", options.tokenizer.is_some()),
        ("--vae", options.vae.is_some()),
        ("--lora", !options.loras.is_empty()),
        ("--embedding", !options.embeddings.is_empty()),
        ("--ella", ella.connector.is_some()),
        ("--text-encoder", ella.text_encoder.is_some()),
        ("--preset", options.preset.is_some()),
        ("--batch", options.batch.is_some()),
        ("--dtype", options.dtype != "auto"),
        ("--scheduler", stated.scheduler.is_some()),
        ("--spacing", stated.spacing.is_some()),
        ("--karras", stated.karras.is_some()),
        ("--prediction", stated.prediction.is_some()),
        ("--rng", stated.rng.is_some()),
    ];
    for (flag, given) in idle {
        ensure!(
            !given,
            "model {} is not told {flag}; leave it out, and have the program do it",
            options.model
        );
    }
    let part = &options.program;
    let command = part.command.as_deref().context(
        "model program needs --program COMMAND, such as --program 'python3 my_model.py'",
    )?;
    let command = shlex::split(command).filter(|words| !words.is_empty()).with_context(|| {
        format!("--program `{command}` is no command: it is empty, or a quote is left open")
    })?;
    let program = ProgramOptions {
        command,
        start_timeout: Duration::from_secs(part.start_timeout.unwrap_or(1800)),
        image_timeout: Duration::from_secs(part.image_timeout.unwrap_or(600)),
        log: part.log.clone(),
        stated: Stated {
            negative_prompt: stated.negative_prompt.clone(),
            width: stated.width,
            height: stated.height,
            steps: stated.steps,
            guidance: stated.guidance,
        },
    };
    Ok((program, stated.seed.unwrap_or_default(), stated.seed_mode.unwrap_or_default()))
}
