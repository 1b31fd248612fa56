//! In: the flags that all commands have. Out: how much is said on stderr, and in which colours.

use clap::ColorChoice;

use crate::cli::output::details;
use crate::cli::output::print::set_colours;
use crate::cli::output::verbosity::{Verbosity, set_verbosity};

/// Flags of all commands.
#[derive(Debug, clap::Args)]
pub(crate) struct MessageArgs {
    /// No progress, notes or hints; warnings, errors and the result stay
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Messages")]
    quiet: bool,
    /// Also show the devices, the files that are opened and the requests to servers
    #[arg(short, long, global = true, help_heading = "Messages")]
    verbose: bool,
    /// Colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value_t,
        help_heading = "Messages"
    )]
    color: ColorChoice,
}

impl MessageArgs {
    /// Sets them for the whole process; a second call with the same flags changes nothing.
    pub(crate) fn apply(&self) {
        set_colours(self.color);
        set_verbosity(match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, true) => Verbosity::Verbose,
            (false, false) => Verbosity::Normal,
        });
        if self.verbose {
            details::listen();
        }
    }
}
