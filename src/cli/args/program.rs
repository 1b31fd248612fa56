//! In: the flags of a program that makes images. Out: the plain options that a session takes.

use std::path::PathBuf;

use crate::session::program_options::ProgramPartOptions;

/// A program of the user's that makes images.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Program")]
pub(crate) struct ProgramArgs {
    /// For --model program: the command that starts it, such as 'python3 my_model.py'; it is started once for each
    /// device, which it finds in DPG_BENCH_DEVICE (docs/programs.md)
    #[arg(long, value_name = "COMMAND")]
    pub program: Option<String>,
    /// Seconds that it may take to load [default: 1800]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub program_start_timeout: Option<u64>,
    /// Seconds that it may take for one image [default: 600]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub program_timeout: Option<u64>,
    /// Append what it writes to its standard error to this file
    #[arg(long, value_name = "FILE")]
    pub program_log: Option<PathBuf>,
}

impl ProgramArgs {
    pub(crate) fn options(&self) -> ProgramPartOptions {
        ProgramPartOptions {
            command: self.program.clone(),
            start_timeout: self.program_start_timeout,
            image_timeout: self.program_timeout,
            log: self.program_log.clone(),
        }
    }
}
