//! x

use super::exit_status::ExitStatus;

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// Whatever stops it, in one sentence.
pub fn run(_args: &Args) -> anyhow::Result<ExitStatus> {
    anyhow::bail!("this command is not written yet")
}
