//! In: the typed command line, and a TOML file that holds flags of it (docs/settings-file.md). Out: what the two say
//! together, or the file, line and key of what is not understood. The file's flags are put before the typed ones, and
//! clap reads the whole as if it had been typed.

mod keys;
mod model_list;
mod print;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use clap::error::ErrorKind;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use self::keys::{ABOUT_THE_PROGRAM, Setting, Settings, joined};
use self::values::in_a_line;
use crate::cli::args::messages::MessageArgs;
use crate::cli::output::print::say;

pub(super) use self::model_list::{ListedLine, listed_lines};
pub(super) use self::print::as_file;

/// The file that is taken from the current folder.
const NAME: &str = "dpg-bench.toml";

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

/// What was typed, with what the settings file adds.
pub(super) struct Given {
    /// Both, as clap read them.
    pub matches: ArgMatches,
    /// The file's part.
    settings: Vec<Setting>,
}

impl Given {
    /// What there is to say of an error whose text names flags that nobody typed: where they are set.
    pub(super) fn notes(&self, error: &str) -> Vec<String> {
        let named = self.settings.iter().filter(|setting| setting.is_named_in(error));
        named.map(|setting| format!("note: {} sets `{}`", setting.at, setting.key)).collect()
    }
}

/// What `typed`, the program's name first, and the settings file say together; says on stderr which settings are the
/// file's.
///
/// # Errors
/// A `clap::Error`, where it is clap's to print: usage, help, version. Else the file cannot be read, or something in it
/// is not understood.
pub(super) fn given(program: &Command, typed: &[OsString]) -> anyhow::Result<Given> {
    let plain = program.clone().try_get_matches_from(typed);
    let without_file = |plain: Result<ArgMatches, clap::Error>| {
        Ok(Given { matches: plain?, settings: Vec::new() })
    };
    let seen = match &plain {
        Ok(seen) => seen.clone(),
        // The file may have what is missing.
        Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => {
            program.clone().ignore_errors(true).try_get_matches_from(typed)?
        }
        Err(_) => return without_file(plain),
    };
    let args = SettingsArgs::from_arg_matches(&seen)?;
    // `--quiet` is about what is said below as well.
    if let Ok(messages) = MessageArgs::from_arg_matches(&seen) {
        messages.apply();
    }
    let found = || Some(PathBuf::from(NAME)).filter(|path| !args.no_config && path.is_file());
    let path = args.config.clone().or_else(found);
    let (Some((name, typed_flags)), Some(path)) = (seen.subcommand(), path) else {
        return without_file(plain);
    };
    if ABOUT_THE_PROGRAM.contains(&name) {
        return without_file(plain);
    }
    if typed_flags.try_contains_id(model_list::FLAG).is_ok_and(|has_it| has_it) {
        ensure!(
            args.config.is_none(),
            "--model-list takes the place of --config; write what both say into the list"
        );
        return without_file(plain);
    }
    let shown = path.display();
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read the settings file {shown}"))?;
    let mut built = program.clone();
    built.build();
    let settings = Settings::read(&path, &text, &built)?.chosen(&built, name, typed_flags);
    let keys: Vec<&str> = settings.iter().map(|setting| setting.key.as_str()).collect();
    match (keys.is_empty(), args.config.is_some()) {
        (false, _) => say(&format!("settings from {shown}: {}", keys.join(", "))),
        (true, true) => say(&format!("settings from {shown}: none for this command line")),
        (true, false) => return without_file(plain),
    }
    match program.clone().try_get_matches_from(joined(typed, &settings)) {
        // What was typed is sound alone.
        Err(error) if plain.is_ok() => {
            let error = in_a_line(&error);
            let named = settings.iter().find(|setting| setting.is_named_in(&error));
            let at = named.map_or_else(|| shown.to_string(), |setting| setting.at.clone());
            bail!("{at}: {error}")
        }
        both => Ok(Given { matches: both?, settings }),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::CommandFactory;

    use super::keys::folder;
    use super::*;
    use crate::cli::Cli;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    /// What the file `path` with the content `text` adds to a typed line, or what is said against it.
    fn added_by(path: &str, text: &str, typed: &str) -> Result<String, String> {
        let mut program = Cli::command();
        program.build();
        let typed = program.clone().try_get_matches_from(words(typed)).unwrap();
        let (name, given) = typed.subcommand().unwrap();
        let settings = Settings::read(Path::new(path), text, &program);
        let settings = settings.map_err(|error| format!("{error:#}"))?;
        let chosen = settings.chosen(&program, name, given);
        let words = chosen.iter().flat_map(|setting| &setting.words);
        Ok(words.map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" "))
    }

    fn added(text: &str, typed: &str) -> String {
        added_by("s.toml", text, typed).unwrap()
    }

    fn refused(text: &str) -> String {
        added_by("s.toml", text, "x list").unwrap_err()
    }

    #[test]
    fn every_kind_of_value_becomes_words() {
        for (text, wanted) in [
            ("model = 'sd15'\nsteps = 2_0", "--model=sd15 --steps=20"),
            ("seed = 18446744073709551615", "--seed=18446744073709551615"),
            ("seed = 0x10", "--seed=16"),
            ("guidance = 7", "--guidance=7"),
            ("guidance = 7.5\njudge_temperature = 1e-1", "--guidance=7.5 --judge-temperature=1e-1"),
            ("low_memory = true\nlive = false", "--low-memory"),
            ("karras = false", "--karras=false"),
            ("items = ['a', 'b']\njudge = 'x,y'", "--items=a --items=b --judge=x,y"),
            ("lora = ['a.bin:0.5', 'b.bin']", "--lora=a.bin:0.5 --lora=b.bin"),
            (
                "negative_prompt = \"-x 'y'\"\njudge_key_env = ''",
                "--negative-prompt=-x 'y' --judge-key-env=",
            ),
            ("num_inference_steps = 5", "--steps=5"),
            ("judge_body = '{\"a\": null}'", "--judge-body={\"a\": null}"),
            (
                "judge_body = { top_p = 0.9, stop = ['a', 1], deep = { on = true } }",
                "--judge-body={\"deep\":{\"on\":true},\"stop\":[\"a\",1],\"top_p\":0.9}",
            ),
        ] {
            assert_eq!(added(text, "x run"), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_typed_stands_above_the_file_and_so_does_what_conflicts_with_it() {
        let file = "model = 'a'\nimages = 2\ndevices = ['cuda:0', 'cuda:1']\nlive = true";
        for (typed, wanted) in [
            ("x run", "--model=a --images=2 --devices=cuda:0 --devices=cuda:1 --live"),
            ("x run -m b --num-images 3", "--devices=cuda:0 --devices=cuda:1 --live"),
            ("x run --model=b --device cpu", "--images=2 --live"),
            ("x generate -n1 --devices cpu", "--model=a"),
        ] {
            assert_eq!(added(file, typed), wanted, "{typed}");
        }
        assert_eq!(added("judge_rule = 'yes'", "x run --judge-answers f"), "");
        assert_eq!(added("judge_answers = 'f'", "x run --judge-rule yes"), "");
    }

    #[test]
    fn keys_go_to_the_commands_that_they_are_for() {
        let file = "weights = 'w'\njudge = 'mplug'\nbenchmark = 'b'\nout = 'o'\nimages = 2\n\
                    [command.judge]\njudge = 'scripted'\nweights = 'x'\n[command.report]\ninline = true\n\
                    [command.generate]\nimages = 1\n";
        for (typed, wanted) in [
            ("x run", "--weights=w --judge=mplug --benchmark=b --out=o --images=2"),
            ("x generate", "--weights=w --benchmark=b --out=o --images=1"),
            // `weights` alone are the model's; in the table they are the judge's, as on its command line.
            ("x judge r", "--benchmark=b --judge=scripted --judge-weights=x"),
            ("x judge r --remove n", "--benchmark=b --judge-weights=x"),
            ("x report r --out p", "--inline"),
            ("x score r", ""),
            ("x import --images i", ""),
        ] {
            assert_eq!(added(file, typed), wanted, "{typed}");
        }
        // A table's `false` takes back what stands outside of tables, and is in nobody's way.
        let file = "json = true\ntable = 'paper'\n[command.run]\njson = false\n";
        assert_eq!(added(file, "x run"), "--table=paper");
        assert_eq!(added(file, "x generate"), "--json");
    }

    #[test]
    fn relative_paths_begin_at_the_file() {
        let file = "out = 'o'\nmodel_file = '/m.toml'\nlora = ['l.bin:0.5']\nembedding = 'e.pt:<w>'\n\
                    benchmark = 'demo'\nweights = 'owner/name'\nvae = 'owner/name'\n\
                    judge_weights = ['mplug=w', 'blip-vqa=owner/name']\nprogram = './p'\n";
        let wanted = "--out=c/o --model-file=/m.toml --lora=c/l.bin:0.5 --embedding=c/e.pt:<w> \
                      --benchmark=demo --weights=owner/name --vae=c/owner/name \
                      --judge-weights=mplug=c/w --judge-weights=blip-vqa=owner/name --program=./p";
        assert_eq!(added_by("c/s.toml", file, "x run").unwrap(), wanted);
        assert_eq!(added_by("./s.toml", file, "x run").unwrap(), wanted.replace("c/", ""));
        // What lies beside the file is no name of Hugging Face's cache.
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("owner/name")).unwrap();
        let [path, wanted] = ["s.toml", "owner/name"].map(|name| folder.path().join(name));
        let added = added_by(path.to_str().unwrap(), "weights = 'owner/name'", "x run").unwrap();
        assert_eq!(added, format!("--weights={}", wanted.display()));
    }

    #[test]
    fn what_is_not_understood_is_said_with_file_line_and_the_nearest_name() {
        for (text, wanted) in [
            (
                "model = 'a'\nstpes = 2",
                "s.toml, line 2: `run` has no flag for the key `stpes`; is `steps` meant?",
            ),
            ("judge-rule = 'yes'", "the key `judge-rule`; is `judge_rule` meant?"),
            ("judge_key = 'x'", "the key `judge_key`; is `judge_key_env` meant?"),
            ("junit = 'x'", "the key `junit`; `check` has one: write it below [command.check]"),
            ("config = 'x'", "the key `config`; `dpg-bench run --help` lists its flags"),
            ("print_config = true", "the key `print_config`"),
            ("quiet = true", "the key `quiet`"),
            (
                "[command.score]\nsteps = 2",
                "line 2: `score` has no flag for the key `steps`; `run` has one: write it outside of tables",
            ),
            ("[command.judge]\nrun = 'x'", "`judge` has no flag for the key `run`"),
            (
                "[command.jugde]",
                "line 1: there is no command `jugde` that takes settings; is `judge` meant?",
            ),
            ("[command.man]", "there is no command `man` that takes settings"),
            ("[command]\nrun = 5", "line 2: `command.run` is a table"),
            ("[run]\nsteps = 2", "line 1: the table of a command is written [command.run]"),
            ("\nsteps = 'two'", "line 2: `steps`: it takes a whole number, not text"),
            ("steps = 2.5", "it takes a whole number, not a number with a point"),
            ("guidance = true", "it takes a number, not `true` or `false`"),
            ("live = 1", "it takes `true` or `false`, not a whole number"),
            ("karras = 'yes'", "it takes `true` or `false`, not text"),
            ("model = ['a']", "it takes text in quotes, not an array"),
            ("prefix = 2026-01-01", "it takes text in quotes, not a date"),
            ("items = [1]", "it takes text in quotes, not a whole number"),
            ("judge_body = { a = nan }", "it takes a table, or a JSON object as text, not a table"),
            ("images = 0", "`images`: invalid value '0' for '--images <N>': 0 is not in 1..=10000"),
            (
                "protocol = 'x'",
                "`protocol`: invalid value 'x' for '--protocol <NAME>' [possible values: reference, corrected, soft, soft_tifa_gm]",
            ),
            (
                "steps = 1\nnum_inference_steps = 2",
                "line 2: `steps` and `num_inference_steps` are the same flag",
            ),
            ("steps = 1\nsteps = 2", "s.toml, line 2: duplicate key"),
            ("steps = ", "s.toml, line 1: "),
        ] {
            let said = refused(text);
            assert!(said.contains(wanted), "{text}: {said}");
        }
    }

    #[test]
    fn what_is_printed_says_the_same_again() {
        let typed = "x run -m sd15 --steps 07 --guidance .5 --karras --items a,b --items c --live --seed \
                     18446744073709551615 --negative-prompt \"\\\u{7f}\u{e9}\n --lora l.bin:1 -j x --judge-body {\"a\":null}";
        let mut program = Cli::command();
        program.build();
        let matches = program.clone().try_get_matches_from(words(typed)).unwrap();
        let file = as_file(&program, matches.subcommand().unwrap().1).unwrap();
        let wanted = "--model=sd15 --lora=l.bin:1 --seed=18446744073709551615 --steps=7 --guidance=0.5 --karras=true \
                      --negative-prompt=\"\\\u{7f}\u{e9}\n --items=a --items=b --items=c --live --judge=x \
                      --judge-body={\"a\":null}";
        assert_eq!(added(&file, "x run"), wanted, "{file}");
        assert_eq!(file.lines().filter(|line| !line.starts_with('#')).count(), 11, "{file}");
    }

    #[test]
    fn settings_stand_behind_the_command_and_before_what_was_typed() {
        let setting = Setting::of_words("steps", words("--steps=2"));
        for (typed, wanted) in [
            ("x run", "x run --steps=2"),
            ("x run --model m", "x run --steps=2 --model m"),
            ("x --config run judge -- run", "x --config run judge --steps=2 -- run"),
            ("x --config=run judge run", "x --config=run judge --steps=2 run"),
            ("x -q --color never run", "x -q --color never run --steps=2"),
        ] {
            assert_eq!(
                joined(&words(typed), std::slice::from_ref(&setting)),
                words(wanted),
                "{typed}"
            );
        }
    }

    #[test]
    fn a_flag_that_an_error_names_is_told_from_longer_ones() {
        let setting = Setting::of_words("judge", Vec::new());
        for (text, is_named) in [
            ("no judge is named; choose one with --judge: a, b", true),
            ("`--judge`", true),
            ("use --judge", true),
            ("--judge-batch is not for the judge `a`", false),
            ("--no--judge", false),
            ("the judge", false),
        ] {
            assert_eq!(setting.is_named_in(text), is_named, "{text}");
        }
    }

    #[test]
    fn paths_begin_at_the_folder_of_the_file() {
        for (file, wanted) in [("a.toml", ""), ("./a.toml", ""), ("b/a.toml", "b"), ("/a", "/")] {
            assert_eq!(folder(Path::new(file)), Path::new(wanted), "{file}");
        }
    }
}
