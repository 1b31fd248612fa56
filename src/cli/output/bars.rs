//! In: nothing. Out: the place of all progress bars of this process, and a way to write past them.

use std::io::IsTerminal;
use std::sync::LazyLock;

use indicatif::{MultiProgress, ProgressDrawTarget};

use crate::cli::output::verbosity::{Verbosity, verbosity};

/// All bars of this process, so that none is drawn over another, or over a line.
pub(crate) static BARS: LazyLock<MultiProgress> =
    LazyLock::new(|| MultiProgress::with_draw_target(draw_target()));

/// A terminal, where one is there and progress is wanted.
pub(crate) fn draw_target() -> ProgressDrawTarget {
    if std::io::stderr().is_terminal() && verbosity() > Verbosity::Quiet {
        ProgressDrawTarget::stderr_with_hz(4)
    } else {
        ProgressDrawTarget::hidden()
    }
}

/// Does `write`, which writes to stderr, while no bar is in the way.
pub(crate) fn with_bars_suspended(write: impl FnOnce()) {
    BARS.suspend(write);
}
