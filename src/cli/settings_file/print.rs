//! In: what a command line and a settings file said together. Out: a settings file that says the same.

use anyhow::Context;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use super::keys::{is_setting, key_of};
use super::values::Kind;

/// A settings file with the flags of `run` that were set, in the order of its help.
///
/// # Errors
/// A path is no UTF-8, which TOML cannot hold.
pub(crate) fn as_file(program: &Command, given: &ArgMatches) -> anyhow::Result<String> {
    let mut file = "# Settings of `dpg-bench run`, for dpg-bench.toml or `--config FILE`.\n\
                    # Relative paths begin at this file's folder: keep it where the command was given.\n"
        .to_owned();
    let run = program.find_subcommand("run");
    for arg in run.into_iter().flat_map(Command::get_arguments).filter(|arg| is_setting(arg)) {
        let id = arg.get_id().as_str();
        if given.value_source(id) != Some(ValueSource::CommandLine) {
            continue;
        }
        let values = given.get_raw(id).into_iter().flatten().map(|value| {
            let text = value.to_str().with_context(|| {
                format!("--{} holds a path that is no UTF-8", arg.get_long().unwrap_or_default())
            })?;
            Ok(literal(arg, text))
        });
        let values = values.collect::<anyhow::Result<Vec<_>>>()?;
        let value = match values.as_slice() {
            [one] => one.clone(),
            several => format!("[{}]", several.join(", ")),
        };
        file.push_str(&format!("{} = {value}\n", key_of(arg)));
    }
    Ok(file)
}

/// A value of the command line in TOML.
fn literal(arg: &Arg, text: &str) -> String {
    match Kind::of(arg) {
        Kind::Switch | Kind::Bool => text.to_owned(),
        // A command line takes `+5` and `.5` too.
        Kind::Whole => text.parse().map_or_else(|_| quoted(text), |whole: i128| whole.to_string()),
        Kind::Real => text.parse().map_or_else(|_| quoted(text), real),
        Kind::Object | Kind::Text => quoted(text),
    }
}

/// The shortest digits that are this number.
fn real(number: f64) -> String {
    if number.is_nan() { "nan".to_owned() } else { format!("{number:?}") }
}

/// A string of TOML: one of JSON, but for one sign that JSON leaves as it is.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}
