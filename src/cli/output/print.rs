//! In: what a command found. Out: its result on stdout, and lines on stderr for what is worth telling beside it.

use std::io::Write;

use crate::cli::output::bars::with_bars_suspended;
use crate::cli::output::exit_status::ExitStatus;

/// Writes a command's result to stdout.
///
/// # Errors
/// Stdout is closed.
pub(crate) fn print(text: &str) -> anyhow::Result<ExitStatus> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        stdout.write_all(b"\n")?;
    }
    stdout.flush()?;
    Ok(ExitStatus::Done)
}

/// Prints one JSON document to stdout.
///
/// # Errors
/// Stdout is closed.
pub(crate) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<ExitStatus> {
    print(&serde_json::to_string_pretty(value)?)
}

/// A line on stderr for what is wrong but no reason to stop.
pub(crate) fn warn(message: &str) {
    say(&format!("warning: {message}"));
}

/// A line on stderr that does not tear a progress bar. A closed stderr is no reason to stop.
pub(crate) fn say(message: &str) {
    with_bars_suspended(|| {
        let _ = writeln!(std::io::stderr(), "{message}");
    });
}
