//! In: the typed command line, and the TOML file of `--model-list` (docs/model-lists.md). Out: a command line for each model of
//! the list, as clap read it. What was typed stands above the model's table, and that above what the file says of all.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, anyhow};
use clap::{ArgMatches, Args, Command};

use super::keys::{ListedModel, Settings, joined};
use super::values::in_a_line;
use crate::cli::args::generator::GeneratorArgs;

/// clap's id of the flag.
pub(super) const FLAG: &str = "model_list";
/// Flags of a model that are the same for all: else items, seeds or judge would differ.
const OF_ALL: [&str; 5] = ["images", "seed", "seed_mode", "device", "devices"];

/// A model of the list.
pub(crate) struct ListedLine {
    /// Its name, where the list says one.
    pub(crate) name: Option<String>,
    /// File and line, for messages.
    pub(crate) at: String,
    /// The command line of its run.
    pub(crate) matches: ArgMatches,
}

/// The command lines of the models that are listed in `path`; `typed` names that list.
///
/// # Errors
/// The file cannot be read, or something in it is not understood.
pub(crate) fn listed_lines(
    program: &Command,
    typed: &[OsString],
    path: &Path,
) -> anyhow::Result<Vec<ListedLine>> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the list of models {shown}"))?;
    let mut built = program.clone();
    built.build();
    let of_model = GeneratorArgs::augment_args(Command::new("model"));
    let is_of_a_model =
        |id: &str| !OF_ALL.contains(&id) && of_model.get_arguments().any(|arg| arg.get_id() == id);
    let typed = without_the_list(typed);
    let seen = program.clone().try_get_matches_from(&typed)?;
    let Some((name, typed_flags)) = seen.subcommand() else { return Ok(Vec::new()) };
    let listed = Settings::read_list(path, &text, &built, is_of_a_model)?;
    let line = |(model, settings): (ListedModel, Settings)| {
        let settings = settings.chosen(&built, name, typed_flags);
        let matches = program.clone().try_get_matches_from(joined(&typed, &settings));
        let matches = matches.map_err(|error| {
            let error = in_a_line(&error);
            let named = settings.iter().find(|setting| setting.is_named_in(&error));
            anyhow!("{}: {error}", named.map_or(&model.at, |setting| &setting.at))
        })?;
        Ok(ListedLine { name: model.name, at: model.at, matches })
    };
    listed.into_iter().map(line).collect()
}

/// The typed words but for `--model-list FILE`, which cannot stand beside a model.
fn without_the_list(typed: &[OsString]) -> Vec<OsString> {
    let mut words = Vec::new();
    let mut left = typed.iter();
    while let Some(word) = left.next() {
        let bytes = word.as_encoded_bytes();
        if bytes == b"--model-list" {
            left.next();
        } else if !bytes.starts_with(b"--model-list=") {
            words.push(word.clone());
        }
    }
    words
}
