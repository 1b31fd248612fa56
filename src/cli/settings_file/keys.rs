//! In: the text of a settings file, and the program's flags as clap knows them. Out: its keys as words of a command line,
//! and those of them that a command takes beside what was typed.

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::Path;

use anyhow::{anyhow, bail, ensure};
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::values::words;

/// Whose flags the keys outside of tables are.
const RUN: &str = "run";
/// The commands that take them, as far as they have the flag.
const TAKE_THOSE_OF_RUN: [&str; 4] = [RUN, "generate", "judge", "doctor"];
/// The tables of a list of models, and the key of a model's name.
const MODEL: &str = "model";
const NAME: &str = "name";
/// The table of the commands' own tables.
const COMMAND: &str = "command";
/// Commands that no file is read for: they only print what the program is.
pub(super) const ABOUT_THE_PROGRAM: [&str; 3] = ["help", "completions", "man"];
/// Flags that say what becomes of a settings file, end the program, or are about the terminal.
const NOT_IN_A_FILE: [&str; 9] = [
    "help",
    "version",
    "config",
    "no_config",
    "print_config",
    "model_list",
    "quiet",
    "verbose",
    "color",
];

/// One key of the file, understood.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    /// As it is written.
    pub key: String,
    /// What it says, as words of a command line; none for `false`.
    pub words: Vec<OsString>,
    /// File and line, for messages.
    pub at: String,
    /// clap's id of the flag.
    id: String,
    /// The flag, with its hyphens.
    flag: String,
    /// Byte of the file where it begins.
    place: usize,
}

/// The table of a model in a list of models.
#[derive(Debug)]
pub(super) struct ListedModel {
    /// Its name in the tables.
    pub name: Option<String>,
    /// File and line, for messages.
    pub at: String,
    /// Its keys.
    settings: Vec<Setting>,
}

/// The keys of a file.
#[derive(Debug)]
pub(super) struct Settings {
    /// Outside of tables: flags of `run`.
    shared: Vec<Setting>,
    /// Of single commands, by their names.
    own: Vec<(String, Vec<Setting>)>,
}

/// Where a file's keys are looked up.
struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    /// Built, so that it knows all about its flags.
    program: &'a Command,
}

impl Settings {
    /// Understands `text`, the content of the file `path`; `program` must be built.
    ///
    /// # Errors
    /// It is no TOML, or a key or its value is not understood: file, line, key and what would be right.
    pub(super) fn read(path: &Path, text: &str, program: &Command) -> anyhow::Result<Self> {
        let reader = Reader { path, text, program };
        let table = reader.parsed()?;
        let mut own = Vec::new();
        let mut shared = Vec::new();
        for (key, value) in in_order(table.get_ref()) {
            let (name, place) = (key.get_ref().as_ref(), reader.place(key.span().start));
            match value.get_ref() {
                DeValue::Table(tables) if name == COMMAND => {
                    for (command, keys) in in_order(tables) {
                        own.push(reader.table(command, keys)?);
                    }
                }
                DeValue::Table(_) if reader.command(name).is_some() => {
                    bail!("{place}: the table of a command is written [{COMMAND}.{name}]")
                }
                _ => shared.push(reader.setting(RUN, key, value)?),
            }
        }
        ensure_once(&shared)?;
        own.iter().try_for_each(|(_, settings)| ensure_once(settings))?;
        Ok(Self { shared, own })
    }

