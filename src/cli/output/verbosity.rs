//! In: what `--quiet` and `--verbose` say. Out: how much is said on stderr, for whoever writes there.

use std::sync::OnceLock;

/// How much is said on stderr. Warnings and errors always are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// No progress, no notes, no hints.
    Quiet,
    /// These as well.
    #[default]
    Normal,
    /// What the library logs as well: files that are opened, devices, requests.
    Verbose,
}

static CHOSEN: OnceLock<Verbosity> = OnceLock::new();

/// What the process's flags say; `Normal` before they are read.
pub(crate) fn verbosity() -> Verbosity {
    CHOSEN.get().copied().unwrap_or_default()
}

/// Sets it for the whole process; the first call counts.
pub(crate) fn set_verbosity(wanted: Verbosity) {
    CHOSEN.get_or_init(|| wanted);
}
