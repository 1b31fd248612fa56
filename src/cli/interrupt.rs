//! In: SIGINT and SIGTERM. Out: a wish that the stage at work looks at between two images, and the command
//! that goes on where it stopped. What is finished when the program ends is not this file's: every record is
//! on the disk before the next one is begun.

use std::ffi::OsString;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Stages that have an image in hand.
static AT_WORK: AtomicUsize = AtomicUsize::new(0);
static REQUESTED: AtomicBool = AtomicBool::new(false);
/// The command as it was typed; a process has one.
static TYPED: OnceLock<Vec<OsString>> = OnceLock::new();

/// Keeps the command as it was typed, for the hint on how to go on.
pub(crate) fn typed(words: Vec<OsString>) -> &'static [OsString] {
    TYPED.get_or_init(|| words)
}

/// From now on a first signal lets the image in hand be finished, and a second one ends the program. Without
/// an image in hand (while weights are loaded, say) the first one ends it.
///
/// # Errors
/// The system refuses.
#[cfg(unix)]
pub(crate) fn listen() -> std::io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let name = if signal == SIGINT { "SIGINT" } else { "SIGTERM" };
            let is_first = !REQUESTED.swap(true, Ordering::SeqCst);
            if is_first && AT_WORK.load(Ordering::SeqCst) > 0 {
                crate::cli::output::print::say(&format!(
                    "{name}: the image in hand is finished first; once more to end at once"
                ));
                continue;
            }
            crate::cli::output::print::say(&format!("ended by {name}; {}", resume_hint()));
            // As a shell would say of a program that the signal ended.
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Signals end the program at once, as everywhere: nothing that is finished is lost by that.
///
/// # Errors
/// Never.
#[cfg(not(unix))]
pub(crate) fn listen() -> std::io::Result<()> {
    Ok(())
}

/// A stage begins with its images.
pub(crate) fn work_begins() {
    AT_WORK.fetch_add(1, Ordering::SeqCst);
}

/// A stage is over.
pub(crate) fn work_ends() {
    AT_WORK.fetch_sub(1, Ordering::SeqCst);
}

/// Whether someone wants the program to stop.
pub(crate) fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// `nothing finished is lost; to go on:` and the command.
pub(crate) fn resume_hint() -> String {
    let typed = TYPED.get().into_iter().flatten();
    let words: Vec<String> = typed.map(|word| quoted(&word.to_string_lossy())).collect();
    format!("nothing finished is lost; to go on:\n  {}", words.join(" "))
}

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_needs_it() {
        for (word, wanted) in [
            ("--judge-rule", "--judge-rule"),
            ("hash:0.8", "hash:0.8"),
            ("two words", "'two words'"),
            ("", "''"),
            ("it's", "'it'\\''s'"),
            ("$(x)", "'$(x)'"),
        ] {
            assert_eq!(quoted(word), wanted);
        }
    }
}
