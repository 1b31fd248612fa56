//! In: the options of a generator that is a program of the user's. Out: what the program is started with and told; flags
//! of other models are refused. Running it is left to `generate::program`.

use std::time::Duration;

use anyhow::{Context, ensure};

use super::generator_options::GeneratorOptions;
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
