//! In: what a command found. Out: its result on stdout, and lines on stderr for what is worth telling beside it, as far as
//! `--quiet` and `--verbose` want them.

use std::io::Write;

use anstyle::{AnsiColor, Style};

use crate::cli::output::bars::with_bars_suspended;
use crate::cli::output::exit_status::ExitStatus;
use crate::cli::output::fitted::fitted_to;
use crate::cli::output::verbosity::{Verbosity, verbosity};

/// Of what is as it should be.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// Of what stops a command.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
const DOUBTFUL: Style = AnsiColor::Yellow.on_default().bold();

/// Says for the whole process where colours are. Without it, and with `Auto`, they are on a terminal, unless `NO_COLOR` is
/// set, and everywhere where `CLICOLOR_FORCE` is.
pub(crate) fn set_colours(wanted: clap::ColorChoice) {
    match wanted {
        clap::ColorChoice::Auto => anstream::ColorChoice::Auto,
        clap::ColorChoice::Always => anstream::ColorChoice::Always,
        clap::ColorChoice::Never => anstream::ColorChoice::Never,
    }
    .write_global();
}

/// Writes a command's result to stdout.
///
/// # Errors
/// Stdout is closed.
pub(crate) fn print(text: &str) -> anyhow::Result<ExitStatus> {
    write_result(std::io::stdout().lock(), text)
}

/// As [`print`], of a text for people: on a terminal its lines are broken to fit, and colours are left out where none
/// are wanted.
///
/// # Errors
/// Stdout is closed.
pub(crate) fn print_words(text: &str) -> anyhow::Result<ExitStatus> {
    write_result(anstream::stdout().lock(), &fitted_to(&std::io::stdout(), text))
}

fn write_result(mut stdout: impl Write, text: &str) -> anyhow::Result<ExitStatus> {
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

/// A line on stderr for why the command stops.
pub(crate) fn error(message: &str) {
    write_line(&format!("{BAD}error:{BAD:#} {message}"));
}

/// A line on stderr for what is wrong but no reason to stop.
pub(crate) fn warn(message: &str) {
    write_line(&format!("{DOUBTFUL}warning:{DOUBTFUL:#} {message}"));
}

/// A line on stderr of progress, or with a note or a hint; with `--quiet` there is none.
pub(crate) fn say(message: &str) {
    if verbosity() > Verbosity::Quiet {
        write_line(message);
    }
}

/// A line on stderr for who searches for a fault; only with `--verbose`.
pub(crate) fn detail(message: &str) {
    if verbosity() == Verbosity::Verbose {
        write_line(message);
    }
}

/// Does not tear a progress bar. A closed stderr is no reason to stop.
fn write_line(line: &str) {
    with_bars_suspended(|| {
        let _ = writeln!(anstream::stderr(), "{}", fitted_to(&std::io::stderr(), line));
    });
}