    /// Understands `text`, the content of a list of models at `path`: its models, each with all that it and the keys above the
    /// first of them say of `run`. `is_of_a_model` tells flags that models may differ in by their ids.
    ///
    /// # Errors
    /// As [`Self::read`]; it lists no model; a model says what is to be said of all.
    pub(super) fn read_list(
        path: &Path,
        text: &str,
        program: &Command,
        is_of_a_model: impl Fn(&str) -> bool,
    ) -> anyhow::Result<Vec<(ListedModel, Self)>> {
        let reader = Reader { path, text, program };
        let (mut shared, mut models) = (Vec::new(), Vec::new());
        for (key, value) in in_order(reader.parsed()?.get_ref()) {
            match value.get_ref() {
                DeValue::Array(tables) if key.get_ref() == MODEL => {
                    for table in tables.iter() {
                        models.push(reader.model(table, &is_of_a_model)?);
                    }
                }
                _ if key.get_ref() == MODEL => {
                    let place = reader.place(key.span().start);
                    bail!("{place}: a model of the list begins with the line [[{MODEL}]]")
                }
                _ => shared.push(reader.setting(RUN, key, value)?),
            }
        }
        ensure_once(&shared)?;
        ensure!(
            !models.is_empty(),
            "{} lists no model; each begins with the line [[{MODEL}]]",
            path.display()
        );
        let with_shared = models.into_iter().map(|model| {
            let own = vec![(RUN.to_owned(), model.settings.clone())];
            (model, Self { shared: shared.clone(), own })
        });
        Ok(with_shared.collect())
    }

    /// What the command `name` takes from the file, in the file's order: not what was typed, nor what conflicts with that;
    /// and the command's own table stands above the rest in the same way.
    pub(super) fn chosen(self, program: &Command, name: &str, typed: &ArgMatches) -> Vec<Setting> {
        let Some(command) = program.find_subcommand(name) else { return Vec::new() };
        let flag = |id: &str| command.get_arguments().find(|arg| arg.get_id() == id);
        let is_typed = |arg: &&Arg| {
            typed.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine)
        };
        // What stands above a setting, and whether it can be in conflict with one: `false` is as good as nothing typed.
        let mut above: Vec<(&Arg, bool)> =
            command.get_arguments().filter(is_typed).map(|arg| (arg, true)).collect();
        let own = self.own.into_iter().filter(|(of, _)| of == name);
        let own = own.flat_map(|(_, settings)| settings).collect();
        let takes_shared = TAKE_THOSE_OF_RUN.contains(&name);
        let shared = if takes_shared { self.shared } else { Vec::new() };
        let mut chosen = Vec::new();
        for layer in [own, shared] {
            let mut added = Vec::new();
            for setting in layer {
                let Some(arg) = flag(&setting.id) else { continue };
                let says = !setting.words.is_empty();
                let is_overridden = above.iter().any(|(other, other_says)| {
                    let in_conflict = || says && *other_says && conflict(command, arg, other);
                    other.get_id() == arg.get_id() || in_conflict()
                });
                if !is_overridden {
                    added.push((arg, says));
                    chosen.extend(says.then_some(setting));
                }
            }
            above.extend(added);
        }
        chosen.sort_by_key(|setting| setting.place);
        chosen
    }
}

