//! In: the typed command line, and a TOML file that holds flags of it (docs/settings-file.md). Out: what the two say
//! together, or the file, line and key of what is not understood. The file's flags are put before the typed ones, and
//! clap reads the whole as if it had been typed.

mod keys;
mod print;
mod values;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::error::ErrorKind;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use self::keys::{Setting, Settings};
use self::values::in_a_line;
use crate::cli::output::print::say;

pub(super) use self::print::as_file;

/// The file that is taken from the current folder.
const NAME: &str = "dpg-bench.toml";
/// Commands that no file is read for: they only print what the program is.
const ABOUT_THE_PROGRAM: [&str; 3] = ["help", "completions", "man"];

/// Which settings file.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct SettingsArgs {
    /// TOML file that holds flags, such as `steps = 20`; the command line overrides it [default:
    /// dpg-bench.toml in this folder, where there is one]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Settings file")]
    config: Option<PathBuf>,
    /// Take no settings from dpg-bench.toml
    #[arg(long, global = true, conflicts_with = "config", help_heading = "Settings file")]
    no_config: bool,
}

/// What `typed`, the program's name first, and the settings file say together; says on stderr which settings are the
/// file's.
///
/// # Errors
/// A `clap::Error`, where it is clap's to print: usage, help, version. Else the file cannot be read, or something in it
/// is not understood.
pub(super) fn matches(program: &Command, typed: &[OsString]) -> anyhow::Result<ArgMatches> {
    let plain = program.clone().try_get_matches_from(typed);
    let seen = match &plain {
        Ok(seen) => seen.clone(),
        // The file may have what is missing.
        Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => {
            program.clone().ignore_errors(true).try_get_matches_from(typed)?
        }
        Err(_) => return Ok(plain?),
    };
    let args = SettingsArgs::from_arg_matches(&seen)?;
    let Some((name, given)) = seen.subcommand() else { return Ok(plain?) };
    let found = || Some(PathBuf::from(NAME)).filter(|path| !args.no_config && path.is_file());
    let Some(path) = args.config.clone().or_else(found) else { return Ok(plain?) };
    if ABOUT_THE_PROGRAM.contains(&name) {
        return Ok(plain?);
    }
    let shown = path.display();
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read the settings file {shown}"))?;
    let mut built = program.clone();
    built.build();
    let settings = Settings::read(&path, &text, &built)?;
    let chosen = settings.chosen(&built, name, given);
    let keys: Vec<&str> = chosen.iter().map(|setting| setting.key.as_str()).collect();
    match (keys.is_empty(), args.config.is_some()) {
        (false, _) => say(&format!("settings from {shown}: {}", keys.join(", "))),
        (true, true) => say(&format!("settings from {shown}: none for this command")),
        (true, false) => return Ok(plain?),
    }
    match program.clone().try_get_matches_from(joined(typed, &chosen)) {
        // What was typed is sound alone.
        Err(error) if plain.is_ok() => bail!("{shown}: {}", in_a_line(&error)),
        both => Ok(both?),
    }
}

/// The typed words with those of the settings behind the name of the command.
fn joined(typed: &[OsString], settings: &[&Setting]) -> Vec<OsString> {
    let mut place = 1;
    while let Some(word) = typed.get(place).filter(|word| word.as_encoded_bytes().starts_with(b"-"))
    {
        place += if word == "--config" { 2 } else { 1 };
    }
    let (before, after) = typed.split_at(typed.len().min(place + 1));
    let words = settings.iter().flat_map(|setting| setting.words.iter().cloned());
    before.iter().cloned().chain(words).chain(after.iter().cloned()).collect()
}

/// The folder that relative paths of the file begin at; empty where that is the current one.
fn folder(path: &Path) -> &Path {
    let folder = path.parent().unwrap_or(Path::new(""));
    if folder == Path::new(".") { Path::new("") } else { folder }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_stand_behind_the_command_and_before_what_was_typed() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let setting = Setting::of_words("steps", words("--steps=2"));
        for (typed, wanted) in [
            ("x run", "x run --steps=2"),
            ("x run --model m", "x run --steps=2 --model m"),
            ("x --config run judge -- run", "x --config run judge --steps=2 -- run"),
            ("x --config=run judge run", "x --config=run judge --steps=2 run"),
        ] {
            assert_eq!(joined(&words(typed), &[&setting]), words(wanted), "{typed}");
        }
    }

    #[test]
    fn paths_begin_at_the_folder_of_the_file() {
        for (file, wanted) in [("a.toml", ""), ("./a.toml", ""), ("b/a.toml", "b"), ("/a", "/")] {
            assert_eq!(folder(Path::new(file)), Path::new(wanted), "{file}");
        }
    }
}
