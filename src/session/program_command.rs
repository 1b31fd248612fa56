//! In: the options of a generator that is a program of the user's. Out: what the program is started with and told; flags
//! of other models are refused. Running it is left to `generate::program`.

use std::time::Duration;

use anyhow::{Context, bail};

use super::generator_options::GeneratorOptions;
use super::outside_flags::idle_flag;
use crate::generate::noise::seeds::SeedMode;
use crate::generate::program::{ProgramOptions, Stated};

/// What the program is started with, the base seed, and how an image's seed follows from it.
///
/// # Errors
/// No program is named, its command cannot be split, or a flag of other models is given.
pub(crate) fn resolve(
    options: &GeneratorOptions,
) -> anyhow::Result<(ProgramOptions, u64, SeedMode)> {
    let stated = &options.sampling;
    options.server.refuse_for(&options.model)?;
    if let Some(flag) = idle_flag(options) {
        bail!(
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