impl<'a> Reader<'a> {
    /// The text as TOML.
    fn parsed(&self) -> anyhow::Result<Spanned<DeTable<'a>>> {
        DeTable::parse(self.text).map_err(|error| {
            let place = self.place(error.span().map_or(0, |span| span.start));
            anyhow!("{place}: {}", error.message())
        })
    }

    /// A table of `[[model]]`.
    fn model(
        &self,
        table: &Spanned<DeValue<'_>>,
        is_of_a_model: impl Fn(&str) -> bool,
    ) -> anyhow::Result<ListedModel> {
        let at = self.place(table.span().start);
        let DeValue::Table(keys) = table.get_ref() else {
            bail!("{at}: a model of the list begins with the line [[{MODEL}]]")
        };
        let (mut name, mut settings) = (None, Vec::new());
        for (key, value) in in_order(keys) {
            let at = self.place(key.span().start);
            match value.get_ref() {
                DeValue::String(text) if key.get_ref() == NAME => {
                    name = Some(text.as_ref().to_owned());
                }
                _ if key.get_ref() == NAME => bail!("{at}: `{NAME}` takes text in quotes"),
                _ => {
                    let setting = self.setting(RUN, key, value)?;
                    ensure!(
                        is_of_a_model(&setting.id),
                        "{at}: `{}` is the same for all models; write it above the first [[{MODEL}]]",
                        setting.key
                    );
                    settings.push(setting);
                }
            }
        }
        ensure_once(&settings)?;
        Ok(ListedModel { name, at, settings })
    }

    /// File and line of a byte, for messages.
    fn place(&self, byte: usize) -> String {
        let before = self.text.as_bytes().iter().take(byte);
        let line = before.filter(|byte| **byte == b'\n').count() + 1;
        format!("{}, line {line}", self.path.display())
    }

    /// A command that takes settings.
    fn command(&self, name: &str) -> Option<&Command> {
        self.program.find_subcommand(name).filter(|_| !ABOUT_THE_PROGRAM.contains(&name))
    }

    /// `[command.NAME]`.
    fn table(
        &self,
        name: &Spanned<Cow<'_, str>>,
        keys: &Spanned<DeValue<'_>>,
    ) -> anyhow::Result<(String, Vec<Setting>)> {
        let place = self.place(name.span().start);
        let name = name.get_ref().as_ref();
        ensure!(
            self.command(name).is_some(),
            "{place}: there is no command `{name}` that takes settings{}",
            meant(self.nearest_command(name))
        );
        let DeValue::Table(keys) = keys.get_ref() else {
            bail!("{place}: `{COMMAND}.{name}` is a table: flags stand below [{COMMAND}.{name}]")
        };
        let settings =
            in_order(keys).into_iter().map(|(key, value)| self.setting(name, key, value));
        Ok((name.to_owned(), settings.collect::<anyhow::Result<_>>()?))
    }

    /// One key of the command `command`.
    fn setting(
        &self,
        command: &str,
        key: &Spanned<Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> anyhow::Result<Setting> {
        let (place, at) = (key.span().start, self.place(key.span().start));
        let key = key.get_ref().as_ref();
        let Some(arg) = self.flag(command, key) else {
            bail!("{at}: `{command}` has no flag for the key `{key}`{}", self.hint(command, key))
        };
        let words = words(arg, value.get_ref(), folder(self.path))
            .map_err(|reason| anyhow!("{at}: `{key}`: {reason}"))?;
        let flag = format!("--{}", arg.get_long().unwrap_or_default());
        Ok(Setting { key: key.to_owned(), words, at, id: arg.get_id().to_string(), flag, place })
    }

    /// The flag of a key, which is a long name or an alias of it, with `_` for `-`.
    fn flag(&self, command: &str, key: &str) -> Option<&Arg> {
        let name = key.replace('_', "-");
        let is_it = |arg: &&Arg| {
            let aliases = arg.get_all_aliases().unwrap_or_default();
            arg.get_long() == Some(name.as_str()) || aliases.contains(&name.as_str())
        };
        let mut flags = self.command(command)?.get_arguments().filter(|arg| is_setting(arg));
        flags.find(is_it).filter(|_| !key.contains('-'))
    }

    /// What would be right in place of a key that is unknown.
    fn hint(&self, command: &str, key: &str) -> String {
        let plain = key.replace('-', "_");
        if self.flag(command, &plain).is_some() {
            return meant(Some(plain));
        }
        let has_it = |other: &&Command| self.flag(other.get_name(), &plain).is_some();
        if let Some(other) = self.program.get_subcommands().find(has_it) {
            let other = other.get_name();
            let place = if other == RUN { "outside of tables" } else { "below" };
            let table = if other == RUN { String::new() } else { format!(" [{COMMAND}.{other}]") };
            return format!("; `{other}` has one: write it {place}{table}");
        }
        let nearest = self.nearest_flag(command, &plain);
        match nearest {
            Some(name) => meant(Some(name)),
            None => format!("; `dpg-bench {command} --help` lists its flags"),
        }
    }

    /// The key that clap takes for the one that was meant.
    fn nearest_flag(&self, command: &str, key: &str) -> Option<String> {
        let flag = format!("--{}", key.replace('_', "-"));
        let line = [self.program.get_name(), command, &flag];
        let error = self.program.clone().try_get_matches_from(line).err()?;
        let Some(ContextValue::String(flag)) = error.get(ContextKind::SuggestedArg) else {
            return None;
        };
        let key = flag.trim_start_matches('-').replace('-', "_");
        self.flag(command, &key).is_some().then_some(key)
    }

    /// The same for a command.
    fn nearest_command(&self, name: &str) -> Option<String> {
        let error =
            self.program.clone().try_get_matches_from([self.program.get_name(), name]).err()?;
        let Some(ContextValue::Strings(names)) = error.get(ContextKind::SuggestedSubcommand) else {
            return None;
        };
        names.iter().find(|name| self.command(name).is_some()).cloned()
    }
}

/// The typed words with those of the settings behind the name of the command.
pub(super) fn joined(typed: &[OsString], settings: &[Setting]) -> Vec<OsString> {
    let mut place = 1;
    while let Some(word) = typed.get(place).filter(|word| word.as_encoded_bytes().starts_with(b"-"))
    {
        place += if word == "--config" || word == "--color" { 2 } else { 1 };
    }
    let (before, after) = typed.split_at(typed.len().min(place + 1));
    let words = settings.iter().flat_map(|setting| setting.words.iter().cloned());
    before.iter().cloned().chain(words).chain(after.iter().cloned()).collect()
}

/// Makes sure that no flag is set twice, under two of its names.
fn ensure_once(settings: &[Setting]) -> anyhow::Result<()> {
    for (index, setting) in settings.iter().enumerate() {
        if let Some(first) = settings[..index].iter().find(|first| first.id == setting.id) {
            bail!("{}: `{}` and `{}` are the same flag", setting.at, first.key, setting.key);
        }
    }
    Ok(())
}

/// Whether a settings file may hold the flag.
pub(super) fn is_setting(arg: &Arg) -> bool {
    arg.get_long().is_some() && !NOT_IN_A_FILE.contains(&arg.get_id().as_str())
}

/// The key of a flag.
pub(super) fn key_of(arg: &Arg) -> String {
    arg.get_long().unwrap_or_default().replace('-', "_")
}

impl Setting {
    /// Whether a text names the flag.
    pub(super) fn is_named_in(&self, text: &str) -> bool {
        let goes_on = |c: char| c.is_ascii_alphanumeric() || c == '-';
        text.match_indices(&self.flag).any(|(start, flag)| {
            let (before, after) = (&text[..start], &text[start + flag.len()..]);
            !before.ends_with(goes_on) && !after.starts_with(goes_on)
        })
    }
}

#[cfg(test)]
impl Setting {
    /// A setting of these words.
    pub(super) fn of_words(key: &str, words: Vec<OsString>) -> Self {
        let [key, at, id] = [key, "s.toml, line 1", key].map(str::to_owned);
        Self { words, at, id, flag: format!("--{key}"), key, place: 0 }
    }
}

/// The folder that relative paths of the file begin at; empty where that is the current one.
pub(super) fn folder(path: &Path) -> &Path {
    let folder = path.parent().unwrap_or(Path::new(""));
    if folder == Path::new(".") { Path::new("") } else { folder }
}

fn meant(name: Option<String>) -> String {
    name.map_or_else(String::new, |name| format!("; is `{name}` meant?"))
}

/// Whether clap refuses the two flags together.
fn conflict(command: &Command, one: &Arg, other: &Arg) -> bool {
    let names = |arg: &Arg, other: &Arg| {
        command.get_arg_conflicts_with(arg).iter().any(|found| found.get_id() == other.get_id())
    };
    names(one, other) || names(other, one)
}

type Entry<'a, 'i> = (&'a Spanned<Cow<'i, str>>, &'a Spanned<DeValue<'i>>);

/// The entries of a table in the order of the file.
fn in_order<'a, 'i>(table: &'a DeTable<'i>) -> Vec<Entry<'a, 'i>> {
    let mut entries: Vec<Entry<'a, 'i>> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}
